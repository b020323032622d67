//! The halves of a TCP stream.
#![forbid(unsafe_code)]

use super::halves::{read_methods, write_methods};
use super::transfer::{self, Reading, ReadingVectored, Writing, WritingVectored};
use super::watched::Watched;
use crate::reactor::Direction;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

type Stream = Watched<mio::net::TcpStream>;

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
    is_reunited: bool,
}

pub(super) fn split(io: &Stream) -> (ReadHalf<'_>, WriteHalf<'_>) {
    (ReadHalf { io }, WriteHalf { io })
}

pub(super) fn into_split(io: Stream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let io = Rc::new(io);
    (OwnedReadHalf { io: io.clone() }, OwnedWriteHalf { io, is_reunited: false })
}

/// Two halves of the same stream are that stream again; others come back as they are.
pub(super) fn reunite(
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
) -> Result<Stream, (OwnedReadHalf, OwnedWriteHalf)> {
    if !Rc::ptr_eq(&reader.io, &writer.io) {
        return Err((reader, writer));
    }
    let mut writer = writer;
    writer.is_reunited = true;
    drop(writer);
    Ok(Rc::into_inner(reader.io).expect("the other half was the only one"))
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if !self.is_reunited {
            // The peer may have gone already; then there is nothing to shut down.
            let _ = self.io.shutdown(Shutdown::Write);
        }
    }
}

read_methods!(
    ReadHalf<'_>,
    "TcpStream",
    connected,
    "let (mut reader, _writer) = client.split();",
    SocketAddr
);
read_methods!(
    OwnedReadHalf,
    "TcpStream",
    connected,
    "let (mut reader, _writer) = client.into_split();",
    SocketAddr
);
write_methods!(
    WriteHalf<'_>,
    "TcpStream",
    connected,
    "let (_reader, mut writer) = client.split();",
    SocketAddr
);
write_methods!(
    OwnedWriteHalf,
    "TcpStream",
    connected,
    "let (_reader, mut writer) = client.into_split();",
    SocketAddr
);

macro_rules! peek {
    ($Half:ty, $split:literal) => {
        impl $Half {
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

peek!(ReadHalf<'_>, "let (mut reader, _writer) = client.split();");
peek!(OwnedReadHalf, "let (mut reader, _writer) = client.into_split();");
