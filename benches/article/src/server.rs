//! A server that answers each line after a while: "ok", or "no" to one number.

use gondola::net::{TcpListener, TcpStream};
use gondola::{Runtime, reserve, time::sleep};
use std::io;
use std::time::Duration;

/// Prints its port, and serves for ever.
pub(crate) fn serve(delay: Duration, fails: Option<u64>) -> io::Result<()> {
    let mut runtime = Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        println!("{}", listener.local_addr()?.port());
        loop {
            let slot = reserve().await;
            let (stream, _) = listener.accept().await?;
            slot.spawn(async move { drop(answer(stream, delay, fails).await) }).detach();
        }
    })
}

async fn answer(mut stream: TcpStream, delay: Duration, fails: Option<u64>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut line, mut length) = ([0; 32], 0);
    loop {
        let read = stream.read(&mut line[length..]).await?;
        length += read;
        if read == 0 {
            return Ok(());
        }
        if line[length - 1] != b'\n' {
            continue;
        }
        let number =
            std::str::from_utf8(&line[..length - 1]).ok().and_then(|line| line.parse().ok());
        length = 0;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let answer = if number.is_some() && number == fails { b"no\n" } else { b"ok\n" };
        stream.write_all(answer).await?;
    }
}
