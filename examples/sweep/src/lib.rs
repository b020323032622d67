//! How many items in flight? The experiment that tells, for anybody's items.
//!
//! ```
//! use gondola_sweep::Sweep;
//! use std::{io, time::Duration};
//!
//! # let quick = |sweep: Sweep| sweep.limits([1, 4]).time(Duration::from_millis(20)).repetitions(1);
//! let sweep = Sweep::new();
//! # let sweep = quick(sweep);
//! let report = gondola::block_on(sweep.run(async || {
//!     gondola::time::sleep(Duration::from_millis(1)).await; // stands for your item
//!     io::Result::Ok(())
//! }));
//! println!("{}", report.unwrap());
//! ```
//!
//! To be read in this order: `measure` (the batch is there), `experiment`, `verdict`, `report`.

mod chart;
mod experiment;
mod export;
pub mod fits;
mod measure;
mod plan;
mod progress;
mod report;
mod row;
mod svg;
mod table;
mod usage;
pub mod verdict;

pub use report::Report;

use std::fmt;
use std::io;
use std::time::Duration;

/// The experiment, before it is made.
///
/// Each limit is measured several times, in shuffled rounds, each time for a fixed time; what happens
/// while a batch warms up is thrown away. The first and the last measurement are of the same limit:
/// if they differ, so does the machine, and the verdict says that it is void.
#[derive(Clone, Debug)]
pub struct Sweep {
    limits: Vec<usize>,
    refine: bool,
    time: Duration,
    repetitions: usize,
    beta: f64,
    patience: Duration,
    known: Option<Known>,
    waits: Option<usize>,
}

/// What is known of the server, so that theory can be held against the experiment.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// How long an item waits altogether, if it has not to queue.
    pub waits: Duration,
    /// How many the server serves at once.
    pub places: usize,
    /// What an item computes on the thread, where the system does not say.
    pub cpu: Duration,
}

/// Why there is no report.
#[derive(Debug)]
pub enum SweepError {
    /// There is no limit to try, or one of them is 0.
    BadLimits,
    /// Not one item succeeded. The first error.
    AllFailed(String),
    /// The batch was refused: a limit is too large.
    Batch(io::Error),
}

impl Default for Sweep {
    fn default() -> Self {
        Self::new()
    }
}

impl Sweep {
    /// The limits 1, 2, 3, 4, 5, 8, 16, 25, 50 and 100, and some just below the best of them; three
    /// times 0.8 seconds each.
    #[must_use]
    pub fn new() -> Self {
        Self {
            limits: vec![1, 2, 3, 4, 5, 8, 16, 25, 50, 100],
            refine: true,
            time: Duration::from_millis(800),
            repetitions: 3,
            beta: 0.15,
            patience: Duration::from_secs(10),
            known: None,
            waits: None,
        }
    }

    /// These limits, and no others.
    #[must_use]
    pub fn limits(mut self, limits: impl IntoIterator<Item = usize>) -> Self {
        (self.limits, self.refine) = (limits.into_iter().collect(), false);
        self
    }

    /// How long each limit is measured each time.
    #[must_use]
    pub fn time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// How often each limit is measured; at least once.
    #[must_use]
    pub fn repetitions(self, repetitions: usize) -> Self {
        Self { repetitions: repetitions.max(1), ..self }
    }

    /// A higher limit is worth it while one percent more of it brings so many percent of throughput.
    #[must_use]
    pub fn beta(self, beta: f64) -> Self {
        Self { beta, ..self }
    }

    /// An item that takes longer has failed. 10 seconds, if nothing else is said.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Compares with theory.
    #[must_use]
    pub fn known(self, known: Known) -> Self {
        Self { known: Some(known), ..self }
    }

    /// An item waits so many times: tries `waits + 1` as well, and says how that rule would have done.
    #[must_use]
    pub fn waits(self, waits: usize) -> Self {
        Self { waits: Some(waits), ..self }
    }

    fn all_limits(&self) -> Vec<usize> {
        let mut limits = self.limits.clone();
        limits.extend(self.waits.map(|waits| waits + 1));
        limits.sort_unstable();
        limits.dedup();
        limits
    }

    /// The highest limit that is tried.
    #[must_use]
    pub fn most(&self) -> usize {
        self.all_limits().last().copied().unwrap_or(0)
    }

    /// What it will do, and how long that takes at least.
    #[must_use]
    pub fn plan(&self) -> String {
        let limits = self.all_limits();
        let measurements = 2 + limits.len() * self.repetitions;
        let seconds = measurements as f64 * self.time.as_secs_f64();
        let more = if self.refine { ", and then some more near the best" } else { "" };
        format!(
            "tries {limits:?} in flight, {} times each{more}: {seconds:.0} s or more",
            self.repetitions
        )
    }

    /// Makes the experiment, in a runtime of gondola's. It draws its progress on stderr.
    ///
    /// # Errors
    /// [`SweepError`]: a number that means nothing is not returned.
    pub async fn run<E: fmt::Display>(
        &self,
        item: impl AsyncFn() -> Result<(), E>,
    ) -> Result<Report, SweepError> {
        if self.limits.is_empty() || self.limits.contains(&0) {
            return Err(SweepError::BadLimits);
        }
        let findings = experiment::run(&item, self).await.map_err(SweepError::Batch)?;
        if findings.rows.iter().all(|row| row.succeeded() == 0) {
            let mut errors = findings.rows.iter().flat_map(|row| &row.samples);
            let first = errors.find_map(|sample| sample.first_error.clone());
            return Err(SweepError::AllFailed(first.unwrap_or_default()));
        }
        Ok(Report { findings, sweep: self.clone() })
    }
}

impl fmt::Display for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLimits => {
                f.write_str("the limits to try must be above 0, and there must be one")
            }
            Self::AllFailed(first) => write!(f, "not one item succeeded; the first error: {first}"),
            Self::Batch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SweepError {}
