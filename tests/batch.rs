//! The bounded batch: its limit, its law, its error record, and where it runs.

mod support;

use futures::future::poll_fn;
use gondola::batch::{BatchError, Run};
use gondola::time::{now, sleep};
use gondola::{
    CancellationToken, ErrorKind, OnError, Runtime, Stop, batch, block_on, try_spawn, yield_now,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, pending, ready};
use std::iter::from_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::cases::Choices;
use support::{CountWakes, OnDrop, Trace, waker_fn};

const MS: Duration = Duration::from_millis(1);

fn simulate<T>(future: impl Future<Output = T>) -> T {
    Runtime::builder().slots(16).virtual_time().build().unwrap().block_on(future)
}

/// Counts the futures alive; the closure makes one and the drop ends it.
#[derive(Default)]
struct Alive {
    now: Cell<usize>,
    most: Cell<usize>,
    made: Cell<usize>,
}

impl Alive {
    fn one(self: &Rc<Self>) -> impl Drop + use<> {
        let this = self.clone();
        this.made.set(this.made.get() + 1);
        this.now.set(this.now.get() + 1);
        this.most.set(this.most.get().max(this.now.get()));
        OnDrop(move || this.now.set(this.now.get() - 1))
    }
}

#[test]
fn all_items_run_with_at_most_k_futures_alive() {
    for k in [1, 2, 63, 64, 65, 130, 10_000] {
        for n in [0, 1, k, k + 1, 3 * k] {
            let alive = Rc::new(Alive::default());
            let sum = Cell::new(0);
            let sum_ref = &sum;
            // A filter hides the length from `size_hint`'s upper bound only in part: hide it all.
            let mut source = 0..n;
            let items = std::iter::from_fn(move || source.next());
            let run = batch(items).limit(k).for_each(|item| {
                let guard = alive.one();
                async move {
                    let _guard = guard;
                    for _ in 0..=item % 3 {
                        yield_now().await;
                    }
                    sum_ref.set(sum_ref.get() + item);
                }
            });
            simulate(run).unwrap();
            assert_eq!((alive.made.get(), alive.now.get()), (n, 0), "K = {k}, N = {n}");
            assert_eq!(alive.most.get(), k.min(n), "K = {k}, N = {n}: full, and never over");
            assert_eq!(sum.get(), (0..n).sum());
        }
    }
}

#[test]
fn nothing_is_pulled_before_there_is_a_slot() {
    let pulled = Cell::new(0);
    let open = Cell::new(0);
    let (pulled_ref, open_ref) = (&pulled, &open);
    let items = std::iter::repeat_with(|| pulled_ref.set(pulled_ref.get() + 1)).take(20);
    simulate(async {
        let run = batch(items).limit(3).for_each(|()| {
            open_ref.set(open_ref.get() + 1);
            assert!(open_ref.get() <= 3);
            assert!(pulled_ref.get() <= 20);
            async move {
                sleep(MS).await;
                open_ref.set(open_ref.get() - 1);
            }
        });
        run.await.unwrap();
    });
    assert_eq!(pulled.get(), 20);
}

/// 100 items, item 7 fails, its neighbours finish at the same instant: how many are started?
fn started_until_failure(
    k: usize,
    fails: usize,
    group: usize,
) -> (usize, Box<BatchError<std::ops::Range<usize>, usize>>) {
    let started = Cell::new(0);
    let started_ref = &started;
    let run = batch(0..100).limit(k).try_for_each(|item| {
        started_ref.set(started_ref.get() + 1);
        async move {
            sleep(MS * (item / group) as u32 + MS).await;
            if item == fails { Err(item) } else { Ok(()) }
        }
    });
    let error = simulate(run).unwrap_err();
    (started.get(), error)
}

#[test]
fn the_law_no_item_starts_in_or_after_the_turn_of_a_failure() {
    // The items of one group of K finish at the same instant: whoever of them fails, the next
    // group is not begun.
    for k in [1, 5, 64, 65] {
        for fails in [0, k / 2, k - 1] {
            let (started, parts) = started_until_failure(k, fails, k);
            assert_eq!(started, k.min(100), "K = {k}, item {fails} fails");
            assert_eq!(parts.rest, k.min(100)..100);
            assert_eq!(parts.errors[0].index, fails);
        }
    }
    let (started, parts) = started_until_failure(5, 7, 5);
    assert_eq!((started, parts.rest), (10, 10..100));
    assert_eq!(parts.cut_off, [], "the whole group had finished");
    let (started, _) = started_until_failure(130, 7, 5);
    assert_eq!(started, 100);
}

#[test]
fn to_pull_is_to_begin_and_items_begin_in_their_order() {
    for k in [1, 2, 4, 63, 64, 65, 130] {
        let trace = RefCell::new(Vec::new());
        let items = (0..300).inspect(|&item| trace.borrow_mut().push(("pulled", item)));
        let run = batch(items).limit(k).for_each(|item| {
            trace.borrow_mut().push(("called", item));
            let trace = &trace;
            async move {
                trace.borrow_mut().push(("begun", item));
                for _ in 0..item % 4 {
                    yield_now().await;
                }
            }
        });
        block_on(run).unwrap();
        let expected =
            (0..300).flat_map(|item| ["pulled", "called", "begun"].map(|what| (what, item)));
        assert!(trace.into_inner().into_iter().eq(expected), "K = {k}");
    }
}

