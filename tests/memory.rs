//! What is allocated, counted by the allocator, for each thread: the test harness has one of its own.

use futures::future::poll_fn;
use gondola::time::{now, sleep, sleep_until, timeout};
use gondola::{CancellationToken, Runtime, batch, reserve, try_spawn, yield_now};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does the work; the counters have no destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // What one thread allocates, another may free.
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        PEAK.set(PEAK.get().max(LIVE.get()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations during `f`, and its peak of live bytes above those before it.
fn measured<T>(f: impl FnOnce() -> T) -> (usize, usize, T) {
    let (count, live) = (COUNT.get(), LIVE.get());
    PEAK.set(live);
    let result = f();
    (COUNT.get() - count, PEAK.get() - live, result)
}

fn waits(mut times: u32) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[test]
fn a_map_takes_the_memory_of_its_result_and_a_bit_for_each_output() {
    const ITEMS: usize = 100_000;
    type Output = [u64; 7];
    fn peak(allocations: usize, f: impl FnOnce() -> Vec<Output>) {
        let (count, peak, outputs) = measured(f);
        assert!((0..ITEMS).all(|item| outputs[item] == [item as u64; 7]));
        let result = ITEMS * size_of::<Output>();
        assert!(count <= allocations, "{count} allocations");
        assert!(peak <= result + ITEMS / 8 + 4_000, "{peak} bytes for a result of {result}");
    }
    let run = |item: usize| async move {
        waits(item as u32 % 3).await;
        [item as u64; 7]
    };
    let batch = || batch(0..ITEMS).limit(8);
    futures::executor::block_on(async {}); // what it allocates once
    // Slots, wakers, outputs and bits.
    peak(4, || futures::executor::block_on(batch().map(run)).unwrap());
    let fallible = |item| async move { Ok::<_, ()>(run(item).await) };
    peak(4, || futures::executor::block_on(batch().try_map(fallible)).unwrap());
}

#[test]
fn nothing_is_allocated_once_warm() {
    // A batch: two allocations, however many items, and the same peak.
    let run = |items: u64, k: usize| {
        measured(|| {
            let done = Cell::new(0);
            let done_ref = &done;
            let run = batch(0..items).limit(k).for_each(|_| async move {
                waits(2).await;
                done_ref.set(done_ref.get() + 1);
            });
            futures::executor::block_on(run).unwrap();
            assert_eq!(done.get(), items);
        })
    };
    run(10, 2);
    for k in [1, 8, 64, 65, 1_000] {
        let (few, few_peak, ()) = run(1_000, k);
        let (many, many_peak, ()) = run(1_000_000, k);
        assert_eq!((few, many), (2, 2), "K = {k}");
        assert_eq!(few_peak, many_peak, "K = {k}");
    }
    // The same with an error record: the box, the errors and the indices.
    let (count, _, ()) = measured(|| {
        let run = batch(0..1_000).limit(8).try_for_each(|item| async move {
            waits(1).await;
            if item == 500 { Err(item) } else { Ok(()) }
        });
        assert_eq!(futures::executor::block_on(run).unwrap_err().index(), Some(500));
    });
    assert!(count <= 6, "{count} allocations for a failure");

    let mut runtime = Runtime::builder().slots(64).build().unwrap();
    let mut warm = |name: &str, mut work: Box<dyn FnMut(&mut Runtime)>| {
        work(&mut runtime);
        let (count, _, ()) = measured(|| work(&mut runtime));
        assert_eq!(count, 0, "{name}");
    };

    warm(
        "spawn and join, one by one",
        Box::new(|runtime| {
            runtime.block_on(async {
                for n in 0..1_000 {
                    assert_eq!(try_spawn(async move { n }).unwrap().await.unwrap(), n);
                }
            });
        }),
    );
    let mut handles = Vec::with_capacity(64);
    warm(
        "waves of 64",
        Box::new(move |runtime| {
            runtime.block_on(async {
                for _ in 0..10 {
                    handles.extend((0..64_u64).map(|n| try_spawn(async move { n }).unwrap()));
                    for handle in handles.drain(..) {
                        handle.await.unwrap();
                    }
                }
            });
        }),
    );
    warm(
        "detached tasks and waiting for slots",
        Box::new(|runtime| {
            runtime.block_on(async {
                for _ in 0..1_000 {
                    reserve().await.spawn(yield_now()).detach();
                }
                // Leaves no task behind for the next round's first polls.
                for _ in 0..3 {
                    yield_now().await;
                }
            });
        }),
    );
    warm(
        "sleeps and time-outs",
        Box::new(|runtime| {
            runtime.block_on(async {
                for _ in 0..100 {
                    let _ = timeout(Duration::from_secs(1), yield_now()).await;
                    sleep(Duration::ZERO).await;
                }
            });
        }),
    );
    let token = CancellationToken::new();
    warm(
        "waits for a token",
        Box::new(move |runtime| {
            runtime.block_on(async {
                for _ in 0..100 {
                    token.run_until_cancelled(yield_now()).await;
                    drop(token.child_token());
                }
            });
        }),
    );
    drop(runtime);

    // A thousand runtimes later, with what lived in them, everything is back.
    let live = LIVE.get();
    for _ in 0..1_000 {
        let mut runtime = Runtime::builder().slots(70).build().unwrap();
        runtime.block_on(async {
            try_spawn(sleep(Duration::from_secs(9))).unwrap().detach();
            let _ = try_spawn(async { 1 }).unwrap().await;
            let token = CancellationToken::new();
            let child = token.child_token().child_token();
            drop(token);
            drop(child);
        });
    }
    assert_eq!(LIVE.get(), live);

    // A million dropped children leave nothing behind in a parent that lives.
    let parent = CancellationToken::new();
    drop(parent.child_token());
    let (count, peak, ()) = measured(|| {
        for _ in 0..1_000_000 {
            drop(parent.child_token().child_token());
        }
    });
    assert!(count <= 1 && peak < 1_000, "{count} allocations, {peak} bytes");

    // An idle task costs its box and its share of the ring: five words, and at most 16 bytes that
    // do not depend on the word, of the box's header and of the wakers' page.
    let slots = 10_000;
    let (_, ring, mut runtime) = measured(|| Runtime::builder().slots(slots).build().unwrap());
    let (_, tasks, ()) = measured(|| {
        runtime.block_on(async {
            for _ in 0..slots {
                let word = 1_usize;
                let idle = poll_fn(move |_| {
                    assert_eq!(word, 1);
                    Poll::<()>::Pending
                });
                assert_eq!(size_of_val(&idle), size_of::<usize>());
                try_spawn(idle).unwrap().detach();
            }
        });
    });
    let each = (ring + tasks) as f64 / slots as f64;
    let most = (5 * size_of::<usize>() + 16) as f64;
    assert!(each <= most, "{each} bytes per idle task ({ring} for the ring)");
}

const BURST: usize = 200_000;

/// How many bytes a burst leaves behind: some that come first and stay, many that come and go, in
/// this order or the other, and the last of them.
fn left_of_burst<T>(mut make: impl FnMut() -> T, old: usize, backwards: bool) -> usize {
    let mut burst: Vec<Option<T>> = Vec::with_capacity(BURST);
    let before = LIVE.get();
    let staying: Vec<T> = (0..old).map(|_| make()).collect();
    burst.extend((0..BURST).map(|_| Some(make())));
    let last = make();
    assert!(LIVE.get() - before > BURST * 16, "it was no burst");
    match backwards {
        false => burst.iter_mut().for_each(|one| *one = None),
        true => burst.iter_mut().rev().for_each(|one| *one = None),
    }
    drop(last);
    let left = LIVE.get() - before;
    drop(staying);
    left
}

/// Polls a future of the present runtime, or of none, for the first time.
fn waiting<F: Future + Unpin>(mut future: F) -> F {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(cx).is_pending());
    future
}

#[test]
fn the_memory_of_a_burst_is_given_back() {
    // Of 8 to 16 million.
    const KEPT: usize = 120_000;
    let mut runtime = Runtime::builder().slots(1).virtual_time().build().unwrap();
    for (old, backwards) in [(0, false), (0, true), (100, false), (100, true)] {
        let kept = |what: &str, left: usize| {
            assert!(left <= KEPT, "{what}, {old} of them older, leave {left} bytes");
        };
        runtime.block_on(async {
            let hour = || waiting(sleep(Duration::from_secs(3_600)));
            kept("sleeps of one length", left_of_burst(hour, old, backwards));
            let mut after = 0;
            let some = || {
                after += 7_919;
                waiting(sleep(Duration::from_micros(after % 1_000_000)))
            };
            kept("sleeps", left_of_burst(some, old, backwards));
            let full = try_spawn(std::future::pending::<()>());
            let waits = || waiting(reserve());
            kept("reservations", left_of_burst(waits, old, backwards));
            drop(full);
        });
        let token = CancellationToken::new();
        kept("children", left_of_burst(|| token.child_token(), old, backwards));
        kept("waiters", left_of_burst(|| waiting(token.cancelled()), old, backwards));
    }

    // The same, as it ends by itself: all sleeps are over, all waiters cancelled.
    let before = LIVE.get();
    runtime.block_on(async {
        let start = now();
        let all = (0..BURST as u64)
            .map(|n| waiting(sleep_until(start + Duration::from_nanos(1 + n * 7_919 % 1_000_000))));
        let all: Vec<_> = all.collect();
        sleep_until(start + Duration::from_secs(1)).await;
        assert!(all.into_iter().all(|mut sleep| {
            Pin::new(&mut sleep).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }));
    });
    assert!(LIVE.get() - before <= KEPT, "{} bytes", LIVE.get() - before);
    let token = CancellationToken::new();
    let before = LIVE.get();
    let all: Vec<_> = (0..BURST).map(|_| token.child_token()).collect();
    let waits: Vec<_> = all.iter().map(|child| waiting(child.cancelled())).collect();
    token.cancel();
    drop(waits);
    drop(all);
    assert!(LIVE.get() - before <= 2 * KEPT, "{} bytes", LIVE.get() - before);
}

#[test]
fn waves_and_single_steps_allocate_little() {
    let mut runtime = Runtime::builder().slots(1).virtual_time().build().unwrap();
    runtime.block_on(async {
        let far = || waiting(sleep(Duration::from_secs(1)));
        // As many as the default ring has slots: nothing at all.
        let mut all = Vec::with_capacity(4 * BURST);
        let mut wave = |size| {
            let (count, _, ()) = measured(|| {
                all.extend((0..size).map(|_| far()));
                all.clear();
            });
            count
        };
        wave(1_000);
        assert_eq!(wave(1_000), 0);
        // If it is more, as often as an array doubles and is cut.
        wave(BURST);
        let count = wave(BURST);
        assert!(count <= 100, "{count} allocations");
        // One goes, and one comes, wherever that may be.
        for size in (0..5_000).step_by(17) {
            while all.len() < size {
                all.push(far());
            }
            let (count, _, ()) = measured(|| {
                for _ in 0..10 {
                    all.pop();
                    all.push(far());
                    let kept = far();
                    drop(far());
                    drop(kept);
                }
            });
            assert!(count <= 4, "{count} allocations at {size}");
        }
    });
}
