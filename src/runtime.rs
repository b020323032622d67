//! Runtimes: built, entered, left and shut down here. What runs when is `sched.rs`'s business.
#![forbid(unsafe_code)]

use crate::budget::{self, DEFAULT_SLOTS, MAX_SLOTS};
use crate::clock::Clock;
use crate::context;
use crate::error::SlotsOutOfRange;
use crate::metrics::Metrics;
use crate::reactor::Reactor;
use crate::ring::Ring;
use crate::sched::{Core, Turn, drive, park, turn};
use crate::timer::Timers;
use crate::wake::Wakes;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Runs a future to its end on this thread, on a runtime of its own with 1024 slots.
///
/// Tasks that are still there at the end are dropped.
///
/// # Panics
/// If the system grants no epoll and eventfd ([`Runtime::new`] returns that as an error); else as
/// [`Runtime::block_on`]: with a panic of `future`, and inside another gondola runtime on the same
/// thread.
///
/// ```
/// assert_eq!(gondola::block_on(async { 6 * 7 }), 42);
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    match Runtime::new() {
        Ok(mut runtime) => runtime.block_on(future),
        Err(error) => panic!("no runtime: {error}"),
    }
}

/// A ring of task slots, timers and a reactor, for one thread.
///
/// Tasks live on between two calls of [`block_on`](Self::block_on). Dropping the runtime drops
/// them all, on this thread and with the runtime still entered, so that their destructors can
/// use it; a task spawned by such a destructor is dropped at once.
///
/// Its wakers work on every thread, but not in a signal handler: see
/// [`CancellationToken`](crate::CancellationToken#signals).
///
/// Its epoll descriptor is shared with a forked child: a child that goes on to use it disturbs
/// the parent, so fork only to exec.
///
/// ```
/// use gondola::Runtime;
///
/// let mut runtime = Runtime::new()?;
/// let task = runtime.block_on(async { gondola::try_spawn(async { 1 + 1 }).unwrap() });
/// assert_eq!(runtime.block_on(task).unwrap(), 2);
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// # Outside a runtime
///
/// Whatever needs a runtime uses the one that is entered on its thread. Where none is, what can
/// return an error for that does. The other futures ([`Sleep`](crate::time::Sleep),
/// [`Timeout`](crate::time::Timeout), [`tick`](crate::time::Interval::tick),
/// [`Reserve`](crate::Reserve)) panic when they are polled; they may be made anywhere.
///
/// What outlives its own runtime neither panics nor waits when it is polled again. A socket that
/// would have to wait returns an error. A join handle says that its task was cancelled. A
/// reservation is ready, and what is spawned in its slot is dropped, which its handle says. A sleep
/// belongs to no runtime but the one that polls it. Wakers do nothing.
///
/// # Costs
///
/// About 12 bytes a slot, and a task's box once the slot has been used: the high-water mark
/// is the number of slots times the largest future. A handle that is kept after its task has
/// finished keeps the task's box as well.
///
/// The memory that a burst of sleeps or waiters took is given back: once no more than a quarter of
/// it is in use, it is cut off behind the last that stays. Room for about a thousand is kept.
pub struct Runtime {
    core: Rc<Core>,
}

