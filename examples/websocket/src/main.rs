//! `websocket [ADDRESS]`: an echo, on 127.0.0.1:8080 by default.

use gondola::net::TcpListener;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    gondola::block_on(async {
        let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
        println!("ws://{}", listener.local_addr()?);
        websocket::serve(listener, Duration::from_secs(10)).await;
        Ok(())
    })
}
