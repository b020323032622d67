//! Counting futures and traces: what the tests observe instead of guessing.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its share")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

pub mod cases;

/// Events in the order in which they happened.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub fn add(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    #[track_caller]
    pub fn take(&self) -> String {
        std::mem::take(&mut *self.0.borrow_mut()).join(" ")
    }
}

/// What happened to a [`Probe`].
#[derive(Default)]
pub struct Counts {
    pub polls: Cell<usize>,
    pub drops: Cell<usize>,
    pub waker: RefCell<Option<Waker>>,
    open: Cell<bool>,
}

impl Counts {
    /// The next poll is ready. Wakes nobody.
    pub fn open(&self) {
        self.open.set(true);
    }

    pub fn wake(&self) {
        let waker = self.waker.borrow().clone();
        waker.expect("it was polled").wake();
    }

    pub fn seen(&self) -> (usize, usize) {
        (self.polls.get(), self.drops.get())
    }
}

/// A future that counts its polls and drops, insists on its thread, keeps its last waker, and is
/// pending until it is opened.
pub struct Probe {
    counts: Rc<Counts>,
    home: ThreadId,
    done: bool,
}

pub fn probe() -> (Probe, Rc<Counts>) {
    let counts = Rc::new(Counts::default());
    (Probe { counts: counts.clone(), home: thread::current().id(), done: false }, counts)
}

impl Future for Probe {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        assert_eq!(thread::current().id(), self.home, "polled on a foreign thread");
        assert!(!self.done, "polled after it was ready");
        let counts = self.counts.clone();
        counts.polls.set(counts.polls.get() + 1);
        counts.waker.replace(Some(cx.waker().clone()));
        if counts.open.get() {
            self.done = true;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.home, "dropped on a foreign thread");
        self.counts.drops.set(self.counts.drops.get() + 1);
    }
}

/// A waker that counts.
#[derive(Default)]
pub struct CountWakes(AtomicUsize);

impl CountWakes {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs a closure when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A waker that runs a closure when it is woken. Only for one thread.
pub fn waker_fn(wake: impl Fn() + 'static) -> Waker {
    struct OneThread<F>(F, ThreadId);
    // SAFETY: every use checks that it happens on the thread that made it.
    unsafe impl<F> Send for OneThread<F> {}
    // SAFETY: as above.
    unsafe impl<F> Sync for OneThread<F> {}
    impl<F: Fn() + 'static> Wake for OneThread<F> {
        fn wake(self: Arc<Self>) {
            assert_eq!(thread::current().id(), self.1);
            (self.0)();
        }
    }
    Arc::new(OneThread(wake, thread::current().id())).into()
}
