//! A meter for the items of a batch: how many, how fast, how long, and what they cost the thread.
//!
//! A batch measures nothing. Its items are measured by what is wrapped around them, in the closure:
//!
//! ```
//! use gondola::meter::Meter;
//! use gondola::{Runtime, batch, time::sleep};
//! use std::time::Duration;
//!
//! let mut runtime = Runtime::builder().virtual_time().build()?;
//! let meter = Meter::new();
//! let fetch = async |n: u64| {
//!     sleep(Duration::from_millis(10)).await; // stands for some I/O
//!     if n == 7 { Err("no such page") } else { Ok(()) }
//! };
//! let run = batch(0..9).limit(2).try_for_each(|n| meter.try_watch(fetch(n)));
//! assert!(runtime.block_on(run).is_err());
//!
//! let read = meter.read();
//! assert_eq!((read.completed, read.failed, read.cut_off), (7, 1, 0));
//! assert_eq!(
//!     read.to_string(),
//!     "7 done, 1 failed, 0 cut off, 0 in flight; 200.0 items/s; p50 10.0ms, p99 10.0ms; \
//!      the thread: 0.0ns per item, 0 % busy",
//! );
//! # Ok::<_, std::io::Error>(())
//! ```
#![deny(unsafe_code)]

use crate::pin::with_pinned_future;
use crate::time::now;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Counts and times the futures that it [watches](Self::watch). Clones are the same meter: one for
/// the closure, and one for the task that reads it.
///
/// It takes 4 kB, however many it watches. What is watched costs 40 bytes more, one look at the
/// clock, and two for each poll. It works under any executor; in a runtime with virtual time, by
/// that. The polls of what is watched inside of what is watched count twice.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    totals: Rc<RefCell<Totals>>,
}

/// What a meter says at one moment. Of an idle meter, zeros.
///
/// ```
/// let read = gondola::meter::Meter::new().read();
/// assert_eq!((read.begun, read.items_per_second(), read.p50), (0, 0.0, std::time::Duration::ZERO));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// All that have begun: the sum of the next four.
    pub begun: usize,
    /// Those that are at work.
    pub in_flight: usize,
    /// Those that have come to their end, and have not failed.
    pub completed: usize,
    /// Those whose output was an error, if they were watched by [`Meter::try_watch`].
    pub failed: usize,
    /// Those that were dropped in flight, or have panicked.
    pub cut_off: usize,
    /// From the beginning of the first to this moment; or to the end of the last one, if none is in
    /// flight.
    pub elapsed: Duration,
    /// How long the thread was at work in their polls.
    pub busy: Duration,
    /// Half of those that came to an end took at most so long, from beginning to end. Like the others,
    /// within 4 %.
    pub p50: Duration,
    /// As `p50`, for 90 of 100.
    pub p90: Duration,
    /// As `p50`, for 99 of 100.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Meter {
    /// A meter that has watched nothing as yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a future, which begins at this moment.
    ///
    /// # Cancel safety
    /// As that of the future. Dropped before its end, it counts as cut off.
    ///
    /// ```
    /// let meter = gondola::meter::Meter::new();
    /// assert_eq!(gondola::block_on(meter.watch(async { 5 })), 5);
    /// assert_eq!(meter.read().completed, 1);
    /// ```
    pub fn watch<F: Future>(&self, future: F) -> Watch<F> {
        Watch { future: Some(future), ticket: Ticket::new(self, |_| false) }
    }

    /// As [`watch`](Self::watch), and counts an error as a failure.
    ///
    /// ```
    /// let meter = gondola::meter::Meter::new();
    /// let number = meter.try_watch(async { "x".parse::<u8>() });
    /// assert!(gondola::block_on(number).is_err());
    /// assert_eq!((meter.read().completed, meter.read().failed), (0, 1));
    /// ```
    pub fn try_watch<F: Future<Output = Result<T, E>>, T, E>(&self, future: F) -> Watch<F> {
        Watch { future: Some(future), ticket: Ticket::new(self, Result::is_err) }
    }

    /// Reads it. Costs about a microsecond.
    #[must_use]
    pub fn read(&self) -> Reading {
        let Totals { mut reading, span, ref latencies } = *self.totals.borrow();
        if let Some((first, last)) = span {
            let end = if reading.in_flight > 0 { now() } else { last };
            reading.elapsed = end - first;
        }
        let percentile = |percent| latencies.percentile(percent).min(reading.max);
        Reading { p50: percentile(50), p90: percentile(90), p99: percentile(99), ..reading }
    }
}

impl Reading {
    /// How many have come to an end in a second, on average.
    #[must_use]
    pub fn items_per_second(&self) -> f64 {
        ratio(self.ended() as f64, self.elapsed)
    }

    /// How long the thread was at work for each of them, on average.
    #[must_use]
    pub fn busy_per_item(&self) -> Duration {
        self.busy.checked_div(self.ended().try_into().unwrap_or(u32::MAX)).unwrap_or_default()
    }

    /// The share of the time in which the thread was at work for them, from 0 to 1. Near 1, more in
    /// flight can bring nothing: the thread is full.
    #[must_use]
    pub fn busy_share(&self) -> f64 {
        ratio(self.busy.as_secs_f64(), self.elapsed)
    }

    const fn ended(&self) -> usize {
        self.completed + self.failed
    }
}

/// As a line for a log.
impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failed, cut_off, in_flight, p50, p99, .. } = self;
        write!(f, "{completed} done, {failed} failed, {cut_off} cut off, {in_flight} in flight; ")?;
        write!(f, "{:.1} items/s; p50 {p50:.1?}, p99 {p99:.1?}; ", self.items_per_second())?;
        let (busy, share) = (self.busy_per_item(), 100.0 * self.busy_share());
        write!(f, "the thread: {busy:.1?} per item, {share:.0} % busy")
    }
}

