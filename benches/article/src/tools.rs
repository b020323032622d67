//! The tools in Rust: each does the same items as its own documentation advises.

use futures::{StreamExt, TryStreamExt, stream};
use gondola::batch;
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// What a run tells: how long it took, how many items were begun, and how it ended.
pub(crate) type Told = (Duration, u64, String);

fn verdict(n: u64, answer: [u8; 3]) -> io::Result<()> {
    if &answer == b"ok\n" { Ok(()) } else { Err(io::Error::other(format!("item {n}: no"))) }
}

fn told(start: Instant, begun: u64, end: Result<(), String>) -> Told {
    (start.elapsed(), begun, end.map_or_else(|error| error, |()| "done".to_string()))
}

pub(crate) fn gondola(limit: usize, count: u64, port: u16) -> Told {
    use gondola::net::TcpStream;
    gondola::block_on(async {
        let idle = RefCell::new(Vec::new());
        for _ in 0..limit {
            let stream = TcpStream::connect(([127, 0, 0, 1], port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            idle.borrow_mut().push(stream);
        }
        let begun = Cell::new(0);
        let start = Instant::now();
        let run = batch(0..count).limit(limit).try_for_each(async |n| {
            begun.set(begun.get() + 1);
            let mut stream = idle.borrow_mut().pop().expect("one for each slot");
            stream.write_all(format!("{n}\n").as_bytes()).await?;
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).await?;
            idle.borrow_mut().push(stream);
            verdict(n, answer)
        });
        let end = run.await.map_err(|record| io::Error::from(record).to_string());
        told(start, begun.get(), end)
    })
}

struct Pool {
    idle: Mutex<Vec<tokio::net::TcpStream>>,
    begun: AtomicU64,
}

impl Pool {
    async fn new(limit: usize, port: u16) -> Arc<Self> {
        let mut idle = Vec::new();
        for _ in 0..limit {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            idle.push(stream);
        }
        Arc::new(Self { idle: Mutex::new(idle), begun: AtomicU64::new(0) })
    }

    async fn item(&self, n: u64) -> io::Result<()> {
        self.begun.fetch_add(1, Relaxed);
        let mut stream = self.idle.lock().unwrap().pop().expect("one for each slot");
        stream.write_all(format!("{n}\n").as_bytes()).await?;
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await?;
        self.idle.lock().unwrap().push(stream);
        verdict(n, answer)
    }
}

fn on_tokio(work: impl Future<Output = Told>) -> Told {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(crate) fn buffer_unordered(limit: usize, count: u64, port: u16) -> Told {
    on_tokio(async {
        let pool = Pool::new(limit, port).await;
        let start = Instant::now();
        let items = stream::iter(0..count).map(|n| pool.item(n)).buffer_unordered(limit);
        let end = items.try_for_each(|()| async { Ok(()) }).await;
        told(start, pool.begun.load(Relaxed), end.map_err(|error| error.to_string()))
    })
}

pub(crate) fn join_set(limit: usize, count: u64, port: u16) -> Told {
    on_tokio(async {
        let pool = Pool::new(limit, port).await;
        let start = Instant::now();
        let end = async {
            let mut set = JoinSet::new();
            for n in 0..count {
                if set.len() == limit {
                    set.join_next().await.expect("it is full").expect("none panics")?;
                }
                let pool = pool.clone();
                set.spawn(async move { pool.item(n).await });
            }
            while let Some(joined) = set.join_next().await {
                joined.expect("none panics")?;
            }
            io::Result::Ok(())
        };
        let end = end.await;
        told(start, pool.begun.load(Relaxed), end.map_err(|error| error.to_string()))
    })
}
