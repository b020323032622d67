//! A TCP echo server that serves as many connections as it has slots; the others wait in the
//! kernel's queue: `cargo run --release --example echo -- [ADDRESS] [--slots N]`

use gondola::net::{TcpListener, TcpStream};
use gondola::{Runtime, reserve};
use lexopt::prelude::*;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (address, slots) = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("echo: {error}\nusage: echo [ADDRESS] [--slots N]");
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
            eprintln!("echo: {error}");
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
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?; // Whoever started us may wait for this line behind a pipe.
    loop {
        // First the slot, then the connection: what is accepted is served at once, and what is
        // not stays with the kernel, where it costs us neither memory nor a descriptor.
        let slot = reserve().await;
        match listener.accept().await {
            Ok((stream, peer)) => slot
                .spawn(async move {
                    if let Err(error) = echo(stream).await {
                        eprintln!("{peer}: {error}");
                    }
                })
                .detach(),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
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
