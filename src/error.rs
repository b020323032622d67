//! The error types that tasks and runtimes share; each gives back what it was given.
#![forbid(unsafe_code)]

use crate::budget::MAX_SLOTS;
use crate::panic::Payload;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Why a task has no output: it panicked, or it was cancelled.
///
/// Cancelled means aborted through [`JoinHandle::abort`](crate::JoinHandle::abort), or dropped
/// together with its runtime.
///
/// ```
/// gondola::block_on(async {
///     let task = gondola::try_spawn(async { panic!("spilled") }).unwrap();
///     let error = task.await.unwrap_err();
///     assert!(error.is_panic() && !error.is_cancelled());
///     assert_eq!(*error.into_panic().unwrap().downcast::<&str>().unwrap(), "spilled");
/// });
/// ```
pub struct JoinError {
    // A mutex makes the payload, which is only Send, Sync; nothing ever waits for it.
    panic: Option<Mutex<Payload>>,
}

impl JoinError {
    pub(crate) fn panic(payload: Payload) -> Self {
        Self { panic: Some(Mutex::new(payload)) }
    }

    pub(crate) fn cancelled() -> Self {
        Self { panic: None }
    }

    /// Whether the task was aborted, or dropped together with its runtime. A panic of its
    /// destructor is swallowed then.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(std::future::pending::<()>()).unwrap();
    ///     task.abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Whether the task, or the destructor of its future once it was done, panicked.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(async { panic!("spilled") }).unwrap();
    ///     assert!(task.await.unwrap_err().is_panic());
    /// });
    /// ```
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// The panic's payload, to inspect or to hand to [`std::panic::resume_unwind`].
    ///
    /// # Errors
    /// Gives the error back if the task did not panic.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let task = gondola::try_spawn(async { std::panic::panic_any(7) }).unwrap();
    ///     let payload = task.await.unwrap_err().into_panic().unwrap();
    ///     assert_eq!(payload.downcast_ref(), Some(&7));
    /// });
    /// ```
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.panic {
            Some(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => Err(self),
        }
    }

    fn message(&self) -> Option<String> {
        let payload = self.panic.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| payload.downcast_ref::<String>().cloned())
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_panic(), self.message()) {
            (false, _) => f.write_str("JoinError::Cancelled"),
            (true, message) => f.debug_tuple("JoinError::Panic").field(&message).finish(),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_panic(), self.message()) {
            (false, _) => f.write_str("the task was cancelled"),
            (true, Some(message)) => write!(f, "the task panicked: {message}"),
            (true, None) => f.write_str("the task panicked"),
        }
    }
}

impl Error for JoinError {}

/// Why [`try_spawn`](crate::try_spawn) placed nothing.
///
/// ```
/// use gondola::{TrySpawnErrorKind, try_spawn};
///
/// let error = try_spawn(async {}).unwrap_err();
/// assert_eq!(error.kind(), TrySpawnErrorKind::NoRuntime);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySpawnErrorKind {
    /// Every slot is taken, or promised to a task that waits in [`reserve`](crate::reserve).
    Full {
        /// How many slots the ring has.
        slots: usize,
    },
    /// No runtime is entered on this thread, or it is shutting down.
    NoRuntime,
}

/// [`try_spawn`](crate::try_spawn) placed nothing; here is the future, untouched.
///
/// ```
/// use gondola::{Runtime, TrySpawnErrorKind, try_spawn};
///
/// let mut runtime = Runtime::builder().slots(1).build()?;
/// runtime.block_on(async {
///     try_spawn(std::future::pending::<()>()).unwrap().detach();
///     let refused = try_spawn(async { 7 }).unwrap_err();
///     assert_eq!(refused.kind(), TrySpawnErrorKind::Full { slots: 1 });
///     assert_eq!(refused.into_future().await, 7);
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct TrySpawnError<F> {
    future: F,
    kind: TrySpawnErrorKind,
}

impl<F> TrySpawnError<F> {
    pub(crate) fn new(future: F, kind: TrySpawnErrorKind) -> Self {
        Self { future, kind }
    }

    /// What stood in the way.
    ///
    /// ```
    /// let error = gondola::try_spawn(async {}).unwrap_err();
    /// assert_eq!(error.kind(), gondola::TrySpawnErrorKind::NoRuntime);
    /// ```
    #[must_use]
    pub fn kind(&self) -> TrySpawnErrorKind {
        self.kind
    }

    /// The future that was refused. It was not polled.
    ///
    /// ```
    /// let future = gondola::try_spawn(async { 7 }).unwrap_err().into_future();
    /// assert_eq!(gondola::block_on(future), 7);
    /// ```
    #[must_use]
    pub fn into_future(self) -> F {
        self.future
    }
}

impl<F> fmt::Debug for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySpawnError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TrySpawnErrorKind::Full { slots } => write!(f, "all {slots} slots are taken"),
            TrySpawnErrorKind::NoRuntime => f.write_str(NO_RUNTIME),
        }
    }
}

impl<F> Error for TrySpawnError<F> {}

/// For `?` in a function that returns an [`io::Result`]. The future is dropped.
///
/// ```
/// fn spawn() -> std::io::Result<()> {
///     gondola::try_spawn(async {})?.detach();
///     Ok(())
/// }
/// assert!(spawn().is_err()); // outside a runtime
/// ```
impl<F> From<TrySpawnError<F>> for io::Error {
    fn from(error: TrySpawnError<F>) -> Self {
        let kind = match error.kind {
            TrySpawnErrorKind::Full { .. } => io::ErrorKind::ResourceBusy,
            TrySpawnErrorKind::NoRuntime => io::ErrorKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

/// Two versions of this crate in one program do not see each other's runtimes.
pub(crate) const NO_RUNTIME: &str = concat!(
    "no runtime of gondola ",
    env!("CARGO_PKG_VERSION"),
    " is entered on this thread (one of another version does not count)"
);

/// A ring must have between 1 and 2^20 slots. Arrives inside the `io::Error` (kind
/// `InvalidInput`) of [`Builder::build`](crate::Builder::build).
///
/// ```
/// use gondola::{Runtime, SlotsOutOfRange};
///
/// let error = Runtime::builder().slots(0).build().unwrap_err();
/// let inner = error.get_ref().unwrap().downcast_ref::<SlotsOutOfRange>().unwrap();
/// assert_eq!(inner.slots, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsOutOfRange {
    /// The number that was asked for.
    pub slots: usize,
}

impl fmt::Display for SlotsOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots were asked for; a ring has 1 to {MAX_SLOTS}", self.slots)
    }
}

impl Error for SlotsOutOfRange {}
