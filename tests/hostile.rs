//! Users who do their worst, in safe code: payloads whose destructors panic, wakers that panic or
//! run the runtime. Books stay in order, nobody is forgotten, every future is dropped.

mod support;

use gondola::{CancellationToken, Runtime, batch, reserve, try_spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use support::{CountWakes, OnDrop, waker_fn};

/// A panic's payload whose own destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload's destructor");
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("hostile waker");
    }
}

struct PanicsWithBomb;

impl Wake for PanicsWithBomb {
    fn wake(self: Arc<Self>) {
        panic_any(Bomb);
    }
}

fn runtime(slots: usize) -> Runtime {
    Runtime::builder().slots(slots).build().unwrap()
}

/// Runs `f`, which panics, and loses what it panicked with.
#[track_caller]
fn panics(f: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    if payload.is::<Bomb>() {
        #[expect(clippy::mem_forget, reason = "its destructor panics")]
        std::mem::forget(payload);
    }
}

#[test]
fn every_pinned_future_of_a_batch_is_dropped_whatever_the_payloads_do() {
    let dropped = Rc::new(Cell::new(0));
    let mut run = Box::pin(batch(0..4).limit(4).for_each(|item| {
        let dropped = dropped.clone();
        let guard = OnDrop(move || {
            dropped.set(dropped.get() + 1);
            match item {
                0 => panic!("first"),
                1 => panic_any(Bomb),
                _ => {}
            }
        });
        async move {
            let _guard = guard;
            pending::<()>().await;
        }
    }));
    assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    panics(|| drop(run));
    assert_eq!(dropped.get(), 4);
}

#[test]
fn a_joiner_that_panics_costs_no_slot() {
    let mut runtime = runtime(1);
    let mut task = runtime.block_on(async { try_spawn(async { 1 }).unwrap() });
    let waker = Waker::from(Arc::new(Panics));
    assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
    panics(|| drop(runtime.turn()));
    runtime.block_on(async {
        assert_eq!(task.await.unwrap(), 1);
        try_spawn(async {}).unwrap().await.unwrap();
    });
}

