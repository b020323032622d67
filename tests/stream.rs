//! A batch over a stream.

mod support;

use futures::stream::{self, FusedStream, Stream};
use futures::{FutureExt, StreamExt};
use gondola::batch::Limit;
use gondola::time::{sleep, timeout};
use gondola::{ErrorKind, OnError, Runtime, Stop, batch, block_on, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn simulate<T>(future: impl Future<Output = T>) -> T {
    Runtime::builder().slots(16).virtual_time().build().unwrap().block_on(future)
}

/// Follows a script; counts its polls, and knows whether it may be polled.
struct Scripted<F> {
    next: F,
    polls: Rc<Cell<usize>>,
    waits: Option<Rc<Cell<bool>>>,
    ended: bool,
}

impl<T, F: FnMut(&mut Context<'_>) -> Poll<Option<T>> + Unpin> Stream for Scripted<F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        assert!(!self.ended, "polled after its end");
        if let Some(waits) = &self.waits {
            assert!(!waits.get(), "polled again, and nobody has woken it");
        }
        self.polls.set(self.polls.get() + 1);
        let poll = (self.next)(cx);
        self.ended = matches!(poll, Poll::Ready(None));
        poll
    }
}

fn scripted<T, F: FnMut(&mut Context<'_>) -> Poll<Option<T>>>(
    next: F,
) -> (Scripted<F>, Rc<Cell<usize>>) {
    let polls = Rc::new(Cell::new(0));
    (Scripted { next, polls: polls.clone(), waits: None, ended: false }, polls)
}

/// p-map#76: pages from an async source, four at a time, of which one fails.
#[test]
fn after_a_failure_nothing_is_asked_for() {
    let asked = Cell::new(0);
    let record = simulate(async {
        let pages = pin!(stream::unfold(0, |page| {
            asked.set(asked.get() + 1);
            async move {
                sleep(MS).await;
                Some((page, page + 1))
            }
        }));
        let run = batch::stream(pages).limit(4).try_for_each(async |page| {
            sleep(MS * 3).await;
            if page == 7 { Err("bad") } else { Ok(()) }
        });
        run.await.map_err(|record| (record.kind, record.index(), record.pulled)).unwrap_err()
    });
    // Page 7 came at 8 ms and failed at 11 ms; 8 and 9 came meanwhile, and 10 was asked for.
    assert_eq!(record, (ErrorKind::Item, Some(7), 10));
    assert_eq!(asked.get(), 11);
}

#[test]
fn it_is_asked_only_with_a_free_slot_and_only_once_it_was_woken() {
    let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
    let (keeps, waits) = (waker.clone(), Rc::new(Cell::new(false)));
    let (sets, mut left) = (waits.clone(), 6);
    let (mut source, polls) = scripted(move |cx| {
        // Two at a time.
        left -= 1;
        if left % 3 == 2 {
            keeps.replace(Some(cx.waker().clone()));
            sets.set(true);
            return Poll::Pending;
        }
        Poll::Ready((left > 0).then_some(left))
    });
    source.waits = Some(waits.clone());
    let open = Cell::new(false);
    let mut run = batch::stream(source).limit(8).for_each(|_| async {
        while !open.get() {
            yield_now().await;
        }
    });
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut run).poll(cx).is_pending());
    for _ in 0..5 {
        // Items go on; the stream is not asked.
        let before = polls.get();
        assert!(Pin::new(&mut run).poll(cx).is_pending());
        assert_eq!(polls.get(), before);
    }
    waits.set(false);
    waker.take().unwrap().wake();
    assert!(Pin::new(&mut run).poll(cx).is_pending());
    open.set(true);
    while !waits.get() && Pin::new(&mut run).poll(cx).is_pending() {}
    if let Some(waker) = waker.take() {
        waits.set(false);
        waker.wake();
        while Pin::new(&mut run).poll(cx).is_pending() {}
    }
}