#[test]
fn nothing_begins_after_an_item_that_fails_in_its_first_poll() {
    for k in [1, 2, 5, 64, 65, 1_000] {
        for fails in [0, k / 2] {
            let begun = Cell::new(0);
            let run = batch(0..5_000).limit(k).try_for_each(async |item| {
                begun.set(begun.get() + 1);
                if item == fails { Err("at once") } else { pending().await }
            });
            let record = block_on(run).unwrap_err();
            assert_eq!(
                (begun.get(), record.pulled, record.index()),
                (fails + 1, fails + 1, Some(fails))
            );
            assert!(record.cut_off.into_iter().eq(0..fails), "K = {k}");
            assert_eq!(record.rest, fails + 1..5_000);
        }
    }
}

#[test]
fn a_line_is_handled_before_the_next_one_is_read() {
    // A source that blocks until its next line is there: the first line must not wait for nine more.
    let (sender, lines) = std::sync::mpsc::channel();
    let has_handle = Cell::new(0);
    let source = std::iter::from_fn(|| {
        if has_handle.get() == 20 {
            return None;
        }
        sender.send(has_handle.get()).unwrap();
        lines.recv().ok()
    });
    let run = batch(source).limit(10).for_each(async |line| {
        assert_eq!(line, has_handle.get());
        has_handle.set(line + 1);
    });
    block_on(run).unwrap();
    assert_eq!(has_handle.get(), 20);
}

