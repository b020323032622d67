//! Tasks, slots, handles and turns.

mod support;

use futures::future::{join_all, poll_fn};
use futures::poll;
use gondola::time::{now, sleep, timeout};
use gondola::{
    AbortHandle, Runtime, TrySpawnErrorKind, block_on, metrics, reserve, tasks_done, try_spawn,
    yield_now,
};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::{CountWakes, OnDrop, Trace, probe, waker_fn};

fn runtime(slots: usize) -> Runtime {
    Runtime::builder().slots(slots).build().unwrap()
}

fn quiet<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

#[test]
fn every_ring_size_runs_every_slot() {
    for slots in [1, 2, 63, 64, 65, 130, 10_000] {
        let mut runtime = runtime(slots);
        let polled = Rc::new(Cell::new(0));
        runtime.block_on(async {
            let tasks: Vec<_> = (0..slots)
                .map(|index| {
                    let polled = polled.clone();
                    try_spawn(async move {
                        yield_now().await;
                        polled.set(polled.get() + 1);
                        index
                    })
                    .unwrap()
                })
                .collect();
            let full = try_spawn(async {}).unwrap_err();
            assert_eq!(full.kind(), TrySpawnErrorKind::Full { slots });
            for (index, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), index);
            }
        });
        assert_eq!(polled.get(), slots);
    }
}

#[test]
fn a_ready_task_is_polled_once_per_turn_and_an_idle_one_never() {
    let mut runtime = runtime(130);
    let (idle, idle_counts) = probe();
    let (woken, woken_counts) = probe();
    runtime.block_on(async {
        try_spawn(idle).unwrap().detach();
        try_spawn(woken).unwrap().detach();
        yield_now().await;
        for round in 1..=5 {
            assert_eq!(woken_counts.polls.get(), round);
            woken_counts.wake();
            woken_counts.wake();
            yield_now().await;
        }
    });
    assert_eq!(idle_counts.polls.get(), 1);
    assert_eq!(woken_counts.polls.get(), 6);
}

#[test]
fn wakes_during_a_turn_count_for_the_next_whatever_the_slots() {
    // Slot 0 wakes the last slot, the last slot wakes slot 0: neither runs twice in a turn.
    for slots in [2, 64, 65, 130] {
        let mut runtime = runtime(slots);
        let (first, first_counts) = probe();
        let (last, last_counts) = probe();
        let (a, b) = (first_counts.clone(), last_counts.clone());
        let relay = |mine: support::Probe, other: Rc<support::Counts>| {
            let mut mine = Box::pin(mine);
            poll_fn(move |cx| {
                let _ = mine.as_mut().poll(cx);
                if other.waker.borrow().is_some() {
                    other.wake();
                }
                Poll::<()>::Pending
            })
        };
        let (first, last) = (relay(first, b), relay(last, a));
        runtime.block_on(async {
            try_spawn(first).unwrap().detach();
            for _ in 0..slots - 2 {
                try_spawn(pending::<()>()).unwrap().detach();
            }
            try_spawn(last).unwrap().detach();
        });
        for turn in 1..=10 {
            let turned = runtime.turn().unwrap();
            let expected = if turn == 1 { slots } else { 1 };
            assert_eq!((turned.polled, turned.busy), (expected, true));
        }
        // Both in the first turn, where only the last finds a waker to wake; then by turns.
        assert_eq!((first_counts.polls.get(), last_counts.polls.get()), (6, 5));
    }
}

#[test]
fn the_root_future_is_polled_only_when_woken() {
    let mut runtime = runtime(4);
    let (root, counts) = probe();
    let opener = counts.clone();
    runtime.block_on(async {
        try_spawn(async move {
            for _ in 0..10 {
                yield_now().await;
            }
            opener.open();
            opener.wake();
        })
        .unwrap()
        .detach();
        root.await;
    });
    assert_eq!(counts.seen(), (2, 1));
}

