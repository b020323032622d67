//! The tree of cancellation tokens.

mod support;

use futures::future::join_all;
use gondola::{CancellationToken, Runtime, block_on, try_spawn, yield_now};
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::cases::Choices;
use support::{CountWakes, probe, waker_fn};

fn counting() -> (Arc<CountWakes>, Waker) {
    let count = Arc::new(CountWakes::default());
    let waker = Waker::from(count.clone());
    (count, waker)
}

#[test]
fn cancelling_a_node_cancels_exactly_its_subtree() {
    for seed in 1..=200 {
        let mut random = Choices::seed(seed);
        // The model: a parent and a flag for each token ever made.
        let mut tokens = vec![Some(CancellationToken::new())];
        let mut parents = vec![None];
        let mut cancelled = vec![false];
        for _ in 0..300 {
            let at = random.below(tokens.len() as u64) as usize;
            let Some(token) = &tokens[at] else { continue };
            match random.below(10) {
                0..5 => {
                    tokens.push(Some(token.child_token()));
                    parents.push(Some(at));
                    cancelled.push(cancelled[at]);
                }
                5..7 => {
                    let twin = token.clone();
                    drop(tokens[at].replace(twin));
                }
                7..9 => drop(tokens[at].take()),
                _ => {
                    token.cancel();
                    for (node, cancelled) in cancelled.iter_mut().enumerate() {
                        let mut above = Some(node);
                        while let Some(ancestor) = above {
                            *cancelled |= ancestor == at;
                            above = parents[ancestor];
                        }
                    }
                }
            }
            for (node, token) in tokens.iter().enumerate() {
                if let Some(token) = token {
                    assert_eq!(token.is_cancelled(), cancelled[node], "seed {seed}, node {node}");
                }
            }
        }
    }
}