#[test]
fn an_item_begun_in_the_turn_before_a_failure_is_the_last() {
    // Item 0 fails at its third poll; item 1 is done at its second, and makes room for item 2.
    let trace = Trace::default();
    let run = batch(0..100).limit(2).try_for_each(|item| {
        let trace = trace.clone();
        let mut polls = 0;
        poll_fn(move |cx| {
            polls += 1;
            trace.add(format!("{item}.{polls}"));
            cx.waker().wake_by_ref();
            match (item, polls) {
                (0, 3) => Poll::Ready(Err(())),
                (1, 2) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
    });
    let record = block_on(run).unwrap_err();
    assert_eq!(trace.take(), "0.1 1.1 0.2 1.2 2.1 0.3 2.2");
    assert_eq!((record.cut_off, record.rest), (vec![2], 3..100));
}

#[test]
fn a_failure_that_another_thread_makes_visible_between_two_pulls_is_seen() {
    for (k, at) in [(4, 2), (64, 40), (65, 64)] {
        let (sender, receiver) = futures::channel::oneshot::channel::<&str>();
        let (mut sender, mut receiver) = (Some(sender), Some(receiver));
        let source = (0..1_000).inspect(|&item| {
            if item == at {
                let sender = sender.take().unwrap();
                std::thread::spawn(move || sender.send("bad").unwrap()).join().unwrap();
            }
        });
        let run = batch(source).limit(k).try_for_each(|item| {
            let fails = (item == 0).then(|| receiver.take().unwrap());
            async move {
                match fails {
                    Some(receiver) => Err(receiver.await.unwrap()),
                    None => pending().await,
                }
            }
        });
        let record = block_on(run).unwrap_err();
        // The item in hand is begun; it is the last.
        assert_eq!((record.index(), record.pulled), (Some(0), at + 1), "K = {k}");
    }
}

#[test]
fn an_error_woken_from_another_thread_just_before_the_poll_is_seen() {
    for k in [1, 5, 64, 65] {
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..100 {
            let (sender, receiver) = futures::channel::oneshot::channel::<Result<(), ()>>();
            senders.push(sender);
            receivers.push(receiver);
        }
        let started = Cell::new(0);
        let mut run = pin!(batch(receivers).limit(k).try_for_each(|receiver| {
            started.set(started.get() + 1);
            async move { receiver.await.unwrap() }
        }));
        let waker = Waker::noop();
        assert!(run.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        assert_eq!(started.get(), k);
        // Everybody finishes, the last of them badly, on another thread, before one poll.
        std::thread::spawn(move || {
            for (index, sender) in senders.into_iter().take(k).enumerate() {
                sender.send(if index == k - 1 { Err(()) } else { Ok(()) }).unwrap();
            }
        })
        .join()
        .unwrap();
        let Poll::Ready(result) = run.as_mut().poll(&mut Context::from_waker(waker)) else {
            panic!("K = {k}: it has failed");
        };
        let error = result.unwrap_err();
        assert_eq!((error.index(), error.completed()), (Some(k - 1), k - 1));
        assert_eq!(started.get(), k, "K = {k}");
    }
}

#[test]
fn drain_lets_the_others_finish_and_counts_them() {
    let run =
        batch(0..100).limit(4).on_error(OnError::Stop(Stop::Drain)).try_map(|item| async move {
            sleep(MS * item).await;
            if item == 1 || item == 3 { Err(item * 10) } else { Ok(item) }
        });
    let parts = simulate(run).unwrap_err();
    assert_eq!(parts.kind, ErrorKind::Item);
    let errors: Vec<_> = parts.errors.iter().map(|error| (error.index, error.error)).collect();
    // 0 finishes first and makes room for 4; then 1 fails: 2, 3 and 4 are drained.
    assert_eq!(errors, [(1, 10), (3, 30)]);
    assert_eq!((parts.cut_off.as_slice(), parts.rest), (&[][..], 5..100));
    assert_eq!(parts.partial, [Some(0), None, Some(2), None, Some(4)]);
}

#[test]
fn cancel_drops_the_others_in_slot_order_before_it_returns() {
    let trace = Trace::default();
    let run = batch(0..10).limit(4).try_for_each(|item| {
        let trace = trace.clone();
        async move {
            let _guard = OnDrop(|| trace.add(item.to_string()));
            sleep(MS * (10 - item)).await;
            if item == 3 { Err(()) } else { Ok(()) }
        }
    });
    let error = simulate(run).unwrap_err();
    assert_eq!(trace.take(), "3 0 1 2");
    assert_eq!(error.cut_off, [0, 1, 2]);
    assert_eq!((error.pulled, error.completed()), (4, 0));
}

#[test]
fn collect_goes_on_and_keeps_the_errors() {
    let run = batch(0..10).limit(3).on_error(OnError::Collect).try_map(|item| async move {
        sleep(MS * (item % 4)).await;
        if item % 3 == 0 { Err(item) } else { Ok(item) }
    });
    let error = simulate(run).unwrap_err();
    let mut failed: Vec<_> = error.errors.iter().map(|error| error.index).collect();
    failed.sort_unstable();
    assert_eq!(failed, [0, 3, 6, 9]);
    assert_eq!((error.completed(), error.cut_off.len()), (6, 0));
    assert!(error.is_completed(1) && !error.is_completed(3) && !error.is_completed(10));
    let parts = error;
    assert_eq!(parts.rest, 10..10);
    let done: Vec<_> = parts.partial.into_iter().flatten().collect();
    assert_eq!(done, [1, 2, 4, 5, 7, 8]);
    let fine = batch(0..3).limit(3).on_error(OnError::Collect);
    let fine = fine.try_map(|item| async move { Ok::<_, ()>(item) });
    assert_eq!(block_on(fine).unwrap(), [0, 1, 2]);
}

#[test]
fn every_item_is_accounted_for_exactly_once() {
    for seed in 1..=300 {
        let mut random = Choices::seed(seed);
        let (n, k) = (random.below(40), 1 + random.below(12) as usize);
        let plan: Vec<(u64, bool)> =
            (0..n).map(|_| (random.below(5), random.below(8) == 0)).collect();
        let on_error = [OnError::Stop(Stop::Cancel), OnError::Stop(Stop::Drain), OnError::Collect]
            [random.below(3) as usize];
        let cancel_at = random.below(60);
        let token = CancellationToken::new();
        let completed = RefCell::new(Vec::new());
        let run = batch(0..n as usize).limit(k).on_error(on_error).cancel_on(&token);
        let run = run.try_for_each(|item| {
            let (waits, fails) = plan[item];
            let completed = &completed;
            async move {
                for _ in 0..waits {
                    sleep(MS).await;
                }
                if fails {
                    return Err(item);
                }
                completed.borrow_mut().push(item);
                Ok(())
            }
        });
        let canceller = async {
            sleep(MS * cancel_at as u32).await;
            token.cancel();
        };
        let (result, ()) = simulate(async { futures::join!(run, canceller) });
        let mut all = completed.take();
        if let Err(error) = result {
            assert_eq!(error.completed(), all.len(), "seed {seed}");
            for item in 0..n as usize {
                assert_eq!(error.is_completed(item), all.contains(&item), "seed {seed}");
            }
            let parts = error;
            all.extend(parts.errors.iter().map(|error| error.index));
            all.extend(&parts.cut_off);
            all.extend(parts.rest);
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..n as usize), "seed {seed}: {all:?}");
    }
}

#[test]
fn map_returns_the_outputs_in_the_order_of_the_items() {
    let run = batch(0..50_u32).limit(7).map(|item| async move {
        sleep(MS * (50 - item)).await;
        item.to_string()
    });
    assert!(simulate(run).unwrap().into_iter().eq((0..50).map(|item| item.to_string())));
}

#[test]
fn items_and_futures_may_borrow_the_callers_stack() {
    let names = vec![String::from("a"), String::from("bc")];
    let total = Cell::new(0);
    let run = batch(&names).limit(2).for_each(|name: &String| {
        let total = &total;
        async move {
            yield_now().await;
            total.set(total.get() + name.len());
        }
    });
    block_on(run).unwrap();
    assert_eq!(total.get(), 3);
}

#[test]
fn a_limit_of_zero_gives_the_source_back_and_no_items_are_no_trouble() {
    let error = block_on(batch(0..3).limit(0).map(|n| async move { n })).unwrap_err();
    assert_eq!((error.kind, error.pulled, error.completed()), (ErrorKind::ZeroLimit, 0, 0));
    assert_eq!(error.to_string(), "the limit of the batch is zero");
    assert_eq!(error.rest, 0..3);
    let error = block_on(batch(0..0).limit(0).for_each(|_| async {})).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ZeroLimit);
    block_on(batch(0..0).limit(5).for_each(|_| async {})).unwrap();
    let endless = batch(std::iter::repeat(1)).limit(usize::MAX).for_each(|_| async {});
    let ErrorKind::LimitTooLarge { max } = block_on(endless).unwrap_err().kind else {
        panic!("it is too large");
    };
    // The largest limit is a limit.
    block_on(batch(std::iter::from_fn(|| None::<u8>)).limit(max).for_each(|_| async {})).unwrap();
    // A source that says that it is short may have any limit.
    block_on(batch(0..9).limit(usize::MAX).for_each(|_| yield_now())).unwrap();
}

#[test]
fn a_source_that_lies_about_its_length_still_finishes() {
    struct Liar(usize, Option<usize>);
    impl Iterator for Liar {
        type Item = usize;
        fn next(&mut self) -> Option<usize> {
            self.0 = self.0.checked_sub(1)?;
            Some(self.0)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX, self.1)
        }
    }
    for upper in [None, Some(0), Some(1), Some(3), Some(usize::MAX)] {
        let count = Cell::new(0);
        let run = batch(Liar(20, upper)).limit(5).map(|_| {
            count.set(count.get() + 1);
            yield_now()
        });
        assert_eq!(block_on(run).unwrap().len(), 20);
        assert_eq!(count.get(), 20);
    }
}

#[test]
fn a_source_is_not_asked_again_after_its_end() {
    let mut left = 3;
    let items = std::iter::from_fn(move || {
        assert!(left >= 0, "asked after its end");
        left -= 1;
        (left >= 0).then_some(left)
    });
    block_on(batch(items).limit(2).for_each(|_| yield_now())).unwrap();
}

#[test]
fn woken_items_only_are_polled() {
    let polls = Cell::new(0);
    simulate(async {
        let run = batch(0..100).limit(100).for_each(|item| {
            let mut sleep = Box::pin(sleep(MS * (item + 1)));
            let polls = &polls;
            poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                sleep.as_mut().poll(cx)
            })
        });
        run.await.unwrap();
    });
    assert_eq!(polls.get(), 200);
}

