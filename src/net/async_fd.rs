//! Any other descriptor that can be waited for.
#![forbid(unsafe_code)]

use super::transfer;
use super::watched::{Watched, current_reactor};
use crate::reactor::Direction;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};

/// Anything with a descriptor that the system can watch: pipes, terminals, devices, a pidfd, an
/// inotify, sockets of another crate. It is used through calls of its own, which must not block.
///
/// `T` may be a reference, so that whatever it is comes back even from an error.
///
/// ```
/// use gondola::net::Async;
/// use std::{io::{Read, Write}, os::unix::net::UnixStream};
///
/// # gondola::block_on(async {
/// let (reader, mut writer) = UnixStream::pair()?;
/// let reader = Async::new(reader)?;
/// writer.write_all(b"hi")?;
/// let mut buffer = [0; 8];
/// assert_eq!(reader.read_with(|mut socket| socket.read(&mut buffer)).await?, 2);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Descriptors that are shared
///
/// A descriptor is non-blocking for all who share it: a terminal for the shell that it came from,
/// and for the other two standard streams as well. If one of them makes it blocking again, calls
/// here are errors (`InvalidInput`) instead of blocking the thread.
///
/// Closing a descriptor that something waits for is an error of the program that nobody is told:
/// it waits for ever.
pub struct Async<T: AsFd> {
    io: Watched<Descriptor<T>>,
}

struct Descriptor<T> {
    /// What is watched.
    raw: RawFd,
    /// `None` once it has been handed out.
    inner: Option<T>,
}

