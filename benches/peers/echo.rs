//! An echo server on one thread: its CPU time, while another process asks.

use crate::harness::{Done, Row, leak};
use crate::load::{Kind, Load, read, registered, room, wait};
use crate::runtimes::*;
use crate::sockets::Net;
use mio::{Events, Poll};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::Write;
use std::task::{self, Waker};

pub(crate) fn rows() -> Vec<Row> {
    let cases = [(16, 64), (64, 64), (256, 64), (1024, 4096)];
    Vec::from(cases.map(|(connections, bytes)| {
        let row = Row::new(format!("echo-{connections}"), "ns/request", 16_384, 1).counted();
        let row = by_hand(row, connections, bytes);
        let row = echoes::<Gondola>(row, connections, bytes);
        let row = echoes::<TokioIo>(row, connections, bytes);
        let row = echoes::<Smol>(row, connections, bytes);
        #[cfg(target_os = "linux")]
        let row = echoes::<Monoio>(row, connections, bytes);
        #[cfg(target_os = "linux")]
        let row = echoes::<MonoioEpoll>(row, connections, bytes);
        #[cfg(target_os = "linux")]
        let row = echoes::<Compio>(row, connections, bytes);
        row
    }))
}

/// The limit: mio, and no call that could be spared. A read that gets less than it has room for has
/// emptied the socket.
pub(crate) fn by_hand(row: Row, connections: usize, bytes: usize) -> Row {
    row.entry("limit", move |n| {
        let (mut load, streams) = Load::start(Kind::Ask, connections, bytes);
        let mut poll = Poll::new().unwrap();
        let mut streams = registered(&poll, streams);
        let mut events = Events::with_capacity(1024);
        let mut buffers = vec![vec![0; room(bytes)]; connections];
        warm(n, connections, move |n| {
            load.begin(n);
            let mut served = 0;
            while served < n * bytes as u64 {
                wait(&mut poll, &mut events).unwrap();
                for event in &events {
                    let stream = &mut streams[event.token().0];
                    let buffer = &mut buffers[event.token().0];
                    while let Some(read) = read(stream, buffer).unwrap() {
                        stream.write_all(&buffer[..read]).unwrap();
                        served += read as u64;
                        if read < buffer.len() {
                            break;
                        }
                    }
                }
            }
            load.end();
            Done::sum(served / bytes as u64)
        })
    })
}

pub(crate) fn echoes<P: Net>(row: Row, connections: usize, bytes: usize) -> Row {
    row.entry(<P as Peer>::NAME, move |n| {
        let (load, streams) = Load::start(Kind::Ask, connections, bytes);
        let (peer, served) = (<P as Peer>::new(connections), leak(Served::default()));
        peer.run(async {
            let echo = |stream| echo::<P>(P::adopt(stream), room(bytes), served);
            streams.into_iter().for_each(|stream| peer.detach(echo(stream)));
        });
        let mut state = (peer, load); // dropped in this order
        warm(n, connections, move |n| {
            let (peer, load) = &mut state;
            load.begin(n);
            peer.run(served.reach(n * bytes as u64));
            load.end();
            Done::sum(served.bytes.take() / bytes as u64)
        })
    })
}

/// Begins with a request on each connection, as each may be set up by its first one.
fn warm(n: u64, connections: usize, mut serve: impl FnMut(u64) -> Done) -> impl FnMut() -> Done {
    serve(connections as u64);
    move || serve(n)
}

async fn echo<P: Net>(mut stream: P::Stream, room: usize, served: &'static Served) {
    let mut buffer = vec![0; room];
    loop {
        let read = P::read(&mut stream, &mut buffer, 0).await;
        if read == 0 {
            return served.add(u64::MAX / 2);
        }
        P::write(&mut stream, &mut buffer, read).await;
        served.add(read as u64);
    }
}

/// Bytes, and who waits for so many.
#[derive(Default)]
struct Served {
    bytes: Cell<u64>,
    goal: Cell<u64>,
    caller: Cell<Option<Waker>>,
}

impl Served {
    fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() >= self.goal.get() {
            self.caller.take().into_iter().for_each(Waker::wake);
        }
    }

    async fn reach(&self, goal: u64) {
        self.goal.set(goal);
        poll_fn(|cx| {
            if self.bytes.get() >= goal {
                return task::Poll::Ready(());
            }
            self.caller.set(Some(cx.waker().clone()));
            task::Poll::Pending
        })
        .await;
    }
}
