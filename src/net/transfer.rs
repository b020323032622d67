//! How bytes go: each transfer on a stream socket, from the kernel to the caller's buffer or back.
#![forbid(unsafe_code)]

use super::watched::Stream;
use crate::reactor::Direction::{Read, Write};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::ops::Range;

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

pub(super) async fn read_exact(io: &Stream, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(io, &mut buffer[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

pub(super) async fn write_all(io: &Stream, buffer: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < buffer.len() {
        match write(io, &buffer[written..]).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}
