//! A TCP echo server that serves as many connections as it has slots; the others wait in the
//! kernel's queue: `cargo run --release --example echo -- [ADDRESS] [--slots N]`

use gondola::net::{TcpListener, TcpStream};
use gondola::{Runtime, reserve};
use lexopt::prelude::*;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (address, slots) = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            say(format_args!("echo: {error}\nusage: echo [ADDRESS] [--slots N]"));
            return ExitCode::from(2);
        }
    };
    let served = Runtime::builder()
        .slots(slots)
        .build()
        .and_then(|mut runtime| runtime.block_on(serve(address)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("echo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(SocketAddr, usize), lexopt::Error> {
    let (mut address, mut slots) = (SocketAddr::from(([127, 0, 0, 1], 7007)), 1024);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("slots") => slots = parser.value()?.parse()?,
            Value(value) => address = value.parse()?,
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((address, slots))
}

async fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    // Whoever started us may wait for this line behind a pipe. If nobody can read it, we serve all
    // the same.
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{}", listener.local_addr()?).and_then(|()| stdout.flush());
    loop {
        // First the slot, then the connection: what is accepted is served at once, and what is
        // not stays with the kernel, where it costs us neither memory nor a descriptor.
        let slot = reserve().await;
        match listener.accept().await {
            Ok((stream, peer)) => slot
                .spawn(async move {
                    if let Err(error) = echo(stream).await {
                        say(format_args!("{peer}: {error}"));
                    }
                })
                .detach(),
            // The next call waits until there may be some again.
            Err(error) if is_shortage(&error) => say(format_args!("accept: {error}")),
            Err(error) => return Err(io::Error::new(error.kind(), format!("accept: {error}"))),
        }
    }
}

/// Whether there are no descriptors or no memory left. Any other error of `accept` is for good.
fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ENOSPC];
    #[cfg(not(unix))]
    let codes = [10024, 10055]; // WSAEMFILE and WSAENOBUFS
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// A full disk or a closed pipe must not end a server: `eprintln!` would panic.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}
