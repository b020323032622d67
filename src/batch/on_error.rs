//! What becomes of a batch once an item has failed.
#![forbid(unsafe_code)]

/// What a batch does once an item has failed. The default is `Stop(Stop::Cancel)`.
///
/// ```
/// use gondola::{OnError, Stop, batch, block_on};
///
/// let pulled = |on_error| {
///     let run = batch(0..9).limit(1).on_error(on_error).try_for_each(async |_| Err("bad"));
///     block_on(run).unwrap_err().pulled
/// };
/// assert_eq!(OnError::default(), OnError::Stop(Stop::Cancel));
/// assert_eq!(pulled(OnError::default()), 1);
/// assert_eq!(pulled(OnError::Collect), 9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// Starts nothing more, and ends as [`Stop`] says.
    Stop(Stop),
    /// Goes on to the end, and keeps the errors: memory grows with their number.
    Collect,
}

impl Stop {
    /// The harder of two.
    pub(super) fn or(self, other: Self) -> Self {
        if self == Stop::Drain { other } else { self }
    }
}

impl Default for OnError {
    fn default() -> Self {
        OnError::Stop(Stop::Cancel)
    }
}

/// What becomes of the items in flight when a batch stops early.
///
/// ```
/// use gondola::{OnError, Stop, batch, block_on, yield_now};
///
/// let run = |stop| {
///     let run = batch(0..9).limit(2).on_error(OnError::Stop(stop)).try_for_each(async |n| {
///         yield_now().await;
///         if n == 0 { return Err("bad") }
///         Ok(yield_now().await)
///     });
///     let record = block_on(run).unwrap_err();
///     (record.completed(), record.cut_off.len())
/// };
/// assert_eq!(run(Stop::Cancel), (0, 1));
/// assert_eq!(run(Stop::Drain), (1, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// Their futures are dropped, in the order of their slots, in the turn that stopped the batch.
    Cancel,
    /// They are run to their end, however long that takes, and count as what they turn out to be.
    Drain,
}
