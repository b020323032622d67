//! A limit that lives: changed while the batch runs, by itself, by a task, by other threads.

mod support;

use gondola::batch::Limit;
use gondola::time::sleep;
use gondola::{CancellationToken, ErrorKind, Runtime, Stop, batch, block_on, try_spawn, yield_now};
use std::cell::Cell;
use std::future::{Future, ready};
use std::iter::from_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;
use support::CountWakes;

const MS: Duration = Duration::from_millis(1);

fn simulate<T>(future: impl Future<Output = T>) -> T {
    Runtime::builder().slots(16).virtual_time().build().unwrap().block_on(future)
}

/// How many are in flight.
#[derive(Default)]
struct Flight {
    now: Cell<usize>,
    most: Cell<usize>,
}

impl Flight {
    fn one(&self) -> impl Drop + use<'_> {
        self.now.set(self.now.get() + 1);
        self.most.set(self.most.get().max(self.now.get()));
        support::OnDrop(|| self.now.set(self.now.get() - 1))
    }
}

#[test]
fn raised_it_begins_more_and_lowered_it_drops_nothing() {
    let (limit, flight) = (Limit::new(2, 8), Flight::default());
    let seen = simulate(async {
        let run = batch(0..100).limit(&limit).map(async |_| {
            let _one = flight.one();
            sleep(MS * 10).await;
        });
        let watch = async {
            let mut seen = Vec::new();
            for set in [2, 8, 3, 0, 0, 1] {
                limit.set(set);
                sleep(MS * 10 + MS / 2).await;
                seen.push(flight.now.get());
            }
            limit.set(100);
            seen
        };
        let (done, seen) = futures::join!(run, watch);
        assert_eq!(done.unwrap().len(), 100, "nothing was dropped");
        seen
    });
    // Lowered from 8 to 3: those in flight end first.
    assert_eq!(seen, [2, 8, 3, 0, 0, 1]);
    assert_eq!((flight.most.get(), limit.get(), limit.max()), (8, 8, 8));
}

#[test]
fn a_pause_asks_for_nothing_and_is_no_end() {
    let limit = Limit::new(0, 4);
    let asked = Cell::new(0);
    let source = || {
        from_fn(|| {
            asked.set(asked.get() + 1);
            (asked.get() <= 3).then_some(asked.get())
        })
    };
    let told = Arc::new(CountWakes::default());
    let waker = Waker::from(told.clone());
    let cx = &mut Context::from_waker(&waker);
    let mut plain = batch(source()).limit(&limit).for_each(async |_| {});
    let mut growing = batch(source()).growing().limit(&limit).for_each(async |_| {});
    for _ in 0..3 {
        assert!(Pin::new(&mut plain).poll(cx).is_pending());
        assert!(Pin::new(&mut growing).poll(cx).is_pending());
    }
    assert_eq!((asked.get(), told.count()), (0, 0));
    limit.set(2);
    assert!(told.count() > 0, "it hears of the change");
    assert!(Pin::new(&mut plain).poll(cx).is_ready());
    assert_eq!(asked.replace(0), 4);
    assert!(Pin::new(&mut growing).poll(cx).is_ready());
    assert_eq!(asked.get(), 4);
}

#[test]
fn a_paused_batch_can_be_stopped_and_dropped() {
    let limit = Limit::new(0, 4);
    let token = CancellationToken::new();
    let cancelled = simulate(async {
        let run = batch(0..9).limit(&limit).cancel_on(&token).for_each(async |_| {});
        let cancel = async {
            sleep(MS).await;
            token.cancel();
        };
        futures::join!(run, cancel).0.unwrap_err()
    });
    assert_eq!((cancelled.kind, cancelled.rest), (ErrorKind::Cancelled, 0..9));
    let run = batch(0..9).limit(&limit).for_each(async |_| {});
    let stopped = simulate(run.stop_when(sleep(MS), Stop::Drain)).unwrap_err();
    assert_eq!((stopped.kind, stopped.rest), (ErrorKind::Stopped, 0..9));
    let told = Arc::new(CountWakes::default());
    let waker = Waker::from(told.clone());
    let cx = &mut Context::from_waker(&waker);
    let mut two = [(); 2].map(|()| Box::pin(batch(0..9).limit(&limit).for_each(async |_| {})));
    for run in &mut two {
        assert!(run.as_mut().poll(cx).is_pending());
    }
    let [gone, mut stays] = two;
    drop(gone);
    limit.set(9);
    assert_eq!(told.count(), 1, "the one that is left hears of it");
    assert!(stays.as_mut().poll(cx).is_ready());
}

#[test]
fn bad_limits() {
    let none = Limit::new(3, 0);
    assert_eq!((none.get(), none.set(5)), (0, 0));
    let record = block_on(batch(0..3).limit(none).for_each(|_| ready(()))).unwrap_err();
    assert_eq!((record.kind, record.rest), (ErrorKind::ZeroLimit, 0..3));
    let endless = block_on(batch(0..).limit(Limit::new(1, usize::MAX)).for_each(|_| ready(())));
    assert!(matches!(endless.unwrap_err().kind, ErrorKind::LimitTooLarge { .. }));
    // The largest is no more than the source needs.
    let few = batch(0..3).limit(Limit::new(1, usize::MAX)).for_each(async |_| yield_now().await);
    assert!(block_on(few).is_ok());
}

/// Whatever eight threads do to it: never more than the most, and in the end all are done.
#[test]
fn changed_from_eight_threads_at_once() {
    let limit = Limit::new(1, 16);
    let flight = Flight::default();
    let stop = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let (limit, stop) = (limit.clone(), stop.clone());
            thread::spawn(move || {
                for n in 0.. {
                    limit.set((n * 7 + thread * 5) % 20);
                    if stop.load(Ordering::Relaxed) > 0 {
                        break;
                    }
                    if n % 64 == 0 {
                        thread::yield_now();
                    }
                }
                limit.set(16);
            })
        })
        .collect();
    block_on(async {
        let run = batch(0..20_000).limit(&limit).for_each(async |n| {
            let _one = flight.one();
            yield_now().await;
            if n == 10_000 {
                stop.store(1, Ordering::Relaxed);
            }
        });
        run.await.unwrap();
    });
    stop.store(1, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!((1..=16).contains(&flight.most.get()));
}

#[test]
fn a_task_changes_it_under_any_executor() {
    let limit = Limit::new(1, 3);
    let mut run = pin!(batch(0..4).limit(&limit).for_each(async |_| yield_now().await));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut polls = 0;
    while run.as_mut().poll(cx).is_pending() {
        polls += 1;
        limit.set(polls % 4);
    }
    let task = block_on(async {
        let limit = Limit::new(0, 3);
        let other = limit.clone();
        let task = try_spawn(batch(0..9).limit(limit).map(async |n| n)).unwrap();
        yield_now().await;
        assert!(!task.is_finished());
        other.set(1);
        task.await.unwrap()
    });
    assert_eq!(task.unwrap().len(), 9);
}
