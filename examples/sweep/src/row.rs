//! All measurements of one K, taken together.

use crate::measure::Sample;
use crate::usage::Processor;
use crate::verdict::Point;
use hdrhistogram::Histogram;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) k: usize,
    /// In the order in which they were taken; at least one.
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn point(&self) -> Point {
        let mut rates: Vec<f64> = self.samples.iter().map(Sample::per_second).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let count = rates.len();
        let middle = count / 2;
        let rate = match count % 2 {
            0 => (rates[middle - 1] + rates[middle]) / 2.0,
            _ => rates[middle],
        };
        // The median's interval of some 95 %, from the ranks alone: the binomial distribution says
        // how many of the extremes to leave out. Of fewer than 8 measurements, none.
        let out = (count as f64 / 2.0 - 0.98 * (count as f64).sqrt()).max(0.0) as usize;
        Point {
            k: self.k,
            rate,
            low: rates[out],
            high: rates[count - 1 - out],
            busy: self.part(|used| used.ran + used.waited),
            failed: self.failed() as f64 / self.items() as f64,
        }
    }

    /// Mean items in flight, by Little's law: the rate times the mean latency; and the rate is the
    /// items over the time, the mean latency the latencies over the items.
    pub(crate) fn in_flight(&self) -> f64 {
        let latencies: Duration = self.samples.iter().map(|sample| sample.total_latency).sum();
        latencies.as_secs_f64() / self.time().as_secs_f64()
    }

    /// In milliseconds.
    pub(crate) fn latency(&self, quantile: f64) -> f64 {
        let mut all = Histogram::<u64>::new(2).expect("2 digits are possible");
        for sample in &self.samples {
            all.add(&sample.latency).expect("it resizes itself");
        }
        all.value_at_quantile(quantile) as f64 / 1e6
    }

    /// Processor time of the thread per item, in microseconds.
    pub(crate) fn cpu_per_item(&self) -> Option<f64> {
        Some(self.sum(|used| used.ran)?.as_secs_f64() / self.items() as f64 * 1e6)
    }

    /// The part of the time that the thread did something given; `None` if the system does not say.
    pub(crate) fn part(&self, something: impl Fn(&Processor) -> Duration) -> Option<f64> {
        // The system's books lag a little, so it can come out above 1.
        Some((self.sum(something)?.as_secs_f64() / self.time().as_secs_f64()).min(1.0))
    }

    pub(crate) fn resident_kib(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.resident_kib).max()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.samples.iter().map(|sample| sample.failed).sum()
    }

    pub(crate) fn succeeded(&self) -> u64 {
        self.samples.iter().map(|sample| sample.succeeded).sum()
    }

    fn items(&self) -> u64 {
        self.succeeded() + self.failed()
    }

    fn time(&self) -> Duration {
        self.samples.iter().map(|sample| sample.time).sum()
    }

    fn sum(&self, of: impl Fn(&Processor) -> Duration) -> Option<Duration> {
        self.samples.iter().map(|sample| sample.processor.as_ref().map(&of)).sum()
    }
}