#[test]
fn a_turn_reports_what_it_did() {
    let mut runtime = runtime(4);
    runtime.block_on(async {
        try_spawn(async {
            yield_now().await;
        })
        .unwrap()
        .detach();
        let from_abroad = try_spawn(async {
            let (sender, receiver) = futures::channel::oneshot::channel();
            std::thread::spawn(move || sender.send(())).join().unwrap().unwrap();
            receiver.await.unwrap();
        });
        from_abroad.unwrap().detach();
    });
    let turn = runtime.turn().unwrap();
    assert_eq!((turn.polled, turn.completed, turn.woken_outside, turn.busy), (2, 1, 0, true));
    let turn = runtime.turn().unwrap();
    assert_eq!((turn.polled, turn.completed, turn.busy), (1, 1, false));
    assert_eq!(runtime.turn().unwrap(), gondola::Turn::default());
}

#[test]
fn turns_count_wakes_from_other_threads() {
    let mut runtime = runtime(200);
    let counts: Vec<_> = runtime.block_on(async {
        let mut all = Vec::new();
        for _ in 0..200 {
            let (future, counts) = probe();
            try_spawn(future).unwrap().detach();
            all.push(counts);
        }
        all
    });
    runtime.turn().unwrap();
    let wakers: Vec<Waker> = [3, 64, 199].map(|i| counts[i].waker.borrow().clone().unwrap()).into();
    std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
    let turn = runtime.turn().unwrap();
    assert_eq!((turn.woken_outside, turn.polled), (3, 3));
    assert_eq!([3, 64, 199].map(|i| counts[i].polls.get()), [2, 2, 2]);
}

#[test]
fn tasks_live_on_between_two_calls_of_block_on() {
    let mut runtime = runtime(4);
    let task = runtime.block_on(async {
        try_spawn(async {
            yield_now().await;
            5
        })
        .unwrap()
    });
    assert_eq!(runtime.block_on(task).unwrap(), 5);
}

#[test]
fn a_full_ring_gives_the_future_back_unpolled() {
    let mut runtime = runtime(1);
    runtime.block_on(async {
        try_spawn(pending::<()>()).unwrap().detach();
        let (future, counts) = probe();
        let refused = try_spawn(future).unwrap_err();
        assert_eq!(refused.to_string(), "all 1 slots are taken");
        assert_eq!(counts.seen(), (0, 0));
        drop(refused.into_future());
        assert_eq!(counts.seen(), (0, 1));
    });
    let outside = try_spawn(async { 3 }).unwrap_err();
    assert_eq!(outside.kind(), TrySpawnErrorKind::NoRuntime);
    assert_eq!(block_on(outside.into_future()), 3);
}

#[test]
fn waiters_get_slots_in_the_order_in_which_they_came() {
    let mut runtime = runtime(2);
    let trace = Trace::default();
    runtime.block_on(async {
        let (blocker, counts) = probe();
        let running = try_spawn(blocker).unwrap();
        try_spawn(pending::<()>()).unwrap().detach();
        let waiters = (0..4).map(|n| {
            let trace = &trace;
            async move {
                let slot = reserve().await;
                trace.add(format!("{n}"));
                slot.spawn(yield_now()).await.unwrap();
            }
        });
        let release = async {
            yield_now().await;
            counts.open();
            counts.wake();
            running.await.unwrap();
        };
        futures::join!(join_all(waiters), release);
    });
    assert_eq!(trace.take(), "0 1 2 3");
}

#[test]
fn a_cancelled_waiter_passes_its_slot_on() {
    let mut runtime = runtime(1);
    runtime.block_on(async {
        let (first, second, third) = (reserve().await, reserve(), reserve());
        let mut second = Box::pin(second);
        let mut third = Box::pin(third);
        let count = std::sync::Arc::new(CountWakes::default());
        let waker = Waker::from(count.clone());
        let cx = &mut Context::from_waker(&waker);
        assert!(second.as_mut().poll(cx).is_pending());
        assert!(third.as_mut().poll(cx).is_pending());
        drop(first);
        assert_eq!(count.count(), 1, "the second is promised the slot");
        assert!(try_spawn(async {}).is_err(), "a promised slot is not free");
        drop(second);
        assert_eq!(count.count(), 2, "and passes it on");
        let Poll::Ready(slot) = third.as_mut().poll(cx) else { panic!("it was promised") };
        slot.spawn(async {}).await.unwrap();
        assert!(try_spawn(async {}).is_ok());
    });
}

