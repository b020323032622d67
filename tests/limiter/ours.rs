//! The library's limiter, at a simulated server.

use super::simulate::{End, Limiter};
use crate::seeker::{Bounds, Ended, Seeker};

pub struct Ours(Seeker);

impl Ours {
    pub fn new(beta: f64, max: usize) -> Self {
        Self(Seeker::new(Bounds { start: 8, min: 1, max, beta }))
    }
}

impl Limiter for Ours {
    fn limit(&self) -> usize {
        self.0.limit()
    }

    fn end(&mut self, end: End) {
        let End { begun, now, busy, in_flight, refused } = end;
        let (begun, now, busy) = (begun / 1e3, now / 1e3, busy / 1e3);
        self.0.ended(Ended { begun, now, busy, in_flight, refused });
    }
}
