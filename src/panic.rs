//! Panics of user code, contained: whatever else has to be done is done, and the first panic of
//! several goes on.
#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Does several things, each of them whatever the others do, and keeps the first panic.
#[derive(Debug, Default)]
pub struct Contained {
    first: Option<Payload>,
}

impl Contained {
    pub(crate) fn run(&mut self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            match self.first {
                None => self.first = Some(payload),
                Some(_) => dispose(payload),
            }
        }
    }

    pub(crate) fn drop<T>(&mut self, value: T) {
        if std::mem::needs_drop::<T>() {
            self.run(|| drop(value));
        }
    }

    /// Drops values one by one: a collection that is dropped as a whole aborts the process at the
    /// second panic.
    pub(crate) fn drop_each<T>(&mut self, values: impl IntoIterator<Item = T>) {
        values.into_iter().for_each(|value| self.drop(value));
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.first.is_some()
    }

    /// Lets the first panic go on, unless this thread is unwinding already.
    pub(crate) fn resume(self) {
        match self.first {
            Some(payload) if !std::thread::panicking() => resume_unwind(payload),
            Some(payload) => dispose(payload),
            None => {}
        }
    }

    /// Forgets the panics: something worse has happened already.
    pub(crate) fn forget(self) {
        self.first.into_iter().for_each(dispose);
    }
}

/// A value that is kept while something else may panic. If that happens, it is dropped, and a panic
/// of its destructor is contained: a second one would abort the process.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    #[inline(always)]
    pub(crate) fn during(value: T, f: impl FnOnce()) -> T {
        let mut kept = Self(Some(value));
        f();
        kept.0.take().expect("it is there until it is taken here, or dropped")
    }
}

impl<T> Drop for Kept<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            let mut contained = Contained::default();
            contained.drop(value);
            contained.forget();
        }
    }
}

/// Drops a panic's payload, whose own destructor may panic, once.
pub(crate) fn dispose(payload: Payload) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        #[expect(clippy::mem_forget, reason = "its destructor would panic once more, for ever")]
        std::mem::forget(second);
    }
}

/// Wakes from a place that unwinding may pass: a second panic there would abort the process.
pub(crate) fn wake_in_passing(waker: Waker) {
    let mut contained = Contained::default();
    contained.run(|| waker.wake());
    contained.resume();
}
