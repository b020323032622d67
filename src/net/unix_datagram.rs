//! Datagrams between Unix sockets.
#![forbid(unsafe_code)]

use super::retry::retry;
use super::transfer;
use super::watched::{Watched, current_reactor};
use crate::reactor::Direction::{Read, Write};
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

/// A Unix socket for datagrams, which arrive in order, and none is lost. Its methods take `&self`:
/// any number of tasks may send and receive. Dropping it leaves its path behind, as in std.
///
/// ```
/// use gondola::net::UnixDatagram;
///
/// # gondola::block_on(async {
/// let (one, other) = UnixDatagram::pair()?;
/// one.send(b"hello").await?;
/// let mut buffer = [0; 64];
/// assert_eq!(other.recv(&mut buffer).await?, 5);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    io: Watched<Socket>,
}

type Socket = mio::net::UnixDatagram;

impl UnixDatagram {
    /// Makes a socket at `path`.
    ///
    /// # Errors
    /// The system's (`AddrInUse` if there is something at that path, `InvalidInput` if it is too
    /// long, ..); `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-datagram-{}", std::process::id()));
    /// let socket = UnixDatagram::bind(&path)?;
    /// let sender = UnixDatagram::unbound()?;
    /// sender.send_to(b"hi", &path).await?;
    /// assert_eq!(socket.recv(&mut [0; 8]).await?, 2);
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Makes a socket at an address, which may be an abstract one (on Linux).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use gondola::net::UnixDatagram;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// # gondola::block_on(async {
    /// let name = format!("gondola-datagram-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let socket = UnixDatagram::bind_addr(&address)?;
    /// let sender = std::os::unix::net::UnixDatagram::unbound()?;
    /// sender.connect_addr(&address)?; // mio has no such call
    /// UnixDatagram::from_std(sender)?.send(b"hi").await?;
    /// assert_eq!(socket.recv(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// # }
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::new(|| Socket::bind_addr(address))
    }

    /// A socket without an address: it can send, and receives only once it is connected to one that
    /// is connected to it.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// assert!(UnixDatagram::unbound()?.local_addr()?.is_unnamed());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn unbound() -> io::Result<Self> {
        Self::new(Socket::unbound)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    /// The system's; `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"hi").await?;
    /// assert_eq!(other.recv(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let mut other = None;
        let one = Self::new(|| {
            let (one, another) = Socket::pair()?;
            other = Some(another);
            Ok(one)
        })?;
        let other = Self::new(|| Ok(other.expect("they were made together")))?;
        Ok((one, other))
    }

    /// Takes over a socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (std, other) = std::os::unix::net::UnixDatagram::pair()?;
    /// other.send(b"hi")?;
    /// assert_eq!(UnixDatagram::from_std(std)?.recv(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        Self::new(|| {
            socket.set_nonblocking(true)?;
            Ok(Socket::from_std(socket))
        })
    }

    fn new(make: impl FnOnce() -> io::Result<Socket>) -> io::Result<Self> {
        // Asked before anything is done to the outside world.
        let reactor = current_reactor()?;
        Ok(Self { io: Watched::new(reactor, make()?, true)? })
    }

    /// Sets the peer: [`send`](Self::send) sends to it, and only its datagrams are received.
    ///
    /// # Errors
    /// The system's (`NotFound`, `ConnectionRefused` if nobody holds that path any more, ..).
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-peer-{}", std::process::id()));
    /// let socket = UnixDatagram::bind(&path)?;
    /// let sender = UnixDatagram::unbound()?;
    /// sender.connect(&path)?;
    /// sender.send(b"hi").await?;
    /// assert_eq!(socket.recv(&mut [0; 8]).await?, 2);
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.io.connect(path)
    }

    /// Sends a datagram to the peer, whole or not at all, and returns its length. Waits while the
    /// peer's queue is full.
    ///
    /// # Errors
    /// The system's: `ConnectionRefused` or `ConnectionReset` once the peer has gone,
    /// `NotConnected` without a peer, one with the code `EMSGSIZE` if the datagram is too long; the
    /// [module](crate::net) says which others.
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, _other) = UnixDatagram::pair()?;
    /// assert_eq!(one.send(b"hi").await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.io.run(Write, move |socket: &Socket| socket.send(datagram))
    }

    /// Receives a datagram, and returns how much of it is in `buffer`: what is longer than that is
    /// cut off, and lost. 0 is an empty datagram, or the end if the peer was shut down.
    ///
    /// # Errors
    /// The system's; the [module](crate::net) says which others.
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"hello").await?;
    /// assert_eq!(other.recv(&mut [0; 4]).await?, 4); // the "o" is lost
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.io.run(Read, move |socket: &Socket| socket.recv(buffer))
    }

    /// Sends a datagram to the socket at `path`, whole or not at all, and returns its length. While
    /// that one's queue is full it tries again, after 1 ms at first and 50 ms at most: the system
    /// tells nobody when there is room. [Connected](Self::connect), it does.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `NotFound`.
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-to-{}", std::process::id()));
    /// let _socket = UnixDatagram::bind(&path)?;
    /// assert_eq!(UnixDatagram::unbound()?.send_to(b"hi", &path).await?, 2);
    /// std::fs::remove_file(&path)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.io.must_be_running()?;
        retry(|| self.io.send_to(datagram, &path)).await
    }

    /// Receives a datagram, and says from whom it is: often from nobody with a name. Else as
    /// [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"hi").await?;
    /// let (count, from) = other.recv_from(&mut [0; 8]).await?;
    /// assert!(count == 2 && from.is_unnamed());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn recv_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.io.run(Read, move |socket: &Socket| socket.recv_from(buffer))
    }

    /// As [`recv`](Self::recv), for whoever polls by hand. All callers are one waiter: the last
    /// one. Another task that it displaces is woken, to poll again.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"hi").await?;
    /// let mut buffer = [0; 8];
    /// assert_eq!(poll_fn(|cx| other.poll_recv(cx, &mut buffer)).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Read, |socket| socket.recv(buffer))
    }

    /// As [`send`](Self::send), for whoever polls by hand: see [`poll_recv`](Self::poll_recv).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let (one, _other) = UnixDatagram::pair()?;
    /// assert_eq!(poll_fn(|cx| one.poll_send(cx, b"hi")).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_send(&self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Write, |socket| socket.send(datagram))
    }

    /// As [`recv`](Self::recv), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, as far as the runtime knows. Else as [`recv`](Self::recv).
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"hi").await?;
    /// other.readable().await?;
    /// assert_eq!(other.try_recv(&mut [0; 8])?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.attempt(Read, |socket| socket.recv(buffer))
    }

    /// As [`send`](Self::send), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if the queue is full, as far as the runtime knows. Else as [`send`](Self::send).
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, _other) = UnixDatagram::pair()?;
    /// assert_eq!(one.try_send(b"hi")?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.io.attempt(Write, |socket| socket.send(datagram))
    }

    /// Waits until there is a datagram, the end or an error, as the kernel says now.
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.send(b"hi").await?;
    /// other.readable().await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Read)
    }

    /// Waits until there is room for a datagram, as the kernel says now.
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// # gondola::block_on(async {
    /// let (one, _other) = gondola::net::UnixDatagram::pair()?;
    /// one.writable().await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Write)
    }

    /// Shuts down receiving, sending or both, at once.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UnixDatagram;
    /// use std::net::Shutdown;
    ///
    /// # gondola::block_on(async {
    /// let (one, other) = UnixDatagram::pair()?;
    /// one.shutdown(Shutdown::Read)?;
    /// assert!(other.send(b"hi").await.is_err());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
    }

    /// This end's address.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// # gondola::block_on(async {
    /// assert!(gondola::net::UnixDatagram::unbound()?.local_addr()?.is_unnamed());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The peer's address, if it is [connected](Self::connect).
    ///
    /// # Errors
    /// The system's: `NotConnected` without a peer.
    ///
    /// ```
    /// # gondola::block_on(async {
    /// let alone = gondola::net::UnixDatagram::unbound()?;
    /// assert_eq!(alone.peer_addr().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }
}

impl std::os::fd::AsFd for UnixDatagram {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}
