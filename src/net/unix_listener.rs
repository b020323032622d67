//! The listening Unix socket.
#![forbid(unsafe_code)]

use super::acceptor::{Accept, Acceptor};
use super::unix_stream::UnixStream;
use super::watched::current_reactor;
use std::fmt;
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

/// A Unix socket that listens. Dropping it closes it, and leaves its path behind, as in std:
/// remove that before the next bind.
///
/// ```
/// use gondola::net::{UnixListener, UnixStream};
///
/// # gondola::block_on(async {
/// let path = std::env::temp_dir().join(format!("gondola-listener-{}", std::process::id()));
/// let _ = std::fs::remove_file(&path); // of an earlier run
/// let listener = UnixListener::bind(&path)?;
/// let mut client = UnixStream::connect(&path).await?;
/// let (mut server, _) = listener.accept().await?;
/// client.write_all(b"ping").await?;
/// assert_eq!(server.read(&mut [0; 8]).await?, 4);
/// std::fs::remove_file(&path)?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct UnixListener {
    acceptor: Acceptor<mio::net::UnixListener>,
}

impl Accept for mio::net::UnixListener {
    type Stream = mio::net::UnixStream;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(Self::Stream, SocketAddr)> {
        self.accept()
    }
}

impl UnixListener {
    /// Makes a socket at `path`, and listens.
    ///
    /// # Errors
    /// The system's (`AddrInUse` if there is something at that path, `InvalidInput` if it is too
    /// long, ..); `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// ```
    /// use gondola::net::UnixListener;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-bind-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Listens at an address, which may be an abstract one (on Linux): nobody has to remove that.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use gondola::net::UnixListener;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// # gondola::block_on(async {
    /// let name = format!("gondola-bind-{}", std::process::id());
    /// let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    /// assert!(listener.local_addr()?.as_pathname().is_none());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// # }
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let reactor = current_reactor()?;
        let listener = mio::net::UnixListener::bind_addr(address)?;
        Ok(Self { acceptor: Acceptor::new(reactor, listener)? })
    }

    /// Takes over a socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// The system's; `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// ```
    /// use gondola::net::UnixListener;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-std-{}", std::process::id()));
    /// let listener = UnixListener::from_std(std::os::unix::net::UnixListener::bind(&path)?)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        let reactor = current_reactor()?;
        listener.set_nonblocking(true)?;
        let listener = mio::net::UnixListener::from_std(listener);
        Ok(Self { acceptor: Acceptor::new(reactor, listener)? })
    }

    /// The next connection, and its peer, which often has no name.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](super::TcpListener::accept): a server goes on after a shortage.
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the poll that returns it.
    ///
    /// ```
    /// use gondola::net::{UnixListener, UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-accept-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let _client = UnixStream::connect(&path).await?;
    /// let (_stream, peer) = listener.accept().await?;
    /// assert!(peer.is_unnamed());
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (io, peer) = self.acceptor.accept().await?;
        Ok((UnixStream::new(io), peer))
    }

    /// As [`accept`](Self::accept), for whoever polls by hand; see
    /// [`TcpListener::poll_accept`](super::TcpListener::poll_accept).
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the call that returns it.
    ///
    /// ```
    /// use gondola::net::{UnixListener, UnixStream};
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-poll-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let _client = UnixStream::connect(&path).await?;
    /// let (_stream, _peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        let accepted = self.acceptor.poll_accept(cx);
        accepted.map_ok(|(io, peer)| (UnixStream::new(io), peer))
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UnixListener;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-local-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.io.local_addr()
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.acceptor.io.fmt(f)
    }
}

impl std::os::fd::AsFd for UnixListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.acceptor.io.as_fd()
    }
}
