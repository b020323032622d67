//! Timers, mostly in virtual time.

mod support;

use futures::FutureExt;
use futures::future::{join_all, poll_fn};
use gondola::time::{interval, now, sleep, sleep_until, timeout, timeout_at};
use gondola::{Runtime, block_on, try_spawn, yield_now};
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use support::cases::Choices;
use support::{CountWakes, Trace, probe};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn simulated() -> Runtime {
    Runtime::builder().slots(64).virtual_time().build().unwrap()
}

/// One in virtual time, and one in real time.
fn both_clocks() -> [Runtime; 2] {
    [simulated(), Runtime::builder().slots(64).build().unwrap()]
}

#[test]
fn virtual_time_jumps_from_deadline_to_deadline() {
    let real = Instant::now();
    let trace = Trace::default();
    simulated().block_on(async {
        let start = now();
        for seconds in [30, 10, 86_400, 20] {
            let trace = trace.clone();
            try_spawn(async move {
                sleep(SECOND * seconds).await;
                assert_eq!(now() - start, SECOND * seconds);
                trace.add(seconds.to_string());
            })
            .unwrap()
            .detach();
        }
        sleep(SECOND * 100_000).await;
    });
    assert_eq!(trace.take(), "10 20 30 86400");
    assert!(real.elapsed() < SECOND * 10);
}