#[test]
fn joiners_that_panic_at_shutdown_keep_no_task_alive() {
    let mut runtime = runtime(3);
    let dropped = Rc::new(Cell::new(0));
    let mut tasks: Vec<_> = runtime.block_on(async {
        (0..3)
            .map(|_| {
                let dropped = dropped.clone();
                let guard = OnDrop(move || dropped.set(dropped.get() + 1));
                let task = async move {
                    let _guard = guard;
                    drop(reserve().await);
                };
                try_spawn(task).unwrap()
            })
            .collect()
    });
    runtime.block_on(yield_now());
    for (n, task) in tasks.iter_mut().enumerate() {
        let waker = match n {
            0 => Waker::from(Arc::new(Panics)),
            1 => Waker::from(Arc::new(PanicsWithBomb)),
            _ => Waker::noop().clone(),
        };
        assert!(Pin::new(task).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    panics(|| drop(runtime));
    assert_eq!(dropped.get(), 3);
    for task in tasks {
        assert!(futures::executor::block_on(task).unwrap_err().is_cancelled());
    }
}

#[test]
fn who_waits_for_a_slot_elsewhere_hears_of_the_shutdown() {
    let mut runtime = runtime(1);
    let mut waiting = reserve();
    let count = Arc::new(CountWakes::default());
    let waker = Waker::from(count.clone());
    let cx = &mut Context::from_waker(&waker);
    runtime.block_on(async {
        try_spawn(pending::<()>()).unwrap().detach();
        assert!(Pin::new(&mut waiting).poll(cx).is_pending());
    });
    drop(runtime);
    assert_eq!(count.count(), 1);
    let Poll::Ready(slot) = Pin::new(&mut waiting).poll(cx) else { panic!("it was told") };
    let task = slot.spawn(pending::<()>());
    assert!(futures::executor::block_on(task).unwrap_err().is_cancelled());
}

#[test]
fn a_waker_whose_clone_runs_the_runtime_misses_nothing() {
    thread_local! {
        static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    fn clone(_: *const ()) -> std::task::RawWaker {
        let runtime = RUNTIME.take();
        if let Some(mut runtime) = runtime {
            runtime.turn().unwrap();
            RUNTIME.set(Some(runtime));
        }
        std::task::RawWaker::new(std::ptr::null(), &VTABLE)
    }
    static VTABLE: std::task::RawWakerVTable =
        std::task::RawWakerVTable::new(clone, |_| (), |_| (), |_| ());
    let mut runtime = runtime(1);
    let mut task = runtime.block_on(async { try_spawn(async { 1 }).unwrap() });
    RUNTIME.set(Some(runtime));
    // SAFETY: the functions of the table ignore their pointer.
    let waker = unsafe { Waker::new(std::ptr::null(), &VTABLE) };
    let poll = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
    assert!(matches!(poll, Poll::Ready(Ok(1))), "it finished while the waker was being cloned");
    RUNTIME.set(None);
}

#[test]
fn a_parent_whose_clone_wakes_an_item_hears_of_it() {
    thread_local! {
        static ITEM: RefCell<Option<Waker>> = const { RefCell::new(None) };
        static TOLD: Cell<bool> = const { Cell::new(false) };
    }
    fn clone(_: *const ()) -> std::task::RawWaker {
        ITEM.take().into_iter().for_each(Waker::wake);
        std::task::RawWaker::new(std::ptr::null(), &VTABLE)
    }
    fn wake(_: *const ()) {
        TOLD.set(true);
    }
    static VTABLE: std::task::RawWakerVTable =
        std::task::RawWakerVTable::new(clone, wake, wake, |_| ());
    let mut run = pin!(batch(0..1).limit(1).for_each(|_| {
        poll_fn(|cx| {
            ITEM.set(Some(cx.waker().clone()));
            Poll::<()>::Pending
        })
    }));
    // SAFETY: the functions of the table ignore their pointer.
    let parent = unsafe { Waker::new(std::ptr::null(), &VTABLE) };
    assert!(run.as_mut().poll(&mut Context::from_waker(&parent)).is_pending());
    assert!(TOLD.get(), "the item was woken while the batch fell asleep");
}

#[test]
fn payloads_that_panic_keep_no_waiter_of_a_token_asleep() {
    let token = CancellationToken::new();
    let count = Arc::new(CountWakes::default());
    let wakers = [
        Waker::from(Arc::new(Panics)),
        Waker::from(Arc::new(PanicsWithBomb)),
        Waker::from(count.clone()),
        Waker::from(count.clone()),
    ];
    let mut waits: Vec<_> = wakers.iter().map(|_| Box::pin(token.cancelled())).collect();
    for (wait, waker) in waits.iter_mut().zip(&wakers) {
        assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    panics(|| token.cancel());
    assert_eq!(count.count(), 2);
}

#[test]
fn a_wake_may_drop_the_task_the_runtime_and_the_waker_itself() {
    type Kept = (Runtime, gondola::JoinHandle<()>, Option<Waker>);
    let kept = Rc::new(RefCell::new(None::<Kept>));
    let mut runtime = runtime(2);
    let (task, waker) = runtime.block_on(async {
        let (future, counts) = support::probe();
        let task = try_spawn(future).unwrap();
        yield_now().await;
        (task, counts.waker.take())
    });
    let inner = kept.clone();
    let everything = waker_fn(move || drop(inner.borrow_mut().take()));
    let token = CancellationToken::new();
    let mut wait = pin!(token.cancelled());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&everything)).is_pending());
    kept.replace(Some((runtime, task, waker)));
    token.cancel();
    assert!(kept.borrow().is_none());
}

#[test]
fn a_joiner_and_the_next_in_the_queue_may_both_panic() {
    let mut runtime = Runtime::builder().slots(1).build().unwrap();
    let waker = Waker::from(Arc::new(Panics));
    let (mut wait, cx) = (reserve(), &mut Context::from_waker(&waker));
    let task = runtime.block_on(async {
        let mut task = try_spawn(async {
            yield_now().await;
            yield_now().await;
            1
        })
        .unwrap();
        assert!(Pin::new(&mut task).poll(cx).is_pending());
        assert!(Pin::new(&mut wait).poll(cx).is_pending());
        task
    });
    let turns = (0..3).map(|_| catch_unwind(AssertUnwindSafe(|| runtime.turn())));
    assert_eq!(turns.filter(Result::is_err).count(), 1);
    assert!(task.is_finished());
    assert!(Pin::new(&mut wait).poll(cx).is_ready(), "the slot was promised");
}

#[test]
fn guards_and_slots_dropped_while_unwinding_contain_the_wakers_they_wake() {
    let waker = Waker::from(Arc::new(Panics));
    let token = CancellationToken::new();
    let mut wait = Box::pin(token.cancelled());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let outer = catch_unwind(AssertUnwindSafe(|| {
        let _guard = token.clone().drop_guard();
        panic!("outer");
    }));
    assert_eq!(outer.unwrap_err().downcast_ref(), Some(&"outer"));
    assert!(token.is_cancelled());

    let mut runtime = Runtime::builder().slots(1).build().unwrap();
    let outer = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let slot = reserve().await;
            let (mut second, mut third) = (Box::pin(reserve()), Box::pin(reserve()));
            for wait in [&mut second, &mut third] {
                assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
            // Dropped in reverse: the slot, then the one that it was promised to.
            let _third = third;
            let _second = second;
            let _slot = slot;
            panic!("outer");
        })
    }));
    assert_eq!(outer.unwrap_err().downcast_ref(), Some(&"outer"));
}
