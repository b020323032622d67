//! The feature `futures-io`: streams, their halves and [`Async`] are readers and writers for all that
//! is built on the crate `futures-io`: TLS, WebSockets, codecs, and by its `compat` modules what is
//! built on tokio's traits.
#![forbid(unsafe_code)]

use crate::AssertLocal;
use crate::net::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, TcpStream, WriteHalf};
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

macro_rules! reader {
    ($Type:ty) => {
        #[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
        impl AsyncRead for $Type {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                <$Type>::poll_read(&mut self, cx, buffer)
            }
        }
    };
}

macro_rules! writer {
    ($Type:ty) => {
        /// Nothing is kept back, so there is nothing to flush. Closing shuts down writing.
        #[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
        impl AsyncWrite for $Type {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                <$Type>::poll_write(&mut self, cx, buffer)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                <$Type>::poll_write_vectored(&mut self, cx, buffers)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(match self.shutdown(Shutdown::Write) {
                    // The peer has closed it already.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    result => result,
                })
            }
        }
    };
}

reader!(TcpStream);
reader!(ReadHalf<'_>);
reader!(OwnedReadHalf);
writer!(TcpStream);
writer!(WriteHalf<'_>);
writer!(OwnedWriteHalf);

#[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
impl<T: AsyncRead + Unpin> AsyncRead for AssertLocal<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self).poll_read(cx, buffer)
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
impl<T: AsyncWrite + Unpin> AsyncWrite for AssertLocal<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self).poll_close(cx)
    }
}

#[cfg(unix)]
mod of_unix {
    use super::*;
    use crate::net::{Async, UnixStream, unix};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    reader!(UnixStream);
    reader!(unix::ReadHalf<'_>);
    reader!(unix::OwnedReadHalf);
    writer!(UnixStream);
    writer!(unix::WriteHalf<'_>);
    writer!(unix::OwnedWriteHalf);

    #[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
    impl<T: AsFd> AsyncRead for Async<T>
    where
        for<'a> &'a T: Read,
    {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_read_with(cx, |mut inner| inner.read(buffer))
        }
    }

    /// Closing flushes, and no more: what closing would be, only the descriptor's owner knows.
    #[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
    impl<T: AsFd> AsyncWrite for Async<T>
    where
        for<'a> &'a T: Write,
    {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_with(cx, |mut inner| inner.write(buffer))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_write_with(cx, |mut inner| inner.flush())
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }
}
