//! The load on TLS and UDP: threads that ask and wait, by std alone. For HTTP it is h2load.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

const MESSAGE: [u8; 1024] = [b'.'; 1024];

/// So many questions, by `width` threads. Returns how long each took, in nanoseconds.
pub fn ask(tls: bool, address: SocketAddr, count: usize, width: usize) -> Vec<u32> {
    let threads: Vec<_> = (0..width)
        .map(|_| {
            thread::spawn(move || match tls {
                true => over_tls(address, count / width),
                false => over_udp(address, count / width),
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
}

fn over_tls(address: SocketAddr, count: usize) -> Vec<u32> {
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let mut stream = StreamOwned::new(session, stream);
    let mut buffer = MESSAGE;
    (0..count)
        .map(|_| {
            let start = Instant::now();
            stream.write_all(&MESSAGE).expect("written");
            stream.read_exact(&mut buffer).expect("read");
            start.elapsed().as_nanos() as u32
        })
        .collect()
}

fn over_udp(address: SocketAddr, count: usize) -> Vec<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(address).expect("an address");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("an option");
    let mut buffer = MESSAGE;
    (0..count)
        .map(|_| {
            let start = Instant::now();
            loop {
                socket.send(&MESSAGE).expect("sent");
                match socket.recv(&mut buffer) {
                    Ok(_) => return start.elapsed().as_nanos() as u32,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .collect()
}

/// Whoever it is: this is a bench.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