impl Runtime {
    /// A runtime with 1024 slots and real time.
    ///
    /// # Errors
    /// The system's, when it grants no epoll or eventfd.
    ///
    /// ```
    /// let mut runtime = gondola::Runtime::new()?;
    /// assert_eq!(runtime.block_on(async { 1 + 1 }), 2);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// A runtime with other settings.
    ///
    /// ```
    /// let mut runtime = gondola::Runtime::builder().slots(8).build()?;
    /// assert_eq!(runtime.block_on(async { 1 + 1 }), 2);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder { slots: DEFAULT_SLOTS, virtual_time: false }
    }

    /// Runs `future` to its end, and the tasks beside it. Sleeps while nobody is ready. Tasks that
    /// are still there at the end wait for the next call, or for [`turn`](Self::turn).
    ///
    /// # Panics
    /// - Inside a gondola runtime on the same thread. The outer one goes on.
    /// - If `future` panics, its panic goes on here; the tasks stay.
    /// - Under virtual time, if nothing can ever run again: "deadlock", and what waits.
    /// - If the system refuses to wait for events, which only a closed descriptor or a sandbox can
    ///   cause.
    ///
    /// ```
    /// let mut runtime = gondola::Runtime::new()?;
    /// let text = String::from("futures may borrow");
    /// assert_eq!(runtime.block_on(async { text.len() }), 18);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let core = &self.core;
        let _entered = self.enter();
        let mut future = pin!(future);
        let mut output = None;
        let root =
            pin!(poll_fn(|cx| { future.as_mut().poll(cx).map(|value| output = Some(value)) }));
        core.wakes.mark(core.ring.len());
        if let Err(error) = drive(core, root) {
            panic!("the reactor failed: {error}");
        }
        output.expect("it is driven until the root future is ready")
    }

    /// One turn, without sleeping: polls each ready task once. If nobody is ready then, or
    /// 128 polls and operations after the last time, it also looks at I/O and timers. For tests, for
    /// teaching, and for a runtime that is a guest in another loop. Virtual time stands still.
    ///
    /// # Errors
    /// The system's, when it refuses to be asked for events.
    ///
    /// # Panics
    /// Inside a gondola runtime on the same thread.
    ///
    /// ```
    /// let mut runtime = gondola::Runtime::new()?;
    /// let task = runtime.block_on(async { gondola::try_spawn(async {}).unwrap() });
    /// assert_eq!(runtime.turn()?.completed, 1);
    /// assert!(task.is_finished());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn turn(&mut self) -> io::Result<Turn> {
        let _entered = self.enter();
        turn(&self.core, &mut None, false)
    }

    /// The earliest deadline of a timer, if there is one.
    ///
    /// ```
    /// use gondola::{Runtime, time};
    /// use std::time::{Duration, Instant};
    ///
    /// let mut runtime = Runtime::new()?;
    /// assert_eq!(runtime.next_deadline(), None);
    /// let sleep = time::sleep(Duration::from_secs(60));
    /// runtime.block_on(async { gondola::try_spawn(sleep).unwrap().detach() });
    /// runtime.turn()?; // it is polled
    /// assert!(runtime.next_deadline().unwrap() > Instant::now());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.core.timers.next().map(|(deadline, _)| deadline)
    }

    /// For a guest in another loop: says that the host is going to wait for this runtime, and how
    /// long at most ([`Duration::MAX`] if no timer is armed). The host waits until that has passed,
    /// or until the runtime's descriptor is readable; then it calls [`turn`](Self::turn), and this
    /// again. `None`: there is something to do, so call `turn` first.
    ///
    /// From here to the next `turn`, a wake from another thread makes the descriptor readable.
    /// Without this it would not: nobody is told who does not sleep.
    /// A wake on this thread does not, so call it last of all before the host waits.
    ///
    /// # Panics
    /// Inside a gondola runtime on the same thread, and under virtual time, which stands still in a
    /// guest.
    ///
    /// ```
    /// use gondola::{Runtime, time};
    /// use std::os::fd::AsFd;
    /// use std::time::Duration;
    ///
    /// let mut runtime = Runtime::new()?;
    /// let task = runtime.block_on(async {
    ///     gondola::try_spawn(time::sleep(Duration::from_millis(5))).unwrap()
    /// });
    /// // The host, which would wait for its own descriptors as well.
    /// loop {
    ///     runtime.turn()?;
    ///     if task.is_finished() {
    ///         break;
    ///     }
    ///     if let Some(wait) = runtime.prepare_sleep() {
    ///         let timeout = wait.as_millis().saturating_add(1).try_into().unwrap_or(i32::MAX);
    ///         # use std::os::fd::AsRawFd;
    ///         # let fd = runtime.as_fd().as_raw_fd();
    ///         # let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    ///         # let mut poll = |_, timeout| unsafe { libc::poll(&mut polled, 1, timeout) };
    ///         poll(runtime.as_fd(), timeout);
    ///     }
    /// }
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn prepare_sleep(&mut self) -> Option<Duration> {
        assert!(self.core.reactor.allows_watches(), "virtual time has no guests");
        let _entered = self.enter();
        park(&self.core)
    }

    /// What it holds at present.
    ///
    /// ```
    /// let runtime = gondola::Runtime::new()?;
    /// assert_eq!(runtime.metrics().taken, 0);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.core)
    }

    #[track_caller]
    fn enter(&self) -> context::Entered {
        assert!(
            context::try_current().is_none(),
            "a gondola runtime is already entered on this thread"
        );
        context::enter(&self.core)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _entered = context::enter(&self.core);
        // No event will come any more: a destructor that would wait for a socket gets an error.
        self.core.reactor.set_entered(false);
        self.core.ring.close();
    }
}

