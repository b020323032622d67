//! The limit that finds itself: completions in, the limit out. No clock, no I/O, no memory beyond a
//! dozen numbers.
//!
//! # What it looks for
//!
//! One more slot brings more throughput, until something is full. Let `e` be how many percent of
//! throughput one percent more in flight brings (the elasticity, d ln X / d ln K). Far below the knee it
//! is 1, far above it 0, or less if the server suffers. The limit looked for is where `e` is `beta`: of a
//! throughput that saturates as K / (1 + s (K - 1)), that gives away `beta` of the most it could be.
//!
//! # How
//!
//! *Growing*: the limit doubles, until the items take much longer than they did (then Little's law says
//! where the knee was), or the thread is full, or there are too few items.
//!
//! *Leaning*: the limit is held a little above and a little below a level by turns, and a line is drawn
//! through what that brought, in logarithms, with older windows fading. Its slope is `e`. The level
//! leans to where `e` is `beta`. Latency alone never says in which direction to go: it grows for
//! many reasons. It only bounds how steep a noisy slope can be, and says how far to go down.
//!
//! *Refused*: items that the server refused cut the limit at once, and the new bound rises slowly.
#![forbid(unsafe_code)]

/// An item that has come to its end. Times are in seconds, from any beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) begun: f64,
    pub(super) now: f64,
    /// How long the thread has been at work for all of them until now.
    pub(super) busy: f64,
    /// How many were in flight, this one among them.
    pub(super) in_flight: usize,
    /// The server had no room for it.
    pub(super) refused: bool,
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) start: usize,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) beta: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Seeker {
    bounds: Bounds,
    limit: usize,
    /// The bound that refusals have set.
    cap: f64,
    /// How long an item takes with nobody else in its way.
    alone: f64,
    stage: Stage,
    window: Window,
    /// Of the last items, so many were refused.
    refused: f64,
    /// How many may end before another cut, and how many windows until the bound rises.
    pause: usize,
    rises_in: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Growing,
    Leaning(Line),
}

/// What has ended since the limit was set.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// When the limit was set, and how long the thread had been at work by then.
    set: Option<(f64, f64)>,
    /// How many ended before the window begins.
    skipped: usize,
    begun: f64,
    busy: f64,
    count: f64,
    good: f64,
    latency: f64,
    squares: f64,
    in_flight: f64,
}

/// What a window says.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Good items in a second, as a logarithm.
    speed: f64,
    latency: f64,
    /// The standard error of the latency, as a share of it.
    error: f64,
    /// The share of the time in which the thread was at work.
    busy: f64,
    /// There were not enough items for the limit.
    idle: bool,
}

/// A line through windows, of which older ones fade.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// The logarithm of the limit around which the windows are.
    level: f64,
    is_high: bool,
    /// Sums of 1, k, x, k k, k x.
    sums: [f64; 5],
    /// By how much the last window missed the line, if that was far.
    off: f64,
}

const FIRST: usize = 8;
/// Growing ends when items take so many times as long as alone.
const LONGER: f64 = 1.6;
const HEADROOM: f64 = 1.3;
/// The limits of two windows are apart by this factor.
const APART: f64 = 1.3;
const GAIN: f64 = 0.25;
const FADES: f64 = 0.7;
/// The bound that refusals have set rises after so many windows.
const RISES_AFTER: u32 = 3;

impl Line {
    fn at(limit: f64) -> Self {
        Self { level: limit.max(1.0).ln(), is_high: false, sums: [0.0; 5], off: 0.0 }
    }

    /// Slope and height of the line; `None` as long as there is only one point.
    fn slope(&self) -> Option<(f64, f64)> {
        let [n, k, x, kk, kx] = self.sums;
        let spread = n * kk - k * k;
        (spread > 1e-6 * n * n).then(|| {
            let slope = (n * kx - k * x) / spread;
            (slope, (x - slope * k) / n)
        })
    }

    fn add(&mut self, limit: f64, seen: &Seen) {
        let (k, x) = (limit.ln(), seen.speed);
        if let Some((slope, height)) = self.slope() {
            let miss = x - (height + slope * k);
            let far = miss.abs() > f64::max(0.4, 3.0 * seen.error);
            if far && self.off * miss > 0.0 {
                // Twice on the same side: the server is another one now.
                self.sums = [0.0; 5];
                self.off = 0.0;
            } else {
                self.off = if far { miss } else { 0.0 };
            }
        }
        for (sum, new) in self.sums.iter_mut().zip([1.0, k, x, k * k, k * x]) {
            *sum = FADES * *sum + new;
        }
    }
}

