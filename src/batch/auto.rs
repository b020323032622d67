//! A limit that is found while the batch runs.
#![forbid(unsafe_code)]

use super::seeker::{Bounds, Ended, Seeker};
use super::source::Control;
use crate::context::now;
use crate::sync::{AtomicUsize, Ordering};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A limit that finds itself while the batch runs: the smallest with which nearly nothing is lost.
///
/// It doubles until more in flight brings nothing, because the server is full, or this thread, or
/// because there are too few items. Then it keeps looking a little above and a little below, and
/// follows what changes. `beta` says when it is enough: where one percent more in flight brings less
/// than `beta` percent of throughput. That gives away about `beta` of the most there could be, and
/// takes no more places at the server than that needs. How well it does beside others is measured in
/// `benches/limiters`, how it does it is told in `src/batch/seeker.rs`.
///
/// It needs a few hundred items to find the knee, more if that is above 100. The last limit
/// ([`get`](Self::get)) is where another run may [start](Self::start). The batch has slots for the
/// most that it may be. Times are by the runtime's clock. One look at the clock for each item, and
/// two for each poll of the batch; a batch with another limit looks at none.
///
/// A clone is the same limit. Two batches under one of them each find their own; `get` tells of the one
/// that was at work last.
///
/// ```
/// use gondola::batch::Auto;
/// use gondola::{Runtime, batch, time::sleep};
/// use std::time::Duration;
///
/// // A server with four places: 3 ms each, one after the other at each place.
/// let places = tokio::sync::Semaphore::new(4);
/// let limit = Auto::new(200);
/// let mut runtime = Runtime::builder().virtual_time().build()?;
/// runtime.block_on(async {
///     let run = batch(0..2_000).limit(&limit).for_each(async |_| {
///         let _place = places.acquire().await.unwrap();
///         sleep(Duration::from_millis(3)).await;
///     });
///     run.await.unwrap();
/// });
/// assert!((4..=8).contains(&limit.get()), "{limit:?}");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Auto {
    shared: Arc<Shared>,
    bounds: Bounds,
}

struct Shared {
    now: AtomicUsize,
    throttled: AtomicUsize,
}

impl Auto {
    /// At most `max`, with a `beta` of 0.15.
    ///
    /// ```
    /// assert_eq!(gondola::batch::Auto::new(100).get(), 8);
    /// ```
    #[must_use]
    pub fn new(max: usize) -> Self {
        let shared = Shared { now: AtomicUsize::new(0), throttled: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared), bounds: Bounds { start: 8, min: 1, max, beta: 0.15 } }
            .begin()
    }

    /// With a `beta` of 0.5: half of the throughput, for little more than what it takes from others.
    #[must_use]
    pub fn polite(max: usize) -> Self {
        Self::new(max).beta(0.5)
    }

    /// With a `beta` of 0.05: nearly all of the throughput, whatever it takes.
    #[must_use]
    pub fn greedy(max: usize) -> Self {
        Self::new(max).beta(0.05)
    }

    /// The limit to begin with, instead of 8: the one that another run has ended with.
    ///
    /// ```
    /// use gondola::batch::Auto;
    ///
    /// let last = Auto::new(200).get();
    /// assert_eq!(Auto::new(200).start(last).get(), last);
    /// ```
    #[must_use]
    pub fn start(mut self, limit: usize) -> Self {
        self.bounds.start = limit;
        self.begin()
    }

    /// At least `limit`, instead of 1.
    #[must_use]
    pub fn min(mut self, limit: usize) -> Self {
        self.bounds.min = limit;
        self.begin()
    }

    /// From 0.01 to 0.9; what lies outside is taken for the nearest, and what is no number for 0.15.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.bounds.beta = if beta.is_nan() { 0.15 } else { beta.clamp(0.01, 0.9) };
        self
    }

    fn begin(mut self) -> Self {
        let Bounds { start, min, max, .. } = &mut self.bounds;
        *min = (*min).max(1).min(*max);
        *start = (*start).clamp(*min, *max);
        self.shared.now.store(*start, Ordering::Relaxed);
        self
    }

    /// The present limit; the last one, once the batch is over.
    #[must_use]
    pub fn get(&self) -> usize {
        self.shared.now.load(Ordering::Relaxed)
    }

    /// The most that it may be.
    #[must_use]
    pub fn max(&self) -> usize {
        self.bounds.max
    }

    /// Said by an item to which the server has said that it is too much: the next one that ends counts
    /// as refused. If that comes more than now and then, the limit is cut at once.
    ///
    /// ```
    /// use gondola::{batch, batch::Auto, block_on, yield_now};
    ///
    /// // A server that is as good as closed.
    /// let limit = Auto::new(100).start(50);
    /// block_on(batch(0..200).limit(&limit).for_each(async |_| {
    ///     yield_now().await;
    ///     limit.throttled();
    /// })).unwrap();
    /// assert!(limit.get() < 25);
    /// ```
    pub fn throttled(&self) {
        self.shared.throttled.fetch_add(1, Ordering::Relaxed);
    }

    fn take_throttled(&self) -> bool {
        let throttled = &self.shared.throttled;
        throttled.load(Ordering::Relaxed) > 0 && throttled.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

impl fmt::Debug for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { min, max, beta, .. } = &self.bounds;
        let mut debug = f.debug_struct("Auto");
        debug
            .field("now", &self.get())
            .field("min", min)
            .field("max", max)
            .field("beta", beta)
            .finish()
    }
}

/// A batch's end of it.
#[derive(Debug)]
pub struct Seeking {
    auto: Auto,
    seeker: Seeker,
    zero: Instant,
    /// When the clock was looked at last, in seconds from zero, as all that follows.
    seen: f64,
    /// When this poll of the batch began, and how long all polls before it took.
    entered: f64,
    busy: f64,
    /// When the item in each slot began.
    begun: Vec<f64>,
}

impl Seeking {
    pub(super) fn new(auto: Auto) -> Self {
        let seeker = Seeker::new(Bounds { start: auto.get(), ..auto.bounds });
        let (seen, entered, busy) = (0.0, 0.0, 0.0);
        Self { auto, seeker, zero: now(), seen, entered, busy, begun: Vec::new() }
    }

    fn look_at_clock(&mut self) {
        // In another runtime, the time may be another one.
        self.seen = now().saturating_duration_since(self.zero).as_secs_f64().max(self.seen);
    }
}

impl Control for Seeking {
    fn enter(&mut self) {
        self.look_at_clock();
        self.entered = self.seen;
    }

    fn leave(&mut self) {
        self.look_at_clock();
        self.busy += self.seen - self.entered;
    }

    fn look(&mut self) -> usize {
        self.seeker.limit()
    }

    fn seen(&self) -> usize {
        self.seeker.limit()
    }

    fn began(&mut self, slot: usize) {
        if self.begun.len() <= slot {
            self.begun.resize(slot + 1, 0.0);
        }
        self.begun[slot] = self.seen;
    }

    fn ended(&mut self, slot: usize, in_flight: usize) {
        self.look_at_clock();
        let Self { seen: now, entered, busy, .. } = *self;
        let (begun, refused) = (self.begun[slot], self.auto.take_throttled());
        self.seeker.ended(Ended { begun, now, busy: busy + now - entered, in_flight, refused });
        self.auto.shared.now.store(self.seeker.limit(), Ordering::Relaxed);
    }
}