#[test]
fn a_busy_batch_starves_neither_siblings_nor_timers() {
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        let endless = try_spawn(async move {
            let items = std::iter::repeat(()).take_while(|()| !flag.get());
            batch(items).limit(8).for_each(|()| yield_now()).await.unwrap();
        });
        let sibling = try_spawn(async {
            for _ in 0..1_000 {
                yield_now().await;
            }
        });
        sibling.unwrap().await.unwrap();
        sleep(MS).await;
        done.set(true);
        endless.unwrap().await.unwrap();
    });
}

#[test]
fn a_token_cuts_off_or_drains() {
    for drain in [false, true] {
        let token = CancellationToken::new();
        let item = |item: u32| async move {
            sleep(MS * (item + 1)).await;
            item
        };
        let run = batch(0..).limit(3).on_error(OnError::Stop(Stop::Drain));
        let cancel = async {
            sleep(Duration::from_micros(2_500)).await;
            token.cancel();
        };
        let (result, ended) = simulate(async {
            let start = now();
            let result = match drain {
                false => futures::join!(run.cancel_on(&token).map(item), cancel).0,
                true => {
                    let run = run.map(item).stop_when(token.cancelled(), Stop::Drain);
                    futures::join!(run, cancel).0
                }
            };
            (result, (now() - start).as_micros())
        });
        let parts = result.unwrap_err();
        // 0 and 1 are done; 2, 3 and 4 in flight.
        let kind = if drain { ErrorKind::Stopped } else { ErrorKind::Cancelled };
        assert_eq!((parts.kind, parts.pulled), (kind, 5));
        if drain {
            assert_eq!(
                (parts.partial, ended),
                (vec![Some(0), Some(1), Some(2), Some(3), Some(4)], 7_000)
            );
        } else {
            assert_eq!((parts.partial, ended), (vec![Some(0), Some(1)], 2_500));
            assert_eq!(parts.cut_off, [2, 3, 4]);
        }
    }
}

/// found by others as p-map#28: a time-out around a batch loses outputs, record and rest.
#[test]
fn a_deadline_keeps_the_record() {
    let (record, ended) = simulate(async {
        let start = now();
        let run = batch(0..100_u32).limit(4).map(|item| async move {
            sleep(MS * (10 + item)).await;
            item
        });
        let record = run.stop_when(sleep(MS * 35), Stop::Cancel).await.unwrap_err();
        (record, (now() - start).as_millis())
    });
    assert_eq!((record.kind, record.completed(), ended), (ErrorKind::Stopped, 8, 35));
    assert_eq!((record.cut_off, record.rest), (vec![8, 9, 10, 11], 12..100));
    assert!(record.partial.into_iter().flatten().eq(0..8));
}

#[test]
fn stops_only_tighten_and_the_first_gives_the_reason() {
    use Stop::{Cancel, Drain};
    // Item 1 fails after 2 ms, the others take 10; so all of the first three are known at 10 ms.
    let run = |first: (u32, Stop), second: (u32, Stop)| {
        simulate(async move {
            let start = now();
            let run = batch(0..9).limit(3).on_error(OnError::Stop(Drain)).try_for_each(
                |item| async move {
                    sleep(MS * if item == 1 { 2 } else { 10 }).await;
                    if item == 1 { Err("bad") } else { Ok(()) }
                },
            );
            let run = run.stop_when(sleep(MS * first.0), first.1);
            let record = run.stop_when(sleep(MS * second.0), second.1).await.unwrap_err();
            (record.kind, record.cut_off, record.pulled, (now() - start).as_millis())
        })
    };
    let none = (100, Drain);
    assert_eq!(run(none, none), (ErrorKind::Item, vec![], 3, 10), "drained after the failure");
    assert_eq!(run((5, Cancel), none), (ErrorKind::Item, vec![0, 2], 3, 5), "then cut off");
    assert_eq!(run((5, Drain), none), (ErrorKind::Item, vec![], 3, 10), "no harder than before");
    assert_eq!(run((1, Drain), (4, Cancel)), (ErrorKind::Stopped, vec![0, 2], 3, 4));
    assert_eq!(run((4, Cancel), (1, Drain)), (ErrorKind::Stopped, vec![0, 2], 3, 4));
    assert_eq!(run((1, Drain), none), (ErrorKind::Stopped, vec![], 3, 10));
    let at_once = batch(0..9).limit(3).for_each(async |_| {}).stop_when(ready(()), Drain);
    assert_eq!(block_on(at_once).unwrap_err().rest, 0..9, "nothing is pulled");
}

