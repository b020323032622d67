//! Reading and writing, for whole streams and their halves.
#![forbid(unsafe_code)]

use super::io::Stream;
use crate::reactor::Direction::{Read, Write};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::rc::Rc;

/// The reading half of a borrowed [`TcpStream`](super::TcpStream): see
/// [`split`](super::TcpStream::split).
///
/// ```
#[doc = connected!()]
/// let (mut reader, _writer) = client.split();
/// server.write_all(b"hi").await?;
/// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct ReadHalf<'a> {
    io: &'a Stream,
}

/// The writing half of a borrowed [`TcpStream`](super::TcpStream): see
/// [`split`](super::TcpStream::split). Dropping it shuts down nothing.
///
/// ```
#[doc = connected!()]
/// let (_reader, mut writer) = client.split();
/// writer.write_all(b"hi").await?;
/// assert_eq!(server.read(&mut [0; 8]).await?, 2);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct WriteHalf<'a> {
    io: &'a Stream,
}

/// The reading half of a [`TcpStream`](super::TcpStream) that was taken apart: see
/// [`into_split`](super::TcpStream::into_split).
///
/// ```
#[doc = connected!()]
/// let (mut reader, _writer) = client.into_split();
/// server.write_all(b"hi").await?;
/// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct OwnedReadHalf {
    io: Rc<Stream>,
}

/// The writing half of a [`TcpStream`](super::TcpStream) that was taken apart: see
/// [`into_split`](super::TcpStream::into_split). Dropping it shuts down writing.
///
/// ```
#[doc = connected!()]
/// let (_reader, writer) = client.into_split();
/// drop(writer);
/// assert_eq!(server.read(&mut [0; 8]).await?, 0); // the end
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf {
    io: Rc<Stream>,
}

pub(super) fn split(io: &Stream) -> (ReadHalf<'_>, WriteHalf<'_>) {
    (ReadHalf { io }, WriteHalf { io })
}

pub(super) fn into_split(io: Stream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let io = Rc::new(io);
    (OwnedReadHalf { io: io.clone() }, OwnedWriteHalf { io })
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        // The peer may have gone already; then there is nothing to shut down.
        let _ = self.io.shutdown(Shutdown::Write);
    }
}

/// The most buffers that one system call takes, on every system that has a limit.
const MOST: usize = 1024;

/// What one call can use of `lengths`: from the first buffer that is not empty, `MOST` of them.
/// `None` if all are empty. Also the sum of their lengths.
fn usable(lengths: impl Iterator<Item = usize> + Clone) -> Option<(Range<usize>, usize)> {
    let first = lengths.clone().position(|length| length > 0)?;
    let some = lengths.skip(first).take(MOST);
    Some((first..first + some.clone().count(), some.fold(0, usize::saturating_add)))
}

pub(super) async fn read(io: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    if buffer.is_empty() {
        return Ok(0);
    }
    io.run(Read, |mut stream: &mio::net::TcpStream| {
        let done = stream.read(buffer)?;
        io.transferred(Read, done, buffer.len());
        Ok(done)
    })
    .await
}

pub(super) async fn read_vectored(
    io: &Stream,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let Some((range, wanted)) = usable(buffers.iter().map(|buffer| buffer.len())) else {
        return Ok(0);
    };
    io.run(Read, |mut stream: &mio::net::TcpStream| {
        let done = stream.read_vectored(&mut buffers[range.clone()])?;
        io.transferred(Read, done, wanted);
        Ok(done)
    })
    .await
}

pub(super) async fn peek(io: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    if buffer.is_empty() {
        return Ok(0);
    }
    io.run(Read, |stream: &mio::net::TcpStream| stream.peek(buffer)).await
}

pub(super) async fn write(io: &Stream, buffer: &[u8]) -> io::Result<usize> {
    if buffer.is_empty() {
        return Ok(0);
    }
    io.run(Write, |mut stream: &mio::net::TcpStream| {
        let done = stream.write(buffer)?;
        io.transferred(Write, done, buffer.len());
        Ok(done)
    })
    .await
}

pub(super) async fn write_vectored(io: &Stream, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let Some((range, wanted)) = usable(buffers.iter().map(|buffer| buffer.len())) else {
        return Ok(0);
    };
    let buffers = &buffers[range];
    io.run(Write, |stream: &mio::net::TcpStream| {
        #[cfg(unix)]
        let done = stream.try_io(|| crate::sys::send_vectored(stream, buffers))?;
        #[cfg(not(unix))]
        let done = { stream }.write_vectored(buffers)?;
        io.transferred(Write, done, wanted);
        Ok(done)
    })
    .await
}

// The plain operations hand on the future that they get: an async fn around it would be one more
// state machine, and 80 instructions per request.
macro_rules! read_methods {
    ($($Type:tt)*) => {
        impl $($Type)* {
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
            pub fn read(
                &mut self, buffer: &mut [u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                crate::net::tcp_split::read(&self.io, buffer)
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
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> impl Future<Output = std::io::Result<usize>> {
                crate::net::tcp_split::read_vectored(&self.io, buffers)
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
            pub async fn read_exact(&mut self, buffer: &mut [u8]) -> std::io::Result<()> {
                let mut filled = 0;
                while filled < buffer.len() {
                    match self.read(&mut buffer[filled..]).await? {
                        0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        count => filled += count,
                    }
                }
                Ok(())
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
            pub fn peek(
                &mut self, buffer: &mut [u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                crate::net::tcp_split::peek(&self.io, buffer)
            }
        }
    };
}

macro_rules! write_methods {
    ($($Type:tt)*) => {
        impl $($Type)* {
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
            pub fn write(
                &mut self, buffer: &[u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                crate::net::tcp_split::write(&self.io, buffer)
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
                buffers: &[std::io::IoSlice<'_>],
            ) -> impl Future<Output = std::io::Result<usize>> {
                crate::net::tcp_split::write_vectored(&self.io, buffers)
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
            pub async fn write_all(&mut self, buffer: &[u8]) -> std::io::Result<()> {
                let mut written = 0;
                while written < buffer.len() {
                    match self.write(&buffer[written..]).await? {
                        0 => return Err(std::io::ErrorKind::WriteZero.into()),
                        count => written += count,
                    }
                }
                Ok(())
            }
        }
    };
}

pub(super) use {read_methods, write_methods};

read_methods!(ReadHalf<'_>);
read_methods!(OwnedReadHalf);
write_methods!(WriteHalf<'_>);
write_methods!(OwnedWriteHalf);
