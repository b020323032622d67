//! The runtimes' TCP, each as its documentation advises.

use crate::runtimes::*;
use std::net::TcpStream;

/// A runtime with TCP.
pub(crate) trait Net: Spawn {
    type Stream: 'static;

    /// Within `run`.
    fn adopt(stream: TcpStream) -> Self::Stream;

    /// Reads once, into `buffer[from..]`.
    async fn read(stream: &mut Self::Stream, buffer: &mut Vec<u8>, from: usize) -> usize;

    /// Writes `buffer[..bytes]`.
    async fn write(stream: &mut Self::Stream, buffer: &mut Vec<u8>, bytes: usize);
}

/// Streams that borrow the buffer.
macro_rules! borrowing {
    ($Peer:ty, $Stream:ty, $adopt:expr $(, use $($io:ident)::+)?) => {
        impl Net for $Peer {
            type Stream = $Stream;

            fn adopt(stream: TcpStream) -> $Stream {
                $adopt(stream).unwrap()
            }

            async fn read(stream: &mut $Stream, buffer: &mut Vec<u8>, from: usize) -> usize {
                $(use $($io)::+::AsyncReadExt;)?
                stream.read(&mut buffer[from..]).await.unwrap()
            }

            async fn write(stream: &mut $Stream, buffer: &mut Vec<u8>, bytes: usize) {
                $(use $($io)::+::AsyncWriteExt;)?
                stream.write_all(&buffer[..bytes]).await.unwrap();
            }
        }
    };
}

borrowing!(Gondola, gondola::net::TcpStream, gondola::net::TcpStream::from_std);
borrowing!(TokioIo, tokio::net::TcpStream, tokio_stream, use tokio::io);
borrowing!(Smol, smol::net::TcpStream, smol::net::TcpStream::try_from, use smol::io);

fn tokio_stream(stream: TcpStream) -> std::io::Result<tokio::net::TcpStream> {
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::mem::take;

    /// io_uring waits for a blocking socket only.
    macro_rules! monoio {
        ($Peer:ty, $nonblocking:expr) => {
            impl Net for $Peer {
                type Stream = monoio::net::TcpStream;

                fn adopt(stream: TcpStream) -> Self::Stream {
                    stream.set_nonblocking($nonblocking).unwrap();
                    monoio::net::TcpStream::from_std(stream).unwrap()
                }

                async fn read(
                    stream: &mut Self::Stream,
                    buffer: &mut Vec<u8>,
                    from: usize,
                ) -> usize {
                    use monoio::{buf::IoBufMut, io::AsyncReadRent};
                    let (read, slice) = stream.read(take(buffer).slice_mut(from..)).await;
                    *buffer = slice.into_inner();
                    read.unwrap()
                }

                async fn write(stream: &mut Self::Stream, buffer: &mut Vec<u8>, bytes: usize) {
                    use monoio::{buf::IoBuf, io::AsyncWriteRentExt};
                    let (written, slice) = stream.write_all(take(buffer).slice(..bytes)).await;
                    *buffer = slice.into_inner();
                    written.unwrap();
                }
            }
        };
    }
    monoio!(Monoio, !monoio::utils::detect_uring());
    monoio!(MonoioEpoll, true);

    impl Net for Compio {
        type Stream = compio::net::TcpStream;

        fn adopt(stream: TcpStream) -> Self::Stream {
            compio::net::TcpStream::from_std(stream).unwrap()
        }

        async fn read(stream: &mut Self::Stream, buffer: &mut Vec<u8>, from: usize) -> usize {
            use compio::{BufResult, buf::IntoInner, buf::IoBuf, io::AsyncRead};
            let BufResult(read, slice) = stream.read(take(buffer).slice(from..)).await;
            *buffer = slice.into_inner();
            read.unwrap()
        }

        async fn write(stream: &mut Self::Stream, buffer: &mut Vec<u8>, bytes: usize) {
            use compio::{BufResult, buf::IntoInner, buf::IoBuf, io::AsyncWriteExt};
            let BufResult(written, slice) = stream.write_all(take(buffer).slice(..bytes)).await;
            *buffer = slice.into_inner();
            written.unwrap();
        }
    }
}