#[test]
fn a_stop_that_leaves_nothing_undone_is_no_failure() {
    for how in [Stop::Drain, Stop::Cancel] {
        // All are begun, and the source is at its end.
        let run = batch(0..3).limit(3).map(|item| async move {
            sleep(MS * (1 + item)).await;
            item
        });
        let result = simulate(run.stop_when(sleep(Duration::from_micros(1_500)), how));
        match how {
            Stop::Drain => assert_eq!(result.unwrap(), [0, 1, 2]),
            _ => assert_eq!(result.unwrap_err().cut_off, [1, 2]),
        }
        // Nothing is there to begin with.
        let mut run = batch(0..0).limit(3).for_each(|_: i32| async {});
        run.stop(how);
        assert!(block_on(run).is_ok());
    }
}

#[test]
fn what_was_woken_before_a_stop_is_taken_in_first() {
    let is_ready = Cell::new(false);
    let mut run = batch(0..5).limit(2).map(|item| {
        let is_ready = &is_ready;
        async move {
            if item == 0 {
                poll_fn(|cx| match is_ready.get() {
                    true => Poll::Ready(()),
                    false => {
                        // Woken again and again.
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                })
                .await;
            } else {
                pending::<()>().await;
            }
            item
        }
    });
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut run).poll(cx).is_pending());
    is_ready.set(true);
    run.stop(Stop::Cancel);
    let Poll::Ready(Err(record)) = Pin::new(&mut run).poll(cx) else { panic!("it goes on") };
    assert_eq!((record.partial, record.cut_off), (vec![Some(0)], vec![1]));
}

#[test]
fn a_future_that_panics_in_stop_when_takes_the_run_with_it() {
    let dropped = Rc::new(());
    let items: Vec<_> = (0..3).map(|_| dropped.clone()).collect();
    let run = batch(items).limit(2).for_each(async |item| {
        yield_now().await;
        drop(item);
        pending::<()>().await;
    });
    let run = run.stop_when(async { panic!("when") }, Stop::Drain);
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(run))).is_err());
    assert_eq!(Rc::strong_count(&dropped), 1);
}

/// simplecrawler#298: a queue as the source, and items that push links into it.
#[test]
fn a_growing_source_is_asked_again_and_ends_with_the_last_item() {
    let links = RefCell::new(VecDeque::from([1]));
    let source = || from_fn(|| links.borrow_mut().pop_front());
    let pages = RefCell::new(Vec::new());
    let fetch = async |page| {
        yield_now().await;
        pages.borrow_mut().push(page);
        if page < 64 {
            links.borrow_mut().extend([2 * page, 2 * page + 1]);
        }
    };
    block_on(batch(source()).limit(8).for_each(fetch)).unwrap();
    assert_eq!(pages.take(), [1], "the first `None` is final");
    links.replace(VecDeque::from([1]));
    block_on(batch(source()).growing().limit(8).for_each(fetch)).unwrap();
    pages.borrow_mut().sort_unstable();
    assert!(pages.take().into_iter().eq(1..128));
}

#[test]
fn what_an_item_brings_forth_begins_while_it_goes_on() {
    let queue = RefCell::new(vec![0]);
    let begun = RefCell::new(Vec::new());
    let ended = simulate(async {
        let start = now();
        let run = batch(from_fn(|| queue.borrow_mut().pop())).growing().limit(3);
        let run = run.for_each(async |item| {
            begun.borrow_mut().push((item, (now() - start).as_millis()));
            sleep(MS).await;
            if item == 0 {
                queue.borrow_mut().push(1);
                sleep(MS).await;
                queue.borrow_mut().push(2);
            }
            sleep(MS * 10).await;
        });
        run.await.unwrap();
        (now() - start).as_millis()
    });
    assert_eq!((begun.take(), ended), (vec![(0, 0), (1, 1), (2, 2)], 13));
}

#[test]
fn a_token_cancelled_beforehand_starts_nothing_and_one_cancelled_at_the_end_changes_nothing() {
    let token = CancellationToken::new();
    token.cancel();
    let error = block_on(batch(0..3).limit(2).cancel_on(&token).for_each(|_| async {}));
    let error = error.unwrap_err();
    assert_eq!((error.kind, error.pulled), (ErrorKind::Cancelled, 0));
    assert_eq!(
        error.to_string(),
        "the batch was cancelled (0 completed, 0 failed, 0 cut off in flight)"
    );
    assert_eq!(error.rest, 0..3);

    // Cancelled by the last item. Where the source is known to be at its end, nothing is left to
    // do; where no slot was free to ask it, the report names the rest, which may turn out empty.
    for (known, stagger) in [(true, 1), (false, 0)] {
        let token = CancellationToken::new();
        let run = batch(0..3).limit(3).cancel_on(&token).for_each(|item| {
            let token = &token;
            async move {
                sleep(MS * item * stagger + MS).await;
                if item == 2 {
                    token.cancel();
                }
            }
        });
        match simulate(run) {
            Ok(()) => assert!(known),
            Err(error) => {
                assert!(!known);
                assert_eq!((error.completed(), error.rest), (3, 3..3));
            }
        }
    }
}

#[test]
fn a_token_cancelled_while_an_item_is_begun_lets_it_begin_and_pulls_no_other() {
    for place in ["source", "closure", "poll"] {
        let token = CancellationToken::new();
        let polled = RefCell::new(Vec::new());
        let at = |now, item| {
            if now == place && item == 2 {
                token.cancel();
            }
        };
        let source = (0..10).inspect(|&item| at("source", item));
        let run = batch(source).limit(8).cancel_on(&token).for_each(|item| {
            at("closure", item);
            let (polled, at) = (&polled, &at);
            async move {
                polled.borrow_mut().push(item);
                at("poll", item);
                yield_now().await;
            }
        });
        let record = block_on(run).unwrap_err();
        assert_eq!(polled.into_inner(), [0, 1, 2], "{place}: each begun, in order");
        assert_eq!((record.completed(), record.cut_off, record.pulled), (0, vec![0, 1, 2], 3));
    }
}

