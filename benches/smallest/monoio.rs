use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::time::timeout;
use monoio::{FusionDriver, RuntimeBuilder, spawn};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn main() {
    let address: std::net::SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let item = move || async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"ping").await.0.unwrap();
        let (result, reply) = stream.read_exact(Box::new([0; 4])).await;
        result.unwrap();
        assert!(*reply == *b"pong");
    };
    let left = Rc::new(Cell::new(100));
    let worker = || {
        let left = left.clone();
        async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                timeout(Duration::from_secs(5), item()).await.unwrap();
            }
        }
    };
    let runtime = RuntimeBuilder::<FusionDriver>::new().enable_timer().build();
    runtime.unwrap().block_on(async {
        for worker in [(); 8].map(|()| spawn(worker())) {
            worker.await;
        }
    });
}
