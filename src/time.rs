//! Sleeps, time-outs and intervals, on the clock of the current runtime.
//!
//! Timers never fire early, and fire in the order of their deadlines. On Linux they are precise to
//! some tens of microseconds. Time is monotonic; whether it counts a suspended machine's sleep is
//! the system's business (on Linux it does not).
//!
//! Durations too long for the clock mean "never"; nothing here panics for a duration.
//!
//! ```
//! use gondola::{Runtime, time};
//! use std::time::Duration;
//!
//! let mut runtime = Runtime::builder().virtual_time().build()?; // an hour takes no time
//! runtime.block_on(async {
//!     let work = time::sleep(Duration::from_secs(3600));
//!     assert!(time::timeout(Duration::from_secs(60), work).await.is_err());
//! });
//! # Ok::<_, std::io::Error>(())
//! ```
#![deny(unsafe_code)]

use crate::context;
use crate::pin::with_pinned_future;
use crate::timer::{Key, Timers};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The current runtime's time: virtual if that is, and the system's outside any runtime.
///
/// ```
/// use gondola::{Runtime, time};
/// use std::time::Duration;
///
/// let mut runtime = Runtime::builder().virtual_time().build()?;
/// runtime.block_on(async {
///     let start = time::now();
///     time::sleep(Duration::from_secs(60)).await;
///     assert_eq!(time::now() - start, Duration::from_secs(60));
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
#[must_use]
pub fn now() -> Instant {
    context::now()
}

/// Waits until `duration` has passed since this call.
///
/// # Panics
/// When polled outside a gondola runtime.
///
/// # Cancel safety
/// Dropping it removes its timer.
///
/// ```
/// use gondola::time;
/// use std::time::Duration;
///
/// # let mut runtime = gondola::Runtime::builder().virtual_time().build()?;
/// # runtime.block_on(async {
/// let start = time::now();
/// time::sleep(Duration::from_millis(20)).await;
/// assert_eq!(time::now() - start, Duration::from_millis(20)); // in virtual time
/// # });
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { deadline: now().checked_add(duration), timer: None }
}

/// Waits until `deadline`, which is an instant of [`now`]'s clock.
///
/// # Panics
/// When polled outside a gondola runtime.
///
/// # Cancel safety
/// Dropping it removes its timer.
///
/// ```
/// use gondola::time;
/// use std::time::Duration;
///
/// # let mut runtime = gondola::Runtime::builder().virtual_time().build()?;
/// # runtime.block_on(async {
/// let deadline = time::now() + Duration::from_millis(20);
/// time::sleep_until(deadline).await;
/// assert_eq!(time::now(), deadline); // in virtual time
/// # });
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: Some(deadline), timer: None }
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// It is ready at its first poll if its deadline had passed when the runtime last looked at its
/// timers. If the deadline has come since, it waits for the next look: so a loop of sleeps of no
/// length lets others run.
///
/// Once ready, it stays ready in its runtime. Polled in another one, it goes on there, with a new
/// timer.
///
/// ```
/// use gondola::time::{Sleep, sleep};
/// use std::time::Duration;
///
/// gondola::block_on(async {
///     let mut nap: Sleep = sleep(Duration::from_millis(1));
///     (&mut nap).await;
///     nap.await;
/// });
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    /// `None`: never.
    deadline: Option<Instant>,
    timer: Option<Timer>,
}