/// The descriptor of its epoll, to be watched by a host: see
/// [`prepare_sleep`](Runtime::prepare_sleep).
///
/// # Panics
/// Under virtual time, which has none.
#[cfg(unix)]
impl std::os::fd::AsFd for Runtime {
    #[track_caller]
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.core.reactor.as_fd().expect("virtual time has no descriptor")
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Metrics { slots, taken, timers, watches, .. } = self.metrics();
        f.debug_struct("Runtime")
            .field("slots", &slots)
            .field("taken", &taken)
            .field("timers", &timers)
            .field("watches", &watches)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Runtime`].
///
/// ```
/// use gondola::{Runtime, time};
/// use std::time::Duration;
///
/// let mut runtime = Runtime::builder().slots(4).virtual_time().build()?;
/// // A day passes at once.
/// runtime.block_on(time::sleep(Duration::from_secs(86_400)));
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    slots: usize,
    virtual_time: bool,
}

impl Builder {
    /// How many tasks may exist at a time, the root future aside: 1 to 2^20, by default 1024. Each
    /// costs about 12 bytes from the start.
    ///
    /// ```
    /// let mut runtime = gondola::Runtime::builder().slots(1).build()?;
    /// runtime.block_on(async {
    ///     let _first = gondola::try_spawn(async {}).unwrap();
    ///     assert!(gondola::try_spawn(async {}).is_err());
    /// });
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Time stands still while anything can run, then jumps to the next deadline: tests with
    /// sleeps take no time, and the same program makes the same trace.
    ///
    /// Sockets can't be made under it (`Unsupported`). It knows this thread only: a wake that
    /// another thread is about to send does not hold time back. When nothing can ever run again,
    /// [`Runtime::block_on`] panics.
    ///
    /// ```
    /// use gondola::{Runtime, time};
    /// use std::time::Duration;
    ///
    /// let mut runtime = Runtime::builder().virtual_time().build()?;
    /// let start = std::time::Instant::now();
    /// runtime.block_on(time::sleep(Duration::from_secs(3600)));
    /// assert!(start.elapsed() < Duration::from_secs(60));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn virtual_time(mut self) -> Self {
        self.virtual_time = true;
        self
    }

    /// Builds the runtime.
    ///
    /// # Errors
    /// `InvalidInput` with a [`SlotsOutOfRange`] inside; else the system's, when it grants no epoll
    /// or eventfd. Virtual time needs neither.
    ///
    /// ```
    /// use gondola::Runtime;
    /// use std::io::ErrorKind;
    ///
    /// assert!(Runtime::builder().slots(64).build().is_ok());
    /// let error = Runtime::builder().slots(0).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidInput);
    /// ```
    pub fn build(self) -> io::Result<Runtime> {
        let Self { slots, virtual_time } = self;
        if !(1..=MAX_SLOTS).contains(&slots) {
            let error = SlotsOutOfRange { slots };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let (reactor, bell) = Reactor::new(virtual_time)?;
        let core = Core {
            // One slot more than slots: the root future's.
            wakes: Rc::new(Wakes::new(slots + 1, bell)),
            ring: Rc::new(Ring::new(slots)),
            timers: Rc::new(Timers::new(Clock::new(virtual_time))),
            reactor: Rc::new(reactor),
            looked_at: Cell::new(0),
            parked: Cell::new(false),
            number: budget::number_runtime(),
        };
        Ok(Runtime { core: Rc::new(core) })
    }
}
