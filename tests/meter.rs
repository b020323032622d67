//! The meter: what it counts, whatever becomes of the items and of the batch.

use futures::FutureExt;
use gondola::meter::{Meter, Reading};
use gondola::time::{interval, sleep, timeout};
use gondola::{OnError, Runtime, batch, try_spawn};
use std::cell::RefCell;
use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn in_virtual_time<F: Future>(future: F) -> F::Output {
    Runtime::builder().virtual_time().build().unwrap().block_on(future)
}

/// Within the 4 % of the histogram.
fn is_about(read: Duration, millis: u64) -> bool {
    (read.as_secs_f64() * 1e3 / millis as f64 - 1.0).abs() < 0.04
}

#[test]
fn every_item_has_one_fate_and_the_times_are_right() {
    in_virtual_time(async {
        let meter = Meter::new();
        let run = batch(1..=100_u64).limit(10).on_error(OnError::Collect).try_for_each(|n| {
            meter.try_watch(async move {
                sleep(n as u32 * MS).await;
                if n % 10 == 0 { Err(n) } else { Ok(()) }
            })
        });
        assert_eq!(run.await.unwrap_err().errors.len(), 10);
        let read = meter.read();
        assert_eq!((read.begun, read.completed, read.failed), (100, 90, 10));
        assert_eq!((read.cut_off, read.in_flight), (0, 0));
        for (percentile, millis) in [(read.p50, 50), (read.p90, 90), (read.p99, 99)] {
            assert!(is_about(percentile, millis), "{read:?}");
        }
        assert_eq!(read.max, 100 * MS);
        // 10, 20, .. 100 each in a slot of its own: 1 + 11 + .. + 91 first, 10 + 20 + .. + 100 last.
        assert_eq!(read.elapsed, 550 * MS);
        assert!((read.items_per_second() - 100.0 / 0.55).abs() < 1e-9);

        // It goes on being readable, and its time stands still.
        sleep(1000 * MS).await;
        assert_eq!(meter.read(), read);
    });
}

#[test]
fn what_is_dropped_in_flight_or_panics_is_cut_off() {
    in_virtual_time(async {
        let meter = Meter::new();
        let run = batch(0..9).limit(3).for_each(|_| meter.watch(pending()));
        assert!(timeout(5 * MS, run).await.is_err());
        let read = meter.read();
        assert_eq!((read.begun, read.cut_off, read.in_flight), (3, 3, 0));
        assert_eq!((read.items_per_second(), read.elapsed), (0.0, 5 * MS));

        let panics = batch(0..9).limit(3).for_each(|_| meter.watch(async { panic!("on purpose") }));
        assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        assert_eq!((meter.read().begun, meter.read().cut_off), (4, 4));
    });
}

#[test]
fn another_task_reads_it_while_the_batch_runs() {
    in_virtual_time(async {
        let meter = Meter::new();
        let log = Rc::new(RefCell::new(Vec::new()));
        let (read, seen) = (meter.clone(), log.clone());
        let reader = try_spawn(async move {
            let mut ticks = interval(20 * MS);
            loop {
                ticks.tick().await;
                let Reading { in_flight, completed, elapsed, .. } = read.read();
                seen.borrow_mut().push((in_flight, completed, elapsed));
            }
        });
        sleep(MS).await; // so that the ticks come between the ends
        batch(0..8).limit(2).for_each(|_| meter.watch(sleep(10 * MS))).await.unwrap();
        reader.unwrap().abort();
        assert_eq!(log.take(), [(0, 0, Duration::ZERO), (2, 2, 19 * MS), (2, 6, 39 * MS)]);
    });
}

#[test]
fn a_meter_outlives_its_batch_and_what_it_watches_outlives_the_meter() {
    let meter = Meter::new();
    let watched = meter.watch(ready(1));
    let reader = meter.clone();
    drop(meter);
    assert_eq!((reader.read().begun, reader.read().in_flight), (1, 1));
    // Another executor: no runtime of ours is entered.
    assert_eq!(futures::executor::block_on(watched), 1);
    assert_eq!((reader.read().completed, reader.read().in_flight), (1, 0));
    let orphan = { Meter::new().watch(ready(2)) };
    assert_eq!(futures::executor::block_on(orphan), 2);
}

#[test]
fn the_thread_is_busy_only_in_polls() {
    let meter = Meter::new();
    let spin = |time| {
        let start = std::time::Instant::now();
        while start.elapsed() < time {}
    };
    gondola::block_on(batch(0..3).limit(1).for_each(|_| {
        meter.watch(async {
            spin(2 * MS);
            sleep(5 * MS).await;
            spin(MS);
        })
    }))
    .unwrap();
    let read = meter.read();
    // Facts, however busy the machine is: spinning takes at least so long, and so does sleeping.
    assert!(read.busy >= 9 * MS && read.busy_per_item() >= 3 * MS, "{read}");
    assert!(read.elapsed >= read.busy + 15 * MS, "{read}");
    assert!(read.busy_share() > 0.0 && read.busy_share() < 1.0, "{read}");
}

#[test]
fn a_watched_future_is_a_few_words_larger() {
    let meter = Meter::new();
    let (bare, watched) = (sleep(MS), meter.watch(sleep(MS)));
    assert!(size_of_val(&watched) <= size_of_val(&bare) + 56, "{}", size_of_val(&watched));
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn polled_after_it_was_ready_it_panics() {
    let meter = Meter::new();
    let mut watched = Box::pin(meter.watch(ready(())));
    gondola::block_on(watched.as_mut());
    gondola::block_on(watched.as_mut());
}

/// A future may read its meter, and watch others, in a poll and in a destructor.
#[test]
fn nothing_is_borrowed_while_what_it_watches_runs() {
    struct Reads(Meter);
    impl Drop for Reads {
        fn drop(&mut self) {
            drop(self.0.watch(pending::<()>()));
        }
    }
    let meter = Meter::new();
    let reads = Reads(meter.clone());
    gondola::block_on(meter.watch(async {
        assert_eq!(meter.read().in_flight, 1);
        let _reads = reads;
        sleep(MS).await;
    }));
    let reads = Reads(meter.clone());
    drop(meter.watch(async move {
        let _reads = reads;
        pending::<()>().await;
    }));
    let read = meter.read();
    assert_eq!((read.completed, read.cut_off, read.in_flight), (1, 3, 0));
}
