//! The SDK's HTTP, by hyper over gondola's streams. The SDK wants `Send`, though all of it stays on
//! one thread: hence `AssertLocal`.

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use gondola::hyper::Io;
use gondola::net::TcpStream;
use gondola::resolve::lookup_host;
use gondola::{AssertLocal, try_spawn};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;

type Failure = Box<dyn Error + Send + Sync>;
type Connection = SendRequest<SdkBody>;
/// Connections without a request, by host and port.
type Pool = Rc<RefCell<HashMap<String, Vec<Connection>>>>;

/// A client that keeps its connections.
#[derive(Clone)]
pub struct HttpClient(SharedHttpConnector);

struct Connector(AssertLocal<Pool>);

impl HttpClient {
    pub fn new() -> Self {
        Self(SharedHttpConnector::new(Connector(AssertLocal::new(Pool::default()))))
    }
}

impl aws_smithy_runtime_api::client::http::HttpClient for HttpClient {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.clone()
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let pool = Pool::clone(&self.0);
        HttpConnectorFuture::new(AssertLocal::new(async move {
            send(&pool, request).await.map_err(ConnectorError::io)
        }))
    }
}

async fn send(pool: &Pool, request: HttpRequest) -> Result<HttpResponse, Failure> {
    let mut request: Request<SdkBody> = request.try_into_http1x()?;
    let authority = request.uri().authority().ok_or("a request without a host")?.to_string();
    request.headers_mut().insert(HOST, authority.parse()?);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse()?;
    *request.uri_mut() = path;
    loop {
        let pooled = pooled(pool, &authority);
        let is_fresh = pooled.is_none();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => connect(&authority).await?,
        };
        match connection.try_send_request(request).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let body = SdkBody::from(body.collect().await?.to_bytes());
                pool.borrow_mut().entry(authority).or_default().push(connection);
                return Ok(HttpResponse::try_from(hyper::Response::from_parts(parts, body))?);
            }
            // The server had closed a kept connection before anything was sent: a new one.
            Err(mut error) => match error.take_message() {
                Some(unsent) if !is_fresh => request = unsent,
                _ => return Err(error.into_error().into()),
            },
        }
    }
}

fn pooled(pool: &Pool, authority: &str) -> Option<Connection> {
    let mut pool = pool.borrow_mut();
    let connections = pool.get_mut(authority)?;
    connections.retain(|connection| !connection.is_closed());
    connections.pop()
}

async fn connect(authority: &str) -> Result<Connection, Failure> {
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:80"),
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in lookup_host(with_port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let (connection, driver) = handshake(Io::new(stream)).await?;
                // How it ends, the request is told as well.
                try_spawn(async { drop(driver.await) }).map_err(|full| full.to_string())?.detach();
                return Ok(connection);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
