//! The tree of tokens under loom: whoever cancels, waits, leaves and drops at the same time.
#![forbid(unsafe_code)]

use super::*;
use crate::wake::models::{Payload, Sleeper, model};
use loom::thread;
use std::task::Wake;

/// A waker that says whether it was woken.
struct Told(AtomicBool);

impl Told {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(false)))
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for the token, without being asleep.
fn register<'a>(token: &'a CancellationToken, told: &Arc<Told>) -> Pin<Box<Cancelled<'a>>> {
    let mut waiting = Box::pin(token.cancelled());
    let waker = Waker::from(told.clone());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    waiting
}

/// Waits as a task does, asleep between polls.
fn wait(cancelled: &mut Pin<Box<Cancelled<'_>>>, sleeper: &Sleeper) {
    let waker = sleeper.waker();
    while cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        sleeper.sleep();
    }
}

fn cancel_abroad(token: &CancellationToken) -> thread::JoinHandle<()> {
    let remote = token.clone();
    thread::spawn(move || remote.cancel())
}

/// What is left in the tree: nodes, and waiters.
fn sizes(token: &CancellationToken) -> (usize, usize) {
    let state = token.tree.lock();
    (state.nodes.len(), state.waiters.len())
}

#[test]
fn a_cancel_while_a_waiter_registers_is_not_missed_and_brings_its_payload() {
    model(|| {
        let token = CancellationToken::new();
        let payload = Payload::new();
        let (remote, written) = (token.clone(), payload.clone());
        let thread = thread::spawn(move || {
            written.write();
            remote.cancel();
        });
        wait(&mut Box::pin(token.cancelled()), &Sleeper::new());
        assert_eq!(payload.read(), 1);
        assert!(token.is_cancelled());
        thread.join().unwrap();
        assert_eq!(sizes(&token), (1, 0));
    });
}

#[test]
fn who_sees_a_cancel_without_waiting_sees_what_came_before_it() {
    model(|| {
        let token = CancellationToken::new();
        let payload = Payload::new();
        let (remote, written) = (token.clone(), payload.clone());
        let thread = thread::spawn(move || {
            written.write();
            remote.cancel();
        });
        if token.is_cancelled() {
            assert_eq!(payload.read(), 1);
        }
        thread.join().unwrap();
        assert!(token.is_cancelled());
    });
}

#[test]
fn a_waiter_leaves_while_it_is_being_cancelled() {
    model(|| {
        let token = CancellationToken::new();
        let (leaver, stayer) = (Sleeper::new(), Sleeper::new());
        let mut leaving = Box::pin(token.cancelled());
        let mut staying = Box::pin(token.cancelled());
        let first = leaving.as_mut().poll(&mut Context::from_waker(&leaver.waker()));
        let second = staying.as_mut().poll(&mut Context::from_waker(&stayer.waker()));
        assert!(first.is_pending() && second.is_pending());
        let thread = cancel_abroad(&token);
        drop(leaving);
        wait(&mut staying, &stayer);
        thread.join().unwrap();
        drop(staying);
        assert_eq!(sizes(&token), (1, 0));
    });
}

#[test]
fn a_waiter_changes_its_waker_while_it_is_being_cancelled() {
    model(|| {
        let token = CancellationToken::new();
        let (old, new) = (Sleeper::new(), Sleeper::new());
        let mut waiting = Box::pin(token.cancelled());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&old.waker())).is_pending());
        let thread = cancel_abroad(&token);
        wait(&mut waiting, &new);
        thread.join().unwrap();
    });
}

#[test]
fn a_parent_is_cancelled_while_the_child_between_leaves() {
    model(|| {
        let root = CancellationToken::new();
        let child = root.child_token();
        let grandchild = child.child_token();
        let thread = cancel_abroad(&root);
        drop(child);
        wait(&mut Box::pin(grandchild.cancelled()), &Sleeper::new());
        thread.join().unwrap();
        assert_eq!(sizes(&root), (2, 0));
    });
}

#[test]
fn a_child_is_born_while_its_parent_is_cancelled() {
    model(|| {
        let root = CancellationToken::new();
        let thread = cancel_abroad(&root);
        let child = root.child_token();
        wait(&mut Box::pin(child.cancelled()), &Sleeper::new());
        thread.join().unwrap();
        drop(child);
        assert_eq!(sizes(&root), (1, 0));
    });
}

#[test]
fn two_cancel_above_and_below() {
    model(|| {
        let root = CancellationToken::new();
        let child = root.child_token();
        let grandchild = child.child_token();
        let sleeper = Sleeper::new();
        let mut waiting = Box::pin(grandchild.cancelled());
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(cx).is_pending());
        let threads = [root.clone(), child].map(|token| {
            thread::spawn(move || {
                token.cancel();
                assert!(token.is_cancelled());
            })
        });
        wait(&mut waiting, &sleeper);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(root.is_cancelled());
    });
}

#[test]
fn when_a_cancel_returns_it_has_woken_whoever_waited_for_what_it_cancelled() {
    model(|| {
        let root = CancellationToken::new();
        let (here, abroad) = (root.child_token(), root.child_token());
        let (told_here, told_abroad) = (Told::new(), Told::new());
        let waiting = [register(&here, &told_here), register(&abroad, &told_abroad)];
        let (remote, told) = (abroad.clone(), told_abroad.clone());
        let thread = thread::spawn(move || {
            remote.cancel();
            assert!(told.get(), "its own waiter is in the hands of another thread");
        });
        here.cancel();
        assert!(told_here.get(), "its own waiter is in the hands of another thread");
        thread.join().unwrap();
        drop(waiting);
        assert_eq!(sizes(&root), (3, 0));
    });
}

#[test]
fn whoever_repeats_a_cancel_takes_no_waiter_out_of_its_hands() {
    model(|| {
        let token = CancellationToken::new();
        let told = Told::new();
        let waiting = register(&token, &told);
        let remote = token.clone();
        let thread = thread::spawn(move || {
            if remote.is_cancelled() {
                remote.cancel();
            }
        });
        token.cancel();
        assert!(told.get(), "its waiter is in the hands of another thread");
        thread.join().unwrap();
        drop(waiting);
    });
}

#[test]
fn a_waiter_leaves_while_two_threads_cancel() {
    model(|| {
        let root = CancellationToken::new();
        let child = root.child_token();
        let (above, below) = (Told::new(), Told::new());
        let (staying, leaving) = (register(&root, &above), register(&child, &below));
        let threads =
            [root.clone(), child.clone()].map(|token| thread::spawn(move || token.cancel()));
        drop(leaving);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(above.get());
        drop(staying);
        assert_eq!(sizes(&root), (2, 0));
    });
}

#[test]
fn the_last_tokens_of_a_tree_go_on_two_threads() {
    model(|| {
        let root = CancellationToken::new();
        let child = root.child_token();
        let tree = Arc::downgrade(&root.tree);
        let thread = thread::spawn(move || drop(root));
        drop(child);
        thread.join().unwrap();
        assert!(tree.upgrade().is_none(), "the tree is freed");
    });
}
