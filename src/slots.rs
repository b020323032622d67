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

use crate::error::{keep_first, resume_first};
use std::future::Future;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) struct Slots<F> {
    slots: Box<[Slot<F>]>,
    vacant: usize,
    taken: usize,
}

struct Slot<F> {
    /// Taken: the index of its item. Vacant: `VACANT` and the next vacant slot.
    state: usize,
    future: MaybeUninit<F>,
}

const VACANT: usize = 1 << (usize::BITS - 1);

impl<F> Slots<F> {
    pub(crate) fn new(count: usize) -> Self {
        let slot = |next| Slot { state: VACANT | next, future: MaybeUninit::uninit() };
        Self { slots: (1..=count).map(slot).collect(), vacant: 0, taken: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Places a future in a vacant slot, which there must be, and returns the slot.
    #[inline]
    pub(crate) fn place(&mut self, item: usize, future: F) -> usize {
        assert!(item & VACANT == 0, "on 32 bits, a batch ends after 2^31 items");
        let at = self.vacant;
        let slot = &mut self.slots[at];
        self.vacant = slot.state & !VACANT;
        slot.future.write(future);
        slot.state = item;
        self.taken += 1;
        at
    }

    /// Polls the future in a slot; once it is ready, drops it. `None` for a stale wake.
    #[inline(always)]
    pub(crate) fn poll(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
    ) -> Option<Poll<(usize, F::Output)>>
    where
        F: Future,
    {
        let slot = &mut self.slots[at];
        let item = slot.state;
        if item & VACANT != 0 {
            return None;
        }
        // SAFETY: the slot is taken, so its future is alive (invariant 1) and stays where it is
        // until it is dropped (invariant 2).
        let future = unsafe { Pin::new_unchecked(slot.future.assume_init_mut()) };
        let Poll::Ready(output) = future.poll(cx) else { return Some(Poll::Pending) };
        slot.state = VACANT | std::mem::replace(&mut self.vacant, at);
        self.taken -= 1;
        // SAFETY: the slot was taken until just now: its future is alive, and dropped once
        // (invariant 1).
        unsafe { slot.future.assume_init_drop() };
        Some(Poll::Ready((item, output)))
    }

    /// Drops the future in a slot, if there is one, and tells whose it is.
    fn vacate(&mut self, at: usize, dropping: impl FnOnce(usize)) {
        let slot = &mut self.slots[at];
        let item = slot.state;
        if item & VACANT != 0 {
            return;
        }
        dropping(item);
        slot.state = VACANT | std::mem::replace(&mut self.vacant, at);
        self.taken -= 1;
        // SAFETY: as in `poll`.
        unsafe { slot.future.assume_init_drop() };
    }

    /// Drops every future, in the order of the slots, and tells whose they were. If destructors
    /// panic, the first of the panics goes on once all have run.
    pub(crate) fn clear(&mut self, mut dropping: impl FnMut(usize)) {
        let mut panicked = None;
        for at in 0..self.slots.len() {
            let vacate = AssertUnwindSafe(|| self.vacate(at, &mut dropping));
            if let Err(payload) = catch_unwind(vacate) {
                keep_first(&mut panicked, payload);
            }
        }
        resume_first(panicked);
    }
}

impl<F> Drop for Slots<F> {
    fn drop(&mut self) {
        self.clear(|_| ());
    }
}