impl Seeker {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            limit: bounds.start,
            cap: bounds.max as f64,
            alone: f64::INFINITY,
            stage: Stage::Growing,
            window: Window::default(),
            refused: 0.0,
            pause: 0,
            rises_in: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn ended(&mut self, item: Ended) {
        if self.throttles(&item) {
            return;
        }
        let Some(seen) = self.window.add(&item, self.limit, self.is_growing()) else { return };
        let surely = seen.latency * (1.0 + 2.0 * seen.error);
        self.alone = self.alone.min(surely);
        if self.rises_in > 0 {
            self.rises_in -= 1;
            if self.rises_in == 0 && self.cap < self.bounds.max as f64 {
                self.cap = (self.cap + f64::max(1.0, 0.1 * self.cap)).min(self.bounds.max as f64);
                self.rises_in = RISES_AFTER;
            }
        }
        match self.stage {
            Stage::Growing => self.grow(&seen),
            Stage::Leaning(line) => self.lean(line, &seen),
        }
        self.window = Window::after(&item);
    }

    fn is_growing(&self) -> bool {
        matches!(self.stage, Stage::Growing)
    }

    fn grow(&mut self, seen: &Seen) {
        let limit = self.limit as f64;
        if seen.latency * (1.0 - seen.error) > LONGER * self.alone {
            // By Little's law, so many would have been enough for this throughput.
            self.lean_from(HEADROOM * limit * self.alone / seen.latency);
        } else if seen.busy > 0.9 || seen.idle || limit >= self.cap {
            self.lean_from(limit);
        } else {
            self.set(f64::min(2.0 * limit, 1.5 * limit / seen.busy));
        }
    }

    fn lean_from(&mut self, limit: f64) {
        self.stage = Stage::Leaning(Line::at(limit.clamp(1.0, self.cap)));
        self.turn();
    }

    fn lean(&mut self, mut line: Line, seen: &Seen) {
        let limit = self.limit as f64;
        line.add(limit, seen);
        if let Some((slope, _)) = line.slope() {
            // Latency over the limit is convex, so the slope times it is at most what an item takes alone.
            if !seen.idle && slope * seen.latency > self.alone {
                self.alone += 0.1 * (slope.min(1.0) * seen.latency - self.alone);
            }
            let mut slope = slope.clamp(-1.0, f64::min(1.0, 1.2 * self.alone / seen.latency));
            if seen.idle {
                slope = slope.min(0.0);
            }
            let mut step = slope - self.bounds.beta;
            if step < 0.0 {
                let queued = (seen.latency / (1.2 * self.alone)).ln();
                step = step.min(-0.5 * queued.clamp(0.0, 1.0));
            }
            line.level = (line.level + GAIN * step).clamp(0.0, self.cap.ln());
            if seen.busy > 0.5 {
                line.level = line.level.min((limit / seen.busy).ln() + 0.02).max(0.0);
            }
        }
        self.stage = Stage::Leaning(line);
        self.turn();
    }

    /// Goes to the other side of the level.
    fn turn(&mut self) {
        let Stage::Leaning(line) = &mut self.stage else { return };
        line.is_high = !line.is_high;
        let (level, half) = (line.level.exp(), APART.sqrt());
        let low = (level / half).round();
        let high = f64::max(low + 1.0, (level * half).round());
        let limit = if line.is_high { high } else { low };
        self.set(limit);
    }

    fn set(&mut self, limit: f64) {
        let most = self.cap.max(self.bounds.min as f64);
        self.limit = (limit.clamp(self.bounds.min as f64, most) as usize).max(1);
    }

    /// Takes in whether the item was refused; `true` if that was once too often.
    fn throttles(&mut self, item: &Ended) -> bool {
        let memory = f64::max(24.0, 2.0 * self.limit as f64);
        self.refused += (f64::from(u8::from(item.refused)) - self.refused) / memory;
        self.pause = self.pause.saturating_sub(1);
        if !item.refused || self.refused <= 0.1 || self.pause > 0 {
            return false;
        }
        let limit = self.limit as f64;
        self.cap = limit;
        self.lean_from(limit * (1.05 - self.refused).clamp(0.5, 0.95));
        self.refused *= 0.3;
        self.pause = 2 * self.limit + 8;
        self.rises_in = RISES_AFTER;
        self.window = Window::after(item);
        true
    }
}

impl Window {
    /// A window under a limit that was set when this item ended.
    fn after(item: &Ended) -> Self {
        Self { set: Some((item.now, item.busy)), ..Self::default() }
    }