#[test]
fn a_failure_is_not_masked_by_the_cancel_that_it_causes() {
    let token = CancellationToken::new();
    let run = batch(0..5).limit(3).cancel_on(&token).try_for_each(|item| {
        let token = &token;
        async move {
            sleep(MS * item).await;
            if item == 1 {
                token.cancel();
                return Err("the cause");
            }
            Ok(())
        }
    });
    let error = simulate(run).unwrap_err();
    assert_eq!((error.kind, error.error()), (ErrorKind::Item, Some(&"the cause")));
}

fn panics<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).err().expect("a panic");
    payload.downcast_ref::<&str>().map_or_else(String::new, ToString::to_string)
}

#[test]
fn a_panic_anywhere_drops_the_others_then_goes_on() {
    for place in ["source", "closure", "item", "drop"] {
        let alive = Rc::new(Alive::default());
        let items = (0..10).inspect(|&item| assert!(!(place == "source" && item == 5), "source"));
        let mut run = pin!(batch(items).limit(4).for_each(|item| {
            assert!(!(place == "closure" && item == 5), "closure");
            let guard = alive.one();
            let bomb = (place == "drop" && item == 5).then(|| OnDrop(|| panic!("drop")));
            async move {
                let (_guard, _bomb) = (guard, bomb);
                yield_now().await;
                assert!(!(place == "item" && item == 5), "item");
            }
        }));
        let poll = |run: std::pin::Pin<&mut _>| {
            let mut run: std::pin::Pin<&mut dyn Future<Output = _>> = run;
            while run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
        };
        assert_eq!(panics(|| poll(run.as_mut())), place);
        assert_eq!(alive.now.get(), 0, "{place}: the others are gone before it goes on");
        assert_eq!(panics(|| poll(run.as_mut())), "a batch was polled after it was ready");
    }
}

#[test]
fn two_destructors_that_panic_do_not_abort() {
    let run = batch(0..4).limit(4).try_for_each(|item| async move {
        let _bomb = OnDrop(|| panic!("bomb"));
        if item == 3 { Ok(()) } else { pending::<Result<(), ()>>().await }
    });
    assert_eq!(panics(|| block_on(run)), "bomb");
}

#[test]
fn dropping_or_forgetting_a_batch_is_sound() {
    let alive = Rc::new(Alive::default());
    let start = || {
        let mut run = Box::pin(batch(0..10).limit(3).for_each(|_| {
            let guard = alive.one();
            async move {
                let _guard = guard;
                pending::<()>().await;
            }
        }));
        assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        run
    };
    drop(start());
    assert_eq!(alive.now.get(), 0);
    #[expect(clippy::mem_forget, reason = "it is what the test is about")]
    std::mem::forget(start());
    assert_eq!(alive.now.get(), 3);
}

#[test]
fn a_batch_runs_in_a_task_in_a_batch_and_under_other_executors() {
    async fn nested() -> usize {
        let inner = |outer: usize| async move {
            let run = batch(0..10).limit(3).map(|item| async move {
                yield_now().await;
                item + outer
            });
            run.await.unwrap().into_iter().sum::<usize>()
        };
        batch(0..10).limit(4).map(inner).await.unwrap().into_iter().sum()
    }
    let expected = 10 * 45 + 10 * 45;
    assert_eq!(block_on(nested()), expected);
    assert_eq!(block_on(async { try_spawn(nested()).unwrap().await.unwrap() }), expected);
    assert_eq!(futures::executor::block_on(nested()), expected);
    let mut pool = futures::executor::LocalPool::new();
    assert_eq!(pool.run_until(nested()), expected);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(tokio.block_on(nested()), expected);
    let with_timers = batch(0..20).limit(5).map(|item| async move {
        tokio::time::sleep(MS).await;
        item
    });
    assert_eq!(tokio.block_on(with_timers).unwrap().len(), 20);
}

#[test]
fn wakes_from_other_threads_reach_a_batch_under_every_executor() {
    async fn fetch_all() -> u64 {
        let run = batch(0..200).limit(7).map(|item: u64| async move {
            let (sender, receiver) = futures::channel::oneshot::channel();
            std::thread::spawn(move || sender.send(item).unwrap());
            receiver.await.unwrap()
        });
        run.await.unwrap().into_iter().sum()
    }
    let expected = (0..200).sum();
    assert_eq!(block_on(fetch_all()), expected);
    assert_eq!(block_on(batch(0..1).limit(1).map(|_| fetch_all())).unwrap(), [expected]);
    assert_eq!(futures::executor::block_on(fetch_all()), expected);
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(tokio.block_on(fetch_all()), expected);
}

#[test]
fn a_first_poll_may_run_a_runtime_of_its_own() {
    let run = batch(0..300_u64).limit(70).map(async |item| {
        let inner = batch(0..item % 3).limit(2).map(async |_| sleep(Duration::from_secs(1)).await);
        let slept = simulate(async { inner.await.unwrap().len() as u64 });
        yield_now().await;
        item + slept
    });
    let outputs = futures::executor::block_on(run).unwrap();
    assert!(outputs.into_iter().eq((0..300).map(|item| item + item % 3)));
}

