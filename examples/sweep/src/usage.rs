//! What this thread and this process use, where the system tells (Linux).

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// The time of a thread that it did not sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor {
    /// It had a processor.
    pub(crate) ran: Duration,
    /// It wanted one, and others had them all.
    pub(crate) waited: Duration,
}

impl Processor {
    /// Of this thread, since its start.
    pub(crate) fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut nanos = text.split_whitespace().map_while(|number| number.parse().ok());
        let (ran, waited) = (nanos.next()?, nanos.next()?);
        Some(Self { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) })
    }
}

impl Sub for Processor {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// The memory of this process that is in RAM.
pub(crate) fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
