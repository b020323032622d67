//! The budget of a task: one for all that nests in it, dealt fairly, under every executor.

mod support {
    pub mod net;
}

use futures::FutureExt;
use futures::future::poll_fn;
use futures::stream::{FuturesUnordered, StreamExt};
use gondola::time::timeout;
use gondola::{CancellationToken, Runtime, batch, block_on, consume_budget, try_spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::net::{pair_with_std, run};

/// What one poll of a task may do.
const STEPS: usize = 128;

type Local = Pin<Box<dyn Future<Output = ()>>>;

/// Batches within batches: `widths` from the outside, each with `rounds` items per slot.
fn nest(widths: Vec<usize>, rounds: usize, leaf: Rc<dyn Fn() -> Local>) -> Local {
    let Some((&width, inner)) = widths.split_first() else {
        return leaf();
    };
    let inner = inner.to_vec();
    Box::pin(async move {
        let run = batch(0..width * rounds).limit(width);
        run.for_each(|_| nest(inner.clone(), rounds, leaf.clone())).await.unwrap();
    })
}

/// A leaf that is ready in its poll number `last`, if ever, and counts all polls.
fn leaf(polls: &Rc<Cell<usize>>, last: usize) -> Rc<dyn Fn() -> Local> {
    let polls = polls.clone();
    Rc::new(move || {
        let (polls, mut left) = (polls.clone(), last);
        Box::pin(poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    })
}

/// Every shape of at most so many leaves.
fn shapes(most: usize) -> Vec<Vec<usize>> {
    let mut shapes: Vec<Vec<usize>> = vec![vec![]];
    let mut all = Vec::new();
    for _ in 0..4 {
        shapes = shapes
            .iter()
            .flat_map(|shape| {
                let leaves: usize = shape.iter().product();
                let widths = [1, 2, 3, 7, 8, 33, 64].into_iter();
                widths.filter(move |width| leaves * width <= most).map(|width| {
                    let mut shape = shape.clone();
                    shape.push(width);
                    shape
                })
            })
            .collect();
        all.extend(shapes.clone());
    }
    all
}

#[test]
fn one_poll_of_a_task_is_bounded_however_deep_batches_nest() {
    for widths in shapes(300) {
        let most = STEPS.max(widths.iter().product());
        for (rounds, last) in [(1, usize::MAX), (3, 1), (3, 2), (2, 3)] {
            let polls = Rc::new(Cell::new(0));
            // A foreign executor: it polls by hand.
            let mut run = nest(widths.clone(), rounds, leaf(&polls, last));
            let mut idle = 0;
            for _ in 0..25 {
                polls.set(0);
                let poll = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                let shape = format!("{widths:?}, {rounds} rounds, {last} polls");
                assert!(polls.get() <= most, "{} polls, {shape}", polls.get());
                if poll.is_ready() {
                    break;
                }
                idle = if polls.get() == 0 { idle + 1 } else { 0 };
                // A poll may find out no more than that a source has ended.
                assert!(idle < 3, "{shape}: it goes round without doing anything");
            }
        }
    }
}

#[test]
fn the_bound_holds_under_the_runtime_and_with_others_inside() {
    type Kind = fn(&Rc<Cell<usize>>) -> Local;
    let kinds: [Kind; 3] = [
        |polls| leaf(polls, usize::MAX)(),
        // Another executor inside of each poll, which leaves the budget as it was.
        |polls| {
            let mut leaf = leaf(polls, usize::MAX)();
            Box::pin(poll_fn(move |cx| {
                futures::executor::block_on(batch(0..9).limit(2).for_each(|_| yield_now()))
                    .unwrap();
                leaf.as_mut().poll(cx)
            }))
        },
        // A panic that unwinds through a batch.
        |polls| {
            let polls = polls.clone();
            Box::pin(async move {
                loop {
                    let run = batch(0..2).limit(2).for_each(async |item| {
                        polls.set(polls.get() + 1);
                        yield_now().await;
                        if item == 1 {
                            resume_unwind(Box::new("no hook is called"));
                        }
                    });
                    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err());
                }
            })
        },
    ];
    for kind in kinds {
        for widths in [vec![1], vec![8], vec![64], vec![3, 7], vec![1, 1, 1], vec![2, 3, 2, 2]] {
            let polls = Rc::new(Cell::new(0));
            let most = STEPS.max(2 * widths.iter().product::<usize>());
            let counted = polls.clone();
            let run = nest(widths.clone(), 1, Rc::new(move || kind(&counted)));
            let mut runtime = Runtime::builder().slots(2).build().unwrap();
            runtime.block_on(async { try_spawn(run).unwrap().detach() });
            for _ in 0..40 {
                polls.set(0);
                assert!(runtime.turn().unwrap().busy);
                assert!((1..=most).contains(&polls.get()), "{} polls, {widths:?}", polls.get());
            }
        }
    }
}

/// Polls by hand, so many times.
fn poll_times(future: &mut Pin<&mut impl Future>, times: usize) {
    for _ in 0..times {
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

/// Steps for ever, and counts them.
async fn steps(count: &Cell<usize>) {
    loop {
        consume_budget().await;
        count.set(count.get() + 1);
    }
}

#[test]
fn a_neighbour_that_always_goes_on_keeps_nobody_waiting() {
    // At every depth, and beside any number of endless neighbours: one poll of the whole is enough.
    for (neighbours, depth) in [(1, 0), (1, 3), (7, 0), (7, 2), (63, 1), (200, 0)] {
        let quiet = Cell::new(0);
        let endless = Cell::new(0);
        let both = batch(0..=neighbours).limit(neighbours + 1).for_each(async |item| {
            if item == neighbours {
                loop {
                    quiet.set(quiet.get() + 1);
                    consume_budget().await;
                    yield_now().await;
                }
            }
            steps(&endless).await;
        });
        let mut all: Pin<Box<dyn Future<Output = ()> + '_>> =
            Box::pin(async { both.await.unwrap() });
        for _ in 0..depth {
            let mut inner = Some(all);
            all = Box::pin(async move {
                batch(0..1).limit(1).for_each(|_| inner.take().unwrap()).await.unwrap();
            });
        }
        let mut all = pin!(all);
        for round in 1..100 {
            poll_times(&mut all, 1);
            assert!(quiet.get() >= round, "{neighbours} neighbours, depth {depth}");
        }
        let most = STEPS.max(neighbours + 1) * 100;
        assert!(endless.get() <= most, "{} steps of {neighbours} neighbours", endless.get());
    }
}

#[test]
fn equal_work_is_dealt_equally() {
    for k in [2, 3, 8, 64] {
        let counts: Vec<Cell<usize>> = (0..k).map(|_| Cell::new(0)).collect();
        let mut run = pin!(batch(&counts).limit(k).for_each(steps));
        for round in 1..50 {
            poll_times(&mut run, 1);
            let all = counts.iter().map(Cell::get);
            let (least, most) = (all.clone().min().unwrap(), all.max().unwrap());
            assert!(least >= round && most <= 2 * least, "K = {k}: {least} to {most}");
        }
        // And none of it is wasted.
        let sum: usize = counts.iter().map(Cell::get).sum();
        assert!(sum >= 49 * STEPS / 2, "K = {k}: {sum} steps in 49 polls");
    }
}

#[test]
fn an_item_that_begins_has_a_share_of_what_the_woken_have_left() {
    // The first item is a hundred: one poll of each is more than its share. The second makes room in
    // its second poll, and in the next one begins an item that takes whatever it is lent.
    let (polls, count) = (Rc::new(Cell::new(0)), Cell::new(0));
    let mut run = pin!(batch(0..3).limit(2).for_each(async |item| match item {
        0 => nest(vec![100], 1, leaf(&polls, usize::MAX)).await,
        1 => yield_now().await,
        _ => steps(&count).await,
    }));
    poll_times(&mut run, 2);
    assert_eq!((polls.replace(0), count.get()), (200, 0));
    poll_times(&mut run, 1);
    assert!(count.get() > 0, "it has begun");
    assert!(polls.get() + count.get() <= STEPS, "{} polls, {} steps", polls.get(), count.get());
}

#[test]
fn high_slots_finish_in_their_turn() {
    let order = RefCell::new(Vec::new());
    let run = batch(0..1_000_usize).limit(1_000).for_each(async |item| {
        for _ in 0..10 {
            consume_budget().await;
        }
        order.borrow_mut().push(item);
    });
    block_on(run).unwrap();
    for (place, &item) in order.borrow().iter().enumerate() {
        assert!(place.abs_diff(item) <= 128, "item {item} finished as number {place}");
    }
}

#[test]
fn no_poll_is_for_nothing_at_any_depth() {
    // Each poll of a reader reads: none is refused twice in a row, and none where a share is left.
    for widths in [vec![], vec![1], vec![2], vec![1, 1, 1, 1], vec![8, 8], vec![200]] {
        let (polls, reads) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counted = (polls.clone(), reads.clone());
        let leaf: Rc<dyn Fn() -> Local> = Rc::new(move || {
            let (polls, reads) = counted.clone();
            Box::pin(async move {
                let mut reader = pin!(steps(&reads));
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    reader.as_mut().poll(cx)
                })
                .await;
            })
        });
        let run = nest(widths.clone(), 1, leaf);
        let mut runtime = Runtime::builder().slots(1).build().unwrap();
        runtime.block_on(async { try_spawn(run).unwrap().detach() });
        for _ in 0..50 {
            runtime.turn().unwrap();
        }
        assert!(
            polls.get() <= reads.get(),
            "{} polls, {} reads: {widths:?}",
            polls.get(),
            reads.get()
        );
    }
}

#[test]
fn no_branch_of_an_item_stands_still() {
    let (endless, quiet) = (&Cell::new(0), &Cell::new(0));
    let slowly = || async {
        loop {
            consume_budget().await;
            quiet.set(quiet.get() + 1);
            yield_now().await;
        }
    };
    let join: Pin<Box<dyn Future<Output = ()>>> =
        Box::pin(async { futures::join!(steps(endless), slowly()).0 });
    let select: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        futures::select! {
            () = Box::pin(steps(endless)).fuse() => {}
            () = Box::pin(slowly()).fuse() => {}
        }
    });
    let unordered: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async {
        let both: [Pin<Box<dyn Future<Output = ()>>>; 2] =
            [Box::pin(steps(endless)), Box::pin(slowly())];
        FuturesUnordered::from_iter(both).collect::<()>().await;
    });
    // FuturesUnordered gives way by its own rule, so that a branch may wait for two polls.
    for (future, polls) in [(join, 1), (select, 1), (unordered, 2)] {
        quiet.set(0);
        let mut future = Some(future);
        let mut run = pin!(batch(0..1).limit(1).for_each(|_| future.take().unwrap()));
        poll_times(&mut run, 1);
        for round in 1..50 {
            poll_times(&mut run, 2 * polls);
            assert!(
                quiet.get() >= round,
                "{} steps after {} polls",
                quiet.get(),
                round * 2 * polls
            );
        }
    }
}

