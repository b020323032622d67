//! The connected socket.
#![forbid(unsafe_code)]

use super::tcp_split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::transfer::{self, Reading, ReadingVectored, Writing, WritingVectored};
use super::watched::{Watched, current_reactor};
use crate::reactor::Direction;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

/// A TCP connection. Dropping it closes it.
///
/// ```
/// use gondola::net::{TcpListener, TcpStream};
/// use std::net::Shutdown;
///
/// # gondola::block_on(async {
/// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, _) = listener.accept().await?;
/// client.write_all(b"over").await?;
/// client.shutdown(Shutdown::Write)?;
/// let mut buffer = [0; 64];
/// assert_eq!(server.read(&mut buffer).await?, 4);
/// assert_eq!(server.read(&mut buffer).await?, 0); // the end
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Peers that vanish
///
/// A peer that loses its power or its network says nothing. Whoever waits for its bytes waits for
/// ever, and a connection on which nothing is sent stays open for ever. A
/// [`timeout`](crate::time::timeout) bounds one wait. For connections that may rest for long, let
/// the kernel ask the peer whether it is still there: set keepalive and the user time-out, for
/// example with the crate `socket2`. Reads and writes then fail with `TimedOut`.
///
/// ```
/// use socket2::{SockRef, TcpKeepalive};
/// use std::time::Duration;
///
#[doc = connected!()]
/// let socket = SockRef::from(&client);
/// // Asks after 60 s of silence, then every 10 s; gives up after 6 questions without an answer.
/// let asking = TcpKeepalive::new()
///     .with_time(Duration::from_secs(60))
///     .with_interval(Duration::from_secs(10))
///     .with_retries(6);
/// socket.set_tcp_keepalive(&asking)?;
/// // Gives up as well if what was sent is not acknowledged within 2 minutes (on Linux).
/// # #[cfg(target_os = "linux")]
/// socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
/// # assert_eq!(socket.tcp_keepalive_time()?, Duration::from_secs(60));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct TcpStream {
    io: Watched<mio::net::TcpStream>,
}

