//! The halves of a stream.
#![forbid(unsafe_code)]

use super::transfer;
use super::watched::Stream;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
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

// What the methods do is said once, at the whole stream.
macro_rules! read_methods {
    ($Half:ty, $split:literal) => {
        impl $Half {
            /// As [`TcpStream::read`](super::TcpStream::read).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::read(&self.io, buffer)
            }

            /// As [`TcpStream::read_vectored`](super::TcpStream::read_vectored).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// let mut buffer = [0; 8];
            /// let mut buffers = [std::io::IoSliceMut::new(&mut buffer)];
            /// assert_eq!(reader.read_vectored(&mut buffers).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read_vectored(
                &mut self,
                buffers: &mut [IoSliceMut<'_>],
            ) -> impl Future<Output = io::Result<usize>> {
                transfer::read_vectored(&self.io, buffers)
            }

            /// As [`TcpStream::read_exact`](super::TcpStream::read_exact).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Not cancel-safe, as there.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.read_exact(&mut [0; 2]).await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read_exact(
                &mut self,
                buffer: &mut [u8],
            ) -> impl Future<Output = io::Result<()>> {
                transfer::read_exact(&self.io, buffer)
            }

            /// As [`TcpStream::peek`](super::TcpStream::peek).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// assert_eq!(reader.peek(&mut [0; 8]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn peek(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::peek(&self.io, buffer)
            }
        }
    };
}

macro_rules! write_methods {
    ($Half:ty, $split:literal) => {
        impl $Half {
            /// As [`TcpStream::write`](super::TcpStream::write).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// assert_eq!(writer.write(b"hi").await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::write(&self.io, buffer)
            }

            /// As [`TcpStream::write_vectored`](super::TcpStream::write_vectored).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// assert_eq!(writer.write_vectored(&[std::io::IoSlice::new(b"hi")]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write_vectored(
                &mut self,
                buffers: &[IoSlice<'_>],
            ) -> impl Future<Output = io::Result<usize>> {
                transfer::write_vectored(&self.io, buffers)
            }

            /// As [`TcpStream::write_all`](super::TcpStream::write_all).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Not cancel-safe, as there.
            ///
            /// ```
            #[doc = connected!()]
            #[doc = $split]
            /// writer.write_all(b"hi").await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write_all(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<()>> {
                transfer::write_all(&self.io, buffer)
            }
        }
    };
}

read_methods!(ReadHalf<'_>, "let (mut reader, _writer) = client.split();");
read_methods!(OwnedReadHalf, "let (mut reader, _writer) = client.into_split();");
write_methods!(WriteHalf<'_>, "let (_reader, mut writer) = client.split();");
write_methods!(OwnedWriteHalf, "let (_reader, mut writer) = client.into_split();");
