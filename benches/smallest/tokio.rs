use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::spawn_local;
use tokio::time::timeout;

fn main() {
    let address: std::net::SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let item = move || async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).await.unwrap();
        assert!(reply == *b"pong");
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
    let runtime = Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.unwrap().block_on(async {
        for worker in [(); 8].map(|()| spawn_local(worker())) {
            worker.await.unwrap();
        }
    });
}
