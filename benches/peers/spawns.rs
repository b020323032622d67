//! Tasks that do nothing: what it costs to spawn and to join them, in waves.

use crate::harness::{Done, Row, Tally};
use crate::runtimes::*;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use futures_buffered::FuturesUnorderedBounded;
use std::hint::black_box;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

pub(crate) fn rows() -> Vec<Row> {
    vec![row(1), row(64)]
}

fn row(wave: u64) -> Row {
    let row = Row::new(format!("spawn-{wave}"), "ns/task", 256_000, wave);
    let row = row.entry("limit", move |n| {
        let mut place = Vec::new();
        waves(n, wave, move |_: &BlockOn, items: Range<u64>, tally: &Tally| {
            place.extend(items.map(task));
            for task in place.drain(..) {
                let poll = pin!(task).poll(&mut Context::from_waker(Waker::noop()));
                let Poll::Ready(item) = poll else { unreachable!() };
                tally.add(item);
            }
            std::future::ready(())
        })
    });
    let row = spawns::<Gondola>(row, wave);
    let row = spawns::<Tokio>(row, wave);
    let row = spawns::<TokioLocalSet>(row, wave);
    let row = row.entry("JoinSet", move |n| {
        waves(n, wave, async |_: &Tokio, items, tally| {
            let mut set = tokio::task::JoinSet::new();
            items.for_each(|item| drop(set.spawn_local(task(item))));
            while let Some(item) = set.join_next().await {
                tally.add(item.unwrap());
            }
        })
    });
    let row = spawns::<Smol>(row, wave);
    let row = spawns::<Pool>(row, wave);
    let row = row.entry("FuturesUnordered", move |n| {
        let mut set = FuturesUnordered::new();
        waves(n, wave, async move |_: &BlockOn, items, tally| {
            set.extend(items.map(task));
            while let Some(item) = set.next().await {
                tally.add(item);
            }
        })
    });
    let row = row.entry("futures-buffered", move |n| {
        let mut set = FuturesUnorderedBounded::new(wave as usize);
        waves(n, wave, async move |_: &BlockOn, items, tally| {
            items.for_each(|item| set.push(task(item)));
            while let Some(item) = set.next().await {
                tally.add(item);
            }
        })
    });
    #[cfg(target_os = "linux")]
    let row = spawns::<Compio>(spawns::<Monoio>(row, wave), wave);
    row
}

fn spawns<P: Spawn>(row: Row, wave: u64) -> Row {
    row.entry(<P as Peer>::NAME, move |n| {
        let (peer, tally) = (<P as Peer>::new(wave as usize), Tally::leaked());
        move || {
            peer.run(async {
                let mut handles = Vec::with_capacity(wave as usize);
                for index in 0..n / wave {
                    let items = index * wave..(index + 1) * wave;
                    handles.extend(items.map(|item| peer.spawn(task(item))));
                    for handle in handles.drain(..) {
                        tally.add(handle.await);
                    }
                }
            });
            Done::sum(tally.take())
        }
    })
}

async fn task(item: u64) -> u64 {
    black_box(item)
}

fn waves<P: Peer>(
    n: u64,
    wave: u64,
    mut run: impl AsyncFnMut(&P, Range<u64>, &Tally) + 'static,
) -> impl FnMut() -> Done + 'static {
    let (peer, tally) = (P::new(wave as usize), Tally::leaked());
    move || {
        peer.run(async {
            for index in 0..n / wave {
                run(&peer, index * wave..(index + 1) * wave, tally).await;
            }
        });
        Done::sum(tally.take())
    }
}
