//! What the tests of all examples share: real servers, and a proxy with faults.

mod known;
mod proxy;
mod server;

pub use proxy::{Fault, Proxy};
pub use server::{Server, free_port};