#[test]
fn a_reservation_that_is_dropped_frees_the_slot() {
    let mut runtime = runtime(1);
    runtime.block_on(async {
        drop(reserve().await);
        try_spawn(async {}).unwrap().await.unwrap();
        drop(reserve().await.spawn(async {}));
    });
}

#[test]
fn all_slots_waiting_for_a_slot_is_named_a_deadlock_under_virtual_time() {
    let mut runtime = Runtime::builder().slots(2).virtual_time().build().unwrap();
    let text = quiet(|| {
        runtime.block_on(async {
            for _ in 0..2 {
                try_spawn(async { drop(reserve().await) }).unwrap().detach();
            }
            pending::<()>().await;
        })
    });
    assert_eq!(text.unwrap_err(), "deadlock: all 2 slots are taken, and 2 tasks wait for a slot");
}

#[test]
fn a_panic_ends_its_own_task_only() {
    let mut runtime = runtime(2);
    runtime.block_on(async {
        let sibling = try_spawn(async {
            yield_now().await;
            yield_now().await;
            "alive"
        });
        let dying = try_spawn(async {
            yield_now().await;
            panic!("boom {}", 1);
        });
        let error = dying.unwrap().await.unwrap_err();
        assert!(error.is_panic());
        assert_eq!(error.to_string(), "the task panicked: boom 1");
        assert_eq!(sibling.unwrap().await.unwrap(), "alive");
        // Both slots can be used again.
        let again: Vec<_> = (0..2).map(|n| try_spawn(async move { n }).unwrap()).collect();
        for (n, task) in again.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), n);
        }
    });
}

#[test]
fn a_panic_of_the_root_leaves_the_tasks_and_the_runtime_in_order() {
    for slots in [1, 130] {
        let mut runtime = runtime(slots);
        let counts = runtime.block_on(async {
            let (future, counts) = probe();
            try_spawn(future).unwrap().detach();
            counts
        });
        let text = quiet(|| runtime.block_on(async { panic!("root") }));
        assert_eq!(text.unwrap_err(), "root");
        assert_eq!(counts.seen(), (1, 0));
        counts.open();
        counts.wake();
        runtime.block_on(yield_now());
        assert_eq!(counts.seen(), (2, 1));
    }
}

#[test]
fn destructors_that_panic_are_contained() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    block_on(async {
        // In the future of a task that completes, in its output, in an aborted one, in a payload.
        let bomb = Bomb;
        let completes = try_spawn(async move {
            let _bomb = &bomb;
        });
        assert!(completes.unwrap().await.unwrap_err().is_panic());

        let output = try_spawn(async { Bomb }).unwrap();
        yield_now().await;
        drop(output);
        try_spawn(async { Bomb }).unwrap().detach();
        yield_now().await;

        let bomb = Bomb;
        let aborted = try_spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        })
        .unwrap();
        yield_now().await;
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());

        try_spawn(async { std::panic::panic_any(Bomb) }).unwrap().detach();
        yield_now().await;
        assert_eq!(try_spawn(async { 1 }).unwrap().await.unwrap(), 1);
    });
}

#[test]
fn join_resolves_after_the_future_has_been_dropped() {
    block_on(async {
        let (future, counts) = probe();
        counts.open();
        let task = try_spawn(future).unwrap();
        task.await.unwrap();
        assert_eq!(counts.seen(), (1, 1));
        let (future, counts) = probe();
        let task = try_spawn(future).unwrap();
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(counts.seen(), (1, 1));
    });
}

