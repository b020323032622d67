//! A run that stops when a future says so.
#![deny(unsafe_code)]

use super::on_error::Stop;
use crate::pin::with_pinned_future;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

with_pinned_future! {
    /// The future of [`Run::stop_when`](super::Run::stop_when).
    ///
    /// # Panics
    /// With a panic of the future that says when, and as the run.
    ///
    /// # Cancel safety
    /// As the run.
    ///
    /// ```
    /// use gondola::{CancellationToken, Stop, batch, block_on};
    ///
    /// let token = CancellationToken::new();
    /// let run = batch(0..3).limit(1).for_each(async |_| {}).stop_when(token.cancelled(), Stop::Drain);
    /// assert!(block_on(run).is_ok());
    /// ```
    #[derive(Debug)]
    #[must_use = "a batch does nothing until it is awaited"]
    pub struct StopWhen<F, R> {
        how: Stop,
        pinned run,
    }
}

/// A run, or one that is to stop when a future says so.
pub trait Stoppable: Future {
    fn stop(self: Pin<&mut Self>, how: Stop);
}

impl<F: Future, R: Stoppable> StopWhen<F, R> {
    pub(super) fn new(run: R, future: F, how: Stop) -> Self {
        Self { future: Some(future), run, how }
    }

    /// The run, to ask how far it is.
    ///
    /// ```
    /// use gondola::{Stop, batch};
    ///
    /// let run = batch(0..3).limit(1).for_each(async |_| {});
    /// let run = run.stop_when(std::future::pending::<()>(), Stop::Cancel);
    /// assert_eq!(run.get_ref().pulled(), 0);
    /// ```
    pub const fn get_ref(&self) -> &R {
        &self.run
    }

    /// As [`Run::stop_when`](super::Run::stop_when): one more reason to stop.
    ///
    /// ```
    /// use gondola::{Stop, batch, block_on};
    /// use std::future::{pending, ready};
    ///
    /// let run = batch(0..3).limit(1).for_each(async |_| {});
    /// let run = run.stop_when(pending::<()>(), Stop::Cancel).stop_when(ready(()), Stop::Drain);
    /// assert_eq!(block_on(run).unwrap_err().rest, 0..3);
    /// ```
    pub fn stop_when<S: Future>(self, future: S, how: Stop) -> StopWhen<S, Self> {
        StopWhen::new(self, future, how)
    }
}

impl<F: Future, R: Stoppable> Stoppable for StopWhen<F, R> {
    fn stop(self: Pin<&mut Self>, how: Stop) {
        self.project().1.stop(how);
    }
}

impl<F: Future, R: Stoppable> Future for StopWhen<F, R> {
    type Output = R::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R::Output> {
        let (mut future, mut run, how) = self.project();
        if let Some(waiting) = future.as_mut().as_pin_mut() {
            if waiting.poll(cx).is_ready() {
                future.set(None);
                run.as_mut().stop(*how);
            }
        }
        run.poll(cx)
    }
}
