//! What a runtime holds at present, in figures.
#![forbid(unsafe_code)]

use crate::context;
use crate::sched::Core;

/// What a runtime holds at present: for a gauge, a log, or a test that nothing is left.
///
/// ```
/// use gondola::{metrics, try_spawn};
///
/// gondola::block_on(async {
///     let _task = try_spawn(std::future::pending::<()>()).unwrap();
///     let now = metrics().unwrap();
///     assert_eq!((now.taken, now.slots, now.queued), (1, 1024, 0));
///     assert_eq!((now.timers, now.watches), (0, 0));
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// How many task slots there are.
    pub slots: usize,
    /// How many of them hold a task, or are reserved.
    pub taken: usize,
    /// How many wait for a slot, by [`reserve`](crate::reserve).
    pub queued: usize,
    /// Timers that are armed.
    pub timers: usize,
    /// Sockets and other descriptors that are watched.
    pub watches: usize,
}

impl Metrics {
    pub(crate) fn of(core: &Core) -> Self {
        Self {
            slots: core.ring.len(),
            taken: core.ring.taken(),
            queued: core.ring.queued(),
            timers: core.timers.len(),
            watches: core.reactor.watches(),
        }
    }
}

/// The figures of the runtime that is entered on this thread; `None` outside a gondola runtime. A
/// few loads.
///
/// ```
/// assert!(gondola::metrics().is_none());
/// gondola::block_on(async { assert_eq!(gondola::metrics().unwrap().taken, 0) });
/// ```
#[must_use]
pub fn metrics() -> Option<Metrics> {
    context::try_current().map(|core| Metrics::of(&core))
}
