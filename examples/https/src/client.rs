//! A client that keeps connections, and follows redirects.

use crate::{Error, tls};
use futures::io::{AsyncRead, AsyncWrite};
use gondola::hyper::Io;
use gondola::net::TcpStream;
use gondola::resolve::lookup_host;
use gondola::time::timeout;
use gondola::try_spawn;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio_rustls::TlsConnector;
use url::Url;

type Connection = SendRequest<Empty<Bytes>>;

/// Cheap to clone: clones share their idle connections.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    tls: TlsConnector,
    /// How long to wait for anything: a connection, an answer, the next piece of it.
    patience: Duration,
    max_redirects: usize,
    /// By scheme, host and port.
    idle: RefCell<HashMap<String, Vec<Connection>>>,
}

/// An answer with its connection, which goes back once all of it has been read.
pub struct Answer {
    pub response: Response<Incoming>,
    connection: Option<Connection>,
    origin: String,
    client: Client,
}

impl Client {
    /// Trusts the certificates in the PEM file `roots`, or those of the system.
    pub fn new(roots: Option<&Path>, patience: Duration, redirects: usize) -> Result<Self, Error> {
        let (tls, idle) = (tls::connector(roots)?, RefCell::default());
        Ok(Self { shared: Rc::new(Shared { tls, patience, max_redirects: redirects, idle }) })
    }

    /// Asks for what is at `url` from byte `from` on, wherever it has moved to.
    pub async fn get(&self, mut url: Url, from: u64) -> Result<Answer, Error> {
        for _ in 0..=self.shared.max_redirects {
            let answer = self.ask(&url, from).await?;
            let status = answer.response.status();
            let location = answer.response.headers().get(LOCATION);
            let Some(location) = location.filter(|_| status.is_redirection()) else {
                return Ok(answer);
            };
            let moved = location.to_str().ok().and_then(|location| url.join(location).ok());
            url = moved.ok_or_else(|| Error::Url(format!("{location:?}")))?;
            answer.finish().await?;
        }
        Err(Error::Redirects(self.shared.max_redirects))
    }

    async fn ask(&self, url: &Url, from: u64) -> Result<Answer, Error> {
        let (host, port) = match (url.scheme(), url.host_str(), url.port_or_known_default()) {
            ("http" | "https", Some(host), Some(port)) => (host, port),
            _ => return Err(Error::Url(url.to_string())),
        };
        let origin = format!("{}://{host}:{port}", url.scheme());
        loop {
            let pooled = self.pooled(&origin);
            let is_fresh = pooled.is_none();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => self.in_time(self.connect(url, host, port)).await??,
            };
            let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
                .header(HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
                .header(USER_AGENT, "gondola-https")
                .header(RANGE, format!("bytes={from}-"))
                .body(Empty::new())
                .map_err(|error| Error::Url(error.to_string()))?;
            match self.in_time(connection.send_request(request)).await? {
                Ok(response) => {
                    let client = self.clone();
                    return Ok(Answer { response, connection: Some(connection), origin, client });
                }
                // The server may have closed a kept connection meanwhile; a new one will tell.
                Err(_) if !is_fresh => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn pooled(&self, origin: &str) -> Option<Connection> {
        let mut idle = self.shared.idle.borrow_mut();
        let connections = idle.get_mut(origin)?;
        connections.retain(|connection| !connection.is_closed());
        connections.pop()
    }

    async fn connect(&self, url: &Url, host: &str, port: u16) -> Result<Connection, Error> {
        // IPv6 addresses stand in brackets.
        let name = host.trim_matches(['[', ']']);
        let failed = |source| Error::Connect { host: host.into(), source };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let addresses = lookup_host((name.to_owned(), port)).await.map_err(failed)?;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    if url.scheme() == "http" {
                        return drive(stream).await;
                    }
                    return drive(tls::connect(&self.shared.tls, name, stream).await?).await;
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        let patience = self.shared.patience;
        timeout(patience, future).await.map_err(|_| Error::Silent(patience.as_secs()))
    }
}

/// Begins HTTP on a stream, which a task of its own serves.
async fn drive(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Result<Connection, Error> {
    let (connection, driver) = handshake(Io::new(stream)).await?;
    // How it ends, the request is told as well.
    try_spawn(async { drop(driver.await) }).map_err(|_| Error::Full)?.detach();
    Ok(connection)
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = self.client.in_time(self.response.body_mut().frame()).await?;
            let Some(frame) = frame.transpose()? else {
                self.give_back();
                return Ok(None);
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// Reads what is left, if it is little: then the connection can be used again.
    async fn finish(mut self) -> Result<(), Error> {
        for _ in 0..4 {
            if self.chunk().await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            let mut idle = self.client.shared.idle.borrow_mut();
            idle.entry(self.origin.clone()).or_default().push(connection);
        }
    }
}
