//! The switch between std and loom. `wake.rs`, `bell.rs` and `cancel.rs` name only what stands
//! here, so the model checker runs the real code, not a copy of it.
//!
//! It also gives each thread the identity that tells a local wake from a remote one: a number
//! taken once, never reused, in a thread-local without destructor.
#![forbid(unsafe_code)]

#[cfg(not(all(test, gondola_loom)))]
mod imp {
    pub(crate) use std::cell::Cell;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    std::thread_local! {
        pub(super) static ID: Cell<usize> = const { Cell::new(0) };
    }

    /// `std::cell::UnsafeCell` with the closure interface that loom can watch.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(all(test, gondola_loom))]
mod imp {
    pub(crate) use loom::cell::{Cell, UnsafeCell};
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    loom::thread_local! {
        pub(super) static ID: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }
}

use imp::ID;
pub(crate) use imp::{AtomicBool, AtomicUsize, Cell, Mutex, MutexGuard, UnsafeCell};
pub(crate) use std::sync::atomic::Ordering;

/// This thread's identity, or 0, which is nobody's: if nothing on it has asked for one yet, or, on
/// systems that end such thread-locals too, at the thread's very end.
#[inline(always)]
pub(crate) fn peek_thread_id() -> usize {
    ID.try_with(|id| id.get()).unwrap_or(0)
}

/// This thread's identity; takes one if need be.
pub(crate) fn thread_id() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);
    ID.with(|id| {
        if id.get() == 0 {
            let next = |next: usize| next.checked_add(1);
            let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            id.set(taken.expect("fewer threads than a word can count"));
        }
        id.get()
    })
}
