//! TLS by rustls, through tokio's traits: no runtime of tokio runs.

use crate::Error;
use gondola::net::TcpStream;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// A TLS stream, of futures-io's traits again.
pub type TlsStream = Compat<tokio_rustls::client::TlsStream<Compat<TcpStream>>>;

/// Whom to trust: the certificates in a PEM file, or those of the system.
pub fn connector(roots: Option<&Path>) -> Result<TlsConnector, Error> {
    let mut store = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'_>> = match roots {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(Error::Roots)?;
            CertificateDer::pem_reader_iter(BufReader::new(file))
                .collect::<Result<_, _>>()
                .map_err(|error| Error::Roots(io::Error::other(error)))?
        }
        // Some of a system's are often odd; what is left decides.
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(certificates);
    let config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Shakes hands, and checks that the certificate is `host`'s.
pub async fn connect(
    connector: &TlsConnector,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream, Error> {
    let failed = |source| Error::Tls { host: host.into(), source };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
    let stream = connector.connect(name, stream.compat()).await.map_err(failed)?;
    Ok(stream.compat())
}
