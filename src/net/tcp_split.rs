//! The halves of a TCP stream.
#![forbid(unsafe_code)]

use super::halves::{halves, read_methods, socket_methods, write_methods};
use super::transfer::{self, Reading, ReadingVectored, Writing, WritingVectored};
use crate::reactor::Direction;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

halves!("TcpStream", mio::net::TcpStream, SocketAddr, connected);

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
