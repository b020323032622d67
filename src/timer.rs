//! Timers: a heap of deadlines over storage that is reused.
//!
//! A four-ary heap of small keys, each knowing its entry and each entry knowing its place in the
//! heap, so that a timer can leave from the middle. Exact order, no ticks, no rounding, nothing
//! to cascade; a new deadline usually belongs near the end, where it costs no moves at all. A timer
//! that leaves is replaced by the next one that comes, if that is soon: as when a time-out is
//! renewed.
//!
//! # Invariants
//!
//! 1. For every `i` but the hole, the place of `heap[i].entry` is `i`, and an entry that is not in
//!    the heap has fired. The hole is no timer's any more, but its deadline stands in order until
//!    it is filled, or closed before the heap is needed in order.
//! 2. An entry belongs to one [`Key`], from `insert` until `remove`: no key is ever stale.
//! 3. Wakers are cloned, woken and dropped with nothing borrowed.
#![forbid(unsafe_code)]

use crate::clock::Clock;
use crate::room::{Room, cut};
use std::cell::RefCell;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

const ARITY: usize = 4;
const FIRED: u32 = u32::MAX;

pub(crate) struct Timers {
    pub(crate) clock: Clock,
    epoch: Instant,
    state: RefCell<State>,
}

struct State {
    heap: Vec<Pending>,
    entries: Room<Entry>,
    hole: Option<usize>,
}

#[derive(Clone, Copy)]
struct Pending {
    /// Nanoseconds since the epoch: 584 years of them.
    deadline: u64,
    entry: u32,
}

struct Entry {
    place: u32,
    waker: Option<Waker>,
}

/// The owner's name for one timer.
#[derive(Debug)]
pub(crate) struct Key(u32);

impl Timers {
    pub(crate) fn new(clock: Clock) -> Self {
        let state = State { heap: Vec::new(), entries: Room::new(), hole: None };
        Self { epoch: clock.seen(), clock, state: RefCell::new(state) }
    }

    /// How many timers have not fired yet.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.borrow();
        state.heap.len() - usize::from(state.hole.is_some())
    }

    /// `None` if the deadline is further off than can be counted: it never comes.
    pub(crate) fn insert(&self, deadline: Instant, waker: &Waker) -> Option<Key> {
        let waker = Some(waker.clone());
        let deadline = self.nanos(deadline)?;
        let state = &mut *self.state.borrow_mut();
        let entry = state.entries.insert(Entry { place: FIRED, waker });
        let pending = Pending { deadline, entry };
        match state.hole.take() {
            Some(hole) => state.replace(hole, pending),
            None => {
                state.heap.push(pending);
                state.sift_up(state.heap.len() - 1);
            }
        }
        Some(Key(entry))
    }

    /// Whether the timer has fired; if not, `waker` will hear of it.
    pub(crate) fn poll(&self, key: &Key, waker: &Waker) -> Poll<()> {
        let Key(entry) = *key;
        match &self.state.borrow().entries[entry] {
            Entry { place: FIRED, .. } => return Poll::Ready(()),
            Entry { waker: Some(old), .. } if old.will_wake(waker) => return Poll::Pending,
            _ => {}
        }
        let fresh = waker.clone();
        let old = self.state.borrow_mut().entries[entry].waker.replace(fresh);
        drop(old);
        Poll::Pending
    }

    pub(crate) fn remove(&self, key: Key) {
        let removed = {
            let state = &mut *self.state.borrow_mut();
            if state.entries[key.0].place != FIRED {
                state.close_hole(); // which may move this one
                state.hole = Some(state.entries[key.0].place as usize);
            }
            state.entries.remove(key.0)
        };
        drop(removed);
    }

    /// Looks at the clock: the earliest deadline, and how long it is from now.
    pub(crate) fn next(&self) -> Option<(Instant, Duration)> {
        let state = &mut *self.state.borrow_mut();
        state.close_hole();
        let first = state.heap.first()?.deadline;
        let deadline = self.epoch + Duration::from_nanos(first);
        Some((deadline, deadline.saturating_duration_since(self.clock.refresh())))
    }

    /// Fires what was due when [`next`](Self::next) looked at the clock, in the order of the
    /// deadlines, and returns how many that was. What has become due since then, or does so
    /// meanwhile, waits for the next look.
    pub(crate) fn fire_due(&self) -> usize {
        let mut fired = 0;
        let limit = self.len();
        let now = self.nanos(self.clock.seen()).unwrap_or(u64::MAX);
        while fired < limit {
            let Some(waker) = self.state.borrow_mut().pop_due(now) else { break };
            fired += 1;
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        fired
    }

    fn nanos(&self, instant: Instant) -> Option<u64> {
        u64::try_from(instant.saturating_duration_since(self.epoch).as_nanos()).ok()
    }
}

impl State {
    fn pop_due(&mut self, now: u64) -> Option<Option<Waker>> {
        self.close_hole();
        let first = *self.heap.first()?;
        if first.deadline > now {
            return None;
        }
        self.hole = Some(0);
        let entry = &mut self.entries[first.entry];
        entry.place = FIRED;
        Some(entry.waker.take())
    }

    #[inline]
    fn close_hole(&mut self) {
        if let Some(hole) = self.hole.take() {
            self.fill(hole);
        }
    }

    fn fill(&mut self, hole: usize) {
        let last = self.heap.pop().expect("a hole is in the heap");
        cut(&mut self.heap);
        if hole < self.heap.len() {
            self.replace(hole, last);
        }
    }

    fn replace(&mut self, place: usize, pending: Pending) {
        let old = std::mem::replace(&mut self.heap[place], pending);
        if pending.deadline < old.deadline {
            self.sift_up(place);
        } else {
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        let moving = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].deadline <= moving.deadline {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, moving);
    }

    fn sift_down(&mut self, mut place: usize) {
        let moving = self.heap[place];
        loop {
            let first = place * ARITY + 1;
            let last = self.heap.len().min(first + ARITY);
            let Some(least) = (first..last).min_by_key(|&child| self.heap[child].deadline) else {
                break;
            };
            if moving.deadline <= self.heap[least].deadline {
                break;
            }
            self.put(place, self.heap[least]);
            place = least;
        }
        self.put(place, moving);
    }

    fn put(&mut self, place: usize, pending: Pending) {
        self.heap[place] = pending;
        self.entries[pending.entry].place = place as u32;
    }
}