    /// Takes an item in; says what the window has seen, once it is full.
    fn add(&mut self, item: &Ended, limit: usize, is_growing: bool) -> Option<Seen> {
        let (set, busy) = *self.set.get_or_insert((item.begun, 0.0));
        let full = if is_growing {
            // Those that began under this limit, and not all of them: it is to be quick.
            if item.begun < set {
                return None;
            }
            (self.begun, self.busy) = (set, busy);
            usize::max(FIRST, limit / 2)
        } else {
            // Those that began under another limit are on their way out.
            if self.skipped < limit {
                self.skipped += 1;
                (self.begun, self.busy) = (item.now, item.busy);
                return None;
            }
            usize::max(16, 2 * limit).next_multiple_of(limit)
        };
        self.count += 1.0;
        self.in_flight += item.in_flight as f64;
        if !item.refused {
            // A refusal is quick, and says nothing of how long the work takes.
            let latency = item.now - item.begun;
            self.good += 1.0;
            self.latency += latency;
            self.squares += latency * latency;
        }
        if self.count < full as f64 {
            return None;
        }
        let Self { count, good, latency, .. } = *self;
        let time = item.now - self.begun;
        let mean = latency / good;
        let variance = f64::max(0.0, self.squares / good - mean * mean);
        // Nothing takes no time at all, but a clock may say so; and all may have been refused.
        (time > 0.0 && mean > 0.0).then(|| Seen {
            speed: (good / time).ln(),
            latency: mean,
            error: variance.sqrt() / mean / good.sqrt(),
            busy: ((item.busy - self.busy) / time).clamp(0.001, 1.0),
            idle: self.in_flight / count < 0.85 * limit as f64,
        })
    }
}

#[cfg(all(test, not(gondola_loom)))]
mod tests {
    use super::*;

    /// Clocks that stand still, jump by years, and go on; all refused, none refused; threads that are
    /// always at work, or never.
    #[test]
    fn whatever_it_hears_the_limit_stays_within_its_bounds() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..2_000 {
            let min = 1 + random(4) as usize;
            let max = min + random(300) as usize;
            let start = min + random((max - min + 1) as u64) as usize;
            let beta = [0.01, 0.05, 0.15, 0.5, 0.9][random(5) as usize];
            let mut seeker = Seeker::new(Bounds { start, min, max, beta });
            let (mut now, mut busy) = (0.0, 0.0);
            let (refuses, jumps) = (random(3), random(100));
            for _ in 0..random(3_000) {
                let step = match random(100) {
                    0 if jumps < 10 => 1e8,
                    n if n < 20 => 0.0,
                    n => n as f64 * 1e-6,
                };
                now += step;
                busy += if random(2) == 0 { step } else { 0.0 };
                let in_flight = 1 + random(seeker.limit() as u64) as usize;
                let refused = random(3) < refuses;
                let begun = f64::max(0.0, now - random(1_000) as f64 * 1e-5);
                seeker.ended(Ended { begun, now, busy, in_flight, refused });
                assert!((min..=max).contains(&seeker.limit()), "{seeker:?}");
            }
        }
    }

    /// A stall of an hour, as of a laptop that sleeps, is forgotten.
    #[test]
    fn a_clock_that_jumps_once_changes_little() {
        let mut seeker = Seeker::new(Bounds { start: 8, min: 1, max: 200, beta: 0.15 });
        let (mut now, mut ended) = (0.0, 0);
        let mut limits = Vec::new();
        while ended < 20_000 {
            // Ten places, a millisecond each, all in step.
            let limit = seeker.limit();
            let latency = 1e-3 * f64::max(1.0, limit as f64 / 10.0);
            now += latency;
            if (10_000..10_000 + limit).contains(&ended) {
                now += 3_600.0;
            }
            for place in 0..limit {
                let begun =
                    now - latency - if ended / limit == 10_000 / limit { 3_600.0 } else { 0.0 };
                let in_flight = limit - place.min(limit - 1);
                let in_flight = in_flight.max(limit); // they are refilled one by one
                seeker.ended(Ended { begun, now, busy: 0.0, in_flight, refused: false });
            }
            ended += limit;
            limits.push((ended, limit));
        }
        let mean = |from: usize| {
            let in_range = limits.iter().filter(|(at, _)| (from..from + 3_000).contains(at));
            let (sum, count) =
                in_range.fold((0, 0), |(sum, count), (_, limit)| (sum + limit, count + 1));
            sum as f64 / f64::from(count)
        };
        let (before, after) = (mean(6_000), mean(16_000));
        assert!((8.0..20.0).contains(&before) && (8.0..20.0).contains(&after), "{before} {after}");
    }
}
