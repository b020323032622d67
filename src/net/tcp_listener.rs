//! The listening socket.
#![forbid(unsafe_code)]

use super::acceptor::{Accept, Acceptor};
use super::tcp_stream::TcpStream;
use super::watched::current_reactor;
use crate::reactor::Reactor;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A TCP socket that listens. Dropping it closes it; connections not accepted yet are reset.
///
/// ```
/// use gondola::net::{TcpListener, TcpStream};
///
/// # gondola::block_on(async {
/// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, _) = listener.accept().await?;
/// client.write_all(b"ping").await?;
/// let mut buffer = [0; 4];
/// server.read_exact(&mut buffer).await?;
/// assert_eq!(&buffer, b"ping");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TcpListener {
    acceptor: Acceptor<mio::net::TcpListener>,
}

impl Accept for mio::net::TcpListener {
    type Stream = mio::net::TcpStream;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(Self::Stream, SocketAddr)> {
        self.accept()
    }
}

impl TcpListener {
    /// Binds `address`, such as `([127, 0, 0, 1], 80)`, and listens. Port 0 lets the system choose.
    /// On Unix an address in TIME_WAIT can be bound again at once (`SO_REUSEADDR`).
    ///
    /// As many connections as the backlog says may wait to be accepted. It is mio's and std's: 128
    /// on most systems, and the system's limit cuts a longer one. To change it, listen once more.
    ///
    /// # Errors
    /// The system's (`AddrInUse`, ..); `NotConnected` outside a gondola runtime; `Unsupported`
    /// under virtual time.
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// socket2::SockRef::from(&listener).listen(1024)?; // the backlog
    ///
    /// let again = TcpListener::bind(listener.local_addr()?);
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let reactor = current_reactor()?;
        Self::new(reactor, mio::net::TcpListener::bind(address.into())?)
    }

    /// Takes over a socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let std = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = TcpListener::from_std(std)?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        let reactor = current_reactor()?;
        listener.set_nonblocking(true)?;
        Self::new(reactor, mio::net::TcpListener::from_std(listener))
    }

    fn new(reactor: Rc<Reactor>, listener: mio::net::TcpListener) -> io::Result<Self> {
        Ok(Self { acceptor: Acceptor::new(reactor, listener)? })
    }

    /// The next connection, and its peer. The connection belongs to the listener's runtime.
    ///
    /// # Errors
    /// A connection that its peer gave up while it queued is passed over. What is left are errors
    /// of three kinds:
    ///
    /// - A shortage: the system has no descriptor, memory or room in epoll left (on Unix
    ///   `raw_os_error` says `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` or `ENOSPC`). The listener
    ///   survives it, and the connection waits in the queue. The next call tries again as soon as
    ///   a socket of this runtime has been closed, and after 50 ms at the latest. A shortage is
    ///   reported at most once in 50 ms.
    /// - Any other error of the system: the listener was shut down from elsewhere, or it is no
    ///   listener, or a sandbox forbids the call. It will not pass. The next call waits 50 ms.
    /// - `NotConnected`, if this call would have to wait while the listener's runtime is not running.
    ///
    /// So a loop that merely reports what the system says does not spin. A server goes on after a
    /// shortage and ends on everything else, as the example `echo` does.
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the poll that returns it.
    ///
    /// ```
    /// use gondola::net::{TcpListener, TcpStream};
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_stream, peer) = listener.accept().await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (io, peer) = self.acceptor.accept().await?;
        Ok((TcpStream::new(io), peer))
    }

    /// As [`accept`](Self::accept), for whoever polls by hand. All callers of this method are one
    /// waiter: of two tasks that poll the same listener, the last one waits. The other is woken, to
    /// poll again. Both get on, but they keep each other awake: let such tasks `accept`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the call that returns it.
    ///
    /// ```
    /// use gondola::net::{TcpListener, TcpStream};
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.acceptor.poll_accept(cx);
        accepted.map_ok(|(io, peer)| (TcpStream::new(io), peer))
    }

    /// The address that it listens on, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.io.local_addr()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.acceptor.io.fmt(f)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for TcpListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.acceptor.io.as_fd()
    }
}
