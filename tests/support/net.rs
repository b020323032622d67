//! Connections over loopback, and guards against tests that hang.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its share")]

use futures::poll;
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use gondola::yield_now;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Longer than anything here takes, so that a failure is not a test that hangs.
pub const LONG: Duration = Duration::from_secs(20);
pub const MS: Duration = Duration::from_millis(1);

/// Runs a future in a runtime of its own; one that waits for ever fails.
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    gondola::block_on(within(future))
}

pub async fn within<F: Future>(future: F) -> F::Output {
    timeout(LONG / 2, future).await.expect("it waits for ever")
}

/// Runs a test on a thread of its own; one that blocks the thread fails.
#[track_caller]
pub fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel::<()>();
    let thread = thread::spawn(move || {
        test();
        drop(done);
    });
    match wait.recv_timeout(LONG) {
        Err(RecvTimeoutError::Timeout) => panic!("it blocks its thread"),
        _ => thread.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Both ends on this thread.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (near, far)
}

/// The far end is a blocking socket, whose calls take effect at once.
pub async fn pair_with_std() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(LONG / 2)).unwrap();
    far.set_write_timeout(Some(LONG / 2)).unwrap();
    (near, far)
}

/// Writes until another write would wait; returns how much that was.
pub async fn fill(stream: &mut TcpStream) -> usize {
    let chunk = vec![b'.'; 1 << 16];
    let mut written = 0;
    loop {
        let before = written;
        // A fresh budget: pending means full.
        yield_now().await;
        while let std::task::Poll::Ready(count) = poll!(pin!(stream.write(&chunk))) {
            written += count.unwrap();
        }
        if written == before {
            return written;
        }
        // What has not reached the far end yet may make room once more.
        sleep(MS).await;
    }
}

/// Waits until so many bytes have arrived.
pub async fn arrived(stream: &mut TcpStream, count: usize) {
    let mut seen = vec![0; count];
    while stream.peek(&mut seen).await.unwrap() < count {
        yield_now().await;
    }
}

/// Bytes of which each chunk is unlike its neighbours.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