#[test]
fn a_join_from_the_destructor_of_the_joined_task_waits() {
    // The destructor runs while the task is closing: its handle must not be finished yet.
    block_on(async {
        let seen = Rc::new(Cell::new(None));
        let handle = Rc::new(RefCell::new(None::<gondola::JoinHandle<()>>));
        let (at_drop, seen_at_drop) = (handle.clone(), seen.clone());
        let guard = OnDrop(move || {
            let mut handle = at_drop.borrow_mut();
            let handle = handle.as_mut().unwrap();
            let poll =
                std::pin::Pin::new(&mut *handle).poll(&mut Context::from_waker(Waker::noop()));
            seen_at_drop.set(Some((handle.is_finished(), poll.is_pending())));
        });
        // Held by the future itself, not by its body, whose end would still be in the poll.
        let task = try_spawn(poll_fn(move |_| {
            let _held = &guard;
            Poll::Ready(())
        }));
        handle.replace(Some(task.unwrap()));
        yield_now().await;
        assert_eq!(seen.get(), Some((false, true)));
        let task = handle.borrow_mut().take().unwrap();
        task.await.unwrap();
    });
}

#[test]
fn abort_is_idempotent_and_works_from_everywhere() {
    let mut runtime = runtime(4);
    runtime.block_on(async {
        // Before the first poll: never polled, but dropped.
        let (future, counts) = probe();
        let task = try_spawn(future).unwrap();
        task.abort();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(counts.seen(), (0, 1));

        // From inside itself: at the next poll.
        let own = Rc::new(RefCell::new(None::<gondola::JoinHandle<()>>));
        let inner = own.clone();
        let task = try_spawn(async move {
            inner.borrow().as_ref().unwrap().abort();
            yield_now().await;
            unreachable!("it was aborted");
        });
        own.replace(Some(task.unwrap()));
        yield_now().await;
        yield_now().await;
        assert!(own.borrow().as_ref().unwrap().is_finished());

        // After completion: the output stays.
        let task = try_spawn(async { 9 }).unwrap();
        yield_now().await;
        task.abort();
        assert_eq!(task.await.unwrap(), 9);
    });
}

#[test]
fn detached_tasks_go_on_and_their_outputs_are_dropped() {
    block_on(async {
        let dropped = Rc::new(Cell::new(false));
        let flag = dropped.clone();
        try_spawn(async move { OnDrop(move || flag.set(true)) }).unwrap().detach();
        yield_now().await;
        assert!(dropped.get());
    });
}

#[test]
fn a_joined_handle_that_is_kept_has_nothing_to_do_with_the_next_task() {
    let mut runtime = runtime(1);
    runtime.block_on(async {
        let mut first = try_spawn(async { 1_u64 }).unwrap();
        assert_eq!((&mut first).await.unwrap(), 1);
        let second = try_spawn(async {
            yield_now().await;
            2_u64
        });
        let second = second.unwrap();
        yield_now().await;
        first.abort();
        assert!(first.is_finished() && !second.is_finished());
        drop(first);
        assert_eq!(second.await.unwrap(), 2);
    });
}

#[test]
fn a_stale_waker_never_reaches_the_next_occupant_but_for_a_spurious_poll() {
    let mut runtime = runtime(1);
    runtime.block_on(async {
        let (first, first_counts) = probe();
        first_counts.open();
        try_spawn(first).unwrap().await.unwrap();
        let (second, second_counts) = probe();
        let task = try_spawn(second).unwrap();
        yield_now().await;
        first_counts.wake();
        yield_now().await;
        assert_eq!(second_counts.polls.get(), 2, "one spurious poll");
        assert_eq!(first_counts.seen(), (1, 1));
        second_counts.open();
        second_counts.wake();
        task.await.unwrap();
        // And on an empty slot nothing happens at all.
        first_counts.wake();
        yield_now().await;
    });
}

#[test]
fn wakers_and_handles_outlive_their_runtime() {
    let mut runtime = runtime(2);
    let (counts, finished, unfinished, slot) = runtime.block_on(async {
        let (future, counts) = probe();
        let unfinished = try_spawn(future).unwrap();
        let finished = try_spawn(async { 4 }).unwrap();
        yield_now().await;
        (counts, finished, unfinished, reserve().await)
    });
    drop(runtime);
    assert_eq!(counts.drops.get(), 1);
    counts.wake();
    let waker = counts.waker.take().unwrap();
    std::thread::spawn(move || {
        let twin = waker.clone();
        waker.wake();
        twin.wake_by_ref();
    })
    .join()
    .unwrap();
    unfinished.abort();
    assert!(block_on(unfinished).unwrap_err().is_cancelled());
    assert_eq!(block_on(finished).unwrap(), 4);
    let (future, counts) = probe();
    assert!(block_on(slot.spawn(future)).unwrap_err().is_cancelled());
    assert_eq!(counts.seen(), (0, 1));
}