impl<T: AsFd> Async<T> {
    /// Makes the descriptor non-blocking, and watches it in the runtime that is entered.
    ///
    /// # Errors
    /// `Unsupported` for what the system can't watch: files and folders, which are always ready
    /// and block all the same. Threads are the way to them. Also under virtual time. `AlreadyExists`
    /// if this runtime watches this descriptor already; `NotConnected` outside a gondola runtime;
    /// else the system's.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::{fs::File, io::ErrorKind};
    ///
    /// # gondola::block_on(async {
    /// let file = File::open("Cargo.toml")?;
    /// assert_eq!(Async::new(&file).unwrap_err().kind(), ErrorKind::Unsupported);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn new(io: T) -> io::Result<Self> {
        let reactor = current_reactor()?;
        crate::sys::set_nonblocking(&io.as_fd())?;
        let descriptor = Descriptor { raw: io.as_fd().as_raw_fd(), inner: Some(io) };
        match Watched::new(reactor, descriptor, true) {
            Ok(io) => Ok(Self { io }),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let why = "the system can't watch this kind of descriptor: it is a file, perhaps";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
            Err(error) => Err(error),
        }
    }

    /// What is inside.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let socket = Async::new(UdpSocket::bind("127.0.0.1:0")?)?;
    /// assert!(socket.get_ref().local_addr()?.port() > 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn get_ref(&self) -> &T {
        self.io.get()
    }

    /// What is inside. Put nothing else in its place: another descriptor would not be watched.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::{io::Write, os::unix::net::UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let (_reader, writer) = UnixStream::pair()?;
    /// Async::new(writer)?.get_mut().write_all(b"hi")?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.io.socket_mut().inner.as_mut().expect(INSIDE)
    }

    /// Watches it no longer, and gives it back. It stays non-blocking.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let socket = Async::new(UdpSocket::bind("127.0.0.1:0")?)?;
    /// let _socket: UdpSocket = socket.into_inner();
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn into_inner(mut self) -> T {
        self.io.socket_mut().inner.take().expect(INSIDE)
    }

    /// Calls `operation` until it returns something other than `WouldBlock`; in between it waits
    /// until the descriptor is readable. What `Interrupted` interrupts is called again.
    ///
    /// # Errors
    /// The operation's; `InvalidInput` if the descriptor has been made blocking; and the
    /// [module](crate::net) says which others.
    ///
    /// # Cancel safety
    /// Nothing is lost, if `operation` does what it does in one step.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let socket = Async::new(UdpSocket::bind("127.0.0.1:0")?)?;
    /// socket.get_ref().connect(socket.get_ref().local_addr()?)?;
    /// socket.write_with(|socket| socket.send(b"hi")).await?;
    /// assert_eq!(socket.read_with(|socket| socket.recv(&mut [0; 8])).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn read_with<R>(
        &self,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>> {
        self.with(Direction::Read, operation)
    }

    /// As [`read_with`](Self::read_with), until the descriptor is writable.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::{io::Write, os::unix::net::UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let (_reader, writer) = UnixStream::pair()?;
    /// let writer = Async::new(writer)?;
    /// assert_eq!(writer.write_with(|mut socket| socket.write(b"hi")).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn write_with<R>(
        &self,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> impl Future<Output = io::Result<R>> {
        self.with(Direction::Write, operation)
    }

    /// As [`read_with`](Self::read_with), for whoever polls by hand. All callers of this method are
    /// one waiter: the last one. Another task that it displaces is woken, to poll again.
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    ///
    /// # Cancel safety
    /// As [`read_with`](Self::read_with).
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::{future::poll_fn, io::{Read, Write}, os::unix::net::UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let (reader, mut writer) = UnixStream::pair()?;
    /// let reader = Async::new(reader)?;
    /// writer.write_all(b"hi")?;
    /// let mut buffer = [0; 8];
    /// let count = poll_fn(|cx| reader.poll_read_with(cx, |mut socket| socket.read(&mut buffer)));
    /// assert_eq!(count.await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_with(cx, Direction::Read, operation)
    }

    /// As [`write_with`](Self::write_with), for whoever polls by hand: see
    /// [`poll_read_with`](Self::poll_read_with).
    ///
    /// # Errors
    /// As [`read_with`](Self::read_with).
    ///
    /// # Cancel safety
    /// As [`read_with`](Self::read_with).
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::{future::poll_fn, io::Write, os::unix::net::UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let (_reader, writer) = UnixStream::pair()?;
    /// let writer = Async::new(writer)?;
    /// let count = poll_fn(|cx| writer.poll_write_with(cx, |mut socket| socket.write(b"hi")));
    /// assert_eq!(count.await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_with(cx, Direction::Write, operation)
    }

    /// Waits until the descriptor is readable, as the kernel says now; then call what you like.
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::Async;
    /// use std::{io::{Read, Write}, os::unix::net::UnixStream};
    ///
    /// # gondola::block_on(async {
    /// let (reader, mut writer) = UnixStream::pair()?;
    /// let mut reader = Async::new(reader)?;
    /// writer.write_all(b"hi")?;
    /// reader.readable().await?;
    /// assert_eq!(reader.get_mut().read(&mut [0; 8])?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Direction::Read)
    }

    /// As [`readable`](Self::readable): waits until the descriptor is writable.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::Async;
    ///
    /// # gondola::block_on(async {
    /// let (_reader, writer) = std::os::unix::net::UnixStream::pair()?;
    /// Async::new(writer)?.writable().await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Direction::Write)
    }

    async fn with<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.run(direction, |descriptor: &Descriptor<T>| descriptor.call(&mut operation)).await
    }

    fn poll_with<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.io.poll(cx, direction, |descriptor| descriptor.call(&mut operation))
    }
}

const INSIDE: &str = "it is inside until `into_inner`";

impl<T: AsFd> Descriptor<T> {
    fn get(&self) -> &T {
        self.inner.as_ref().expect(INSIDE)
    }

    fn call<R>(&self, operation: &mut impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        if !crate::sys::is_nonblocking(self)? {
            let why = "somebody has made the descriptor blocking";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        operation(self.get())
    }
}

impl<T> AsRawFd for Descriptor<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.raw
    }
}

impl<T> event::Source for Descriptor<T> {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.raw).register(to, token, interest)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.raw).reregister(to, token, interest)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        SourceFd(&self.raw).deregister(from)
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(self.get_ref()).finish()
    }
}
