//! The experiment: which K is measured when.

use crate::Sweep;
use crate::measure::measure;
use crate::plan;
use crate::progress::Progress;
use crate::row::Row;
use crate::verdict::{self, Point};
use std::fmt;
use std::io;

/// More of them bring the knee no nearer than the noise allows.
const REFINEMENTS: usize = 3;

#[derive(Debug)]
pub(crate) struct Findings {
    /// One per K, ascending.
    pub(crate) rows: Vec<Row>,
    pub(crate) control: Control,
}

/// The first and the last measurement of all, both of the same K, in items/s.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) k: usize,
    pub(crate) first: f64,
    pub(crate) last: f64,
}

impl Control {
    pub(crate) fn drift(&self) -> f64 {
        self.last / self.first - 1.0
    }
}

impl Findings {
    pub(crate) fn points(&self) -> Vec<Point> {
        points(&self.rows)
    }
}

fn points(rows: &[Row]) -> Vec<Point> {
    rows.iter().map(Row::point).collect()
}

pub(crate) async fn run<E: fmt::Display>(
    item: &impl AsyncFn() -> Result<(), E>,
    sweep: &Sweep,
) -> io::Result<Findings> {
    let Sweep { refine, repetitions, beta, .. } = sweep;
    let ks = sweep.all_limits();
    let planned = plan::rounds(&ks, *repetitions);
    let progress = Progress::new(planned.len() + 2);
    let mut bench = Bench { item, sweep, progress, rows: Vec::new() };

    // The largest K feels every change: of the thread, of the server and of the machine.
    let k = ks[ks.len() - 1];
    let first = bench.measure(k).await?;
    for k in planned {
        bench.measure(k).await?;
    }
    let refinements = if *refine { REFINEMENTS } else { 0 };
    for _ in 0..refinements {
        let Some(k) = verdict::refinement(&points(&bench.rows), *beta) else { break };
        bench.progress.more(*repetitions);
        for _ in 0..*repetitions {
            bench.measure(k).await?;
        }
    }
    let last = bench.measure(k).await?;
    bench.progress.finish();
    Ok(Findings { rows: bench.rows, control: Control { k, first, last } })
}

struct Bench<'a, F> {
    item: &'a F,
    sweep: &'a Sweep,
    progress: Progress,
    rows: Vec<Row>,
}

impl<F: AsyncFn() -> Result<(), E>, E: fmt::Display> Bench<'_, F> {
    async fn measure(&mut self, k: usize) -> io::Result<f64> {
        self.progress.begin(k);
        let sample = measure(self.item, k, self.sweep.time, self.sweep.patience).await?;
        self.progress.end(&sample);
        let rate = sample.per_second();
        match self.rows.binary_search_by_key(&k, |row| row.k) {
            Ok(place) => self.rows[place].samples.push(sample),
            Err(place) => self.rows.insert(place, Row { k, samples: vec![sample] }),
        }
        Ok(rate)
    }
}