#[test]
fn a_channel_that_another_thread_feeds() {
    let (send, receive) = async_channel::bounded(4);
    let feeds = thread::spawn(move || {
        for n in 0..2_000 {
            send.send_blocking(n).unwrap();
        }
    });
    let all = block_on(async {
        let receive = pin!(receive);
        let run = batch::stream(receive).limit(8).map(async |n: u32| {
            yield_now().await;
            n
        });
        run.await.unwrap()
    });
    feeds.join().unwrap();
    assert!(all.into_iter().eq(0..2_000));
}

#[test]
fn streams_of_all_kinds() {
    // Never ready: it can be stopped, and nothing spins.
    let (never, polls) = scripted(|_| Poll::<Option<()>>::Pending);
    let run = batch::stream(never).limit(3).for_each(async |()| {});
    let stopped = simulate(run.stop_when(sleep(MS), Stop::Drain)).unwrap_err();
    assert_eq!((stopped.kind, stopped.pulled, polls.get()), (ErrorKind::Stopped, 0, 1));

    // Ready for ever: others run as well.
    let ended = block_on(async {
        let run = batch::stream(stream::repeat(1)).limit(3).for_each(async |_| yield_now().await);
        timeout(Duration::from_millis(5), run).await.is_err()
    });
    assert!(ended);

    // Wakes itself for ever, and has nothing.
    let (idle, _) = scripted(|cx| {
        cx.waker().wake_by_ref();
        Poll::<Option<()>>::Pending
    });
    let run = batch::stream(idle).limit(3).for_each(async |()| {});
    assert!(block_on(timeout(Duration::from_millis(5), run)).is_err());

    // Ends and would begin again: its first end is its end.
    let mut count = 0;
    let (again, _) = scripted(move |_| {
        count += 1;
        Poll::Ready((count != 3).then_some(count))
    });
    assert_eq!(block_on(batch::stream(again).limit(1).map(async |n| n)).unwrap(), [1, 2]);

    // Panics: the items in flight are dropped, and the panic goes on.
    let dropped = Rc::new(());
    let item = dropped.clone();
    let mut count = 0;
    let (panics, _) = scripted(move |_| {
        count += 1;
        assert!(count < 3, "scripted");
        Poll::Ready(Some(item.clone()))
    });
    let run = batch::stream(panics).limit(9).for_each(async |item: Rc<()>| {
        pending::<()>().await;
        drop(item);
    });
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(run))).is_err());
    assert_eq!(Rc::strong_count(&dropped), 1);
}

#[test]
fn dropped_half_way_its_waker_may_live_on() {
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let keeps = kept.clone();
    let (source, _) = scripted(move |cx| {
        keeps.replace(Some(cx.waker().clone()));
        Poll::<Option<()>>::Pending
    });
    let mut run = batch::stream(source).limit(64).for_each(async |()| {});
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut run).poll(cx).is_pending());
    drop(run);
    kept.take().unwrap().wake();
}

#[test]
fn with_every_other_option() {
    let rest = block_on(async {
        let run = batch::stream(stream::iter(0..9)).limit(0).for_each(async |_| {});
        let record = run.await.unwrap_err();
        assert_eq!(record.kind, ErrorKind::ZeroLimit);
        record.rest.collect::<Vec<_>>().await
    });
    assert_eq!(rest.len(), 9);
    let collected = batch::stream(stream::iter(0..9)).limit(4).on_error(OnError::Collect);
    let record = block_on(collected.try_map(async |n| if n % 3 == 0 { Err(n) } else { Ok(n) }));
    assert_eq!(record.unwrap_err().errors.len(), 3);

    // Paused, it is not asked.
    let limit = Limit::new(0, 2);
    let (source, polls) = scripted(|_| Poll::Ready(None::<()>));
    let mut run = batch::stream(source).limit(&limit).for_each(async |()| {});
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut run).poll(cx).is_pending());
    assert_eq!(polls.get(), 0);
    limit.set(1);
    assert!((&mut run).now_or_never().is_some());

    // A batch under an executor that is not ours.
    let items = stream::iter(0..100).then(async |n| n).fuse();
    assert!(!items.is_terminated());
    let run = batch::stream(Box::pin(items)).limit(7).map(async |n| n);
    assert_eq!(futures::executor::block_on(run).unwrap().len(), 100);
}
