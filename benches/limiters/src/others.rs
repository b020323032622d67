//! Other limiters, by the rules that their authors published.

use crate::simulate::{End, Limiter};
use std::time::Duration;
use tower_acc::{Aimd, Algorithm, Gradient2, Vegas};

/// As much as a ring in these simulations has.
pub const MAX: usize = 200;

/// One of the crate `tower-acc`, with its own defaults.
struct Acc<A>(A);

impl<A: Algorithm> Limiter for Acc<A> {
    fn limit(&self) -> usize {
        self.0.max_concurrency()
    }

    fn end(&mut self, end: End) {
        let latency = Duration::from_secs_f64((end.now - end.begun) / 1e3);
        self.0.update(latency, end.in_flight, end.refused, false);
    }
}

pub fn aimd() -> Box<dyn Limiter> {
    Box::new(Acc(Aimd::builder().max_limit(MAX).build()))
}

pub fn gradient2() -> Box<dyn Limiter> {
    Box::new(Acc(Gradient2::builder().max_limit(MAX).build()))
}

pub fn vegas() -> Box<dyn Limiter> {
    Box::new(Acc(Vegas::builder().max_limit(MAX).build()))
}

/// Vector's adaptive request concurrency: once in a mean round trip, one more if that was no longer
/// than before, and a tenth less if it was longer by 2.5 deviations, or something was refused.
pub struct Vector {
    limit: usize,
    /// Mean and variance, moving by 0.4.
    past: Option<(f64, f64)>,
    next: f64,
    sum: f64,
    count: f64,
    refused: bool,
    reached: bool,
}

impl Vector {
    pub fn new() -> Self {
        Self { limit: 1, past: None, next: 0.0, sum: 0.0, count: 0.0, refused: false, reached: false }
    }
}

impl Limiter for Vector {
    fn limit(&self) -> usize {
        self.limit
    }

    fn end(&mut self, end: End) {
        self.reached |= end.in_flight >= self.limit;
        self.refused |= end.refused;
        if !end.refused {
            self.sum += end.now - end.begun;
            self.count += 1.0;
        }
        let current = (self.count > 0.0).then(|| self.sum / self.count);
        let Some((mean, variance)) = self.past else {
            self.past = current.map(|current| (current, 0.0));
            self.next = end.now + current.unwrap_or(0.0);
            return;
        };
        if end.now < self.next {
            return;
        }
        let longer = mean + 2.5 * variance.sqrt();
        if self.limit < MAX && self.reached && !self.refused && current.is_some_and(|now| now <= mean) {
            self.limit += 1;
        } else if self.limit > 1 && (self.refused || current.unwrap_or(0.0) >= longer) {
            self.limit = ((self.limit as f64 * 0.9) as usize).max(1);
        }
        let (mut mean, mut variance) = (mean, variance);
        if let Some(current) = current {
            let (difference, step) = (current - mean, 0.4 * (current - mean));
            mean += step;
            variance = 0.6 * (variance + difference * step);
        }
        self.past = Some((mean, variance));
        self.next = end.now + mean;
        (self.sum, self.count, self.refused, self.reached) = (0.0, 0.0, false, false);
    }
}

/// Envoy's gradient controller: a minimum from 50 requests at a limit of 3, once a minute; every 100 ms
/// the limit times that, plus a quarter, over the median since, plus its square root.
pub struct Envoy {
    limit: f64,
    /// The limit to go back to, while the minimum is measured.
    deferred: Option<f64>,
    minimum: f64,
    measured: f64,
    updated: f64,
    at_least: u32,
    samples: Vec<f64>,
}

const LEAST: f64 = 3.0;

impl Envoy {
    pub fn new() -> Self {
        let (minimum, measured, updated, at_least) = (0.0, 0.0, 0.0, 0);
        Self { limit: LEAST, deferred: Some(LEAST), minimum, measured, updated, at_least, samples: vec![] }
    }

    fn median(&mut self) -> f64 {
        self.samples.sort_by(f64::total_cmp);
        let median = self.samples[self.samples.len() / 2];
        self.samples.clear();
        median
    }
}

impl Limiter for Envoy {
    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn end(&mut self, end: End) {
        if !end.refused {
            self.samples.push(end.now - end.begun);
        }
        if let Some(deferred) = self.deferred {
            if self.samples.len() >= 50 {
                self.minimum = self.median();
                self.deferred = None;
                self.limit = deferred;
                (self.measured, self.updated, self.at_least) = (end.now, end.now, 0);
            }
            return;
        }
        if end.now - self.measured >= 60_000.0 || self.at_least >= 5 {
            self.deferred = Some(self.limit);
            self.limit = LEAST;
            self.samples.clear();
        } else if end.now - self.updated >= 100.0 && !self.samples.is_empty() {
            let median = self.median();
            let limit = self.limit * (1.25 * self.minimum / median).clamp(0.5, 2.0);
            self.limit = (limit + limit.sqrt()).clamp(LEAST, MAX as f64);
            self.at_least = if self.limit == LEAST { self.at_least + 1 } else { 0 };
            self.updated = end.now;
        }
    }
}
