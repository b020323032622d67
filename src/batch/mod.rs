//! The bounded batch: N items, each waiting on I/O, at most K in flight, on one thread.
//!
//! A batch is a plain future with a ring of its own: it runs as a root future, in a task, in
//! another batch, and under any other executor. It borrows freely: items, the closure and its
//! futures need be neither `'static` nor `Send`.
//!
//! ```
//! use gondola::{batch, block_on, yield_now};
//!
//! let squares = block_on(batch(1..=4).limit(2).map(|n| async move {
//!     yield_now().await; // stands for some I/O
//!     n * n
//! }));
//! assert_eq!(squares.unwrap(), [1, 4, 9, 16]);
//! ```
//!
//! # The law
//!
//! One turn of a batch: poll every woken item once; take the results in; and only if none of them
//! was a failure, start new items, as many as there are free slots. So no item is pulled from the
//! source, and the closure is not called, in or after a turn that saw a failure. A failure is seen
//! by the turn if its item was woken before the turn began.
//!
//! # Cost
//!
//! Two allocations per batch, at its first poll; none per item. Beside its slots a batch keeps no
//! more than the errors, and what a verb collects.
#![forbid(unsafe_code)]

mod error;
mod run;
mod verbs;

pub use error::{BatchError, ErrorKind, ItemError, Parts, Summary};
pub use run::Run;
pub use verbs::{ForEach, Map, TryForEach, TryMap, Verb};

use crate::cancel::CancellationToken;
use std::fmt;
use std::future::Future;

/// Begins a batch over `items`. It has no verbs until it has a limit.
///
/// Items are pulled one by one, on the thread that polls the batch: a source that blocks in `next`
/// blocks the thread, and everything else on it.
///
/// ```
/// use gondola::{batch, block_on};
///
/// let mut sum = 0;
/// block_on(batch([1, 2, 3]).limit(2).for_each(|n| {
///     sum += n;
///     async {}
/// })).unwrap();
/// assert_eq!(sum, 6);
/// ```
///
/// The record of a batch that failed names items by their index. `batch(items.enumerate())` tells
/// it to the closure as well:
/// ```
/// use gondola::{batch, block_on};
///
/// let names = ["a", "b", "c"];
/// let lines = block_on(batch(names.iter().enumerate()).limit(2).map(|(index, name)| async move {
///     format!("{index}: {name}")
/// }));
/// assert_eq!(lines.unwrap(), ["0: a", "1: b", "2: c"]);
/// ```
///
/// ```compile_fail,E0599
/// // No limit, no batch.
/// gondola::batch([1, 2, 3]).for_each(|_| async {});
/// ```
pub fn batch<I: IntoIterator>(items: I) -> Items<I::IntoIter> {
    Items { items: items.into_iter() }
}

/// The items of a batch that has no limit yet. Returned by [`batch`].
///
/// ```
/// let items = gondola::batch([1, 2]);
/// assert_eq!(gondola::block_on(items.limit(1).map(|n| async move { -n })).unwrap(), [-1, -2]);
/// ```
#[must_use = "a batch does nothing until its verb is awaited"]
pub struct Items<I> {
    items: I,
}

impl<I> Items<I> {
    /// At most `limit` futures exist at any moment, and one item is pulled only when there is a
    /// slot for its future.
    ///
    /// The memory for all of them, `limit` times the size of a future, is allocated at the first
    /// poll; less, if the source says ([`size_hint`](Iterator::size_hint)) that it is shorter.
    ///
    /// More waits per item, or longer ones, want a higher limit. What helps to find it is the
    /// experiment: see the `sweep` example. With 0, or more than 2^20 for a source that does not
    /// say that it is shorter, the run ends at once with an error that gives the source back.
    ///
    /// ```
    /// use gondola::{batch, block_on, ErrorKind};
    ///
    /// let error = block_on(batch(1..4).limit(0).for_each(|_| async {})).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ZeroLimit);
    /// assert_eq!(error.into_rest(), 1..4);
    /// ```
    pub fn limit(self, limit: usize) -> Batch<I> {
        Batch { items: self.items, limit, on_error: OnError::default(), token: None }
    }
}

impl<I> fmt::Debug for Items<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

/// What a batch does once an item has failed. The default is `Stop(Stop::Cancel)`.
///
/// ```
/// use gondola::{OnError, Stop, batch, block_on};
///
/// let pulled = |on_error| {
///     let run = batch(0..9).limit(1).on_error(on_error).try_for_each(|_| async { Err("bad") });
///     block_on(run).unwrap_err().pulled()
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
///     let run = batch(0..9).limit(2).on_error(OnError::Stop(stop)).try_for_each(|n| async move {
///         if n == 0 { Err("bad") } else { Ok(yield_now().await) }
///     });
///     let error = block_on(run).unwrap_err();
///     (error.completed(), error.cut_off().len())
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

/// A batch with a limit, ready for its verb. Returned by [`Items::limit`].
///
/// ```
/// let batch = gondola::batch(["a", "b"]).limit(2);
/// assert_eq!(gondola::block_on(batch.map(|s| async move { s.len() })).unwrap(), [1, 1]);
/// ```
#[must_use = "a batch does nothing until its verb is awaited"]
pub struct Batch<I> {
    items: I,
    limit: usize,
    on_error: OnError,
    token: Option<CancellationToken>,
}

