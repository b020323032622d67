//! The client: so many requests to an HTTP/1.1 server, 16 at a time, each on one of 16 connections.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

pub const WIDTH: usize = 16;

type Connection = SendRequest<Full<Bytes>>;

async fn ask(connection: &mut Connection, latencies: &RefCell<Vec<u32>>) {
    let start = Instant::now();
    connection.ready().await.expect("an idle connection");
    let body = Full::new(Bytes::from_static(&[b'.'; 1024]));
    let request = Request::post("/").header("host", "here").body(body).expect("a request");
    let answer = connection.send_request(request).await.expect("an answer");
    assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes().len(), 1024);
    latencies.borrow_mut().push(start.elapsed().as_nanos() as u32);
}

/// In a batch.
pub fn on_gondola(address: SocketAddr, count: usize) -> Vec<u32> {
    use gondola::hyper::Io;
    use gondola::{batch, block_on, net::TcpStream, try_spawn};
    let latencies = RefCell::default();
    block_on(async {
        let pool = RefCell::new(Vec::new());
        for _ in 0..WIDTH {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (connection, driver) = handshake(Io::new(stream)).await.expect("HTTP");
            try_spawn(async { drop(driver.await) }).expect("a slot").detach();
            pool.borrow_mut().push(connection);
        }
        let run = batch(0..count).limit(WIDTH).for_each(async |_| {
            let pooled = pool.borrow_mut().pop();
            let mut connection = pooled.expect("one for each");
            ask(&mut connection, &latencies).await;
            pool.borrow_mut().push(connection);
        });
        run.await.expect("no item fails");
    });
    latencies.into_inner()
}

/// What one writes by hand: 16 tasks that take from one counter.
async fn worker(
    mut connection: Connection,
    left: Rc<Cell<usize>>,
    latencies: Rc<RefCell<Vec<u32>>>,
) {
    while left.get() > 0 {
        left.set(left.get() - 1);
        ask(&mut connection, &latencies).await;
    }
}

pub fn on_tokio(address: SocketAddr, count: usize) -> Vec<u32> {
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpStream;
    use tokio::task::{LocalSet, spawn_local};
    let (left, latencies) = (Rc::new(Cell::new(count)), Rc::<RefCell<Vec<u32>>>::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(LocalSet::new().run_until(async {
        let mut workers = Vec::new();
        for _ in 0..WIDTH {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (connection, driver) = handshake(TokioIo::new(stream)).await.expect("HTTP");
            spawn_local(async { drop(driver.await) });
            workers.push(spawn_local(worker(connection, left.clone(), latencies.clone())));
        }
        for worker in workers {
            worker.await.expect("it does not panic");
        }
    }));
    latencies.take()
}

pub fn on_smol(address: SocketAddr, count: usize) -> Vec<u32> {
    use smol::net::TcpStream;
    use smol_hyper::rt::FuturesIo;
    let (left, latencies) = (Rc::new(Cell::new(count)), Rc::<RefCell<Vec<u32>>>::default());
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let mut workers = Vec::new();
        for _ in 0..WIDTH {
            let stream = TcpStream::connect(address).await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (connection, driver) = handshake(FuturesIo::new(stream)).await.expect("HTTP");
            executor.spawn(async { drop(driver.await) }).detach();
            workers.push(executor.spawn(worker(connection, left.clone(), latencies.clone())));
        }
        for worker in workers {
            worker.await;
        }
    }));
    latencies.take()
}
