//! What may go wrong with a download.

use hyper::StatusCode;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a URL that can be fetched: {0}")]
    Url(String),
    #[error("cannot find or reach {host}")]
    Connect { host: String, source: io::Error },
    #[error("no TLS with {host}")]
    Tls { host: String, source: io::Error },
    #[error("HTTP")]
    Http(#[from] hyper::Error),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("more than {0} redirects")]
    Redirects(usize),
    #[error("nothing came for {0} s")]
    Silent(u64),
    #[error("the answer does not begin where the file ends")]
    Range,
    #[error("the file")]
    File(#[source] io::Error),
    #[error("the certificates")]
    Roots(#[source] io::Error),
    #[error("the runtime has no free slot")]
    Full,
}
