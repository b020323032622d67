//! Sockets on mio, and whatever else has a descriptor: every operation is tried first, and waits only
//! if it would block.
//!
//! Sockets belong to the runtime in which they were made. Elsewhere (in another runtime, or under
//! another executor) an operation that would have to wait returns an error of kind
//! `NotConnected` instead of waiting for ever.
//!
//! Any number of operations may wait at one socket; an event wakes them all. Each can be awaited or,
//! by a method that begins with `poll_`, polled; one that begins with `try_` never waits.
//!
//! Addresses are IP addresses. Names are resolved before, by the feature `resolve`: see the
//! [cookbook](crate::cookbook).
//!
//! An executor that blocks *inside* a task of this runtime stops the runtime as well: sockets used
//! in it get neither events nor a new budget. Await instead.
//!
//! A poll of a task completes at most 128 operations, those of a batch's items included; then it
//! yields, so that a peer that never pauses cannot keep the thread.
//!
//! In the examples, `client` and `server` are the two ends of such a connection:
//!
//! ```
//! use gondola::net::{TcpListener, TcpStream};
//!
//! # gondola::block_on(async {
//! let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let (mut server, _) = listener.accept().await?;
//! server.write_all(b"hello").await?;
//! let mut greeting = [0; 5];
//! client.read_exact(&mut greeting).await?;
//! assert_eq!(&greeting, b"hello");
//! # std::io::Result::Ok(()) }).unwrap();
//! ```
#![forbid(unsafe_code)]

/// How the examples in here begin: with both ends of a connection.
macro_rules! connected {
    () => {
        "# use gondola::net::{TcpListener, TcpStream};
# gondola::block_on(async {
# let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
# let mut client = TcpStream::connect(listener.local_addr()?).await?;
# let (mut server, _) = listener.accept().await?;"
    };
}

/// The same with Unix sockets.
#[cfg(unix)]
macro_rules! unix_connected {
    () => {
        "# gondola::block_on(async {
# let (mut client, mut server) = gondola::net::UnixStream::pair()?;"
    };
}

mod acceptor;
#[cfg(unix)]
mod async_fd;
mod halves;
#[cfg(unix)]
mod retry;
mod tcp_listener;
mod tcp_split;
mod tcp_stream;
mod transfer;
mod udp;
#[cfg(unix)]
mod unix_datagram;
#[cfg(unix)]
mod unix_listener;
#[cfg(unix)]
mod unix_split;
#[cfg(unix)]
mod unix_stream;
mod watched;

#[cfg(unix)]
pub use async_fd::Async;
pub use tcp_listener::TcpListener;
pub use tcp_split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
pub use tcp_stream::TcpStream;
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix_datagram::UnixDatagram;
#[cfg(unix)]
pub use unix_listener::UnixListener;
#[cfg(unix)]
pub use unix_stream::UnixStream;

/// The halves of a [`UnixStream`]. Those of a [`TcpStream`] stand in [`net`](self).
///
/// ```
/// use gondola::net::{UnixStream, unix::OwnedReadHalf};
///
/// # gondola::block_on(async {
/// let (one, _other) = UnixStream::pair()?;
/// let (_reader, _writer): (OwnedReadHalf, _) = one.into_split();
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[cfg(unix)]
pub mod unix {
    pub use super::unix_split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
}
