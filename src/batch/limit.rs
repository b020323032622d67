//! A limit that can be changed while a batch runs.
//!
//! A token stands for the present limit, and is cancelled when that is no longer the present one.
//!
//! # Invariant
//!
//! 1. Who changes the limit writes it, *then* puts a new token in the place of the old one, and
//!    *then* cancels the old one. Who waits for a change takes the token, registers with it, and
//!    *then* reads the limit again. So whoever has the old token is woken, and whoever has the new
//!    one reads the new limit.
#![forbid(unsafe_code)]

use super::source::Control;
use crate::cancel::{CancellationToken, Waiting};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::task::Context;

/// How many items may be in flight, to be changed by any thread while the batch runs.
///
/// A batch looks at it once in each turn. Raised, it begins more; lowered, it drops nothing, but
/// begins none until fewer are in flight; 0 pauses it. The batch has slots for the most that it
/// may ever be. Two batches under one `Limit` may each have so many.
///
/// ```
/// use gondola::batch::Limit;
/// use gondola::{batch, block_on, yield_now};
/// use std::cell::Cell;
///
/// let limit = Limit::new(1, 8);
/// let (now, most) = (Cell::new(0), Cell::new(0));
/// let run = batch(0..20).limit(&limit).for_each(async |n| {
///     now.set(now.get() + 1);
///     most.set(now.get().max(most.get()));
///     if n == 3 {
///         limit.set(5);
///     }
///     yield_now().await;
///     now.set(now.get() - 1);
/// });
/// block_on(run).unwrap();
/// assert_eq!(most.get(), 5);
/// ```
#[derive(Clone)]
pub struct Limit {
    shared: Arc<Shared>,
}

struct Shared {
    now: AtomicUsize,
    max: usize,
    changed: Mutex<CancellationToken>,
}

impl Limit {
    /// A limit of `now`, and never more than `max`: that is what memory is for. If `now` is more than
    /// that, it is `max`.
    ///
    /// ```
    /// assert_eq!(gondola::batch::Limit::new(9, 4).get(), 4);
    /// ```
    #[must_use]
    pub fn new(now: usize, max: usize) -> Self {
        let (now, changed) = (AtomicUsize::new(now.min(max)), Mutex::new(CancellationToken::new()));
        Self { shared: Arc::new(Shared { now, max, changed }) }
    }

    /// The present limit.
    ///
    /// ```
    /// assert_eq!(gondola::batch::Limit::new(2, 4).get(), 2);
    /// ```
    #[must_use]
    pub fn get(&self) -> usize {
        // What is read by it is a number, and nothing else.
        self.shared.now.load(Ordering::Relaxed)
    }

    /// The most that it may be.
    ///
    /// ```
    /// assert_eq!(gondola::batch::Limit::new(2, 4).max(), 4);
    /// ```
    #[must_use]
    pub fn max(&self) -> usize {
        self.shared.max
    }

    /// Sets the limit, at most to [`max`](Self::max), and returns what it is now. 0 pauses. Wakes the
    /// batches that it kept from going on.
    ///
    /// ```
    /// let limit = gondola::batch::Limit::new(2, 4);
    /// assert_eq!((limit.set(9), limit.set(0)), (4, 0));
    /// ```
    pub fn set(&self, limit: usize) -> usize {
        let limit = limit.min(self.shared.max);
        self.shared.now.store(limit, Ordering::Relaxed);
        // Wakes foreign wakers: nothing is locked.
        let outdated = mem::take(&mut *self.token());
        outdated.cancel();
        limit
    }

    fn token(&self) -> MutexGuard<'_, CancellationToken> {
        self.shared.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (now, max) = (self.get(), self.max());
        f.debug_struct("Limit").field("now", &now).field("max", &max).finish()
    }
}

/// A batch's end of a limit.
#[derive(Debug)]
pub struct Watching {
    limit: Limit,
    seen: usize,
    change: Option<Waiting>,
}

impl Watching {
    pub(super) fn new(limit: Limit) -> Self {
        Self { seen: limit.get(), limit, change: None }
    }
}

impl Control for Watching {
    fn look(&mut self) -> usize {
        self.seen = self.limit.get();
        self.seen
    }

    fn seen(&self) -> usize {
        self.seen
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> bool {
        let change = self.change.get_or_insert_with(|| Waiting::new(self.limit.token().clone()));
        if change.poll(cx).is_ready() {
            self.change = None;
            return true;
        }
        self.limit.get() != self.seen
    }
}

#[cfg(all(test, gondola_loom))]
mod models {
    use super::*;
    use crate::wake::models::{Sleeper, model};
    use loom::thread;

    #[test]
    fn a_change_while_a_batch_falls_asleep_is_not_missed() {
        model(|| {
            let limit = Limit::new(0, 4);
            let other = limit.clone();
            let raises = thread::spawn(move || other.set(2));
            let sleeper = Sleeper::new();
            let mut limited = Watching::new(limit);
            while limited.look() == 0 {
                if !limited.wait(&mut Context::from_waker(&sleeper.waker())) {
                    sleeper.sleep();
                }
            }
            assert_eq!(limited.seen(), 2);
            raises.join().unwrap();
        });
    }

    #[test]
    fn of_two_that_wait_both_hear_and_one_that_leaves_harms_nobody() {
        model(|| {
            let limit = Limit::new(0, 4);
            let other = limit.clone();
            let sleeper = Sleeper::new();
            let mut gone = Watching::new(limit.clone());
            let mut stays = Watching::new(limit);
            gone.wait(&mut Context::from_waker(&sleeper.waker()));
            let raises = thread::spawn(move || other.set(1));
            drop(gone);
            while stays.look() == 0 {
                if !stays.wait(&mut Context::from_waker(&sleeper.waker())) {
                    sleeper.sleep();
                }
            }
            raises.join().unwrap();
        });
    }
}
