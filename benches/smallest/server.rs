//! Answers 100 requests, each after a while, and insists that all of 8 came at a time, and no more.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use std::{env, fs, thread};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    fs::write(env::args().nth(1).expect("a file"), listener.local_addr()?.to_string())?;
    let serve = |_| Ok(thread::spawn(serve(listener.accept()?.0)));
    let threads = (0..100).map(serve).collect::<Result<Vec<_>>>()?;
    threads.into_iter().try_for_each(|thread| thread.join().unwrap())?;
    assert_eq!(MOST.load(Relaxed), 8);
    Ok(())
}

fn serve(mut stream: TcpStream) -> impl FnOnce() -> Result<()> {
    move || {
        let mut request = [0; 4];
        stream.read_exact(&mut request)?;
        assert_eq!(&request, b"ping");
        MOST.fetch_max(NOW.fetch_add(1, Relaxed) + 1, Relaxed);
        thread::sleep(Duration::from_millis(5));
        NOW.fetch_sub(1, Relaxed);
        stream.write_all(b"pong")
    }
}