#[test]
fn two_executors_may_poll_in_turn() {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..40).map(|_| futures::channel::oneshot::channel::<usize>()).unzip();
    let mut run = Box::pin(batch(receivers).limit(8).map(async |receiver| receiver.await.unwrap()));
    let mut senders = senders.into_iter().enumerate();
    let mut runtime = Runtime::new().unwrap();
    let outputs = loop {
        // Each executor polls once, then somebody else's thread sends, and the other one goes on.
        let polled = runtime.block_on(async { futures::poll!(run.as_mut()) });
        if let Poll::Ready(outputs) = polled {
            break outputs.unwrap();
        }
        let polled = futures::executor::block_on(async { futures::poll!(run.as_mut()) });
        assert!(polled.is_pending());
        if let Some((index, sender)) = senders.next() {
            std::thread::spawn(move || sender.send(index).unwrap()).join().unwrap();
        }
    };
    assert!(outputs.into_iter().eq(0..40));
}

#[test]
fn items_may_wake_each_other() {
    // Each item waits for the one before it; they are polled in any order.
    let done: Vec<Cell<bool>> = (0..100).map(|_| Cell::new(false)).collect();
    let wakers = RefCell::new(vec![None::<Waker>; 101]);
    let run = batch(0..100).limit(10).for_each(|item: usize| {
        let (done, wakers) = (&done, &wakers);
        poll_fn(move |cx| {
            if item > 0 && !done[item - 1].get() {
                wakers.borrow_mut()[item] = Some(cx.waker().clone());
                return Poll::Pending;
            }
            done[item].set(true);
            let next = wakers.borrow_mut()[item + 1].take();
            next.into_iter().for_each(Waker::wake);
            Poll::Ready(())
        })
    });
    block_on(run).unwrap();
    assert!(done.iter().all(Cell::get));
}