#[test]
fn every_waiter_of_the_subtree_is_woken_and_nobody_else() {
    let root = CancellationToken::new();
    let (left, right) = (root.child_token(), root.child_token());
    let below = left.child_token();
    let mut waits: Vec<_> = [&root, &left, &right, &below]
        .into_iter()
        .flat_map(|token| (0..50).map(move |_| (token, Box::pin(token.cancelled()), counting())))
        .collect();
    for (_, wait, (_, waker)) in &mut waits {
        assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    left.cancel();
    left.cancel();
    for (token, wait, (count, waker)) in &mut waits {
        assert_eq!(count.count(), usize::from(token.is_cancelled()));
        let poll = wait.as_mut().poll(&mut Context::from_waker(waker));
        assert_eq!(poll.is_ready(), token.is_cancelled());
    }
    assert!(!root.is_cancelled() && !right.is_cancelled() && below.is_cancelled());
}

#[test]
fn a_million_levels_deep_without_recursion() {
    const DEPTH: usize = 1_000_000;
    let root = CancellationToken::new();
    let mut chain = vec![root.clone()];
    for _ in 0..DEPTH {
        chain.push(chain.last().unwrap().child_token());
    }
    let small_stack = std::thread::Builder::new().stack_size(64 << 10);
    let thread = small_stack.spawn(move || {
        root.cancel();
        assert!(chain.last().unwrap().is_cancelled());
        drop(chain);
        // The same with the middle dropped before the cancel, leaf side first and last.
        let root = CancellationToken::new();
        let mut chain = vec![root.child_token()];
        for _ in 0..DEPTH {
            chain.push(chain.last().unwrap().child_token());
        }
        let leaf = chain.pop().unwrap();
        drop(chain);
        root.cancel();
        assert!(leaf.is_cancelled());
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn dropped_middle_nodes_leave_the_line_of_descent_whole() {
    let root = CancellationToken::new();
    let mut token = root.child_token();
    for _ in 0..1_000 {
        token = token.child_token();
    }
    assert!(!token.is_cancelled());
    root.cancel();
    assert!(token.is_cancelled());
    assert!(root.child_token().is_cancelled(), "a child of a cancelled token is born cancelled");
}

#[test]
fn any_thread_may_cancel_and_the_sleeping_runtime_wakes() {
    block_on(async {
        let token = CancellationToken::new();
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let token = token.child_token();
                try_spawn(async move { token.cancelled().await }).unwrap()
            })
            .collect();
        let canceller = token.clone();
        std::thread::spawn(move || canceller.cancel());
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_loop_around_run_until_cancelled_ends_at_once() {
    block_on(async {
        let (sender, receiver) = async_channel::unbounded();
        (0..100_000).for_each(|n| sender.try_send(n).unwrap());
        let token = CancellationToken::new();
        let mut taken = 0;
        while let Some(Ok(_)) = token.run_until_cancelled(receiver.recv()).await {
            taken += 1;
            if taken == 10 {
                token.cancel();
            }
        }
        assert_eq!((taken, receiver.len()), (10, 99_990));
        // Another part of the tree was cancelled: this one still asks, and goes on.
        let other = CancellationToken::new();
        other.child_token().cancel();
        assert_eq!(other.run_until_cancelled(receiver.recv()).await, Some(Ok(10)));
    });
}

#[test]
fn once_cancelled_a_token_lets_its_future_be_polled_no_more() {
    block_on(async {
        let token = CancellationToken::new();
        // Woken by both at once, and ready: the order to end goes first.
        let (future, counts) = probe();
        let mut run = pin!(token.run_until_cancelled(future));
        assert!(futures::poll!(run.as_mut()).is_pending());
        counts.open();
        counts.wake();
        token.cancel();
        assert_eq!(futures::poll!(run.as_mut()), Poll::Ready(None));
        assert_eq!(counts.seen(), (1, 1), "polled before the cancel only, and dropped at the end");
        // Cancelled from the start.
        let (future, counts) = probe();
        let mut late = pin!(token.run_until_cancelled(future));
        assert_eq!(late.as_mut().await, None);
        assert_eq!(counts.seen(), (0, 1), "never polled, but dropped before the result");
    });
}

#[test]
fn a_poll_that_cancels_and_completes_gives_its_result() {
    block_on(async {
        let token = CancellationToken::new();
        let run = token.run_until_cancelled(async {
            token.cancel();
            1
        });
        assert_eq!(run.await, Some(1));
        assert!(token.is_cancelled());
        // One that goes on instead ends in the same poll.
        let token = CancellationToken::new();
        let run = token.run_until_cancelled(async {
            token.cancel();
            yield_now().await;
        });
        assert_eq!(futures::poll!(pin!(run)), Poll::Ready(None));
    });
}

#[test]
fn a_waiter_that_leaves_is_not_woken_and_takes_no_wake_with_it() {
    let token = CancellationToken::new();
    let (stays, stays_waker) = counting();
    let (leaves, leaves_waker) = counting();
    let mut staying = pin!(token.cancelled());
    assert!(staying.as_mut().poll(&mut Context::from_waker(&stays_waker)).is_pending());
    {
        let mut leaving = pin!(token.cancelled());
        assert!(leaving.as_mut().poll(&mut Context::from_waker(&leaves_waker)).is_pending());
        // A new waker replaces the old one.
        assert!(leaving.as_mut().poll(&mut Context::from_waker(&stays_waker)).is_pending());
        assert_eq!(Arc::strong_count(&leaves), 2);
    }
    token.cancel();
    assert_eq!((stays.count(), leaves.count()), (1, 0));
    assert!(staying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn wakers_are_called_without_the_lock_and_may_use_the_tree() {
    let token = CancellationToken::new();
    let other = || {
        let token = token.clone();
        Box::pin(async move { token.cancelled().await })
    };
    let others: Vec<_> = (0..100).map(|_| other()).collect();
    let others = std::rc::Rc::new(std::cell::RefCell::new(others));
    let (inner, waiting) = (token.clone(), others.clone());
    let waker = waker_fn(move || {
        // Cancels again, which is the outer call's business, makes children, and drops a waiter that
        // is about to be woken.
        inner.cancel();
        assert!(inner.child_token().is_cancelled());
        let gone = waiting.borrow_mut().pop();
        drop(gone);
    });
    let mut first = pin!(token.cancelled());
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (count, counter) = counting();
    for other in others.borrow_mut().iter_mut() {
        assert!(other.as_mut().poll(&mut Context::from_waker(&counter)).is_pending());
    }
    token.cancel();
    assert_eq!((count.count(), others.borrow().len()), (99, 99), "all but the one that left");
}

#[test]
fn a_waker_that_panics_keeps_nobody_asleep() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("hostile waker");
        }
    }
    let token = CancellationToken::new();
    let (count, counter) = counting();
    let bomb = Waker::from(Arc::new(Bomb));
    let mut waits: Vec<_> = (0..100).map(|_| Box::pin(token.cancelled())).collect();
    for (n, wait) in waits.iter_mut().enumerate() {
        let waker = if n % 10 == 3 { &bomb } else { &counter };
        assert!(wait.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    let cancel = std::panic::AssertUnwindSafe(|| token.cancel());
    assert!(std::panic::catch_unwind(cancel).is_err());
    assert_eq!(count.count(), 90);
    assert!(token.is_cancelled() && token.child_token().is_cancelled());
}

#[test]
fn guards_cancel_on_drop_and_on_panic_unless_disarmed() {
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    assert!(!guard.disarm().is_cancelled());
    let guard = token.clone().drop_guard();
    let panics = std::panic::AssertUnwindSafe(|| {
        let _guard = guard;
        panic!("on the way out");
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert!(token.is_cancelled());
}

#[test]
fn many_threads_on_one_tree() {
    for seed in 1..=20 {
        let root = CancellationToken::new();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let root = root.clone();
                std::thread::spawn(move || {
                    let mut random = Choices::seed(seed * 4 + thread);
                    let mut own = vec![root];
                    for _ in 0..2_000 {
                        let at = random.below(own.len() as u64) as usize;
                        match random.below(8) {
                            0..4 => own.push(own[at].child_token()),
                            4 => {
                                let token = own[at].clone();
                                let mut wait = Box::pin(token.cancelled());
                                let cx = &mut Context::from_waker(Waker::noop());
                                let _ = wait.as_mut().poll(cx);
                            }
                            5 if at > 0 => own[at].cancel(),
                            _ if at > 0 => drop(own.swap_remove(at)),
                            _ => {}
                        }
                    }
                    own
                })
            })
            .collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(!root.is_cancelled());
        root.cancel();
        assert!(all.iter().all(CancellationToken::is_cancelled), "seed {seed}");
    }
}

#[test]
fn ten_thousand_tasks_end_with_one_token() {
    let mut runtime = Runtime::builder().slots(10_000).build().unwrap();
    runtime.block_on(async {
        let token = CancellationToken::new();
        let tasks: Vec<_> = (0..10_000)
            .map(|_| {
                let token = token.clone();
                let task = async move { token.run_until_cancelled(pending::<()>()).await };
                try_spawn(task).unwrap()
            })
            .collect();
        yield_now().await;
        token.cancel();
        for task in tasks {
            assert_eq!(task.await.unwrap(), None);
        }
    });
}

#[test]
fn works_under_any_executor() {
    let token = CancellationToken::new();
    let waiting = join_all((0..10).map(|_| token.cancelled()));
    let cancel = async { token.cancel() };
    futures::executor::block_on(async { futures::join!(waiting, cancel) });
    let late = gondola::time::timeout(Duration::from_secs(5), token.cancelled());
    assert_eq!(block_on(late), Ok(()));
    let Poll::Ready(()) = pin!(token.cancelled()).poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("it is cancelled for ever");
    };
}
