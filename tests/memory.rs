//! What is allocated, counted by the allocator, for each thread: the test harness has one of its own.

use futures::future::poll_fn;
use gondola::time::{sleep, timeout};
use gondola::{CancellationToken, Runtime, batch, reserve, try_spawn, yield_now};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::task::Poll;
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
