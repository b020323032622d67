//! The protocol under loom, which runs every interleaving up to a number of preemptions, with the
//! reorderings that it knows (a relaxed load may see an old value; it does not see a future one).
//!
//! ```text
//! RUSTFLAGS="--cfg gondola_loom" cargo test --release --lib models
//! ```

use super::*;
use crate::bell::ParentBell;
use crate::sync::UnsafeCell;
use loom::sync::Notify;
use loom::thread;
use std::sync::Arc;

/// Rings whoever sleeps in `Sleeper::sleep`.
#[derive(Clone)]
pub(crate) struct Sleeper(Arc<Notify>);

impl Sleeper {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }

    pub(crate) fn sleep(&self) {
        self.0.wait();
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::new(SleeperWaker(self.clone())))
    }
}

struct SleeperWaker(Sleeper);

impl std::task::Wake for SleeperWaker {
    fn wake(self: Arc<Self>) {
        self.0.sound();
    }
}

static VTABLE: RawWakerVTable = vtable::<Sleeper>();

impl Bell for Sleeper {
    const VTABLE: &'static RawWakerVTable = &VTABLE;

    fn sound(&self) {
        self.0.notify();
    }

    fn hear(&self) {}
}

/// Memory that one side writes before a wake, and the other reads after the poll it causes.
pub(crate) struct Payload(UnsafeCell<u32>);

// SAFETY: loom reports every access that is not ordered.
unsafe impl Sync for Payload {}
// SAFETY: as above.
unsafe impl Send for Payload {}

impl Payload {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(0)))
    }

    pub(crate) fn write(&self) {
        // SAFETY: loom reports it if not.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    pub(crate) fn read(&self) -> u32 {
        // SAFETY: loom reports it if not.
        self.0.with_mut(|value| unsafe { *value })
    }
}

pub(crate) fn waker_of<B: Bell>(wakes: &Wakes<B>, slot: usize) -> LentWaker<'_> {
    assert!(slot < wakes.head().slots);
    // SAFETY: there is such a slot.
    unsafe { wakes.waker(slot / WORD, slot % WORD) }
}

pub(crate) fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(3));
    let executions = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = executions.clone();
    model.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        f();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}

/// Sleeps as the runtime does until every one of `slots` has been in some turn.
fn run_until<B: Bell>(wakes: &Wakes<B>, slots: &[usize], mut sleep: impl FnMut()) {
    let mut seen = 0_usize;
    let all = slots.iter().fold(0, |all, slot| all | 1 << slot);
    loop {
        wakes.drain();
        wakes.begin_turn().for_each(|(slot, _)| seen |= 1 << slot);
        if seen == all {
            return;
        }
        if !wakes.any_ready() && wakes.fall_asleep() {
            sleep();
        }
    }
}

#[test]
fn a_wake_while_falling_asleep_is_not_lost_and_brings_its_payload() {
    model(|| {
        let sleeper = Sleeper::new();
        let wakes = Wakes::new(1, sleeper.clone());
        let payload = Payload::new();
        let (waker, written) = (waker_of(&wakes, 0).clone(), payload.clone());
        let thread = thread::spawn(move || {
            written.write();
            waker.wake();
        });
        run_until(&wakes, &[0], || sleeper.sleep());
        assert_eq!(payload.read(), 1);
        thread.join().unwrap();
    });
}