#[test]
fn whoever_waits_for_a_slot_of_a_runtime_that_goes_is_neither_stuck_nor_panics() {
    let mut runtime = runtime(1);
    // Made outside, used inside.
    let slot = runtime.block_on(reserve());
    let count = std::sync::Arc::new(CountWakes::default());
    let waker = Waker::from(count.clone());
    let cx = &mut Context::from_waker(&waker);
    let mut queued = reserve();
    let (future, counts) = probe();
    let seen = Rc::new(Cell::new(None));
    let at_drop = seen.clone();
    runtime.block_on(async {
        assert!(std::pin::Pin::new(&mut queued).poll(cx).is_pending());
        let guard = OnDrop(move || {
            let mut late = reserve();
            let cx = &mut Context::from_waker(Waker::noop());
            let Poll::Ready(slot) = std::pin::Pin::new(&mut late).poll(cx) else { return };
            at_drop.set(Some(slot.spawn(async {}).is_finished()));
        });
        slot.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        })
        .detach();
        yield_now().await;
    });
    // Polled outside, it waits for the same slot.
    assert!(std::pin::Pin::new(&mut queued).poll(cx).is_pending());
    drop(runtime);
    assert_eq!(seen.get(), Some(true), "a destructor's reservation");
    assert_eq!(count.count(), 1);
    let Poll::Ready(slot) = std::pin::Pin::new(&mut queued).poll(cx) else { panic!("it was told") };
    assert!(block_on(slot.spawn(future)).unwrap_err().is_cancelled());
    assert_eq!(counts.seen(), (0, 1), "dropped, and never polled");
    // The next one is ready as well.
    assert!(std::pin::Pin::new(&mut queued).poll(cx).is_ready());
}

#[test]
fn what_needs_a_runtime_says_so_when_it_is_polled_outside_of_one() {
    use futures::executor::block_on;
    use gondola::time::{interval, sleep, timeout};
    use std::time::Duration;
    const MISSING: &str = concat!(
        "no runtime of gondola ",
        env!("CARGO_PKG_VERSION"),
        " is entered on this thread (one of another version does not count)"
    );
    for length in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
        let (nap, late, mut ticks) =
            (sleep(length), timeout(length, pending::<()>()), interval(length));
        assert_eq!(quiet(|| block_on(nap)).unwrap_err(), MISSING);
        assert_eq!(quiet(|| block_on(late)).unwrap_err(), MISSING);
        assert_eq!(quiet(|| block_on(ticks.tick())).unwrap_err(), MISSING);
    }
    let waiting = reserve();
    assert_eq!(quiet(|| block_on(waiting)).unwrap_err(), MISSING);
    // What can return an error does.
    assert_eq!(try_spawn(async {}).unwrap_err().kind(), TrySpawnErrorKind::NoRuntime);
    let bound = gondola::net::TcpListener::bind(([127, 0, 0, 1], 0));
    assert_eq!(bound.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    let connecting = gondola::net::TcpStream::connect(([127, 0, 0, 1], 9));
    assert_eq!(block_on(connecting).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
}

#[test]
fn dropping_the_runtime_drops_every_task_once_with_the_runtime_usable() {
    let trace = Trace::default();
    let mut runtime = runtime(130);
    let late = Rc::new(RefCell::new(None));
    runtime.block_on(async {
        for n in [0, 64, 129] {
            while n > 0
                && try_spawn(pending::<()>()).is_ok_and(|task| {
                    task.detach();
                    false
                })
            {}
            let (trace, late) = (trace.clone(), late.clone());
            let guard = OnDrop(move || {
                // The runtime is entered, but takes nothing more. (A panic here would be contained.)
                let kind = try_spawn(async {}).map_err(|refused| refused.kind());
                let refused = matches!(kind, Err(TrySpawnErrorKind::NoRuntime));
                trace.add(format!("drop{n}:{refused}"));
                drop(gondola::time::sleep(std::time::Duration::from_secs(1)));
                late.replace(Some(gondola::CancellationToken::new()));
            });
            try_spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            })
            .unwrap()
            .detach();
        }
        yield_now().await;
    });
    drop(runtime);
    assert_eq!(trace.take(), "drop0:true drop64:true drop129:true");
}