impl TcpStream {
    /// Connects to `address`, such as `([127, 0, 0, 1], 80)`. How long that may take is the
    /// system's business, and can be minutes: see [`timeout`](crate::time::timeout).
    ///
    /// # Errors
    /// The system's (`ConnectionRefused`, `TimedOut`, ..); `NotConnected` outside a gondola
    /// runtime; `Unsupported` under virtual time. If nobody listens on a port from which the
    /// system connects, it may connect the socket to itself: that is `ConnectionRefused` as well.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    ///
    /// ```
    /// use gondola::net::TcpStream;
    ///
    /// # gondola::block_on(async {
    /// # let listener = gondola::net::TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// let address = listener.local_addr()?;
    /// let stream = TcpStream::connect(address).await?;
    /// assert_eq!(stream.peer_addr()?, address);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn connect(address: impl Into<SocketAddr>) -> impl Future<Output = io::Result<Self>> {
        Self::connect_to(address.into())
    }

    async fn connect_to(address: SocketAddr) -> io::Result<Self> {
        // The first event says that the attempt is decided, not how.
        let reactor = current_reactor()?;
        let io = Watched::new(reactor, mio::net::TcpStream::connect(address)?, false)?;
        let decided = |stream: &mio::net::TcpStream| {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            match stream.peer_addr() {
                // Where nobody listens, and the system picks that very port for this end, TCP takes
                // the socket for two who open at the same time, and connects it to itself.
                Ok(peer) if stream.local_addr()? == peer => {
                    let why = "nobody listens there: the socket was connected to itself";
                    Err(io::Error::new(io::ErrorKind::ConnectionRefused, why))
                }
                Ok(_) => Ok(()),
                // Writable, but not yet connected: a spurious event.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Err(error) => Err(error),
            }
        };
        // Through `try_io`: without it, some of mio's systems send no second event.
        io.run(Direction::Write, |stream: &mio::net::TcpStream| stream.try_io(|| decided(stream)))
            .await?;
        io.assume_ready(Direction::Read);
        Ok(Self { io })
    }

    /// Takes over a connected socket of std, which becomes non-blocking. std's type may hold any
    /// descriptor: whatever is not a stream socket, a UDP socket for example, may wait for ever.
    ///
    /// # Errors
    /// The system's; `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// ```
    /// use gondola::net::TcpStream;
    ///
    /// # gondola::block_on(async {
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let mut stream = TcpStream::from_std(stream)?;
    /// stream.write_all(b"hello").await?;
    /// # use std::io::Read;
    /// # let mut seen = [0; 5];
    /// # listener.accept()?.0.read_exact(&mut seen)?;
    /// # assert_eq!(&seen, b"hello");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        let reactor = current_reactor()?;
        stream.set_nonblocking(true)?;
        Ok(Self::new(Watched::new(reactor, mio::net::TcpStream::from_std(stream), true)?))
    }

    pub(super) fn new(io: Watched<mio::net::TcpStream>) -> Self {
        Self { io }
    }

    /// Shuts down reading, writing or both, at once. After `Write` the peer, once it has read all,
    /// reads the end.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    #[doc = connected!()]
    /// client.shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!(server.read(&mut [0; 8]).await?, 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.shutdown(how)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`). By default they are not.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    #[doc = connected!()]
    /// assert!(!client.nodelay()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.nodelay()
    }

    /// Sends small writes at once instead of gathering them (`TCP_NODELAY`): set it for request and
    /// response.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    #[doc = connected!()]
    /// client.set_nodelay(true)?;
    /// assert!(client.nodelay()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.set_nodelay(nodelay)
    }

    /// This end's address.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    #[doc = connected!()]
    /// assert_eq!(client.local_addr()?, server.peer_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    #[doc = connected!()]
    /// assert_eq!(client.peer_addr()?, listener.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Two halves that can be used at the same time, in one task.
    ///
    /// ```
    #[doc = connected!()]
    /// let (mut reader, mut writer) = client.split();
    /// let mut buffer = [0; 2];
    /// let (read, written, echoed) = futures::join!(
    ///     reader.read_exact(&mut buffer),
    ///     writer.write_all(b"hi"),
    ///     async {
    ///         let mut seen = [0; 2];
    ///         server.read_exact(&mut seen).await?;
    ///         server.write_all(&seen).await
    ///     },
    /// );
    /// read.and(written).and(echoed)?;
    /// assert_eq!(&buffer, b"hi");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        tcp_split::split(&self.io)
    }

    /// Two halves that can live in two tasks. The socket closes with the later one; dropping the
    /// write half shuts down writing.
    ///
    /// ```
    #[doc = connected!()]
    /// let (mut reader, mut writer) = client.into_split();
    /// let echo = gondola::try_spawn(async move {
    ///     let mut seen = [0; 2];
    ///     server.read_exact(&mut seen).await?;
    ///     server.write_all(&seen).await
    /// }).unwrap();
    /// gondola::try_spawn(async move { writer.write_all(b"hi").await }).unwrap().detach();
    /// let mut buffer = [0; 2];
    /// reader.read_exact(&mut buffer).await?;
    /// assert_eq!(&buffer, b"hi");
    /// # echo.await.unwrap()?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    /// [`OwnedReadHalf::reunite`] puts them together again.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        tcp_split::into_split(self.io)
    }
}

impl OwnedReadHalf {
    /// Makes the stream whole again, from both halves of it.
    ///
    /// # Errors
    /// Two halves of different streams come back as they are.
    ///
    /// ```
    #[doc = connected!()]
    /// let (reader, writer) = client.into_split();
    /// let mut client = reader.reunite(writer).unwrap();
    /// client.write_all(b"hi").await?; // nothing was shut down
    /// assert_eq!(server.read(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn reunite(
        self,
        writer: OwnedWriteHalf,
    ) -> Result<TcpStream, (OwnedReadHalf, OwnedWriteHalf)> {
        tcp_split::reunite(self, writer).map(|io| TcpStream { io })
    }
}

