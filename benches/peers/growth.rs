//! How the cost of a unit changes as the work grows: not at all, if all goes well.

use crate::batches::{Batch, ByHand, Ours, Over, Workers};
use crate::echo;
use crate::harness::{Done, Row, Tally};
use crate::runtimes::*;
use crate::timers::{churns, churns_by_hand, fires, fires_by_hand, spread};
use crate::yields::yields;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

/// A growing work.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// Of the two figures.
    pub(crate) units: [&'static str; 2],
    pub(crate) lines: Vec<(String, Vec<Point>)>,
}

pub(crate) struct Point {
    pub(crate) size: u64,
    /// Time and memory.
    pub(crate) figures: [f64; 2],
}

impl Series {
    fn new(name: &'static str, units: [&'static str; 2]) -> Self {
        Series { name, units, lines: Vec::new() }
    }

    /// Adds the points of a row's implementations; the bytes are divided by `per`.
    fn add(&mut self, size: u64, row: &Row, rounds: usize, per: u64) {
        let bytes = row.peaks();
        let report = row.run(rounds, 1);
        for ((name, time), bytes) in row.names().into_iter().zip(report.figures()).zip(bytes) {
            let point = Point { size, figures: [time, bytes as f64 / per as f64] };
            match self.lines.iter_mut().find(|(who, _)| who == name) {
                Some((_, points)) => points.push(point),
                None => self.lines.push((name.into(), vec![point])),
            }
        }
    }
}

/// Least units of a run, so that the clock's own cost does not count.
const LEAST: u64 = 1_000_000;

/// All whose names are `wanted`, to `most`. More rounds where a run is short.
pub(crate) fn series(wanted: impl Fn(&str) -> bool, rounds: usize, most: u64) -> Vec<Series> {
    type Grown = (&'static str, [&'static str; 2], u32, u32, fn(u64) -> Vec<Row>);
    let all: [Grown; 7] = [
        ("items", ["ns/item", "bytes in all"], 2, 8, |n| vec![items(n)]),
        ("slots", ["ns/item", "bytes/slot"], 0, 6, |n| vec![slots(n)]),
        ("tasks", ["ns/yield", "bytes/task"], 0, 5, |n| vec![tasks(n)]),
        ("timers that wait", ["ns/sleep dropped", "bytes/timer"], 0, 6, |n| vec![waiting(n)]),
        ("timers that fire", ["ns/sleep", "bytes/timer"], 0, 6, |n| vec![firing(n)]),
        ("timers that fire, virtual time", ["ns/sleep", "bytes/timer"], 0, 6, |n| {
            vec![virtually(n)]
        }),
        ("connections", ["ns/echo", "bytes/connection"], 0, 4, connections),
    ];
    let series = all.into_iter().filter(|(name, ..)| wanted(name));
    let run = |(name, units, first, last, rows): Grown| {
        let mut series = Series::new(name, units);
        for size in (first..=last).map(|power| 10_u64.pow(power)).filter(|size| *size <= most) {
            eprintln!("{name}: {size}");
            let rounds = if size < LEAST && rounds > 1 { rounds + 2 } else { rounds };
            let per = if name == "items" { 1 } else { size };
            rows(size).iter().for_each(|row| series.add(size, row, rounds, per));
        }
        series
    };
    series.map(run).collect()
}

/// Of one batch, with 64 at a time. A short batch is repeated.
fn items(size: u64) -> Row {
    let row = Row::new("items", "ns/item", LEAST, size);
    let row = in_batches::<ByHand, _>(row, size, 64, |_| Waits(1));
    let row = in_batches::<Over<Gondola, Ours>, _>(row, size, 64, |_| Waits(1));
    in_batches::<Workers<Tokio>, _>(row, size, 64, |_| Waits(1))
}

/// As many items of a batch at a time.
fn slots(size: u64) -> Row {
    let n = (10 * size).max(2 * LEAST);
    let row = Row::new("slots", "ns/item", n, n);
    let row = in_batches::<ByHand, _>(row, n, size, |_| Waits(1));
    let row = in_batches::<Over<Gondola, Ours>, _>(row, n, size, |_| Waits(1));
    in_batches::<Workers<Tokio>, _>(row, n, size, |_| Waits(1))
}

