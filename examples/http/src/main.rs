//! `cargo run --release`: answers HTTP/1.1 on port 8080 with what it was sent.

use gondola::{CancellationToken, net::TcpListener};
use gondola_http::{Version, serve};
use std::time::Duration;

fn main() -> std::io::Result<()> {
    gondola::block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 8080))?;
        println!("try: curl -d hello http://127.0.0.1:8080/");
        let stop = CancellationToken::new();
        serve(listener, Version::Http1, Duration::from_secs(10), &stop).await;
        Ok(())
    })
}