// Each hands on the future that it gets: an async fn around it would be one more state machine, and
// 80 instructions per request.
impl TcpStream {
    /// Reads what there is, at least one byte, and returns how many. `Ok(0)` means the end,
    /// or an empty buffer. Waits while there is nothing.
    /// A reset is told once: where a write has met it, a read may say `Ok(0)`.
    ///
    /// # Errors
    /// The system's; the [module](crate::net) says which others.
    ///
    /// # Cancel safety
    /// Loses no byte.
    ///
    /// ```
    #[doc = connected!()]
    /// server.write_all(b"hello").await?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(client.read(&mut buffer).await?, 5);
    /// assert_eq!(&buffer[..5], b"hello");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        transfer::run(&self.io, Reading(buffer))
    }

    /// Reads what there is into several buffers, filling one after the other. Else as
    /// [`read`](Self::read). One call fills 1024 buffers at most.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Loses no byte.
    ///
    /// ```
    #[doc = connected!()]
    /// use std::io::IoSliceMut;
    ///
    /// server.write_all(b"hello").await?;
    /// let (mut head, mut tail) = ([0; 2], [0; 8]);
    /// let mut buffers = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    /// assert_eq!(client.read_vectored(&mut buffers).await?, 5);
    /// assert_eq!((&head, &tail[..3]), (b"he", &b"llo"[..]));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn read_vectored(
        &mut self,
        buffers: &mut [IoSliceMut<'_>],
    ) -> impl Future<Output = io::Result<usize>> {
        transfer::run(&self.io, ReadingVectored::new(buffers))
    }

    /// Fills the buffer, by as many reads as that takes.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer ends before; then some of the buffer may be filled. Else
    /// as [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Not cancel-safe: bytes that were read already are in the buffer, and how many is
    /// lost. Where that matters, call [`read`](Self::read) and count.
    ///
    /// ```
    #[doc = connected!()]
    /// server.write_all(b"hello").await?;
    /// let mut buffer = [0; 4];
    /// client.read_exact(&mut buffer).await?;
    /// assert_eq!(&buffer, b"hell");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<()>> {
        transfer::read_exact(&self.io, buffer)
    }

    /// Reads what there is, and leaves it to be read again. Else as [`read`](Self::read).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Loses no byte.
    ///
    /// ```
    #[doc = connected!()]
    /// server.write_all(b"hi").await?;
    /// let mut buffer = [0; 8];
    /// assert_eq!(client.peek(&mut buffer).await?, 2);
    /// assert_eq!(client.read(&mut buffer).await?, 2); // the same two
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peek(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        transfer::peek(&self.io, buffer)
    }

    /// As [`read`](Self::read), for whoever polls by hand: to implement a trait, for example.
    ///
    /// All poll methods that read are one waiter: of two tasks that poll the same socket, the last
    /// one waits. The other is woken, to poll again. Both get on, but they keep each other awake.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Nothing is read but by the call that returns it. Once it has returned `Pending`, the task
    /// may be woken, even if it does not want to read any more.
    ///
    /// ```
    #[doc = connected!()]
    /// use std::future::poll_fn;
    ///
    /// server.write_all(b"hi").await?;
    /// let mut buffer = [0; 8];
    /// assert_eq!(poll_fn(|cx| client.poll_read(cx, &mut buffer)).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        transfer::poll(&self.io, cx, Reading(buffer))
    }

    /// As [`read`](Self::read), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, as far as the runtime knows: only between two polls of a
    /// task does it hear what has come. [`readable`](Self::readable) waits for it. Else as
    /// [`read`](Self::read).
    ///
    /// ```
    #[doc = connected!()]
    /// let mut buffer = [0; 8];
    /// assert_eq!(client.try_read(&mut buffer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// server.write_all(b"hi").await?;
    /// client.readable().await?;
    /// assert_eq!(client.try_read(&mut buffer)?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        transfer::attempt(&self.io, Reading(buffer))
    }

    /// Waits until there is something to read: bytes, the end or an error. It asks the kernel
    /// itself, so it is right even if somebody reads from the descriptor without this type; that is
    /// one system call more.
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    #[doc = connected!()]
    /// server.write_all(b"hi").await?;
    /// client.readable().await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Direction::Read)
    }

    /// Writes as much as the kernel takes, and returns how much that was: at least one
    /// byte, unless the buffer is empty. Waits while it takes nothing.
    ///
    /// # Errors
    /// The system's (`BrokenPipe` or `ConnectionReset` once the peer has gone); the
    /// [module](crate::net) says which others. Raises no SIGPIPE.
    ///
    /// # Cancel safety
    /// A write that was cancelled wrote nothing.
    ///
    /// ```
    #[doc = connected!()]
    /// assert_eq!(client.write(b"hi").await?, 2);
    /// let mut buffer = [0; 2];
    /// server.read_exact(&mut buffer).await?;
    /// assert_eq!(&buffer, b"hi");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn write(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<usize>> {
        transfer::run(&self.io, Writing(buffer))
    }

    /// Writes as much of several buffers, in their order, as the kernel takes. Else as
    /// [`write`](Self::write). One call takes from 1024 buffers at most.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    /// A write that was cancelled wrote nothing.
    ///
    /// ```
    #[doc = connected!()]
    /// use std::io::IoSlice;
    ///
    /// let parts = [IoSlice::new(b"head "), IoSlice::new(b"body")];
    /// assert_eq!(client.write_vectored(&parts).await?, 9);
    /// let mut buffer = [0; 9];
    /// server.read_exact(&mut buffer).await?;
    /// assert_eq!(&buffer, b"head body");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn write_vectored(
        &mut self,
        buffers: &[IoSlice<'_>],
    ) -> impl Future<Output = io::Result<usize>> {
        transfer::run(&self.io, WritingVectored::new(buffers))
    }

    /// As [`write`](Self::write), for whoever polls by hand. All poll methods that write are one
    /// waiter, as with [`poll_read`](Self::poll_read).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    /// Nothing is written but by the call that says so.
    ///
    /// ```
    #[doc = connected!()]
    /// use std::future::poll_fn;
    ///
    /// assert_eq!(poll_fn(|cx| client.poll_write(cx, b"hi")).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        transfer::poll(&self.io, cx, Writing(buffer))
    }

    /// As [`write_vectored`](Self::write_vectored), for whoever polls by hand: see
    /// [`poll_write`](Self::poll_write).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    /// Nothing is written but by the call that says so.
    ///
    /// ```
    #[doc = connected!()]
    /// use std::{future::poll_fn, io::IoSlice};
    ///
    /// let parts = [IoSlice::new(b"head "), IoSlice::new(b"body")];
    /// assert_eq!(poll_fn(|cx| client.poll_write_vectored(cx, &parts)).await?, 9);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        transfer::poll(&self.io, cx, WritingVectored::new(buffers))
    }

    /// As [`write`](Self::write), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel takes nothing, as far as the runtime knows: see
    /// [`try_read`](Self::try_read). Else as [`write`](Self::write).
    ///
    /// ```
    #[doc = connected!()]
    /// assert_eq!(client.try_write(b"hi")?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
        transfer::attempt(&self.io, Writing(buffer))
    }

    /// Waits until the kernel takes something, or has an error to tell. It asks the kernel itself,
    /// as [`readable`](Self::readable).
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    #[doc = connected!()]
    /// client.writable().await?;
    /// assert_eq!(client.try_write(b"hi")?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Direction::Write)
    }

    /// Writes the whole buffer, by as many writes as that takes.
    ///
    /// # Errors
    /// As [`write`](Self::write); then some of it may have been written.
    ///
    /// # Cancel safety
    /// Not cancel-safe: how much was written is lost. Where that matters, call
    /// [`write`](Self::write) and count.
    ///
    /// ```
    #[doc = connected!()]
    /// client.write_all(b"hello").await?;
    /// let mut buffer = [0; 5];
    /// server.read_exact(&mut buffer).await?;
    /// assert_eq!(&buffer, b"hello");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn write_all(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<()>> {
        transfer::write_all(&self.io, buffer)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for TcpStream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}
