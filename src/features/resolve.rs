//! The feature `resolve`: addresses of names, by the system's resolver on a thread of the crate
//! `blocking`, which starts with the first question and goes when it has been idle.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses of a name, in the order in which they are to be tried.
///
/// `host` is whatever std resolves: `("localhost", 80)`, `"localhost:80"`, or with a `String`. The
/// thread is the system's: it may take seconds, and has no time-out of its own.
///
/// # Errors
/// The resolver's, which has no kind of its own for a name that does not exist; `InvalidInput` where
/// the port is missing.
///
/// # Cancel safety
/// Dropping the future ends the wait at once. A question that a thread has taken up is asked to the
/// end, and keeps the thread until then; there are at most 500 (`BLOCKING_MAX_THREADS`).
///
/// ```
/// use gondola::{net::TcpListener, resolve::lookup_host};
///
/// gondola::block_on(async {
///     let mut addresses = lookup_host(("localhost", 0)).await?;
///     let listener = TcpListener::bind(addresses.next().expect("localhost has one"))?;
///     assert!(listener.local_addr()?.ip().is_loopback());
/// #   std::io::Result::Ok(())
/// }).unwrap();
/// ```
pub async fn lookup_host<H>(host: H) -> io::Result<impl Iterator<Item = SocketAddr>>
where
    H: ToSocketAddrs + Send + 'static,
{
    let lookup = move || host.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    blocking::unblock(lookup).await.map(Vec::into_iter)
}