/// That yield, each at least a hundred times.
fn tasks(size: u64) -> Row {
    let row = Row::new("tasks", "ns/yield", (100 * size).max(2 * LEAST), size).counted();
    yields::<Tokio>(yields::<Gondola>(yields::<Loop>(row, size), size), size)
}

/// While others are created and dropped, all of which end before them.
fn waiting(size: u64) -> Row {
    let row = Row::new("waiting", "ns/sleep", LEAST / 2, 1);
    churns::<Tokio>(churns::<Gondola>(churns_by_hand(row, size), size), size)
}

/// All at once.
fn firing(size: u64) -> Row {
    let row = fires_by_hand(Row::new("firing", "ns/sleep", size, size));
    fires::<Workers<Tokio>>(fires::<Over<Gondola, Ours>>(row))
}

/// The same without the kernel.
fn virtually(size: u64) -> Row {
    let row = Row::new("virtually", "ns/sleep", LEAST / 4, size).entry("limit", move |n| {
        let tally = Tally::leaked();
        move || {
            for first in (0..n).step_by(size as usize) {
                let items = first..first + size;
                let mut sleeps: Vec<_> = items.map(|item| (spread(item), item)).collect();
                sleeps.sort_unstable();
                sleeps.into_iter().for_each(|(_, item)| tally.add(item));
            }
            Done::sum(tally.take())
        }
    });
    in_batches::<Over<Virtual, Ours>, _>(row, size, size, |item| Virtual::sleep(spread(item)))
}

/// To a server that echoes 64 bytes; a buffer of 1 KiB for each. Not interleaved: descriptors are
/// scarce, and their limit may be too low for the most.
fn connections(size: u64) -> Vec<Row> {
    let row = || Row::new("connections", "ns/echo", size.max(16_384), 1).counted();
    let size = size as usize;
    vec![
        echo::by_hand(row(), size, 64),
        echo::echoes::<Gondola>(row(), size, 64),
        echo::echoes::<TokioIo>(row(), size, 64),
    ]
}

/// `size` items after the other, each waits once, at most `limit` at a time.
fn in_batches<B: Batch, W: Future<Output = ()> + 'static>(
    row: Row,
    size: u64,
    limit: u64,
    wait: fn(u64) -> W,
) -> Row {
    row.entry(B::name(), move |n| {
        let (batch, tally) = (B::new(limit as usize), Tally::leaked());
        move || {
            for first in (0..n).step_by(size as usize) {
                batch.batch(size, limit as usize, move |item| {
                    let item = first + item;
                    async move {
                        wait(item).await;
                        tally.add(item);
                    }
                });
            }
            Done::sum(tally.take())
        }
    })
}

struct Virtual(RefCell<gondola::Runtime>);

impl Peer for Virtual {
    const NAME: &'static str = "gondola";

    fn new(_: usize) -> Self {
        Self(RefCell::new(gondola::Runtime::builder().virtual_time().build().unwrap()))
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.borrow_mut().block_on(future)
    }
}

impl Timed for Virtual {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        gondola::time::sleep(duration)
    }
}

/// A table for each.
pub(crate) fn markdown(series: &[Series]) -> String {
    let mut text = String::new();
    for Series { name, units, lines } in series {
        let columns = units.iter().flat_map(|unit| lines.iter().map(move |(who, _)| (who, unit)));
        _ = write!(text, "| {name} |");
        columns.clone().for_each(|(who, unit)| _ = write!(text, " {who}, {unit} |"));
        _ = write!(text, "\n|---|{}\n", "---:|".repeat(columns.count()));
        let points = lines.first().map_or(0, |(_, points)| points.len());
        for at in 0..points {
            _ = write!(text, "| 10^{} |", lines[0].1[at].size.ilog10());
            for figure in [0, 1] {
                for (_, points) in lines {
                    _ = write!(text, " {:.1} |", points[at].figures[figure]);
                }
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}
