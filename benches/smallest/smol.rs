use smol::block_on;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;
use smol::{LocalExecutor, Timer};
use std::cell::Cell;
use std::time::Duration;

fn main() {
    let address: std::net::SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let item = || async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).await.unwrap();
        assert!(reply == *b"pong");
    };
    let time_out = || async {
        Timer::after(Duration::from_secs(5)).await;
        panic!("too late");
    };
    let left = Cell::new(100);
    let worker = || async {
        while left.get() > 0 {
            left.set(left.get() - 1);
            item().or(time_out()).await;
        }
    };
    let executor = LocalExecutor::new();
    block_on(executor.run(async {
        for worker in [(); 8].map(|()| executor.spawn(worker())) {
            worker.await;
        }
    }));
}
