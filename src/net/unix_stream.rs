//! The connected Unix socket.
#![forbid(unsafe_code)]

use super::halves::{read_methods, socket_methods, write_methods};
use super::retry::retry;
use super::transfer::{self, Reading, ReadingVectored, Writing, WritingVectored};
use super::unix_split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::watched::{Watched, current_reactor};
use crate::reactor::Direction;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

/// A connection of a Unix socket. Dropping it closes it.
///
/// ```
#[doc = unix_connected!()]
/// client.write_all(b"hello").await?;
/// let mut buffer = [0; 5];
/// server.read_exact(&mut buffer).await?;
/// assert_eq!(&buffer, b"hello");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UnixStream {
    io: Watched<mio::net::UnixStream>,
}

impl UnixStream {
    /// Connects to the socket at `path`. While the listener's queue is full it tries again, after
    /// 1 ms at first and 50 ms at most: the system tells nobody when there is room.
    ///
    /// # Errors
    /// The system's (`NotFound`, `ConnectionRefused`, `InvalidInput` for a path that is too long,
    /// ..); `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    ///
    /// ```
    /// use gondola::net::{UnixListener, UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let path = std::env::temp_dir().join(format!("gondola-connect-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let _stream = UnixStream::connect(&path).await?;
    /// std::fs::remove_file(&path)?; // as in std, nobody else does
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddr::from_pathname(path)?;
        Self::connect_addr(&address).await
    }

    /// Connects to an address, which may be an abstract one (on Linux). Else as
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use gondola::net::{UnixListener, UnixStream};
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// # gondola::block_on(async {
    /// let name = format!("gondola-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name)?;
    /// let listener = UnixListener::bind_addr(&address)?;
    /// let _stream = UnixStream::connect_addr(&address).await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// # }
    /// ```
    pub async fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        let reactor = current_reactor()?;
        let stream = retry(|| mio::net::UnixStream::connect_addr(address)).await?;
        Ok(Self::new(Watched::new(reactor, stream, true)?))
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    /// The system's; `NotConnected` outside a gondola runtime; `Unsupported` under virtual time.
    ///
    /// ```
    /// use gondola::net::UnixStream;
    ///
    /// # gondola::block_on(async {
    /// let (mut one, mut other) = UnixStream::pair()?;
    /// one.write_all(b"hi").await?;
    /// assert_eq!(other.read(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn pair() -> io::Result<(Self, Self)> {
        let reactor = current_reactor()?;
        let (one, other) = mio::net::UnixStream::pair()?;
        let one = Watched::new(reactor.clone(), one, true)?;
        Ok((Self::new(one), Self::new(Watched::new(reactor, other, true)?)))
    }

    /// Takes over a connected socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    ///
    /// ```
    /// use gondola::net::UnixStream;
    /// use std::io::Write;
    ///
    /// # gondola::block_on(async {
    /// let (std, mut other) = std::os::unix::net::UnixStream::pair()?;
    /// let mut stream = UnixStream::from_std(std)?;
    /// other.write_all(b"hi")?;
    /// assert_eq!(stream.read(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        let reactor = current_reactor()?;
        stream.set_nonblocking(true)?;
        Ok(Self::new(Watched::new(reactor, mio::net::UnixStream::from_std(stream), true)?))
    }

    pub(super) fn new(io: Watched<mio::net::UnixStream>) -> Self {
        // A read ends behind bytes that came with a descriptor, and with SO_PASSCRED where the sender
        // changes: there may be more, of which no event tells any more.
        io.distrust_short();
        Self { io }
    }

    /// Two halves that can be used at the same time, in one task.
    ///
    /// ```
    #[doc = unix_connected!()]
    /// let (mut reader, mut writer) = client.split();
    /// writer.write_all(b"hi").await?;
    /// server.write_all(b"ho").await?;
    /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        unix_split::split(&self.io)
    }

    /// Two halves that can live in two tasks. The socket closes with the later one; dropping the
    /// write half shuts down writing. [`reunite`](OwnedReadHalf::reunite) puts them together again.
    ///
    /// ```
    #[doc = unix_connected!()]
    /// let (mut reader, mut writer) = client.into_split();
    /// writer.write_all(b"hi").await?;
    /// server.write_all(b"ho").await?;
    /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        unix_split::into_split(self.io)
    }
}

impl OwnedReadHalf {
    /// Makes the stream whole again, from both halves of it.
    ///
    /// # Errors
    /// Two halves of different streams come back as they are.
    ///
    /// ```
    #[doc = unix_connected!()]
    /// let (reader, writer) = client.into_split();
    /// let mut client = reader.reunite(writer).unwrap();
    /// client.write_all(b"hi").await?; // nothing was shut down
    /// assert_eq!(server.read(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn reunite(
        self,
        writer: OwnedWriteHalf,
    ) -> Result<UnixStream, (OwnedReadHalf, OwnedWriteHalf)> {
        unix_split::reunite(self, writer).map(UnixStream::new)
    }
}

read_methods!(UnixStream, unix_connected, "let reader = &mut client;");
write_methods!(UnixStream, unix_connected, "let writer = &mut client;");
socket_methods!(UnixStream, unix_connected, "", "client", SocketAddr);
