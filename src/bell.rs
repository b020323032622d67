//! The bell of a batch: the waker of whoever polls it, its parent.
//!
//! The parent's waker is foreign code. It is cloned, woken and dropped with nothing held and
//! nothing half done, and it may do anything, the drop of the batch included.
//!
//! There are two copies. The owner's thread uses `near`; other threads use `far`, behind one word:
//!
//! ```text
//!             register                    ring
//!   IDLE ───────────────▶ REGISTERING      │
//!    ▲  ◀───────────────      │            │ IDLE ──▶ WAKING: takes the waker, back to IDLE,
//!    │        done            │ rung       │          then wakes it
//!    │                        ▼            │ REGISTERING ──▶ REGISTERING|WAKING: leaves it
//!    └─ wakes it ── REGISTERING|WAKING     │          to the one who registers
//! ```
//!
//! # Invariants
//!
//! 1. `near`, `armed` and `registered` are touched on the owner's thread only: the block that
//!    holds this bell sends every other thread to [`Bell::ring`].
//! 2. `far` is touched only by who moved `state` out of IDLE, until it moves it back.
//! 3. Only the owner registers, so two never meet in REGISTERING.

use crate::sync::{AtomicUsize, Cell, Ordering, UnsafeCell};
use crate::wake::{Bell, vtable};
use std::task::{RawWakerVTable, Waker};

const IDLE: usize = 0;
const REGISTERING: usize = 1;
const WAKING: usize = 2;

pub(crate) struct ParentBell {
    /// The next wake on this thread has to tell the parent: the batch waits outside its poll.
    armed: Cell<bool>,
    near: Cell<Option<Waker>>,
    /// `far` holds a copy of `near`.
    registered: Cell<bool>,
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
            registered: Cell::new(false),
            state: AtomicUsize::new(IDLE),
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
        if !(same && self.registered.get()) {
            self.registered.set(self.register(parent.clone()));
        }
        self.armed.set(true);
    }

    /// A remote wake came in, so `far` may have been used up.
    pub(crate) fn forget_far(&self) {
        self.registered.set(false);
    }

    /// The batch is gone: lets go of the parent.
    pub(crate) fn close(&self) {
        self.disarm();
        self.forget_far();
        drop(self.near.replace(None));
        drop(self.take_far());
    }

    /// Whether the waker now stands in `far`. If not, it was woken.
    fn register(&self, waker: Waker) -> bool {
        let acquire = (Ordering::Acquire, Ordering::Acquire);
        if self.state.compare_exchange(IDLE, REGISTERING, acquire.0, acquire.1).is_err() {
            // The parent is being woken this very moment, perhaps through an older waker.
            waker.wake();
            return false;
        }
        // SAFETY: this thread moved `state` to REGISTERING (invariant 2).
        let old = self.far.with_mut(|far| unsafe { (*far).replace(waker) });
        let done =
            self.state.compare_exchange(REGISTERING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        let stands = done.is_ok();
        if !stands {
            // SAFETY: whoever rang found REGISTERING and left `far` to this thread.
            let rung = self.far.with_mut(|far| unsafe { (*far).take() });
            self.state.swap(IDLE, Ordering::AcqRel);
            if let Some(waker) = rung {
                waker.wake();
            }
        }
        drop(old);
        stands
    }

    /// The first wake on this thread since `arm`.
    #[cold]
    fn tell_parent(&self) {
        self.disarm();
        // Out of the cell while it is called: the call may drop the batch, or poll it.
        if let Some(parent) = self.near.replace(None) {
            parent.wake_by_ref();
            match self.near.replace(None) {
                // Unless the batch was closed meanwhile, which unregisters.
                None if self.registered.get() => self.near.set(Some(parent)),
                newer => self.near.set(newer),
            }
        }
    }

    fn take_far(&self) -> Option<Waker> {
        if self.state.fetch_or(WAKING, Ordering::AcqRel) != IDLE {
            return None;
        }
        // SAFETY: this thread moved `state` from IDLE to WAKING (invariant 2).
        let waker = self.far.with_mut(|far| unsafe { (*far).take() });
        self.state.fetch_and(!WAKING, Ordering::Release);
        waker
    }
}

static VTABLE: RawWakerVTable = vtable::<ParentBell>();

impl Bell for ParentBell {
    const VTABLE: &'static RawWakerVTable = &VTABLE;

    fn ring(&self) {
        if let Some(waker) = self.take_far() {
            waker.wake();
        }
    }

    #[inline(always)]
    fn heard_locally(&self) {
        if self.armed.get() {
            self.tell_parent();
        }
    }
}
