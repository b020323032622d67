//! A limit that can be changed while a batch runs.
//!
//! # Invariant
//!
//! 1. Who changes the limit writes it, and *then* takes the waiters out under the lock. Who waits
//!    for a change registers under the lock, and *then* reads the limit again. So one of the two
//!    sees the other.
#![forbid(unsafe_code)]

use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use slab::Slab;
use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

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
    /// Batches that the limit has kept from beginning more; without a waker once they were woken.
    waiters: Mutex<Slab<Option<Waker>>>,
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
        let (now, waiters) = (AtomicUsize::new(now.min(max)), Mutex::new(Slab::new()));
        Self { shared: Arc::new(Shared { now, max, waiters }) }
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
        let woken: Vec<Waker> =
            self.waiters().iter_mut().filter_map(|(_, waiter)| waiter.take()).collect();
        // Foreign code: nothing is locked.
        woken.into_iter().for_each(Waker::wake);
        limit
    }

    fn waiters(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        // No code of anybody else runs under the lock.
        self.shared.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (now, max) = (self.get(), self.max());
        f.debug_struct("Limit").field("now", &now).field("max", &max).finish()
    }
}

/// A batch's end of a limit.
pub(super) struct Limited {
    limit: Limit,
    /// The limit at the beginning of the turn.
    pub(super) seen: usize,
    key: Option<usize>,
}

impl Limited {
    pub(super) fn new(limit: Limit) -> Self {
        Self { seen: limit.get(), limit, key: None }
    }

    pub(super) fn look(&mut self) -> usize {
        self.seen = self.limit.get();
        self.seen
    }

    /// Has `waker` woken at the next change. `true`: it has changed already.
    pub(super) fn wait(&mut self, waker: &Waker) -> bool {
        // Cloned and dropped outside of the lock.
        let fresh = Some(waker.clone());
        let old = match self.key {
            Some(key) => mem::replace(&mut self.limit.waiters()[key], fresh),
            None => {
                self.key = Some(self.limit.waiters().insert(fresh));
                None
            }
        };
        drop(old);
        self.limit.get() != self.seen
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waiter = self.limit.waiters().remove(key);
            drop(waiter);
        }
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
            let mut limited = Limited::new(limit);
            while limited.look() == 0 {
                if !limited.wait(&sleeper.waker()) {
                    sleeper.sleep();
                }
            }
            assert_eq!(limited.seen, 2);
            raises.join().unwrap();
        });
    }

    #[test]
    fn of_two_that_wait_both_hear_and_one_that_leaves_harms_nobody() {
        model(|| {
            let limit = Limit::new(0, 4);
            let other = limit.clone();
            let sleeper = Sleeper::new();
            let mut gone = Limited::new(limit.clone());
            let mut stays = Limited::new(limit);
            gone.wait(&sleeper.waker());
            let raises = thread::spawn(move || other.set(1));
            drop(gone);
            while stays.look() == 0 {
                if !stays.wait(&sleeper.waker()) {
                    sleeper.sleep();
                }
            }
            raises.join().unwrap();
        });
    }
}
