//! How bytes go: each transfer on a stream socket, from the kernel to the caller's buffer or back.
//! It runs in one of three ways: awaited, polled, or tried without waiting.
#![forbid(unsafe_code)]

use super::watched::{Wait, Watched};
use crate::reactor::Direction;
use mio::event::Source;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::ops::Range;
#[cfg(unix)]
use std::os::fd::AsRawFd as AsRaw;
#[cfg(windows)]
use std::os::windows::io::AsRawSocket as AsRaw;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A transfer on a socket `S`, and its buffers.
pub(super) trait Transfer<S> {
    const DIRECTION: Direction;
    /// How many bytes it may come to.
    fn wanted(&self) -> usize;
    fn call(&mut self, socket: &S) -> io::Result<usize>;
}

/// Waits until it has transferred something. What wants nothing is done at once.
pub(super) fn run<S: Source, T: Transfer<S>>(io: &Watched<S>, transfer: T) -> Run<'_, S, T> {
    Run { wait: io.wait(T::DIRECTION), transfer }
}

/// A transfer on its way: no `async fn`, which would be a state machine around a state machine.
pub(super) struct Run<'a, S: Source, T> {
    wait: Wait<'a, S>,
    transfer: T,
}

impl<S: Source, T: Transfer<S> + Unpin> Future for Run<'_, S, T> {
    type Output = io::Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { wait, transfer } = &mut *self;
        match transfer.wanted() {
            0 => Poll::Ready(Ok(0)),
            _ => {
                let io = wait.io;
                wait.advance(cx, |socket| call(io, socket, transfer))
            }
        }
    }
}

pub(super) fn poll<S: Source, T: Transfer<S>>(
    io: &Watched<S>,
    cx: &mut Context<'_>,
    mut transfer: T,
) -> Poll<io::Result<usize>> {
    match transfer.wanted() {
        0 => Poll::Ready(Ok(0)),
        _ => io.poll(cx, T::DIRECTION, |socket| call(io, socket, &mut transfer)),
    }
}

pub(super) fn attempt<S: Source, T: Transfer<S>>(
    io: &Watched<S>,
    mut transfer: T,
) -> io::Result<usize> {
    match transfer.wanted() {
        0 => Ok(0),
        _ => io.attempt(T::DIRECTION, |socket| call(io, socket, &mut transfer)),
    }
}

#[inline(always)]
fn call<S: Source, T: Transfer<S>>(
    io: &Watched<S>,
    socket: &S,
    transfer: &mut T,
) -> io::Result<usize> {
    let done = transfer.call(socket)?;
    io.transferred(T::DIRECTION, done, transfer.wanted());
    Ok(done)
}

pub(super) struct Reading<'a>(pub(super) &'a mut [u8]);

impl<S> Transfer<S> for Reading<'_>
where
    for<'s> &'s S: Read,
{
    const DIRECTION: Direction = Direction::Read;

    fn wanted(&self) -> usize {
        self.0.len()
    }

    fn call(&mut self, mut socket: &S) -> io::Result<usize> {
        socket.read(self.0)
    }
}

pub(super) struct ReadingVectored<'a, 'b> {
    buffers: &'a mut [IoSliceMut<'b>],
    wanted: usize,
}

impl<'a, 'b> ReadingVectored<'a, 'b> {
    pub(super) fn new(buffers: &'a mut [IoSliceMut<'b>]) -> Self {
        let (range, wanted) = usable(buffers.iter().map(|buffer| buffer.len()));
        Self { buffers: &mut buffers[range], wanted }
    }
}

impl<S> Transfer<S> for ReadingVectored<'_, '_>
where
    for<'s> &'s S: Read,
{
    const DIRECTION: Direction = Direction::Read;

    fn wanted(&self) -> usize {
        self.wanted
    }

    fn call(&mut self, mut socket: &S) -> io::Result<usize> {
        socket.read_vectored(self.buffers)
    }
}

pub(super) struct Writing<'a>(pub(super) &'a [u8]);

impl<S> Transfer<S> for Writing<'_>
where
    for<'s> &'s S: Write,
{
    const DIRECTION: Direction = Direction::Write;

    fn wanted(&self) -> usize {
        self.0.len()
    }

    fn call(&mut self, mut socket: &S) -> io::Result<usize> {
        socket.write(self.0)
    }
}

pub(super) struct WritingVectored<'a, 'b> {
    buffers: &'a [IoSlice<'b>],
    wanted: usize,
}

impl<'a, 'b> WritingVectored<'a, 'b> {
    pub(super) fn new(buffers: &'a [IoSlice<'b>]) -> Self {
        let (range, wanted) = usable(buffers.iter().map(|buffer| buffer.len()));
        Self { buffers: &buffers[range], wanted }
    }
}

impl<S: AsRaw> Transfer<S> for WritingVectored<'_, '_>
where
    for<'s> &'s S: Write,
{
    const DIRECTION: Direction = Direction::Write;

    fn wanted(&self) -> usize {
        self.wanted
    }

    fn call(&mut self, socket: &S) -> io::Result<usize> {
        #[cfg(unix)]
        return crate::sys::send_vectored(socket, self.buffers);
        #[cfg(not(unix))]
        return { socket }.write_vectored(self.buffers);
    }
}

/// The most buffers that one system call takes, on every system that has a limit.
const MOST: usize = 1024;

/// What one call can use of buffers of these lengths: from the first that is not empty, `MOST` of
/// them. Also the sum of their lengths.
fn usable(lengths: impl Iterator<Item = usize> + Clone) -> (Range<usize>, usize) {
    let first = lengths.clone().take_while(|&length| length == 0).count();
    let some = lengths.skip(first).take(MOST);
    (first..first + some.clone().count(), some.fold(0, usize::saturating_add))
}

pub(super) async fn read_exact<S: Source>(io: &Watched<S>, buffer: &mut [u8]) -> io::Result<()>
where
    for<'s> &'s S: Read,
{
    let mut filled = 0;
    while filled < buffer.len() {
        match run(io, Reading(&mut buffer[filled..])).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

pub(super) async fn write_all<S: Source>(io: &Watched<S>, buffer: &[u8]) -> io::Result<()>
where
    for<'s> &'s S: Write,
{
    let mut written = 0;
    while written < buffer.len() {
        match run(io, Writing(&buffer[written..])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}

/// Not a transfer: it leaves the bytes where they are.
pub(super) async fn peek(
    io: &Watched<mio::net::TcpStream>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    match buffer.is_empty() {
        true => Ok(0),
        false => io.run(Direction::Read, |stream: &mio::net::TcpStream| stream.peek(buffer)).await,
    }
}

/// Waits until the socket is ready, as the kernel says now: what was known before is stale as soon
/// as somebody has used the descriptor by himself.
pub(super) async fn ready<S: Source + AsRaw>(
    io: &Watched<S>,
    direction: Direction,
) -> io::Result<()> {
    io.run(direction, |socket: &S| {
        #[cfg(unix)]
        let ready = crate::sys::is_ready(socket, direction == Direction::Write)?;
        // What a call of the socket's own said last.
        #[cfg(not(unix))]
        let ready = true;
        if ready { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    })
    .await
}
