//! The bell of a batch: the waker of whoever polls it, its parent.
//!
//! The parent's waker is foreign code. It is cloned, woken and dropped with nothing held and
//! nothing half done, and it may do anything, the drop of the batch included.
//!
//! There are two copies. The owner's thread uses `near`; other threads use `far`, behind one word:
//!
//! ```text
//!             register                            sound
//!   EMPTY, FULL ──────▶ REGISTERING               FULL ──▶ FULL|WAKING: takes the waker, EMPTY,
//!          ▲                 │     │                       then wakes it
//!          │   FULL: done    │     │ sounded       EMPTY ──▶ EMPTY|WAKING ──▶ EMPTY
//!          ├─────────────────┘     ▼               REGISTERING ──▶ REGISTERING|WAKING: leaves it
//!          └─ EMPTY: wakes it ── REGISTERING|WAKING        to the thread that registers
//! ```
//!
//! The bell may sound late, after the wake that caused it was drained and the parent was registered
//! anew. Then it wakes the parent for nothing, and *uses up the registration*. So each time, the
//! owner reads from `state` whether `far` is still there. To infer it from what was drained loses
//! wakes.
//!
//! # Invariants
//!
//! 1. `near`, `armed` and `closed` are touched on the owner's thread only: the block that holds
//!    this bell sends every other thread to [`Bell::sound`].
//! 2. `far` is touched only by the thread that moved `state` to REGISTERING, or set WAKING on EMPTY or FULL,
//!    until it moves it on.
//! 3. Only the owner registers, so two never meet in REGISTERING.
//! 4. FULL: `far` equals the last parent that was armed.

use crate::sync::{AtomicUsize, Cell, Ordering, UnsafeCell};
use crate::wake::{Bell, vtable};
use std::task::{RawWakerVTable, Waker};

const EMPTY: usize = 0;
const FULL: usize = 1;
const REGISTERING: usize = 2;
const WAKING: usize = 4;

pub(crate) struct ParentBell {
    /// The next wake on this thread has to tell the parent: the batch waits outside its poll.
    armed: Cell<bool>,
    near: Cell<Option<Waker>>,
    /// The batch is gone: nothing is kept any more.
    closed: Cell<bool>,
    state: AtomicUsize,
    far: UnsafeCell<Option<Waker>>,
}

// SAFETY: invariant 1 keeps the cells on one thread, invariant 2 gives `far` to one at a time,
// ordered by `state`. Wakers themselves are Send and Sync.
unsafe impl Sync for ParentBell {}

impl ParentBell {
    pub(crate) fn new() -> Self {
        Self {
            armed: Cell::new(false),
            near: Cell::new(None),
            closed: Cell::new(false),
            state: AtomicUsize::new(EMPTY),
            far: UnsafeCell::new(None),
        }
    }

    /// The batch is being polled: wakes only set their bits.
    pub(crate) fn disarm(&self) {
        self.armed.set(false);
    }

    /// The poll ends with nothing left to do. From now on `parent` hears the first wake. This
    /// calls foreign code, so the caller looks for ready bits again before it parks.
    pub(crate) fn arm(&self, parent: &Waker) {
        let near = self.near.replace(None);
        let same = near.as_ref().is_some_and(|near| near.will_wake(parent));
        let near = if same { near } else { Some(parent.clone()) };
        drop(self.near.replace(near));
        if !same || self.state.load(Ordering::Relaxed) != FULL {
            self.register(parent.clone());
        }
        self.armed.set(true);
    }

    /// The batch is gone: lets go of the parent.
    pub(crate) fn close(&self) {
        self.disarm();
        self.closed.set(true);
        drop(self.near.replace(None));
        drop(self.take_far());
    }

    fn register(&self, waker: Waker) {
        let now = self.state.load(Ordering::Relaxed);
        let (begin, end) = (Ordering::Acquire, Ordering::AcqRel);
        if now & WAKING != 0
            || self.state.compare_exchange(now, REGISTERING, begin, Ordering::Relaxed).is_err()
        {
            // The parent is being woken this very moment, perhaps through an older waker.
            waker.wake();
            return;
        }
        // SAFETY: this thread moved `state` to REGISTERING (invariant 2).
        let old = self.far.with_mut(|far| unsafe { (*far).replace(waker) });
        if self.state.compare_exchange(REGISTERING, FULL, end, Ordering::Acquire).is_err() {
            // SAFETY: whoever rang found REGISTERING and left `far` to this thread.
            let sounded = self.far.with_mut(|far| unsafe { (*far).take() });
            self.state.store(EMPTY, Ordering::Release);
            if let Some(waker) = sounded {
                waker.wake();
            }
        }
        drop(old);
    }

    /// The first wake on this thread since `arm`.
    #[cold]
    #[inline(never)]
    fn tell_parent(&self) {
        self.disarm();
        // Out of the cell while it is called: the call may drop the batch, or poll it.
        if let Some(parent) = self.near.replace(None) {
            parent.wake_by_ref();
            match self.near.replace(None) {
                None if !self.closed.get() => self.near.set(Some(parent)),
                newer => self.near.set(newer),
            }
        }
    }

    fn take_far(&self) -> Option<Waker> {
        if self.state.fetch_or(WAKING, Ordering::AcqRel) & (REGISTERING | WAKING) != 0 {
            return None;
        }
        // SAFETY: this thread set WAKING on EMPTY or FULL (invariant 2).
        let waker = self.far.with_mut(|far| unsafe { (*far).take() });
        self.state.store(EMPTY, Ordering::Release);
        waker
    }
}

static VTABLE: RawWakerVTable = vtable::<ParentBell>();

impl Bell for ParentBell {
    const VTABLE: &'static RawWakerVTable = &VTABLE;

    fn sound(&self) {
        if let Some(waker) = self.take_far() {
            waker.wake();
        }
    }

    #[inline(always)]
    fn hear(&self) {
        if self.armed.get() {
            self.tell_parent();
        }
    }
}
