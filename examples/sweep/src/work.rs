//! An item's work for the processor.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// A number of rounds that takes a given time on this machine.
///
/// Rounds are counted, not the clock: who waits for the clock does less work while another program
/// has the processor.
pub(crate) struct Work {
    rounds: u64,
}

impl Work {
    pub(crate) fn lasting(time: Duration) -> Self {
        const TRIAL: u64 = 200_000;
        let trial = || {
            let start = Instant::now();
            Work { rounds: TRIAL }.perform();
            start.elapsed()
        };
        // The best of several: a disturbance makes a trial longer, never shorter.
        let best = (0..10).map(|_| trial()).min().unwrap_or_default();
        let rounds = TRIAL as f64 * time.as_secs_f64() / best.as_secs_f64().max(1e-9);
        Self { rounds: rounds as u64 }
    }

    pub(crate) fn perform(&self) {
        let mut state = 1_u64;
        for _ in 0..self.rounds {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}
