//! Downloads over http:// and https://.

mod client;
mod download;
mod error;
mod tls;

pub use client::{Answer, Client};
pub use download::download;
pub use error::Error;
pub use url::Url;