#[test]
fn a_task_may_wake_abort_and_drop_others_while_it_is_dropped() {
    let mut runtime = runtime(4);
    runtime.block_on(async {
        let (future, counts) = probe();
        let other = try_spawn(future).unwrap();
        yield_now().await;
        let wakes = counts.clone();
        let guard = OnDrop(move || {
            wakes.wake();
            other.abort();
        });
        let task = try_spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        let task = task.unwrap();
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        yield_now().await;
        assert_eq!(counts.drops.get(), 1);
    });
}

#[test]
fn nested_block_on_panics_and_the_outer_runtime_goes_on() {
    let mut outer = runtime(2);
    let sum = outer.block_on(async {
        let mut inner = runtime(2);
        let text = quiet(|| inner.block_on(async {}));
        assert_eq!(text.unwrap_err(), "a gondola runtime is already entered on this thread");
        assert!(quiet(|| inner.turn()).is_err());
        let task = try_spawn(async {
            let text = quiet(|| block_on(async {}));
            assert!(text.is_err());
            yield_now().await;
            1
        });
        task.unwrap().await.unwrap() + 1
    });
    assert_eq!(sum, 2);
}

#[test]
fn runtimes_are_built_and_dropped_inside_the_tasks_of_others() {
    let mut outer = runtime(2);
    outer.block_on(async {
        let mut kept = Vec::new();
        for _ in 0..10 {
            kept.push(runtime(2));
        }
        drop(kept);
        // The outer runtime is still the current one.
        try_spawn(async {}).unwrap().await.unwrap();
        gondola::time::sleep(std::time::Duration::ZERO).await;
    });
}

#[test]
fn two_runtimes_alternate_on_one_thread() {
    let (mut a, mut b) = (runtime(2), runtime(2));
    let task_a = a.block_on(async { try_spawn(yield_now()).unwrap() });
    let task_b = b.block_on(async { try_spawn(yield_now()).unwrap() });
    a.block_on(async {
        yield_now().await;
        yield_now().await;
    });
    assert!(task_a.is_finished() && !task_b.is_finished());
    b.block_on(task_b).unwrap();
    // A task of one runtime awaited in the other: its wake comes from a turn of its own.
    let task_a = a.block_on(async { try_spawn(async { 1 }).unwrap() });
    a.turn().unwrap();
    assert_eq!(b.block_on(task_a).unwrap(), 1);
}

#[test]
fn many_runtimes_in_many_threads() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for n in 0..100 {
                    let mut runtime = runtime(3);
                    let sum = runtime.block_on(async move {
                        let tasks = (0..3).map(|k| try_spawn(async move { n * k }).unwrap());
                        let tasks: Vec<_> = tasks.collect();
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap();
                        }
                        sum
                    });
                    assert_eq!(sum, 3 * n);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn wakes_from_many_threads_reach_the_sleeping_runtime() {
    let mut runtime = runtime(100);
    let total: u64 = runtime.block_on(async {
        let tasks: Vec<_> = (0..100)
            .map(|n: u64| {
                try_spawn(async move {
                    let mut sum = 0;
                    for round in 0..20 {
                        let (sender, receiver) = futures::channel::oneshot::channel();
                        std::thread::spawn(move || sender.send(n * round).unwrap());
                        sum += receiver.await.unwrap();
                    }
                    sum
                })
                .unwrap()
            })
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await.unwrap();
        }
        total
    });
    assert_eq!(total, (0..100).sum::<u64>() * (0..20).sum::<u64>());
}