#[test]
fn the_same_program_makes_the_same_trace() {
    let run = |seed: u64| {
        let trace = Trace::default();
        simulated().block_on(async {
            let start = now();
            let tasks = (0..40_u64).map(|task| {
                let (trace, mut random) = (trace.clone(), Choices::seed(seed + task));
                async move {
                    for _ in 0..20 {
                        match random.below(3) {
                            0 => yield_now().await,
                            _ => sleep(MS * random.below(50) as u32).await,
                        }
                        trace.add(format!("{task}@{}", (now() - start).as_millis()));
                    }
                }
            });
            let tasks: Vec<_> = tasks.map(|task| try_spawn(task).unwrap()).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        trace.take()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(1_000));
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines_and_never_early() {
    for seed in 1..=20 {
        let mut random = Choices::seed(seed);
        let trace = Trace::default();
        let mut expected: Vec<u64> =
            (0..300).map(|_| random.next() >> 24 >> random.below(40)).collect();
        simulated().block_on(async {
            let start = now();
            let sleeps = expected.iter().map(|&micros| {
                let trace = trace.clone();
                async move {
                    sleep_until(start + Duration::from_micros(micros)).await;
                    assert_eq!(now() - start, Duration::from_micros(micros), "seed {seed}");
                    trace.add(micros.to_string());
                }
            });
            join_all(sleeps).await;
        });
        expected.sort_unstable();
        let expected: Vec<_> = expected.iter().map(u64::to_string).collect();
        assert_eq!(trace.take(), expected.join(" "), "seed {seed}");
    }
}

#[test]
fn sleeps_that_leave_from_the_middle_disturb_no_other() {
    for seed in 1..=20 {
        let mut random = Choices::seed(seed);
        simulated().block_on(async {
            let start = now();
            let mut kept: Vec<(Duration, Pin<Box<gondola::time::Sleep>>)> = Vec::new();
            let cx = &mut Context::from_waker(Waker::noop());
            for _ in 0..500 {
                if random.below(3) == 0 && !kept.is_empty() {
                    drop(kept.swap_remove(random.below(kept.len() as u64) as usize));
                } else {
                    let after = MS * (1 + random.below(1_000) as u32);
                    let mut sleep = Box::pin(sleep_until(start + after));
                    assert!(sleep.as_mut().poll(cx).is_pending());
                    kept.push((after, sleep));
                }
            }
            kept.sort_by_key(|(after, _)| *after);
            for (after, sleep) in kept {
                sleep.await;
                assert!(now() - start >= after, "seed {seed}");
                assert!(now() - start <= after, "seed {seed}: late in virtual time");
            }
        });
    }
}

#[test]
fn no_duration_panics() {
    simulated().block_on(async {
        let long = [Duration::MAX, Duration::MAX / 2, Duration::from_secs(u64::MAX)];
        for duration in long {
            assert_eq!(sleep(duration).deadline(), None);
            assert!(futures::poll!(pin!(sleep(duration))).is_pending());
            let mut ticks = interval(duration);
            ticks.tick().await;
            assert!(futures::poll!(pin!(ticks.tick())).is_pending());
            assert_eq!(timeout(duration, async { 1 }).await, Ok(1));
        }
        sleep(Duration::ZERO).await;
        sleep_until(now() - SECOND).await;
        let far = now() + Duration::from_secs(1 << 33);
        assert!(timeout_at(now() + SECOND, sleep_until(far)).await.is_err());
        let mut ticks = interval(Duration::ZERO);
        for _ in 0..10 {
            ticks.tick().await;
        }
        let mut ticks = interval(Duration::from_nanos(1));
        for _ in 0..10 {
            ticks.tick().await;
        }
        // Years of nanosecond ticks were missed: the next one is computed, not counted.
        sleep(Duration::from_secs(1 << 33)).await;
        ticks.tick().await;
        ticks.tick().await;
    });
}

#[test]
fn a_sleep_that_never_ends_is_a_deadlock_in_virtual_time() {
    let caught = std::panic::catch_unwind(|| simulated().block_on(sleep(Duration::MAX)));
    let text = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(text.starts_with("deadlock: 0 of 64 slots and the root future wait"), "{text}");
}

#[test]
fn time_stands_still_while_anything_runs() {
    simulated().block_on(async {
        let start = now();
        let sleeper = try_spawn(sleep(MS)).unwrap();
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert_eq!(now(), start);
        assert!(!sleeper.is_finished());
    });
}

#[test]
fn a_timeout_drops_its_future_before_it_returns() {
    simulated().block_on(async {
        let (future, counts) = probe();
        let mut late = pin!(timeout(SECOND, future));
        assert!(futures::poll!(late.as_mut()).is_pending());
        assert!(late.as_mut().await.is_err());
        assert_eq!(counts.drops.get(), 1, "it still stands here, but its future is gone");
    });
}

#[test]
fn a_ready_future_beats_its_timeout() {
    simulated().block_on(async {
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
        // Both in the same turn: the result wins.
        let result = timeout_at(now() + SECOND, sleep(SECOND)).await;
        assert_eq!(result, Ok(()));
    });
}

#[test]
fn a_timeout_ends_a_future_that_never_rests() {
    // In real time: a future that wakes itself at each poll cannot keep the timers from being
    // looked at.
    block_on(async {
        let mut polls = 0_u64;
        let hog = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(timeout(MS, hog).await.is_err());
        assert!(polls > 64);
    });
}

#[test]
fn a_loop_of_waits_that_are_over_lets_others_run() {
    const TINY: Duration = Duration::from_nanos(1);
    for kind in 0..5 {
        for mut runtime in both_clocks() {
            runtime.block_on(async {
                let other = try_spawn(async {
                    for _ in 0..100 {
                        yield_now().await;
                    }
                })
                .unwrap();
                let mut ticks = [interval(Duration::ZERO), interval(TINY)];
                let mut rounds = 0;
                while !other.is_finished() {
                    match kind {
                        0 => sleep(Duration::ZERO).await,
                        1 => sleep_until(now()).await,
                        2 => assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err()),
                        _ => drop(ticks[kind - 3].tick().await),
                    }
                    rounds += 1;
                    assert!(rounds < 1_000, "kind {kind} starves the other");
                }
            });
        }
    }
}

#[test]
fn the_first_tick_is_ready_at_the_first_poll() {
    for mut runtime in both_clocks() {
        runtime.block_on(async {
            for period in [Duration::ZERO, SECOND * 3600, Duration::MAX] {
                let before = now();
                let mut ticks = interval(period);
                let first = ticks.tick().now_or_never().expect("it ticks now");
                assert!(before <= first && first <= now());
                assert_eq!(ticks.tick().now_or_never(), None, "one tick at once, and no more");
            }
        });
    }
}

#[test]
fn a_deadline_that_had_passed_at_the_last_look_is_ready_at_the_first_poll() {
    let past = Instant::now() - SECOND;
    for mut runtime in both_clocks() {
        runtime.block_on(async {
            assert_eq!(sleep_until(past).now_or_never(), Some(()));
            assert!(timeout_at(past, pending::<()>()).now_or_never().unwrap().is_err());
            assert_eq!(timeout_at(past, async { 1 }).now_or_never(), Some(Ok(1)));
            // One of just now waits for the next look.
            assert_eq!(sleep_until(now()).now_or_never(), None);
        });
    }
}

#[test]
fn missed_ticks_are_skipped_and_the_grid_is_kept() {
    simulated().block_on(async {
        let mut ticks = interval(SECOND * 10);
        let start = ticks.tick().await;
        let due = |tick: Instant| (tick - start).as_secs();
        assert_eq!(due(ticks.tick().await), 10);
        sleep(SECOND * 35).await; // it is 45 s now
        assert_eq!((due(ticks.tick().await), (now() - start).as_secs()), (20, 45));
        assert_eq!((due(ticks.tick().await), (now() - start).as_secs()), (50, 50));
        sleep(SECOND * 10).await; // exactly on time is not late
        assert_eq!(due(ticks.tick().await), 60);
        assert_eq!(due(ticks.tick().await), 70);
    });
}

#[test]
fn a_cancelled_tick_is_not_lost() {
    simulated().block_on(async {
        let mut ticks = interval(SECOND * 10);
        let start = ticks.tick().await;
        assert!(timeout(SECOND * 5, ticks.tick()).await.is_err());
        assert_eq!(ticks.tick().await - start, SECOND * 10);
    });
}

#[test]
fn a_sleep_wakes_the_last_waker_that_polled_it() {
    simulated().block_on(async {
        let counts = [Arc::new(CountWakes::default()), Arc::new(CountWakes::default())];
        let mut sleep = pin!(sleep(SECOND));
        for count in &counts {
            let waker = Waker::from(count.clone());
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        gondola::time::sleep(SECOND * 2).await;
        assert_eq!((counts[0].count(), counts[1].count()), (0, 1));
        sleep.await;
    });
}

#[test]
fn a_sleep_that_is_done_stays_done() {
    simulated().block_on(async {
        let mut sleep = pin!(sleep(SECOND));
        sleep.as_mut().await;
        assert!(futures::poll!(sleep.as_mut()).is_ready());
        gondola::time::sleep(SECOND).await;
        assert!(futures::poll!(sleep.as_mut()).is_ready());
    });
}

#[test]
fn a_sleep_may_move_to_another_runtime_and_outlive_its_own() {
    let (mut first, mut second) = (simulated(), simulated());
    let mut wandering = first.block_on(async {
        let mut wandering = Box::pin(sleep(SECOND));
        assert!(futures::poll!(wandering.as_mut()).is_pending());
        wandering
    });
    let left = first.block_on(async {
        let mut left = Box::pin(sleep(SECOND));
        assert!(futures::poll!(left.as_mut()).is_pending());
        left
    });
    assert!(format!("{first:?}").contains("timers: 2"), "{first:?}");
    second.block_on(wandering.as_mut());
    assert!(format!("{first:?}").contains("timers: 1"), "{first:?}");
    drop(first);
    drop(left);
}

#[test]
#[should_panic(expected = "is entered on this thread (one of another version does not count)")]
fn a_sleep_outside_any_runtime_says_so() {
    futures::executor::block_on(sleep(MS));
}

#[test]
fn real_sleeps_are_never_early() {
    block_on(async {
        let sleeps = (1..50).map(|n| async move {
            let start = Instant::now();
            let duration = Duration::from_micros(n * 317);
            sleep(duration).await;
            assert!(start.elapsed() >= duration);
        });
        join_all(sleeps).await;
        // After a long computation the last look at the clock is long past: a deadline made from
        // it would be too early.
        let computing = Instant::now();
        while computing.elapsed() < MS * 3 {}
        let start = Instant::now();
        let pause = sleep(MS * 5);
        while start.elapsed() < MS {}
        pause.await;
        assert!(start.elapsed() >= MS * 5);
    });
}

#[test]
fn timers_are_looked_at_while_tasks_are_always_ready() {
    block_on(async {
        let hog = try_spawn(async {
            for _ in 0..10_000_000 {
                yield_now().await;
            }
        });
        let hog = hog.unwrap();
        sleep(MS).await;
        assert!(!hog.is_finished(), "ten million polls, and no look");
        hog.abort();
    });
}

#[test]
fn dropped_sleeps_leave_nothing_behind() {
    let mut runtime = simulated();
    runtime.block_on(async {
        for _ in 0..1_000 {
            let mut sleep = pin!(sleep(SECOND));
            assert!(futures::poll!(sleep.as_mut()).is_pending());
        }
        let _ = timeout(SECOND, yield_now()).await;
    });
    assert!(format!("{runtime:?}").contains("timers: 0"), "{runtime:?}");
}

#[test]
fn a_waker_that_panics_in_the_timers_hurts_no_other_timer() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("hostile waker");
        }
    }
    let mut runtime = simulated();
    let mut hostile = Box::pin(runtime.block_on(async { sleep(SECOND) }));
    let task = runtime.block_on(async {
        let waker = Waker::from(Arc::new(Bomb));
        assert!(hostile.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let task = try_spawn(sleep(SECOND)).unwrap();
        yield_now().await;
        task
    });
    let run = std::panic::AssertUnwindSafe(|| runtime.block_on(sleep(SECOND * 2)));
    assert!(std::panic::catch_unwind(run).is_err());
    runtime.block_on(task).unwrap();
    drop(hostile);
    let _never = pending::<()>();
}