#[test]
fn a_batch_beside_a_branch_that_takes_every_step_gets_on() {
    // Whenever it is polled, nothing is left. Its items are polled once all the same.
    let (endless, quiet) = (Cell::new(0), Cell::new(0));
    let inner = batch(0..3).limit(3).for_each(async |_| {
        loop {
            quiet.set(quiet.get() + 1);
            yield_now().await;
        }
    });
    let mut both = Some(async { futures::join!(steps(&endless), inner).0 });
    let mut run = pin!(batch(0..1).limit(1).for_each(|_| both.take().unwrap()));
    for round in 1..50 {
        poll_times(&mut run, 1);
        assert_eq!((endless.get() / STEPS, quiet.get()), (round, 3 * round));
    }
}

#[test]
fn a_loop_that_never_waits_can_be_ended_if_it_counts() {
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let count = Cell::new(0);
        assert!(timeout(Duration::from_millis(1), steps(&count)).await.is_err());
        let token = CancellationToken::new();
        let canceller = token.clone();
        try_spawn(async move { canceller.cancel() }).unwrap().detach();
        assert_eq!(token.run_until_cancelled(steps(&count)).await, None);
        assert!(count.get() >= STEPS);
    });
}

#[test]
fn where_nobody_counts_nothing_is_refused() {
    let many = async {
        for _ in 0..10_000 {
            consume_budget().await;
        }
    };
    assert!(many.now_or_never().is_some());
    // A batch counts; after it, also after one that unwound or was dropped, nobody does again.
    let panics =
        batch(0..1).limit(1).for_each(async |_| resume_unwind(Box::new("no hook is called")));
    assert!(AssertUnwindSafe(panics).catch_unwind().now_or_never().unwrap().is_err());
    let mut dropped = Box::pin(batch(0..9).limit(3).for_each(async |_| steps(&Cell::new(0)).await));
    assert!(dropped.as_mut().now_or_never().is_none());
    drop(dropped);
    let many = async {
        for _ in 0..10_000 {
            consume_budget().await;
        }
    };
    assert!(many.now_or_never().is_some());
}

