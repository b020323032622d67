//! The handle to a spawned task.
#![forbid(unsafe_code)]

use crate::error::JoinError;
use crate::sched::TaskWakes;
use crate::task_box::{Aborter, Joint};
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

    /// A handle that can abort the task while this one is awaited, or is dropped.
    ///
    /// # Panics
    /// If there are 16,383 of them for this task.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(std::future::pending::<()>()).unwrap();
    ///     let abort = task.abort_handle();
    ///     gondola::try_spawn(async move { abort.abort() }).unwrap().detach();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort_handle(&self) -> AbortHandle {
        let (aborter, wakes) = (self.joint.aborter(), self.wakes.clone());
        AbortHandle { aborter, slot: self.slot, wakes }
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

/// Aborts a task, and owns nothing else of it. Dropping it does nothing. It keeps the memory of its
/// task, which else would serve the next one.
///
/// ```
/// use gondola::AbortHandle;
///
/// gondola::block_on(async {
///     let task = gondola::try_spawn(std::future::pending::<()>()).unwrap();
///     let abort: AbortHandle = task.abort_handle();
///     task.detach();
///     abort.abort();
///     gondola::yield_now().await;
///     assert!(abort.is_finished());
/// });
/// ```
#[must_use = "an abort handle does nothing by itself"]
pub struct AbortHandle {
    aborter: Aborter,
    slot: usize,
    wakes: Rc<TaskWakes>,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(std::future::pending::<()>()).unwrap();
    ///     task.abort_handle().abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn abort(&self) {
        if self.aborter.abort() {
            self.wakes.mark(self.slot);
        }
    }

    /// As [`JoinHandle::is_finished`].
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(async {}).unwrap();
    ///     let abort = task.abort_handle();
    ///     task.await.unwrap();
    ///     assert!(abort.is_finished());
    /// });
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.aborter.is_finished()
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
