//! A batch of requests over a pool of connections to another process, which answers at once.

use crate::batches::{Batch, ForEachConcurrent, Ours, Over, Workers};
use crate::harness::{Done, Row, Tally, leak};
use crate::load::{ANSWER, Kind, Load, read, registered, room, wait};
use crate::runtimes::*;
use crate::sockets::Net;
use mio::{Events, Poll};
use std::cell::RefCell;
use std::io::Write;

/// Of a request; it begins with the item's number.
const BYTES: usize = 64;

pub(crate) fn rows() -> Vec<Row> {
    Vec::from([3, 8, 100].map(|limit| {
        let row = Row::new(format!("client-{limit}"), "ns/item", 16_384, 1);
        let row = by_hand(row, limit);
        let row = asks::<Over<Gondola, Ours>>(row, limit);
        let row = asks::<Workers<TokioIo>>(row, limit);
        let row = asks::<Over<TokioIo, ForEachConcurrent>>(row, limit);
        let row = asks::<Workers<Smol>>(row, limit);
        #[cfg(target_os = "linux")]
        let row = asks::<Workers<Monoio>>(row, limit);
        #[cfg(target_os = "linux")]
        let row = asks::<Workers<MonoioEpoll>>(row, limit);
        #[cfg(target_os = "linux")]
        let row = asks::<Workers<Compio>>(row, limit);
        row
    }))
}

/// The limit: mio, and no call that could be spared.
fn by_hand(row: Row, limit: usize) -> Row {
    row.entry("limit", move |n| {
        let (mut load, streams) = Load::start(Kind::Answer, limit, BYTES);
        let mut poll = Poll::new().unwrap();
        let mut lines: Vec<_> = registered(&poll, streams).into_iter().map(|s| (s, 0)).collect();
        let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; room(BYTES)]);
        let tally = Tally::leaked();
        move || {
            load.begin(n);
            let mut items = 0..n;
            for ((stream, _), item) in lines.iter_mut().zip(items.by_ref()) {
                number(&mut buffer, item);
                stream.write_all(&buffer[..BYTES]).unwrap();
            }
            let mut left = n;
            while left > 0 {
                wait(&mut poll, &mut events).unwrap();
                for event in &events {
                    let (stream, got) = &mut lines[event.token().0];
                    // In one piece, else the tally is wrong.
                    *got += read(stream, &mut buffer).unwrap().unwrap_or(0);
                    if *got < ANSWER * BYTES {
                        continue;
                    }
                    *got = 0;
                    tally.add(answer(&buffer));
                    left -= 1;
                    if let Some(item) = items.next() {
                        number(&mut buffer, item);
                        stream.write_all(&buffer[..BYTES]).unwrap();
                    }
                }
            }
            load.end();
            Done::sum(tally.take())
        }
    })
}

fn asks<B: Batch<On: Net>>(row: Row, limit: usize) -> Row {
    row.entry(B::name(), move |n| {
        let (load, streams) = Load::start(Kind::Answer, limit, BYTES);
        let (batch, tally, pool) = (B::new(limit), Tally::leaked(), leak(RefCell::new(Vec::new())));
        batch.on().run(async {
            let line = |stream| (B::On::adopt(stream), vec![0; room(BYTES)]);
            pool.borrow_mut().extend(streams.into_iter().map(line));
        });
        let mut state = (Emptied(pool), batch, load); // dropped in this order
        move || {
            let (_, batch, load) = &mut state;
            load.begin(n);
            batch.batch(n, limit, move |item| async move {
                let (mut stream, mut buffer) = pool.borrow_mut().pop().unwrap();
                number(&mut buffer, item);
                B::On::write(&mut stream, &mut buffer, BYTES).await;
                let mut got = 0;
                while got < ANSWER * BYTES {
                    let read = B::On::read(&mut stream, &mut buffer, got).await;
                    assert!(read > 0, "the load has closed the connection");
                    got += read;
                }
                tally.add(answer(&buffer));
                pool.borrow_mut().push((stream, buffer));
            });
            load.end();
            Done::sum(tally.take())
        }
    })
}

fn number(buffer: &mut [u8], item: u64) {
    buffer[..8].copy_from_slice(&item.to_le_bytes());
}

/// The number in its last part.
fn answer(buffer: &[u8]) -> u64 {
    let last = (ANSWER - 1) * BYTES;
    u64::from_le_bytes(buffer[last..last + 8].try_into().unwrap())
}

/// Closes the connections, which are leaked, in the end.
struct Emptied<T: 'static>(&'static RefCell<Vec<T>>);

impl<T> Drop for Emptied<T> {
    fn drop(&mut self) {
        self.0.take();
    }
}