#[test]
fn five_bytes_do_not_wait_for_a_firehose() {
    // One item reads a stream that never pauses, byte by byte; the other's five bytes are there.
    run(async {
        let (mut hose, mut far) = pair_with_std().await;
        let (mut quiet, mut few) = pair_with_std().await;
        let writer = std::thread::spawn(move || while far.write_all(&[1; 1 << 16]).is_ok() {});
        few.write_all(b"hello").unwrap();
        while hose.peek(&mut [0; 1 << 15]).await.unwrap() < 1 << 15 {
            yield_now().await;
        }
        let (reads, done) = (Cell::new(0), Cell::new(None));
        let (mut hose, mut quiet) = (Some(&mut hose), Some(&mut quiet));
        let run = batch(0..2).limit(2).for_each(|item| {
            let (hose, quiet) = (hose.take_if(|_| item == 0), quiet.take_if(|_| item == 1));
            let (reads, done) = (&reads, &done);
            async move {
                if let Some(quiet) = quiet {
                    quiet.read_exact(&mut [0; 5]).await.unwrap();
                    done.set(Some(reads.get()));
                }
                if let Some(hose) = hose {
                    while reads.get() < 2_000 {
                        hose.read_exact(&mut [0; 1]).await.unwrap();
                        reads.set(reads.get() + 1);
                    }
                }
            }
        });
        run.await.unwrap();
        assert!(done.get().unwrap() <= STEPS, "after {:?} reads", done.get());
        drop(writer); // it ends with its connection
    });
}

#[test]
fn equal_downloads_run_side_by_side() {
    run(async {
        const READS: usize = 1_000;
        let mut downloads = Vec::new();
        for _ in 0..8 {
            let (near, mut far) = pair_with_std().await;
            // All that is to be read is there, so that only the budget deals it out.
            far.write_all(&[1; READS]).unwrap();
            downloads.push((near, far));
        }
        for (near, _) in &mut downloads {
            while near.peek(&mut [0; READS]).await.unwrap() < READS {
                yield_now().await;
            }
        }
        let reads: Vec<Cell<usize>> = (0..8).map(|_| Cell::new(0)).collect();
        let run = batch(downloads.iter_mut().zip(&reads)).limit(8).for_each(
            async |((near, _), count)| {
                while count.get() < READS {
                    near.read_exact(&mut [0; 1]).await.unwrap();
                    count.set(count.get() + 1);
                    let least = reads.iter().map(Cell::get).min().unwrap();
                    assert!(
                        count.get() <= 2 * least + STEPS / 4,
                        "{count:?} while another has {least}"
                    );
                }
            },
        );
        run.await.unwrap();
        assert_eq!(reads.iter().map(Cell::get).sum::<usize>(), 8 * READS);
    });
}
