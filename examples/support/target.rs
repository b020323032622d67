//! What a request needs of its URL.

use http::Uri;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// What a URL says: whom to connect to, and what to ask.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    host: String,
    port: u16,
    /// The whole request, as it never changes.
    pub(super) request: String,
}

impl FromStr for Target {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let uri: Uri = url.parse().map_err(UrlError::Invalid)?;
        if uri.scheme_str() != Some("http") {
            return Err(UrlError::Scheme(uri.scheme_str().map(String::from)));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = uri.host().unwrap_or_default();
        // Not `Uri::port`: it takes a port that is no number for no port at all.
        let is_number = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match authority.strip_prefix(host) {
            Some("" | ":") => Some(80),
            Some(rest) => {
                rest.strip_prefix(':').filter(is_number).and_then(|port| port.parse().ok())
            }
            None => None, // A user's name stands before the host.
        };
        let Some(port) = port.filter(|_| !host.is_empty()) else {
            return Err(UrlError::Authority(authority.to_string()));
        };
        // `as_str` lacks the slash of "http://host?query".
        let path = uri.path_and_query().map_or("/".to_string(), ToString::to_string);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: gondola-example\r\n\
             Accept: */*\r\n\r\n"
        );
        // An IPv6 address stands in brackets in URLs only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        Ok(Self { host, port, request })
    }
}

impl Target {
    /// The addresses of the host, in the order of preference.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        // The system's resolver blocks, so it gets a thread. Who stops waiting leaves that thread
        // to end by itself: nothing can interrupt it.
        let (sender, receiver) = futures::channel::oneshot::channel();
        let name = (self.host.clone(), self.port);
        std::thread::Builder::new().spawn(move || {
            let found = (name.0.as_str(), name.1).to_socket_addrs().map(Vec::from_iter);
            let _ = sender.send(found); // Nobody may be waiting any more.
        })?;
        receiver.await.map_err(io::Error::other)?
    }
}

/// Why a text is no [`Target`].
#[derive(Debug)]
pub(crate) enum UrlError {
    Invalid(http::uri::InvalidUri),
    /// Something other than `http`, or nothing.
    Scheme(Option<String>),
    /// The part between the slashes names no host, a bad port, or a user.
    Authority(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "not an http:// URL: {error}"),
            Self::Scheme(Some(scheme)) => write!(f, "{scheme}:// is not supported, only http://"),
            Self::Scheme(None) => f.write_str("not a whole URL: it must begin with http://"),
            Self::Authority(text) => write!(f, "\"{text}\" is not HOST or HOST:PORT"),
        }
    }
}

impl std::error::Error for UrlError {}
