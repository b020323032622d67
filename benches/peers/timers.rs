//! Sleeps: created and dropped, fired, and fired in rounds.

use crate::batches::{Batch, on_runtimes};
use crate::harness::{By, Done, Row, Tally};
use crate::runtimes::*;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) fn rows() -> Vec<Row> {
    vec![churned(), fired(), rounds(), bytes()]
}

const ALIVE: u64 = 10_000;

fn churned() -> Row {
    let row = Row::new("sleep-dropped", "ns/sleep", 128_000, 1);
    let row = churns_by_hand(row, ALIVE);
    let row = churns::<Gondola>(row, ALIVE);
    let row = churns::<Tokio>(row, ALIVE);
    let row = churns::<Smol>(row, ALIVE);
    #[cfg(target_os = "linux")]
    let row = churns::<Compio>(churns::<Monoio>(row, ALIVE), ALIVE);
    row
}

pub(crate) fn churns_by_hand(row: Row, others: u64) -> Row {
    row.entry("limit", move |n| {
        let start = Instant::now();
        let tally = Tally::leaked();
        // By the second.
        let mut wheel = vec![Vec::new(); 256];
        let place = move |deadline: Instant| (deadline - start).as_secs() as usize % 256;
        for index in 0..others {
            let deadline = start + alive(index);
            wheel[place(deadline)].push(deadline);
        }
        move || {
            for item in 0..n {
                let deadline = Instant::now() + dropped(item);
                let place = place(deadline);
                black_box(&mut wheel)[place].push(deadline);
                black_box(&mut wheel)[place].pop();
                tally.add(item);
            }
            Done::sum(tally.take())
        }
    })
}

fn alive(index: u64) -> Duration {
    Duration::from_millis(60_000 + index)
}

fn dropped(item: u64) -> Duration {
    Duration::from_micros(30_000_000 + item.wrapping_mul(7_919) % 30_000_000)
}

/// Sleeps that are created, polled once and dropped, as time-outs are, while others wait.
pub(crate) fn churns<P: Timed>(row: Row, others: u64) -> Row {
    row.entry(P::NAME, move |n| {
        let (peer, tally) = (P::new(1), Tally::leaked());
        let others: Vec<Pin<Box<_>>> = peer.run(async {
            let mut others: Vec<_> = (0..others).map(|i| Box::pin(P::sleep(alive(i)))).collect();
            for sleep in &mut others {
                poll_once(sleep.as_mut()).await;
            }
            others
        });
        let state = (others, peer); // dropped in this order
        move || {
            let (_others, peer) = &state; // all of it: alone, the peer would be all that stays
            peer.run(async {
                for item in 0..n {
                    poll_once(pin!(P::sleep(dropped(item)))).await;
                    tally.add(item);
                }
            });
            Done::sum(tally.take())
        }
    })
}

async fn poll_once(mut sleep: Pin<&mut impl Future<Output = ()>>) {
    let pending = poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "too early");
}

/// Sleeps of 1 to 50 ms, all at once.
fn fired() -> Row {
    let row = Row::new("sleep-1..50ms", "ns/sleep", 100_000, 1);
    on_runtimes!(fires_by_hand(row), fires)
}

pub(crate) fn fires_by_hand(row: Row) -> Row {
    row.entry("limit", |n| {
        let tally = Tally::leaked();
        move || {
            let mut sleeps: Vec<_> = (0..n).map(|i| (Instant::now() + spread(i), i)).collect();
            sleeps.sort_unstable();
            let mut now = Instant::now();
            for (deadline, item) in sleeps {
                now = wait_until(deadline, now);
                tally.add(item);
            }
            Done::sum(tally.take())
        }
    })
}

pub(crate) fn fires<B: Batch<On: Timed>>(row: Row) -> Row {
    row.entry(B::name(), |n| {
        let (batch, tally) = (B::new(n as usize), Tally::leaked());
        move || {
            batch.batch(n, n as usize, move |item| async move {
                B::On::sleep(spread(item)).await;
                tally.add(item);
            });
            Done::sum(tally.take())
        }
    })
}

pub(crate) fn spread(item: u64) -> Duration {
    Duration::from_micros(1_000 + item.wrapping_mul(7_919) % 49_000)
}

/// Blocks until then; the clock's time, which was `now` some time ago.
fn wait_until(deadline: Instant, mut now: Instant) -> Instant {
    while now < deadline {
        now = Instant::now();
        thread::sleep(deadline.saturating_duration_since(now));
    }
    now
}

const AT_A_TIME: usize = 1000;

/// With 1000 at a time, nanoseconds of wall time per item are microseconds per round.
fn rounds() -> Row {
    let row = Row::new("sleep-1ms-1000", "ns/item", 50_000, AT_A_TIME as u64);
    let row = row.entry("limit", |n| {
        let tally = Tally::leaked();
        move || {
            let mut sleeps = VecDeque::with_capacity(AT_A_TIME);
            let mut items = 0..n;
            let mut now = Instant::now();
            let next = |item| (Instant::now() + MILLISECOND, item);
            sleeps.extend(items.by_ref().take(AT_A_TIME).map(next));
            while let Some((deadline, item)) = sleeps.pop_front() {
                now = wait_until(deadline, now);
                tally.add(item);
                sleeps.extend(items.next().map(next));
            }
            Done::sum(tally.take())
        }
    });
    on_runtimes!(row, sleeps)
}

fn sleeps<B: Batch<On: Timed>>(row: Row) -> Row {
    row.entry(B::name(), |n| {
        let (batch, tally) = (B::new(AT_A_TIME), Tally::leaked());
        move || {
            batch.batch(n, AT_A_TIME, move |item| async move {
                B::On::sleep(MILLISECOND).await;
                tally.add(item);
            });
            Done::sum(tally.take())
        }
    })
}

/// What a time-out adds to the size of a future.
fn bytes() -> Row {
    let row = Row::new("sleep-bytes", "bytes/sleep", 1, 1).counted().by(By::Work);
    let row = size(row, "limit", || Instant::now() + MILLISECOND);
    let row = size(row, "gondola", || gondola::time::sleep(MILLISECOND));
    let row = size(row, "tokio", || tokio::time::sleep(MILLISECOND));
    let row = size(row, "smol", || smol::Timer::after(MILLISECOND));
    #[cfg(target_os = "linux")]
    let row = size(row, "monoio", || monoio::time::sleep(MILLISECOND));
    #[cfg(target_os = "linux")]
    let row = size(row, "compio", || compio::time::sleep(MILLISECOND));
    row
}

fn size<T>(row: Row, name: &str, _: fn() -> T) -> Row {
    let measured = |n| n * size_of::<T>() as u64;
    row.entry(name, move |n| move || Done { sum: n, measured: measured(n), but: None })
}
