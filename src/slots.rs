//! The slots of a batch: a fixed number of places for futures of one type, in one allocation.
//!
//! # Invariants
//!
//! 1. A slot's future is alive exactly while the slot is taken. It becomes vacant *before* the
//!    future is dropped, so no unwinding drops it twice.
//! 2. Futures never move: the allocation is made once, is never handed out, and outlives them.
//! 3. The vacant slots form a list from `vacant`.
//!
//! User code (poll, drop) runs while the batch is borrowed; but nothing that it can reach leads
//! here, for wakers name only the shared block.

use crate::panic::{Contained, Kept};
use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) struct Slots<F> {
    slots: Box<[Entry<F>]>,
    /// The first of the vacant slots.
    vacant: usize,
    taken: usize,
}

struct Entry<F> {
    /// Taken: the index of its item. Vacant: the next vacant slot, all bits inverted.
    state: usize,
    future: MaybeUninit<F>,
}

/// The indices of items are below this; inverted, the number of a slot is not.
pub(crate) const MAX_ITEMS: usize = 1 << (usize::BITS - 1);

impl<F> Slots<F> {
    pub(crate) fn new(count: usize) -> Self {
        let slot = |next: usize| Entry { state: !next, future: MaybeUninit::uninit() };
        Self { slots: (1..=count).map(slot).collect(), vacant: 0, taken: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn is_taken(&self, slot: usize) -> bool {
        self.slots[slot].state < MAX_ITEMS
    }

    /// The items whose futures are here, in the order of the slots.
    pub(crate) fn items(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().map(|slot| slot.state).filter(|&state| state < MAX_ITEMS)
    }

    /// Whether there is a vacant one: the last in their list names none.
    #[inline(always)]
    pub(crate) fn any_vacant(&self) -> bool {
        self.vacant < self.slots.len()
    }

    /// The slot that the next future comes into. There must be a vacant one.
    #[inline(always)]
    pub(crate) fn next(&self) -> usize {
        self.vacant
    }

    /// Places a future in the next slot, and polls it for the first time.
    #[inline(always)]
    pub(crate) fn begin(&mut self, item: usize, future: F, cx: &mut Context<'_>) -> Poll<F::Output>
    where
        F: Future,
    {
        debug_assert!(item < MAX_ITEMS, "the index of an item");
        let at = self.vacant;
        let slot = &mut self.slots[at];
        self.vacant = !slot.state;
        slot.future.write(future);
        slot.state = item;
        self.taken += 1;
        // SAFETY: the slot has just been taken.
        unsafe { self.poll_taken(at, cx) }
    }

    /// Polls the future in a slot, and names its item. `None` for a stale wake.
    #[inline(always)]
    pub(crate) fn poll(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Option<(usize, Poll<F::Output>)>
    where
        F: Future,
    {
        let item = self.slots[at].state;
        if item >= MAX_ITEMS {
            return None;
        }
        // SAFETY: the slot is taken.
        Some((item, unsafe { self.poll_taken(at, cx) }))
    }

    /// Polls the future in a slot; once it is ready, drops it.
    ///
    /// # Safety
    /// There is such a slot, and it is taken.
    #[inline(always)]
    unsafe fn poll_taken(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<F::Output>
    where
        F: Future,
    {
        // SAFETY: the caller's promise.
        let slot = unsafe { self.slots.get_unchecked_mut(at) };
        // SAFETY: the slot is taken, so its future is alive (invariant 1) and stays where it is
        // until it is dropped (invariant 2).
        let future = unsafe { Pin::new_unchecked(slot.future.assume_init_mut()) };
        let Poll::Ready(output) = future.poll(cx) else { return Poll::Pending };
        slot.state = !std::mem::replace(&mut self.vacant, at);
        self.taken -= 1;
        Poll::Ready(Kept::during(output, || {
            // SAFETY: the slot was taken until just now: its future is alive, and dropped once
            // (invariant 1).
            unsafe { slot.future.assume_init_drop() };
        }))
    }

    /// Drops the future in a slot, if there is one, and tells whose it is.
    fn vacate(&mut self, at: usize, dropping: impl FnOnce(usize)) {
        let slot = &mut self.slots[at];
        let item = slot.state;
        if item >= MAX_ITEMS {
            return;
        }
        dropping(item);
        slot.state = !std::mem::replace(&mut self.vacant, at);
        self.taken -= 1;
        // SAFETY: as in `poll`.
        unsafe { slot.future.assume_init_drop() };
    }

    /// Drops every future, in the order of the slots, and tells whose they were. If destructors
    /// panic, the first of the panics goes on once all have run.
    pub(crate) fn clear(&mut self, mut dropping: impl FnMut(usize)) {
        let mut contained = Contained::default();
        for at in 0..self.slots.len() {
            contained.run(|| self.vacate(at, &mut dropping));
        }
        contained.resume();
    }
}

impl<F> Drop for Slots<F> {
    fn drop(&mut self) {
        self.clear(|_| ());
    }
}