impl<I: Iterator> Batch<I> {
    /// What to do once an item has failed; by default `Stop(Cancel)`.
    ///
    /// ```
    /// use gondola::{OnError, batch, block_on};
    ///
    /// let run = batch(0..4).limit(2).on_error(OnError::Collect);
    /// let error = block_on(run.try_for_each(|n| async move {
    ///     if n % 2 == 0 { Ok(()) } else { Err("odd") }
    /// })).unwrap_err();
    /// let failed: Vec<usize> = error.errors().iter().map(|error| error.index).collect();
    /// assert_eq!((failed, error.completed()), (vec![1, 3], 2));
    /// ```
    pub fn on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// Ends the batch with a report once `token` is cancelled. What is in flight is run to its end
    /// under `Stop(Drain)`, else dropped. A batch that has nothing left to do completes all the
    /// same. Of two tokens, the last one counts.
    ///
    /// ```
    /// use gondola::{CancellationToken, ErrorKind, batch, block_on};
    ///
    /// let token = CancellationToken::new();
    /// let run = batch(0..).limit(1).cancel_on(&token).for_each(|n| {
    ///     if n == 2 {
    ///         token.cancel();
    ///     }
    ///     async {}
    /// });
    /// let error = block_on(run).unwrap_err();
    /// assert_eq!((error.kind(), error.completed()), (ErrorKind::Cancelled, 2));
    /// assert_eq!(error.cut_off(), [2]);
    /// assert_eq!(error.into_rest(), 3..);
    /// ```
    pub fn cancel_on(self, token: &CancellationToken) -> Self {
        Self { token: Some(token.clone()), ..self }
    }

    /// Runs `f`'s future for each item. Nothing happens before the run is polled.
    ///
    /// `f` is called for every item that is pulled, but a future may be dropped before its first
    /// poll: bookkeeping of what was started belongs in the closure's body.
    ///
    /// # Errors
    /// A bad limit, or cancelled: [`BatchError`] with what is done and what is left.
    ///
    /// # Panics
    /// The run panics with a panic of the source, the closure or an item, after it has dropped the
    /// other items; and if polled after it was ready.
    ///
    /// # Cancel safety
    /// Dropping the run drops every item in flight, at once. The rest of the source goes with it:
    /// to keep that, cancel a token ([`cancel_on`](Self::cancel_on)).
    ///
    /// ```
    /// use gondola::{batch, block_on, yield_now};
    /// use std::cell::Cell;
    ///
    /// let sum = &Cell::new(0); // one thread: no lock
    /// block_on(batch(1..=4).limit(2).for_each(|n| async move {
    ///     yield_now().await;
    ///     sum.set(sum.get() + n);
    /// })).unwrap();
    /// assert_eq!(sum.get(), 10);
    /// ```
    pub fn for_each<F, Fut>(self, f: F) -> Run<I, F, Fut, ForEach>
    where
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = ()>,
    {
        Run::new(self, f, ForEach::default())
    }

    /// Runs `f`'s future for each item, each of which may fail.
    ///
    /// # Errors
    /// Once an item has failed, as [`on_error`](Self::on_error) says; also as
    /// [`for_each`](Self::for_each), whose panics and cancel safety it shares. [`BatchError`] has
    /// every failure of the turn that ended the batch: more than one is possible.
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let error = block_on(batch(["1", "x", "3"]).limit(1).try_for_each(|text| async move {
    ///     text.parse::<u32>().map(drop)
    /// })).unwrap_err();
    /// assert_eq!(error.index(), Some(1));
    /// assert_eq!(error.into_rest().collect::<Vec<_>>(), ["3"]);
    /// ```
    ///
    /// Over `items.enumerate()` the closure knows the index as well; [`BatchError`] shows how to
    /// resume with it.
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let mut begun = Vec::new();
    /// let run = batch("abc".chars().enumerate()).limit(1).try_for_each(|(index, letter)| {
    ///     begun.push(index); // called for every item that is pulled
    ///     async move { if letter == 'b' { Err(letter) } else { Ok(()) } }
    /// });
    /// assert_eq!(block_on(run).unwrap_err().index(), Some(1));
    /// assert_eq!(begun, [0, 1]);
    /// ```
    pub fn try_for_each<F, Fut, E>(self, f: F) -> Run<I, F, Fut, TryForEach<E>>
    where
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        Run::new(self, f, TryForEach::default())
    }

    /// Runs `f`'s future for each item, and returns the outputs in the order of the items.
    ///
    /// # Errors
    /// As [`for_each`](Self::for_each), whose panics and cancel safety it shares. The outputs so
    /// far are in the error, as [`Parts::partial`].
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let lengths = block_on(batch(["a", "bb"]).limit(2).map(|text| async { text.len() }));
    /// assert_eq!(lengths.unwrap(), [1, 2]);
    /// ```
    pub fn map<F, Fut>(self, f: F) -> Run<I, F, Fut, Map<Fut::Output>>
    where
        F: FnMut(I::Item) -> Fut,
        Fut: Future,
    {
        Run::new(self, f, Map::default())
    }

    /// Runs `f`'s future for each item, each of which may fail, and returns the outputs in the
    /// order of the items.
    ///
    /// # Errors
    /// As [`try_for_each`](Self::try_for_each). The outputs so far are in the error, as
    /// [`Parts::partial`].
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let parsed = block_on(batch(["1", "2"]).limit(2).try_map(|t| async { t.parse::<u8>() }));
    /// assert_eq!(parsed.unwrap(), [1, 2]);
    /// ```
    pub fn try_map<F, Fut, O, E>(self, f: F) -> Run<I, F, Fut, TryMap<O, E>>
    where
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = Result<O, E>>,
    {
        Run::new(self, f, TryMap::default())
    }
}

impl<I> fmt::Debug for Batch<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("limit", &self.limit)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}
