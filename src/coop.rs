//! Giving way: what a task does for the others when nothing makes it wait.
#![forbid(unsafe_code)]

use crate::budget;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Gives way: this task goes on in the next turn, like everybody who is ready now.
///
/// After the root future's `yield_now`, each task that was ready has been polled once. Works under
/// any executor.
///
/// ```
/// gondola::block_on(async {
///     let task = gondola::try_spawn(async {}).unwrap();
///     gondola::yield_now().await;
///     assert!(task.is_finished());
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`]: pending once, then ready.
///
/// ```
/// let pause: gondola::YieldNow = gondola::yield_now();
/// assert_eq!(gondola::block_on(pause), ());
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Takes one step of the budget of this poll, and first gives way if none is left.
///
/// A task may do 128 steps in one poll, and the items of a batch share what their task has. Sockets
/// count their operations by themselves. A loop that awaits only what is always ready, such as a
/// full channel, counts nothing: it never returns to the runtime, so nothing else on the thread
/// gets on, and no time-out and no token can end it. Await this once per round:
///
/// ```
/// use gondola::{consume_budget, time::timeout};
/// use std::time::Duration;
///
/// gondola::block_on(async {
///     let busy = async {
///         loop {
///             // Some work that is always ready.
///             consume_budget().await;
///         }
///     };
///     assert!(timeout(Duration::from_millis(1), busy).await.is_err());
/// });
/// ```
///
/// Outside of a gondola runtime and of a batch nobody counts, and it never gives way. It costs a
/// few instructions. To give way in any case, see [`yield_now`](crate::yield_now).
///
/// # Cancel safety
/// Dropping it takes no step.
pub fn consume_budget() -> ConsumeBudget {
    ConsumeBudget { refused: false }
}

/// The future of [`consume_budget`].
///
/// ```
/// let step: gondola::ConsumeBudget = gondola::consume_budget();
/// assert_eq!(gondola::block_on(step), ());
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct ConsumeBudget {
    refused: bool,
}

impl Future for ConsumeBudget {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if budget::take_step(&mut self.refused) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
