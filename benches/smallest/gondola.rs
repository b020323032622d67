use gondola::net::TcpStream;
use gondola::{batch, block_on, time};
use std::net::SocketAddr;
use std::time::Duration;

fn main() {
    let address: SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let item = move || async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).await.unwrap();
        assert!(reply == *b"pong");
    };
    let item = |_| async move { time::timeout(Duration::from_secs(5), item()).await.unwrap() };
    block_on(batch(0..100).limit(8).for_each(item)).unwrap();
}