#[test]
fn a_foreign_block_on_inside_a_task_does_not_disturb_the_runtime() {
    let mut runtime = runtime(2);
    runtime.block_on(async {
        let task = try_spawn(async {
            let value = futures::executor::block_on(async {
                let (sender, receiver) = futures::channel::oneshot::channel();
                std::thread::spawn(move || sender.send(7).unwrap());
                receiver.await.unwrap()
            });
            std::thread::current().unpark();
            value
        });
        assert_eq!(task.unwrap().await.unwrap(), 7);
    });
}

#[test]
fn combinators_of_others_work_inside_tasks() {
    use futures::stream::{FuturesUnordered, StreamExt};
    block_on(async {
        let mut set: FuturesUnordered<_> = (0..50)
            .map(|n| async move {
                for _ in 0..n {
                    yield_now().await;
                }
                n
            })
            .collect();
        let mut order = Vec::new();
        while let Some(n) = set.next().await {
            order.push(n);
        }
        assert!(order.is_sorted());
        let either = futures::future::select(Box::pin(pending::<()>()), Box::pin(yield_now()));
        assert!(matches!(either.await, futures::future::Either::Right(_)));
    });
}

#[test]
fn a_hostile_joiner_may_call_anything_when_it_is_woken() {
    let mut runtime = runtime(3);
    runtime.block_on(async {
        let mut task = try_spawn(async { 1 }).unwrap();
        let spawned = Rc::new(Cell::new(0));
        let flag = spawned.clone();
        let waker = waker_fn(move || {
            // Woken from inside the turn, with nothing borrowed.
            try_spawn(async {}).unwrap().detach();
            drop(gondola::time::sleep(std::time::Duration::from_secs(9)));
            flag.set(flag.get() + 1);
        });
        let poll = std::pin::Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending());
        yield_now().await;
        assert_eq!(spawned.get(), 1);
        assert_eq!(task.await.unwrap(), 1);
    });
}

#[test]
fn a_megabyte_of_future_goes_into_its_slot() {
    async fn big() -> u64 {
        let mut big = [7_u8; 1 << 20];
        yield_now().await;
        big[0] = 8;
        big.iter().map(|&byte| u64::from(byte)).sum()
    }
    let spawn = || block_on(async { reserve().await.spawn(big()).await.unwrap() });
    let thread = std::thread::Builder::new().stack_size(6 << 20).spawn(spawn).unwrap();
    assert_eq!(thread.join().unwrap(), (7 << 20) + 1);
}

#[test]
fn over_aligned_futures_and_outputs_are_placed_aligned() {
    #[repr(align(256))]
    struct Aligned(u8);
    block_on(async {
        // A small one first, so that the slot's memory must be replaced, then reused.
        try_spawn(async {}).unwrap().await.unwrap();
        for _ in 0..3 {
            let value = Aligned(3);
            let task = try_spawn(async move {
                yield_now().await;
                assert_eq!(&raw const value as usize % 256, 0);
                value
            });
            let value = task.unwrap().await.unwrap();
            assert_eq!(value.0, 3);
            try_spawn(async { [0_u64; 9] }).unwrap().await.unwrap();
        }
    });
}

#[test]
fn slots_out_of_range_are_a_typed_error() {
    for slots in [0, (1 << 20) + 1, usize::MAX] {
        let error = Runtime::builder().slots(slots).build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let inner = error.get_ref().unwrap().downcast_ref::<gondola::SlotsOutOfRange>();
        assert_eq!(inner.unwrap().slots, slots);
    }
    drop(runtime(1 << 20));
}

