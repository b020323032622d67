//! The feature `hyper`: what HTTP by the crate `hyper` needs of a runtime, as a server and as a client.
//!
//! hyper compiles the crate `tokio` for its channels; no runtime of tokio runs.
//!
//! ```
//! use gondola::hyper::{Executor, Io, Timer};
//! use gondola::net::TcpStream;
//!
//! fn io(stream: TcpStream) -> Io<TcpStream> {
//!     Io::new(stream) // for `http1::Builder::serve_connection` and `client::conn::http1::handshake`
//! }
//! let timer = Timer; // for `http1::Builder::timer`
//! let executor = Executor; // for HTTP/2
//! # let _ = (io, timer, executor);
//! ```
#![forbid(unsafe_code)]

use crate::{AssertLocal, time, try_spawn};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{self, ReadBufCursor};
use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A stream as hyper wants it: a [`TcpStream`](crate::net::TcpStream), or whatever else reads and
/// writes by the traits of `futures-io`, such as a TLS stream.
///
/// What is read goes through a buffer of 64 kB that all share, so that idle connections have none.
#[derive(Debug)]
pub struct Io<T> {
    inner: T,
}

impl<T> Io<T> {
    /// Wraps a stream.
    pub const fn new(inner: T) -> Self {
        Self { inner }
    }

    /// The stream.
    pub const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The stream again.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

const BUFFER_LEN: usize = 1 << 16;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<T: AsyncRead + Unpin> rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Taken out: nothing is borrowed while the stream is polled.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.resize(BUFFER_LEN, 0);
        let wanted = into.remaining().min(BUFFER_LEN);
        let poll = Pin::new(&mut self.inner).poll_read(cx, &mut buffer[..wanted]);
        if let Poll::Ready(Ok(count)) = poll {
            into.put_slice(&buffer[..count]);
        }
        let _ = BUFFER.try_with(|place| place.set(buffer));
        ready!(poll)?;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> rt::Write for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }
}

/// Spawns what hyper has to run beside a connection, in slots of the runtime that is entered. Where
/// no slot is free, or no runtime entered, hyper's future is dropped: an HTTP/2 stream is reset, and
/// the connection lives on.
#[derive(Clone, Copy, Debug)]
pub struct Executor;

impl<F> rt::Executor<F> for Executor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        if let Ok(task) = try_spawn(future) {
            task.detach();
        }
    }
}

/// hyper's time-outs, on the timers of the runtime that polls them: virtual time as well.
#[derive(Clone, Copy, Debug)]
pub struct Timer;

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(AssertLocal::new(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(AssertLocal::new(time::sleep_until(deadline)))
    }

    fn now(&self) -> Instant {
        time::now()
    }
}

impl rt::Sleep for AssertLocal<time::Sleep> {}
