//! One measurement: a batch with K in flight, for a fixed time.
//!
//! The source of the batch looks at the clock, and ends when the time is over. It is asked whenever
//! a slot is free, and a slot is freed by a completion; so the window that is measured begins with
//! a completion (the last of the warm-up) and ends with one, and no rate suffers from a cut.

use crate::usage::{self, Processor};
use gondola::time::timeout;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::iter;
use std::time::{Duration, Instant};

/// However short the time: a window has this many completions, and at least K.
const FEWEST: usize = 10;

/// What was seen in the window.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) k: usize,
    /// The length of the window.
    pub(crate) time: Duration,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) first_error: Option<String>,
    /// From admission to completion, in nanoseconds, to within 1 %, of those that succeeded.
    pub(crate) latency: Histogram<u64>,
    /// The latencies of all items, added up.
    pub(crate) total_latency: Duration,
    pub(crate) processor: Option<Processor>,
    pub(crate) resident_kib: Option<u64>,
    /// The size of an item's future: what a slot of the batch has to hold.
    pub(crate) slot_bytes: usize,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.succeeded as f64 / self.time.as_secs_f64()
    }
}

pub(crate) async fn measure<E: fmt::Display>(
    item: &impl AsyncFn() -> Result<(), E>,
    k: usize,
    time: Duration,
    patience: Duration,
) -> io::Result<Sample> {
    let meter = RefCell::new(Meter::new(k, time));
    let slot_bytes = Cell::new(0);
    let source = iter::from_fn(|| meter.borrow_mut().goes_on().then_some(()));
    gondola::batch(source)
        .limit(k)
        .for_each(|()| {
            let admitted = Instant::now();
            let meter = &meter;
            let item = async move {
                let result = match timeout(patience, item()).await {
                    Ok(result) => result.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("an item took more than {patience:?}")),
                };
                meter.borrow_mut().completed(admitted.elapsed(), result);
            };
            slot_bytes.set(size_of_val(&item));
            item
        })
        .await?;
    let sample = meter.into_inner().sample;
    Ok(Sample { slot_bytes: slot_bytes.get(), ..sample })
}

struct Meter {
    sample: Sample,
    asked: Duration,
    stage: Stage,
}

enum Stage {
    /// So many completions are still thrown away.
    WarmUp(usize),
    Window {
        began: Instant,
        processor: Option<Processor>,
    },
    /// The last items in flight: too few to count.
    Over,
}

impl Meter {
    fn new(k: usize, asked: Duration) -> Self {
        let sample = Sample {
            k,
            time: Duration::ZERO,
            succeeded: 0,
            failed: 0,
            first_error: None,
            latency: Histogram::new(2).expect("2 digits are possible"),
            total_latency: Duration::ZERO,
            processor: None,
            resident_kib: None,
            slot_bytes: 0,
        };
        Self { sample, asked, stage: Stage::WarmUp(2 * k) }
    }

    fn completed(&mut self, latency: Duration, result: Result<(), String>) {
        match &mut self.stage {
            Stage::WarmUp(1) => {
                self.stage = Stage::Window { began: Instant::now(), processor: Processor::now() };
            }
            Stage::WarmUp(left) => *left -= 1,
            Stage::Window { .. } => {
                let sample = &mut self.sample;
                sample.total_latency += latency;
                match result {
                    Ok(()) => {
                        sample.succeeded += 1;
                        let nanos = latency.as_nanos() as u64;
                        sample.latency.record(nanos).expect("it resizes itself");
                    }
                    Err(error) => {
                        sample.failed += 1;
                        sample.first_error.get_or_insert(error);
                    }
                }
            }
            Stage::Over => {}
        }
    }

    /// Whether one more item is wanted.
    fn goes_on(&mut self) -> bool {
        let Stage::Window { began, processor } = &self.stage else {
            return !matches!(self.stage, Stage::Over);
        };
        let (sample, time) = (&mut self.sample, began.elapsed());
        let completed = (sample.succeeded + sample.failed) as usize;
        if time < self.asked || completed < FEWEST.max(sample.k) {
            return true;
        }
        sample.time = time;
        sample.processor = Processor::now().zip(*processor).map(|(now, then)| now - then);
        sample.resident_kib = usage::resident_kib();
        self.stage = Stage::Over;
        false
    }
}