#[test]
fn two_wakers_of_one_word_and_a_sleeper() {
    model(|| {
        let sleeper = Sleeper::new();
        let wakes = Wakes::new(2, sleeper.clone());
        let threads: Vec<_> = [0, 1]
            .map(|slot| {
                let waker = waker_of(&wakes, slot).clone();
                thread::spawn(move || waker.wake())
            })
            .into();
        run_until(&wakes, &[0, 1], || sleeper.sleep());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// `sched::park`: the guest says that it sleeps, and its host does, or has something else to do first.
#[test]
fn a_host_that_sleeps_for_its_guest_hears_of_a_wake() {
    model(|| {
        let host = Sleeper::new();
        let wakes = Wakes::new(2, host.clone());
        let threads: Vec<_> = [0, 1]
            .map(|slot| {
                let waker = waker_of(&wakes, slot).clone();
                thread::spawn(move || waker.wake())
            })
            .into();
        let (mut seen, mut is_busy) = (0, true);
        while seen < 2 {
            wakes.drain();
            seen += wakes.begin_turn().count();
            if seen < 2 && !wakes.any_ready() && wakes.fall_asleep() && !is_busy {
                host.sleep();
            }
            is_busy = false;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_wake_on_a_bit_that_is_set_already_still_brings_its_payload() {
    model(|| {
        let sleeper = Sleeper::new();
        let wakes = Wakes::new(1, sleeper.clone());
        let payloads = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let threads: Vec<_> = [0, 1]
            .map(|n| {
                let (waker, payloads) = (waker_of(&wakes, 0).clone(), payloads.clone());
                thread::spawn(move || {
                    payloads[n].store(1, Ordering::Relaxed);
                    waker.wake();
                })
            })
            .into();
        // Two wakes of one slot. If the turn after the later one misses a payload, nobody wakes
        // this thread again, and loom reports that it sleeps for ever.
        loop {
            wakes.drain();
            let polled = wakes.begin_turn().count() > 0;
            if polled && payloads.iter().all(|payload| payload.load(Ordering::Relaxed) == 1) {
                break;
            }
            if wakes.fall_asleep() {
                sleeper.sleep();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_wake_that_has_returned_is_seen_by_the_next_drain() {
    model(|| {
        let wakes = Wakes::new(1, Sleeper::new());
        let [other, returned] = [0, 1].map(|_| {
            let waker = waker_of(&wakes, 0).clone();
            thread::spawn(move || waker.wake())
        });
        returned.join().unwrap();
        // Whatever the other one is doing.
        assert_eq!(wakes.drain(), 1);
        other.join().unwrap();
    });
}

#[test]
fn the_last_reference_may_be_dropped_abroad() {
    /// Used by the one who rings and by the one who frees: two accesses to be ordered.
    struct Used(Payload, #[expect(dead_code, reason = "counted by its drop")] Arc<()>);
    impl Bell for Used {
        const VTABLE: &'static RawWakerVTable = &USED;
        fn sound(&self) {
            self.0.write();
        }
        fn hear(&self) {}
    }
    impl Drop for Used {
        fn drop(&mut self) {
            self.0.write();
        }
    }
    static USED: RawWakerVTable = vtable::<Used>();
    model(|| {
        let alive = Arc::new(());
        let bell = Used(Payload(UnsafeCell::new(0)), alive.clone());
        let wakes = Wakes::new(2, bell);
        let waker = waker_of(&wakes, 1).clone();
        assert!(wakes.fall_asleep());
        let thread = thread::spawn(move || {
            let twin = waker.clone();
            waker.wake();
            drop(twin);
        });
        drop(wakes);
        thread.join().unwrap();
        assert_eq!(Arc::strong_count(&alive), 1, "the block was freed, once");
    });
}

#[test]
fn references_begin_and_end_on_either_side_of_the_end() {
    struct Free(#[expect(dead_code, reason = "counted by its drop")] Arc<()>);
    impl Bell for Free {
        const VTABLE: &'static RawWakerVTable = &FREE;
        fn sound(&self) {}
        fn hear(&self) {}
    }
    static FREE: RawWakerVTable = vtable::<Free>();
    model(|| {
        let alive = Arc::new(());
        let wakes = Wakes::new(1, Free(alive.clone()));
        let (near, far) = (waker_of(&wakes, 0).clone(), waker_of(&wakes, 0).clone());
        let thread = thread::spawn(move || {
            let twin = far.clone();
            drop(far);
            twin
        });
        let another = near.clone();
        drop(near);
        drop(wakes);
        drop(another);
        // Made abroad, given up here, after the end.
        drop(thread.join().unwrap());
        assert_eq!(Arc::strong_count(&alive), 1, "the block was freed, once");
    });
}

/// What `Run::poll` does at its end.
fn rest(wakes: &Wakes<ParentBell>, parent: &Waker) {
    wakes.bell().arm(parent);
    if wakes.any_ready() || !wakes.fall_asleep() {
        wakes.bell().disarm();
        parent.wake_by_ref();
    }
}

/// What `Run::poll` does at its beginning.
fn begin(wakes: &Wakes<ParentBell>) -> usize {
    wakes.bell().disarm();
    wakes.drain();
    wakes.begin_turn().count()
}

#[test]
fn a_batch_hears_of_a_remote_wake_through_its_parent() {
    model(|| {
        let sleeper = Sleeper::new();
        let parent = sleeper.waker();
        let wakes = Wakes::new(1, ParentBell::new());
        let payload = Payload::new();
        let (waker, written) = (waker_of(&wakes, 0).clone(), payload.clone());
        let thread = thread::spawn(move || {
            written.write();
            waker.wake();
        });
        while begin(&wakes) == 0 {
            rest(&wakes, &parent);
            sleeper.sleep();
        }
        assert_eq!(payload.read(), 1);
        thread.join().unwrap();
    });
}

#[test]
fn a_parent_that_is_replaced_hears_it_too() {
    model(|| {
        let (old, new) = (Sleeper::new(), Sleeper::new());
        let (old_waker, new_waker) = (old.waker(), new.waker());
        let wakes = Wakes::new(2, ParentBell::new());
        let threads: Vec<_> = [0, 1]
            .map(|slot| {
                let waker = waker_of(&wakes, slot).clone();
                thread::spawn(move || waker.wake())
            })
            .into();
        let mut seen = begin(&wakes);
        // Polled once by a parent that goes, then by one that stays.
        rest(&wakes, &old_waker);
        while seen < 2 {
            seen += begin(&wakes);
            if seen < 2 {
                rest(&wakes, &new_waker);
                new.sleep();
                // While the other thread is in the middle of ringing, resting fails at once.
                thread::yield_now();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_batch_is_dropped_while_it_is_being_woken() {
    model(|| {
        let sleeper = Sleeper::new();
        let weak = Arc::downgrade(&sleeper.0);
        let wakes = Wakes::new(1, ParentBell::new());
        rest(&wakes, &sleeper.waker());
        let waker = waker_of(&wakes, 0).clone();
        let thread = thread::spawn(move || waker.wake());
        wakes.bell().close();
        drop(wakes);
        drop(sleeper);
        thread.join().unwrap();
        assert!(weak.upgrade().is_none(), "nothing keeps the parent");
    });
}

#[test]
fn a_failure_that_could_be_seen_is_seen_before_the_next_pull() {
    model(|| {
        let sleeper = Sleeper::new();
        let parent = sleeper.waker();
        let wakes = Wakes::new(1, ParentBell::new());
        let told = Arc::new(AtomicUsize::new(0));
        assert_eq!(begin(&wakes), 0);
        // An item begins, and another thread makes it fail. Its wake comes first, then it tells.
        let (waker, tells) = (waker_of(&wakes, 0).clone(), told.clone());
        let thread = thread::spawn(move || {
            waker.wake();
            tells.store(1, Ordering::Release);
        });
        loop {
            // Others begin, as in `Run::turn`.
            for _ in 0..2 {
                let visible = told.load(Ordering::Acquire) == 1;
                if wakes.any_remote() {
                    break;
                }
                assert!(!visible, "it is pulled after a failure that could be seen");
            }
            if !wakes.any_remote() {
                rest(&wakes, &parent);
                sleeper.sleep();
            }
            if begin(&wakes) == 1 {
                break;
            }
        }
        thread.join().unwrap();
    });
}
