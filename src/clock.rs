//! Real or virtual time.
//!
//! `now` is read afresh wherever a deadline is made: a cached reading would be too early after a
//! long computation, and its timer would fire early. `seen`, the reading of the last look at the
//! timers, serves expiry checks only: it never runs ahead of `now`.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Clock {
    seen: Cell<Instant>,
    is_virtual: bool,
}

impl Clock {
    pub(crate) fn new(is_virtual: bool) -> Self {
        Self { seen: Cell::new(Instant::now()), is_virtual }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.is_virtual
    }

    /// The time. A monotonic clock that steps back all the same is held at its last reading.
    pub(crate) fn now(&self) -> Instant {
        if self.is_virtual { self.seen.get() } else { Instant::now().max(self.seen.get()) }
    }

    /// The time at the last [`refresh`](Self::refresh).
    pub(crate) fn seen(&self) -> Instant {
        self.seen.get()
    }

    pub(crate) fn refresh(&self) -> Instant {
        self.seen.set(self.now());
        self.seen.get()
    }

    /// Moves virtual time forward; never back.
    pub(crate) fn advance_to(&self, instant: Instant) {
        debug_assert!(self.is_virtual, "real time passes by itself");
        self.seen.set(self.seen.get().max(instant));
    }
}