#[test]
fn the_parent_is_woken_once_per_rest_and_follows_a_change_of_waker() {
    let gates: Vec<_> =
        (0..3).map(|_| Rc::new((Cell::new(false), RefCell::new(None::<Waker>)))).collect();
    let mut run = pin!(batch(gates.clone()).limit(3).for_each(|gate| {
        poll_fn(move |cx| {
            gate.1.replace(Some(cx.waker().clone()));
            if gate.0.get() { Poll::Ready(()) } else { Poll::Pending }
        })
    }));
    let counts = [Arc::new(CountWakes::default()), Arc::new(CountWakes::default())];
    let wakers = counts.clone().map(Waker::from);
    let wake = |n: usize| gates[n].1.borrow().as_ref().unwrap().wake_by_ref();
    assert!(run.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
    wake(0);
    wake(1);
    wake(0);
    assert_eq!((counts[0].count(), counts[1].count()), (1, 0));
    assert!(run.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    wake(2);
    assert_eq!((counts[0].count(), counts[1].count()), (1, 1), "the new parent, not the old");
    assert!(run.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    let remote = gates[1].1.borrow().clone().unwrap();
    std::thread::spawn(move || {
        remote.wake_by_ref();
        remote.wake();
    })
    .join()
    .unwrap();
    assert_eq!((counts[0].count(), counts[1].count()), (1, 2));
    wake(0);
    // A second remote wake after the bell was used: the registration is renewed.
    for round in 0..3 {
        assert!(run.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
        let before = counts[0].count();
        let remote = gates[2].1.borrow().clone().unwrap();
        std::thread::spawn(move || remote.wake()).join().unwrap();
        assert_eq!(counts[0].count(), before + 1, "round {round}");
    }
    gates.iter().for_each(|gate| gate.0.set(true));
    gates.iter().for_each(|gate| gate.1.borrow().as_ref().unwrap().wake_by_ref());
    assert!(run.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_ready());
}

#[test]
fn the_parent_does_not_hear_of_wakes_that_the_poll_itself_takes_in() {
    let (count, item) = (Arc::new(CountWakes::default()), RefCell::new(None::<Waker>));
    let parent = Waker::from(count.clone());
    let mut run = pin!(batch(0..1).limit(1).for_each(|_| {
        let mut polls = 0;
        let item = &item;
        poll_fn(move |cx| {
            polls += 1;
            if polls == 2 {
                cx.waker().wake_by_ref();
            }
            item.replace(Some(cx.waker().clone()));
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        })
    }));
    assert!(run.as_mut().poll(&mut Context::from_waker(&parent)).is_pending());
    // A wake from elsewhere leaves the bell armed for those from here.
    let remote = item.take().unwrap();
    std::thread::spawn(move || remote.wake()).join().unwrap();
    assert_eq!(count.count(), 1);
    assert!(run.as_mut().poll(&mut Context::from_waker(&parent)).is_ready());
    assert_eq!(count.count(), 1);
}

#[test]
fn a_finished_batch_lets_go_of_its_parent() {
    let count = Arc::new(CountWakes::default());
    let kept = Rc::new(RefCell::new(None::<Waker>));
    {
        let waker = Waker::from(count.clone());
        let mut run = Box::pin(batch(0..1).limit(1).for_each(|_| {
            let kept = kept.clone();
            poll_fn(move |cx| {
                kept.replace(Some(cx.waker().clone()));
                Poll::<()>::Pending
            })
        }));
        assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&count), 1, "no copy of the parent's waker is left");
    let stale = kept.take().unwrap();
    stale.wake_by_ref();
    std::thread::spawn(move || stale.wake()).join().unwrap();
    assert_eq!(count.count(), 0);
}

#[test]
fn a_parents_waker_may_drop_the_batch() {
    type Boxed = std::pin::Pin<
        Box<dyn Future<Output = Result<(), Box<BatchError<std::ops::Range<i32>, Infallible>>>>>,
    >;
    let slot: Rc<RefCell<Option<Boxed>>> = Rc::default();
    let item_waker = Rc::new(RefCell::new(None::<Waker>));
    let kept = item_waker.clone();
    let run = batch(0..1).limit(1).for_each(move |_| {
        let kept = kept.clone();
        poll_fn(move |cx| {
            kept.replace(Some(cx.waker().clone()));
            Poll::<()>::Pending
        })
    });
    let dropper = slot.clone();
    let parent = waker_fn(move || drop(dropper.borrow_mut().take()));
    slot.replace(Some(Box::pin(run)));
    let mut taken = slot.borrow_mut().take().unwrap();
    assert!(taken.as_mut().poll(&mut Context::from_waker(&parent)).is_pending());
    slot.replace(Some(taken));
    let waker = item_waker.take().unwrap();
    waker.wake_by_ref(); // the parent drops the batch, inside this call
    assert!(slot.borrow().is_none());
    drop(parent);
    assert_eq!(Rc::strong_count(&slot), 1, "an item's waker keeps nothing of the parent");
    waker.wake();
}

#[test]
fn an_interrupted_batch_resumes_without_skipping_anything() {
    let log = RefCell::new(Vec::new());
    let mut todo: Vec<usize> = Vec::new();
    let mut rest = 0..200;
    let mut random = Choices::seed(7);
    let mut rounds = 0;
    loop {
        rounds += 1;
        let again = std::mem::take(&mut todo);
        let items: Vec<usize> = again.into_iter().chain(rest.clone()).collect();
        let fails: Vec<bool> = items.iter().map(|_| random.below(20) == 0).collect();
        let run = batch(items.clone()).limit(6).try_for_each(|item| {
            let fails = fails[items.iter().position(|&other| other == item).unwrap()];
            let log = &log;
            async move {
                sleep(MS * (item as u32 % 5)).await;
                if fails {
                    return Err(());
                }
                log.borrow_mut().push(item);
                Ok(())
            }
        });
        let Err(error) = simulate(run) else { break };
        let parts = error;
        let failed = parts.errors.iter().map(|error| error.index);
        todo.extend(failed.chain(parts.cut_off.iter().copied()).map(|index| items[index]));
        todo.extend(parts.rest);
        rest = 0..0;
    }
    let mut log = log.into_inner();
    log.sort_unstable();
    assert!(rounds > 2 && log.into_iter().eq(0..200));
}

#[test]
fn a_run_is_unpin_and_shows_its_progress() {
    fn unpin<T: Unpin>(value: T) -> T {
        value
    }
    let run: Run<_, _, _, _> = batch(0..9).limit(2).for_each(|_| pending());
    let mut run = unpin(run);
    let poll = std::pin::Pin::new(&mut run).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    assert_eq!(format!("{run:?}"), "Run { pulled: 2, in_flight: 2, .. }");
}

/// p-map#72: results in order as they come, though the first item is slow.
#[test]
fn a_window_bounds_what_is_held() {
    let (begun, held) = (Cell::new(0_usize), Cell::new(0_usize));
    let mut delivered = Vec::new();
    simulate(async {
        let deliver = |item: usize| {
            delivered.push(item);
            held.set(held.get().max(begun.get() - delivered.len()));
        };
        let run = batch(0..10_000_usize).limit(8).in_order(
            20,
            async |item| {
                begun.set(begun.get() + 1);
                sleep(MS * if item == 0 { 100 } else { 1 }).await;
                item
            },
            deliver,
        );
        run.await.unwrap();
    });
    assert!(delivered.into_iter().eq(0..10_000));
    assert!(held.get() <= 20, "{} were held or in flight", held.get());
}

#[test]
fn a_window_with_failures_stops_and_bad_sizes() {
    let run = |on_error| {
        let mut delivered = Vec::new();
        let item = async |item: u32| {
            // The later, the sooner.
            sleep(MS * (10 - item)).await;
            if item == 3 { Err(item) } else { Ok(item) }
        };
        let run = batch(0..6).limit(6).on_error(on_error);
        let record = simulate(run.try_in_order(6, item, |item| delivered.push(item))).unwrap_err();
        (delivered, record.partial, record.cut_off)
    };
    // 5 and 4 are held when 3 fails.
    let held = vec![(4, 4), (5, 5)];
    assert_eq!(run(OnError::Stop(Stop::Cancel)), (vec![], held.clone(), vec![0, 1, 2]));
    assert_eq!(run(OnError::Stop(Stop::Drain)), (vec![0, 1, 2], held, vec![]));
    assert_eq!(run(OnError::Collect), (vec![0, 1, 2, 4, 5], vec![], vec![]));

    let none = batch(0..3).limit(2).in_order(0, async |item| item, drop);
    let record = block_on(none).unwrap_err();
    assert_eq!((record.kind, record.rest), (ErrorKind::ZeroWindow, 0..3));
    let all = batch(0..3).limit(2).in_order(usize::MAX, async |item| item, drop);
    assert!(block_on(all).is_ok());
}

#[test]
fn a_delivery_that_panics_takes_the_run_with_it_and_leaks_nothing() {
    let counted = Rc::new(());
    let run = batch(0..9).limit(3).in_order(
        5,
        |item| {
            let counted = counted.clone();
            async move {
                for _ in item..9 {
                    yield_now().await;
                }
                (item, counted)
            }
        },
        |(item, _)| assert!(item < 2, "no more"),
    );
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(run))).is_err());
    assert_eq!(Rc::strong_count(&counted), 1);
}
