//! A guest gets all of its wakes, and the host sleeps in between: rounds are counted.

use futures::StreamExt;
use futures::channel::mpsc;
use gondola::net::UdpSocket;
use gondola::time::sleep;
use gondola::{Runtime, try_spawn};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

const EVENTS: usize = 30;

/// A guest that waits for timers, for datagrams and for another thread, and how many of them came.
fn guest() -> (Runtime, Rc<Cell<usize>>, thread::JoinHandle<()>) {
    let mut runtime = Runtime::new().unwrap();
    let came = Rc::new(Cell::new(0));
    let (mut send, mut receive) = mpsc::channel(EVENTS);
    let address: SocketAddr = runtime.block_on(async {
        let count = || {
            let came = came.clone();
            move || came.set(came.get() + 1)
        };
        let (timed, heard, woken) = (count(), count(), count());
        let timers = async move {
            for _ in 0..EVENTS {
                sleep(Duration::from_millis(3)).await;
                timed();
            }
        };
        try_spawn(timers).unwrap().detach();
        let socket = UdpSocket::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let datagrams = async move {
            while socket.recv(&mut [0; 8]).await.is_ok() {
                heard();
            }
        };
        try_spawn(datagrams).unwrap().detach();
        let messages = async move {
            while receive.next().await.is_some() {
                woken();
            }
        };
        try_spawn(messages).unwrap().detach();
        address
    });
    let thread = thread::spawn(move || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..EVENTS {
            thread::sleep(Duration::from_micros(n as u64 * 137 % 5_000));
            socket.send_to(b"hi", address).unwrap();
            thread::sleep(Duration::from_micros(n as u64 * 211 % 5_000));
            send.try_send(n).unwrap();
        }
    });
    (runtime, came, thread)
}

#[test]
fn inside_an_epoll_loop() {
    let (mut runtime, came, thread) = guest();
    let (own, mut other) = UnixStream::pair().unwrap();
    let host_thread = thread::spawn(move || {
        for _ in 0..EVENTS {
            thread::sleep(Duration::from_millis(2));
            other.write_all(b".").unwrap();
        }
        other
    });
    let mut ticks = 0;
    let tick = || {
        ticks += 1;
        (&own).read_exact(&mut [0])
    };
    let rounds = guest::in_epoll(&mut runtime, &own, tick, || came.get() == 3 * EVENTS).unwrap();
    thread.join().unwrap();
    drop(host_thread.join().unwrap());
    assert!(ticks > 0, "the host's own events");
    assert!(rounds < 10 * 4 * EVENTS, "{rounds} rounds");
}

#[test]
fn inside_tokio() {
    let (mut runtime, came, thread) = guest();
    let host = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = host.block_on(guest::in_tokio(&mut runtime, || came.get() == 3 * EVENTS)).unwrap();
    thread.join().unwrap();
    assert!(rounds < 10 * 3 * EVENTS, "{rounds} rounds");
}
