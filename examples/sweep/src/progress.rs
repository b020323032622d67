//! Shows on stderr that something is going on: a bar on a terminal, else a line per measurement.

use crate::measure::Sample;
use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new(measurements: usize) -> Self {
        // Drawn when there is news. A bar that ticks by itself would need a thread, and take the
        // processor's time from what is measured.
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(measurements as u64), target);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}, {eta} left");
        Self { bar: bar.with_style(style.expect("the template is right")) }
    }

    pub(crate) fn more(&self, measurements: usize) {
        self.bar.inc_length(measurements as u64);
    }

    pub(crate) fn begin(&self, k: usize) {
        self.bar.set_message(format!("K = {k}"));
        self.bar.tick();
    }

    pub(crate) fn end(&self, sample: &Sample) {
        self.bar.inc(1);
        if self.bar.is_hidden() {
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let (k, rate) = (sample.k, sample.per_second());
            // Nobody has to hear it, so it is no error if nobody can.
            let _ = writeln!(io::stderr(), "{done}/{all}  K = {k}: {rate:.1} items/s");
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
