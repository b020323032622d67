//! Send by promise: for libraries that ask for `Send` but stay on one thread.
//!
//! # Invariants
//!
//! 1. `value` is only touched on the thread `owner`: in every access, poll and drop that is asked
//!    first. The standard library never gives a thread's id to another one.
//! 2. `value` is pinned if this is: `DerefMut` gives it out only where this is not pinned, or may be
//!    unpinned; it moves only with this, or by `into_inner`. So this is `Unpin` only if `T` is.

use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

/// A value that is `Send` and `Sync` because you say that it stays on this thread.
///
/// Some libraries ask for `Send`, though nothing of theirs leaves the thread when it runs here:
/// an axum handler, a connection that a client keeps. Wrap what is not `Send` in this. It is asked
/// at every access, so a promise that was wrong ends in a panic, never in a data race.
///
/// ```
/// use gondola::{AssertLocal, time::sleep};
/// use std::time::Duration;
///
/// fn handler<F: Future + Send>(future: F) -> F {
///     future
/// }
///
/// let nap = handler(AssertLocal::new(async { sleep(Duration::from_millis(1)).await }));
/// gondola::block_on(nap);
/// ```
///
/// # Panics
/// On another thread than that on which it was made: to use it, to poll it, and to drop it. What
/// is dropped there is leaked.
#[must_use = "it does no more than what is in it"]
pub struct AssertLocal<T> {
    owner: ThreadId,
    value: ManuallyDrop<T>,
}

// SAFETY: the value is only touched on its own thread (invariant 1).
unsafe impl<T> Send for AssertLocal<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for AssertLocal<T> {}

impl<T> AssertLocal<T> {
    /// Promises that `value` stays on this thread.
    ///
    /// ```
    /// let local = gondola::AssertLocal::new(std::rc::Rc::new(5));
    /// assert_eq!(**local, 5);
    /// ```
    pub fn new(value: T) -> Self {
        Self { owner: thread::current().id(), value: ManuallyDrop::new(value) }
    }

    /// The value again.
    ///
    /// # Panics
    /// On another thread.
    ///
    /// ```
    /// assert_eq!(gondola::AssertLocal::new(5).into_inner(), 5);
    /// ```
    #[track_caller]
    pub fn into_inner(self) -> T {
        self.check();
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and not dropped.
        unsafe { ManuallyDrop::take(&mut this.value) }
    }

    fn is_here(&self) -> bool {
        thread::current().id() == self.owner
    }

    #[track_caller]
    fn check(&self) {
        assert!(self.is_here(), "an AssertLocal was used on another thread");
    }
}

impl<T> Deref for AssertLocal<T> {
    type Target = T;

    #[track_caller]
    fn deref(&self) -> &T {
        self.check();
        &self.value
    }
}

impl<T> DerefMut for AssertLocal<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.check();
        &mut self.value
    }
}

impl<F: Future> Future for AssertLocal<F> {
    type Output = F::Output;

    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.check();
        // SAFETY: a projection to the value, which is pinned as long as this is (invariant 2).
        unsafe { self.map_unchecked_mut(|this| &mut *this.value) }.poll(cx)
    }
}

impl<T> Drop for AssertLocal<T> {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: it is dropped here, once, where it is pinned.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        } else if !thread::panicking() {
            panic!("an AssertLocal was dropped on another thread, and is leaked");
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for AssertLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("AssertLocal");
        match self.is_here() {
            true => debug.field(&*self.value).finish(),
            false => debug.finish_non_exhaustive(),
        }
    }
}
