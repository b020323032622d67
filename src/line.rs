//! A line of those who wait for something that is given to one after the other.
//!
//! # Invariants
//!
//! 1. A place in line is a node, from the poll that found nothing until the one that returns
//!    something, or until [`Line::leave`].
//! 2. Whoever has been promised something is in line no more, and keeps its node until it comes.
#![forbid(unsafe_code)]

use crate::list::{List, Nodes};
use std::cell::RefCell;
use std::task::{Poll, Waker};

pub(crate) struct Line {
    queue: RefCell<Queue>,
}

struct Queue {
    nodes: Nodes<Queued>,
    queued: List,
}

enum Queued {
    Waits(Waker),
    Promised(usize),
}

impl Line {
    pub(crate) const fn new() -> Self {
        let queue = Queue { nodes: Nodes::new(), queued: List::new() };
        Self { queue: RefCell::new(queue) }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.borrow().nodes.len()
    }

    /// Ready with what `take` finds, or else with what is promised later. `key` is the caller's
    /// place; who stops polling calls [`leave`](Self::leave) with it.
    pub(crate) fn poll(
        &self,
        key: &mut Option<u32>,
        waker: &Waker,
        take: impl Fn() -> Option<usize>,
    ) -> Poll<usize> {
        let Some(at) = *key else {
            if let Some(found) = take() {
                return Poll::Ready(found);
            }
            let mine = Queued::Waits(waker.clone());
            // The clone is foreign code: there may be something now.
            if let Some(found) = take() {
                return Poll::Ready(found);
            }
            let queue = &mut *self.queue.borrow_mut();
            *key = Some(queue.nodes.push_back(&mut queue.queued, mine));
            return Poll::Pending;
        };
        let mut queue = self.queue.borrow_mut();
        let stale = match queue.nodes.get_mut(at) {
            Queued::Promised(promised) => {
                let promised = *promised;
                queue.nodes.remove(at);
                *key = None;
                return Poll::Ready(promised);
            }
            Queued::Waits(old) => !old.will_wake(waker),
        };
        drop(queue);
        if stale {
            let fresh = waker.clone();
            let mut queue = self.queue.borrow_mut();
            match queue.nodes.get_mut(at) {
                Queued::Waits(old) => {
                    let old = std::mem::replace(old, fresh);
                    drop(queue);
                    drop(old);
                }
                // The clone itself brought it: take it at the next poll.
                Queued::Promised(_) => {
                    drop(queue);
                    fresh.wake();
                }
            }
        }
        Poll::Pending
    }

    /// Gives up a place. Returns what had been promised to it.
    pub(crate) fn leave(&self, key: u32) -> Option<usize> {
        let mut guard = self.queue.borrow_mut();
        let queue = &mut *guard;
        if matches!(queue.nodes.get_mut(key), Queued::Waits(_)) {
            queue.nodes.unlink(&mut queue.queued, key);
        }
        let left = queue.nodes.remove(key);
        drop(guard);
        match left {
            Queued::Waits(waker) => {
                drop(waker);
                None
            }
            Queued::Promised(promised) => Some(promised),
        }
    }

    /// Promises something to the first in line, who is to be woken.
    pub(crate) fn promise(&self, what: usize) -> Option<Waker> {
        let queue = &mut *self.queue.borrow_mut();
        let key = queue.nodes.unlink_front(&mut queue.queued)?;
        match std::mem::replace(queue.nodes.get_mut(key), Queued::Promised(what)) {
            Queued::Waits(waker) => Some(waker),
            Queued::Promised(_) => unreachable!("whoever was promised something has left the line"),
        }
    }
}
