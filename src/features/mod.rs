//! What other crates ask of our types: one file for each feature, off by default.
#![forbid(unsafe_code)]

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "resolve")]
pub mod resolve;