fn ratio(count: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count / time.as_secs_f64() }
}

with_pinned_future! {
    /// The future of [`Meter::watch`].
    ///
    /// # Panics
    /// As the future, and if polled after it was ready.
    #[must_use = "futures do nothing unless awaited"]
    pub struct Watch<F: Future> {
        ticket: Ticket<F::Output>,
    }
}

impl<F: Future> Future for Watch<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (mut future, ticket) = self.project();
        let inner = future.as_mut().as_pin_mut().expect("`Watch` was polled after it was ready");
        let start = now();
        let poll = inner.poll(cx);
        let end = now();
        ticket.meter.totals.borrow_mut().reading.busy += end - start;
        if let Poll::Ready(output) = &poll {
            ticket.close(end, output);
            future.set(None);
        }
        poll
    }
}

impl<F: Future> fmt::Debug for Watch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("begun", &self.ticket.begun).finish_non_exhaustive()
    }
}

/// The part of a [`Watch`] that knows the meter.
struct Ticket<O> {
    meter: Meter,
    begun: Instant,
    has_failed: fn(&O) -> bool,
    is_open: bool,
}

impl<O> Ticket<O> {
    fn new(meter: &Meter, has_failed: fn(&O) -> bool) -> Self {
        let begun = now();
        let Totals { reading, span, .. } = &mut *meter.totals.borrow_mut();
        reading.begun += 1;
        reading.in_flight += 1;
        span.get_or_insert((begun, begun));
        Self { meter: meter.clone(), begun, has_failed, is_open: true }
    }

    fn close(&mut self, end: Instant, output: &O) {
        self.is_open = false;
        let totals = &mut *self.meter.totals.borrow_mut();
        totals.leave(end);
        totals.latencies.count(end - self.begun);
        let reading = &mut totals.reading;
        reading.max = reading.max.max(end - self.begun);
        match (self.has_failed)(output) {
            true => reading.failed += 1,
            false => reading.completed += 1,
        }
    }
}

impl<O> Drop for Ticket<O> {
    fn drop(&mut self) {
        if self.is_open {
            let totals = &mut *self.meter.totals.borrow_mut();
            totals.leave(now());
            totals.reading.cut_off += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Totals {
    reading: Reading,
    /// When the first one began, and the last one ended.
    span: Option<(Instant, Instant)>,
    latencies: Histogram,
}

impl Totals {
    fn leave(&mut self, end: Instant) {
        self.reading.in_flight -= 1;
        if let Some((_, last)) = &mut self.span {
            *last = end;
        }
    }
}

/// How many took how long. Each doubling of the time is cut into 16 equal parts, from a microsecond
/// (all below it are one part) to an hour and a bit (all above, too). After G. Tene's HdrHistogram.
struct Histogram {
    counts: [u64; Self::PARTS * Self::DOUBLINGS],
}

impl Histogram {
    const PARTS: usize = 16;
    const DOUBLINGS: usize = 32;

    fn count(&mut self, time: Duration) {
        // In units of 64 ns, 16 of which are about a microsecond.
        let units = (time.as_nanos() >> 6).clamp(16, (1 << 36) - 1) as u64;
        let doubling = units.ilog2() as usize - 4;
        self.counts[Self::PARTS * doubling + (units >> doubling) as usize - Self::PARTS] += 1;
    }

    /// At least so many of a hundred took at most so long: the middle of their part.
    fn percentile(&self, percent: u64) -> Duration {
        let all: u64 = self.counts.iter().sum();
        let mut left = (all * percent).div_ceil(100);
        let part = self.counts.iter().position(|&count| {
            let found = left > 0 && left <= count;
            left = left.saturating_sub(count);
            found
        });
        let Some(part) = part else { return Duration::ZERO };
        let (doubling, place) = (part / Self::PARTS, part % Self::PARTS);
        let units = (2 * (Self::PARTS + place) + 1) as u64;
        Duration::from_nanos(units << (doubling + 5))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; Self::PARTS * Self::DOUBLINGS] }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} counted", self.counts.iter().sum::<u64>())
    }
}

#[cfg(all(test, not(gondola_loom)))]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_four_percent_from_a_microsecond_to_an_hour() {
        for exponent in 0..40 {
            for factor in [1.0, 1.01, 1.33, 1.9] {
                let nanoseconds = 1100.0 * factor * f64::powi(1.9, exponent);
                let mut histogram = Histogram::default();
                histogram.count(Duration::from_nanos(nanoseconds as u64));
                let read = histogram.percentile(50).as_nanos() as f64;
                if nanoseconds < 3600e9 {
                    assert!((read / nanoseconds - 1.0).abs() < 0.04, "{nanoseconds} {read}");
                }
            }
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), Duration::ZERO);
        for millisecond in 1..=100 {
            histogram.count(Duration::from_millis(millisecond));
        }
        for percent in [1, 50, 90, 99, 100] {
            let read = histogram.percentile(percent).as_secs_f64() * 1e3;
            assert!((read / percent as f64 - 1.0).abs() < 0.04, "{percent} {read}");
        }
        (0..9).for_each(|_| histogram.count(Duration::ZERO));
        histogram.count(Duration::MAX);
        assert!(histogram.percentile(1) < Duration::from_micros(2));
        assert!(histogram.percentile(100) > Duration::from_secs(3600));
    }
}