struct Timer {
    timers: Rc<Timers>,
    key: Key,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl Sleep {
    /// When it ends; `None` if never.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert_eq!(gondola::time::sleep(Duration::MAX).deadline(), None);
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn disarm(&mut self) {
        if let Some(Timer { timers, key }) = self.timer.take() {
            timers.remove(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // First of all: outside a runtime, a sleep that never ends panics like any other.
        let timers = &context::current().timers;
        let Some(deadline) = self.deadline else { return Poll::Pending };
        match &self.timer {
            Some(timer) if Rc::ptr_eq(&timer.timers, timers) => {
                // Fired, it stays here, so that the sleep stays ready.
                return timers.poll(&timer.key, cx.waker());
            }
            // It has come here from another runtime, and so does its timer.
            Some(_) => self.disarm(),
            None => {}
        }
        // One that is due just now waits for the next look all the same: under virtual time, a loop
        // of zero sleeps would otherwise never let anybody else run.
        if deadline < timers.clock.seen() {
            return Poll::Ready(());
        }
        if let Some(key) = timers.insert(deadline, cx.waker()) {
            self.timer = Some(Timer { timers: timers.clone(), key });
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Waits for `future`, at most for `duration`.
///
/// The future is polled first: what is there wins, even after the deadline. If it is late, it is
/// dropped before this returns, so nothing of it goes on. Adds at most 48 bytes to it.
///
/// Nothing looks at the clock during a poll: this can't end a future that never returns `Pending`,
/// nor a loop around it in which each future is ready. A loop that may run for long without waiting
/// has to give way by itself: see [`consume_budget`](crate::consume_budget).
///
/// # Errors
/// [`Elapsed`], once `duration` has passed since this call.
///
/// # Panics
/// When polled outside a gondola runtime; if polled again after it was ready.
///
/// # Cancel safety
/// Dropping it drops `future`, and removes its timer.
///
/// ```
/// use gondola::time;
/// use std::{future::pending, time::Duration};
///
/// gondola::block_on(async {
///     let late = time::timeout(Duration::from_millis(1), pending::<()>()).await;
///     assert!(late.is_err());
///     assert_eq!(time::timeout(Duration::ZERO, async { 1 }).await, Ok(1));
/// });
/// ```
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future: Some(future), sleep: sleep(duration) }
}

/// Waits for `future`, at most until `deadline`. Else as [`timeout`].
///
/// # Errors
/// [`Elapsed`], once `deadline` has come.
///
/// # Panics
/// As [`timeout`].
///
/// # Cancel safety
/// As [`timeout`].
///
/// ```
/// use gondola::time;
///
/// gondola::block_on(async {
///     assert_eq!(time::timeout_at(time::now(), async { 1 }).await, Ok(1));
/// });
/// ```
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future: Some(future), sleep: sleep_until(deadline) }
}

with_pinned_future! {
    /// The future of [`timeout`] and [`timeout_at`].
    ///
    /// ```
    /// use gondola::time::{Timeout, timeout};
    ///
    /// let soon: Timeout<_> = timeout(std::time::Duration::from_secs(1), async { 1 });
    /// assert_eq!(gondola::block_on(soon), Ok(1));
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut future, sleep) = self.project();
        let inner = future.as_mut().as_pin_mut().expect("`Timeout` was polled after it was ready");
        if let Poll::Ready(output) = inner.poll(cx) {
            future.set(None);
            return Poll::Ready(Ok(output));
        }
        if Pin::new(sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        future.set(None);
        Poll::Ready(Err(Elapsed { _private: () }))
    }
}

/// The time allowed was over. Converts into an `io::Error` of kind `TimedOut`.
///
/// ```
/// use gondola::time::{Elapsed, timeout};
/// use std::{future::pending, io, time::Duration};
///
/// let late: Result<(), Elapsed> =
///     gondola::block_on(async { timeout(Duration::ZERO, pending()).await });
/// assert_eq!(io::Error::from(late.unwrap_err()).kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    _private: (),
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time allowed was over")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Ticks now, and then once per `period`.
///
/// The first tick is ready when it is first polled. Missed ticks are skipped: whoever comes late
/// gets one tick at the next look at the timers, and the next one on the grid of multiples of
/// `period` since the start. So a period of zero ticks once per look, and lets others run. After a
/// period too long for the clock there is no second tick.
///
/// ```
/// use gondola::{Runtime, time};
/// use std::time::Duration;
///
/// let mut runtime = Runtime::builder().virtual_time().build()?;
/// runtime.block_on(async {
///     let mut interval = time::interval(Duration::from_secs(10));
///     let start = interval.tick().await;
///     time::sleep(Duration::from_secs(25)).await; // misses the tick at 20 s
///     assert_eq!(interval.tick().await, start + Duration::from_secs(10));
///     assert_eq!(interval.tick().await, start + Duration::from_secs(30));
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn interval(period: Duration) -> Interval {
    Interval { sleep: sleep(Duration::ZERO), period, ticked: false }
}

/// Ticks at a fixed period. Returned by [`interval`].
///
/// ```
/// use gondola::{Runtime, time};
/// use std::time::Duration;
///
/// let mut runtime = Runtime::builder().virtual_time().build()?;
/// runtime.block_on(async {
///     let start = time::now();
///     let mut interval: time::Interval = time::interval(Duration::from_secs(1));
///     for second in 0..3 {
///         assert_eq!(interval.tick().await, start + Duration::from_secs(second));
///     }
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Interval {
    /// Until the next tick.
    sleep: Sleep,
    period: Duration,
    ticked: bool,
}

impl Interval {
    /// Waits for the next tick, and returns the instant at which it was due.
    ///
    /// # Panics
    /// When polled outside a gondola runtime.
    ///
    /// # Cancel safety
    /// A tick that was not returned is not lost.
    ///
    /// ```
    /// use gondola::time;
    /// use std::time::Duration;
    ///
    /// # let mut runtime = gondola::Runtime::builder().virtual_time().build()?;
    /// # runtime.block_on(async {
    /// let mut interval = time::interval(Duration::from_secs(5));
    /// let first = interval.tick().await; // at once
    /// assert_eq!(interval.tick().await - first, Duration::from_secs(5));
    /// # });
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| {
            // A sleep of no length would wait for the next look; the first tick waits for nothing.
            if self.ticked && Pin::new(&mut self.sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = context::current().timers.clock.now();
            let due = self.sleep.deadline.expect("a sleep without a deadline never ends");
            self.sleep = Sleep { deadline: next_tick(due, now, self.period), timer: None };
            self.ticked = true;
            Poll::Ready(due)
        })
        .await
    }
}

/// The first tick after `now` on the grid that `due` and `period` make; `None` if the clock
/// ends before it.
fn next_tick(due: Instant, now: Instant, period: Duration) -> Option<Instant> {
    const NANOS: u128 = 1_000_000_000;
    let late = now.saturating_duration_since(due).as_nanos();
    let Some(missed) = late.checked_div(period.as_nanos()) else { return Some(now) };
    let ahead = period.as_nanos() * (missed + 1);
    let ahead = Duration::new(u64::try_from(ahead / NANOS).ok()?, (ahead % NANOS) as u32);
    due.checked_add(ahead)
}
