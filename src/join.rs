//! The handle to a spawned task.
#![forbid(unsafe_code)]

use crate::error::JoinError;
use crate::sched::TaskWakes;
use crate::task_box::Joint;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A spawned task: await it for its output, or abort it.
///
/// Dropping the handle detaches the task, which goes on. Awaiting is cancel-safe: an output that
/// was not taken stays. Once ready, the handle panics if it is polled again.
///
/// # Errors
/// Awaiting gives a [`JoinError`] if the task panicked or was cancelled.
///
/// ```
/// gondola::block_on(async {
///     let task = gondola::try_spawn(async { "done" }).unwrap();
///     assert_eq!(task.await.unwrap(), "done");
/// });
/// ```
#[must_use = "dropping the handle detaches the task; say so with `detach`"]
pub struct JoinHandle<T> {
    joint: Joint<T>,
    slot: usize,
    wakes: Rc<TaskWakes>,
}

impl<T> JoinHandle<T> {
    pub(crate) fn new(joint: Joint<T>, slot: usize, wakes: Rc<TaskWakes>) -> Self {
        Self { joint, slot, wakes }
    }

    /// Asks for the task's future to be dropped, within one turn. Awaiting the handle tells
    /// when that has happened. A task that has completed already keeps its output. Repeating it
    /// changes nothing.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(std::future::pending::<()>()).unwrap();
    ///     task.abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort(&self) {
        if self.joint.abort() {
            self.wakes.mark(self.slot);
        }
    }

    /// Whether the task's future is gone: completed, panicked or cancelled. Then awaiting the
    /// handle does not wait.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(async {}).unwrap();
    ///     assert!(!task.is_finished());
    ///     gondola::yield_now().await;
    ///     assert!(task.is_finished());
    /// });
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.joint.is_finished()
    }

    /// Lets the task go on by itself; its output will be dropped.
    ///
    /// ```
    /// let flag = std::rc::Rc::new(std::cell::Cell::new(false));
    /// let shared = flag.clone();
    /// gondola::block_on(async move {
    ///     gondola::try_spawn(async move { shared.set(true) }).unwrap().detach();
    ///     gondola::yield_now().await;
    /// });
    /// assert!(flag.get());
    /// ```
    pub fn detach(self) {}
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    /// If polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.joint.poll(cx)
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