#[test]
fn a_runtime_in_a_thread_local_is_dropped_at_thread_exit() {
    thread_local! {
        static KEPT: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    std::thread::spawn(|| {
        let mut runtime = runtime(2);
        runtime.block_on(async {
            let sleeping = try_spawn(gondola::time::sleep(std::time::Duration::from_secs(60)));
            sleeping.unwrap().detach();
            yield_now().await;
        });
        KEPT.with(|kept| kept.replace(Some(runtime)));
    })
    .join()
    .unwrap();
}

// Abort handles, and the end of all tasks.

#[test]
fn an_abort_handle_aborts_its_own_task_only() {
    gondola::block_on(async {
        let first = try_spawn(yield_now()).unwrap();
        let abort = first.abort_handle();
        assert!(!abort.is_finished());
        first.await.unwrap();
        assert!(abort.is_finished());
        // The next task in the same slot has other memory: the handle keeps the old.
        let second = try_spawn(async {
            yield_now().await;
            2
        });
        abort.abort();
        assert_eq!(second.unwrap().await.unwrap(), 2);
        assert!(abort.is_finished());
    });
}

#[test]
fn an_abort_handle_outlives_everything() {
    let mut runtime = Runtime::builder().slots(2).build().unwrap();
    let alive = Rc::new(());
    let (detached, own) = runtime.block_on(async {
        let held = alive.clone();
        let task = try_spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        let detached = task.as_ref().unwrap().abort_handle();
        task.unwrap().detach();

        // A task that aborts itself is polled to its next wait, and then no more.
        let own: Rc<RefCell<Option<AbortHandle>>> = Rc::default();
        let shared = own.clone();
        let task = try_spawn(async move {
            shared.borrow().as_ref().unwrap().abort();
            yield_now().await;
            unreachable!("it was aborted");
        });
        let task = task.unwrap();
        *own.borrow_mut() = Some(task.abort_handle());
        assert!(task.await.unwrap_err().is_cancelled());
        (detached, own.take().unwrap())
    });
    assert!(own.is_finished() && !detached.is_finished());
    let again = runtime.block_on(async {
        detached.abort();
        yield_now().await;
        assert_eq!(Rc::strong_count(&alive), 1);
        try_spawn(pending::<()>()).unwrap().abort_handle()
    });
    drop(runtime);
    for abort in [detached, own, again] {
        assert!(abort.is_finished());
        abort.abort();
    }
}

#[test]
fn an_output_waits_for_its_handle_whatever_abort_handles_there_are() {
    let dropped = Rc::new(Cell::new(0));
    struct Output(Rc<Cell<usize>>);
    impl Drop for Output {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    gondola::block_on(async {
        let make = || {
            let output = Output(dropped.clone());
            try_spawn(async move { output }).unwrap()
        };
        let (kept, left) = (make(), make());
        let aborts = [kept.abort_handle(), left.abort_handle(), left.abort_handle()];
        yield_now().await;
        yield_now().await;
        assert_eq!(dropped.get(), 0);
        drop(left);
        assert_eq!(dropped.get(), 1);
        drop(aborts);
        drop(kept.await.unwrap());
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn when_all_tasks_are_done_whoever_waits_for_it_is_told() {
    let mut runtime = Runtime::builder().slots(7).virtual_time().build().unwrap();
    runtime.block_on(async {
        tasks_done().await;
        let start = now();
        for seconds in 1..=3 {
            // They give their slot to those who queue, too.
            try_spawn(async move {
                sleep(Duration::from_secs(seconds)).await;
                let last = reserve().await;
                last.spawn(sleep(Duration::from_secs(10))).detach();
            })
            .unwrap()
            .detach();
        }
        let slot = reserve().await;
        let mut given_up = Box::pin(tasks_done());
        assert!(poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        let (one, other) = (tasks_done(), tasks_done());
        let reserved = async {
            sleep(Duration::from_secs(20)).await;
            drop(slot);
        };
        futures::join!(one, other, reserved);
        assert_eq!(now() - start, Duration::from_secs(20));
        assert_eq!(metrics().unwrap().taken, 0);

        // Too long: the caller goes on.
        try_spawn(pending::<()>()).unwrap().detach();
        assert!(timeout(Duration::from_secs(1), tasks_done()).await.is_err());
    });
    // Once the runtime is gone, there is nothing to wait for.
    let mut waiting = Box::pin(tasks_done());
    runtime.block_on(async { assert!(poll!(waiting.as_mut()).is_pending()) });
    drop(runtime);
    gondola::block_on(waiting);
}
