//! The ring: a fixed number of slots for tasks, and the queue of those who wait for one.
//!
//! # Invariants
//!
//! 1. A slot is free (its bit in `free`), promised (to a [`Queued`] or a reservation), or taken
//!    (a task lives in it). `taken` counts the slots that are not free.
//! 2. Slots are free only while nobody waits: a slot given up passes to the first in the queue.
//! 3. A vacant slot keeps its last box, so that the next task that fits allocates nothing.
//! 4. A task is out of its slot while it is polled or dropped: user code may call anything here.
//! 5. After `close`, nothing is placed any more.
#![forbid(unsafe_code)]

use crate::bits::BitSet;
use crate::line::Line;
use crate::panic::{Contained, wake_in_passing};
use crate::task_box::{Joint, TaskBox};
use std::cell::Cell;
use std::future::Future;
use std::task::{Context, Poll, Waker};

pub(crate) struct Ring {
    slots: Box<[Cell<Option<TaskBox>>]>,
    free: BitSet,
    taken: Cell<usize>,
    queue: Line,
    /// Who waits until all slots are free.
    done: Line,
    closed: Cell<bool>,
}

impl Ring {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Cell::new(None)).collect(),
            free: BitSet::full(slots),
            taken: Cell::new(0),
            queue: Line::new(),
            done: Line::new(),
            closed: Cell::new(false),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.get()
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Takes a free slot, which the caller fills or gives up.
    pub(crate) fn try_take(&self) -> Option<usize> {
        if self.closed.get() {
            return None;
        }
        let slot = self.free.pop_first()?;
        self.taken.set(self.taken.get() + 1);
        Some(slot)
    }

    /// Waits for a slot, first come, first served. `key` is the caller's place in the queue; who
    /// stops polling calls [`leave`](Self::leave) with it.
    pub(crate) fn poll_take(&self, key: &mut Option<u32>, waker: &Waker) -> Poll<usize> {
        // Nothing is placed any more once it is closed: nobody waits, and any slot will do.
        let take = || if self.closed.get() { Some(0) } else { self.try_take() };
        self.queue.poll(key, waker, take)
    }

    /// Gives up a place in the queue, and passes on the slot that it was promised.
    pub(crate) fn leave(&self, key: u32) {
        if let Some(slot) = self.queue.leave(key) {
            self.give_up(slot);
        }
    }

    /// Waits until all slots are free. `key` as for [`poll_take`](Self::poll_take).
    pub(crate) fn poll_done(&self, key: &mut Option<u32>, waker: &Waker) -> Poll<()> {
        let is_done = || (self.taken.get() == 0 || self.closed.get()).then_some(0);
        self.done.poll(key, waker, is_done).map(drop)
    }

    pub(crate) fn leave_done(&self, key: u32) {
        let _ = self.done.leave(key);
    }

    /// A slot is vacant again: the first in the queue gets it.
    pub(crate) fn give_up(&self, slot: usize) {
        if self.closed.get() {
            return;
        }
        if let Some(waker) = self.queue.promise(slot) {
            return wake_in_passing(waker);
        }
        self.free.insert(slot);
        self.taken.set(self.taken.get() - 1);
        if self.taken.get() == 0 {
            while let Some(waker) = self.done.promise(0) {
                wake_in_passing(waker);
            }
        }
    }

    /// Places a task in a slot that the caller took; the caller marks it for its first poll.
    pub(crate) fn place<F>(&self, slot: usize, future: F) -> Joint<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (task, joint) = TaskBox::place(self.slots[slot].take(), future);
        // Nobody would poll it after `close`; dropping it tells the handle.
        self.slots[slot].set((!self.closed.get()).then_some(task));
        joint
    }

    /// Polls the task in a slot: `None` for a stale wake, which finds nobody there.
    #[inline]
    pub(crate) fn poll(&self, slot: usize, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let place = &self.slots[slot];
        let task = place.take()?;
        let poll = task.poll(cx);
        if poll != Some(Poll::Ready(())) {
            place.set(Some(task));
            return poll;
        }
        // Foreign wakers come last, the joiner's even if another one panics.
        let _joiner = task.take_joiner();
        place.set(Some(task));
        self.give_up(slot);
        poll
    }

    /// Drops every task, in slot order; from now on nothing is placed.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let mut contained = Contained::default();
        for slot in &self.slots {
            // Out of its slot first: the drop may call anything.
            contained.drop(slot.take());
        }
        // Whoever still waits for a slot, under another executor, learns that there will be none.
        // Nor for the end of the tasks: this is it.
        while let Some(waker) = self.queue.promise(0).or_else(|| self.done.promise(0)) {
            contained.run(|| waker.wake());
        }
        contained.resume();
    }
}

#[cfg(all(test, gondola_loom))]
mod models;
