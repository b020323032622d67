//! How a batch that did not complete accounts for every item.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

/// Why a batch did not complete.
///
/// ```
/// use gondola::{ErrorKind, batch, block_on};
///
/// let error = block_on(batch([1, 2]).limit(1).try_for_each(|_| async { Err("bad") }));
/// assert_eq!(error.unwrap_err().kind(), ErrorKind::Item);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// At least one item failed.
    Item,
    /// Its token was cancelled before it was done. What failed before, under `Collect`, or while
    /// it was drained, is among the errors.
    Cancelled,
    /// The limit was 0. Nothing was pulled.
    ZeroLimit,
    /// The limit was larger than a ring can be. Nothing was pulled.
    LimitTooLarge {
        /// The largest ring: 2^20 slots.
        max: usize,
    },
}

/// The failure of one item.
///
/// ```
/// use gondola::{batch, block_on};
///
/// let run = batch(["1", "x"]).limit(1).try_map(|text| async { text.parse::<u8>() });
/// let failed = block_on(run).unwrap_err().errors()[0].clone();
/// assert_eq!((failed.index, failed.error), (1, "x".parse::<u8>().unwrap_err()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemError<E> {
    /// The item's position in the source, from 0.
    pub index: usize,
    /// What its future returned.
    pub error: E,
}

/// A batch that did not complete, and what became of each of its items.
///
/// Items are named by their position in the source. Each is exactly one of: completed, failed
/// ([`errors`](Self::errors)), [cut off](Self::cut_off) in flight, or in the
/// [rest](Self::into_rest) of the source, which was never pulled. To resume, redo the second and
/// the third and go on with the fourth.
///
/// By default a batch ends at the first turn that sees a failure, and reports every failure of
/// that turn: there may be more than one.
///
/// # Resuming
///
/// `batch(items.enumerate())` tells the closure the index by which the record names the item. The
/// rest of such a source goes on counting where it stopped:
/// ```
/// use gondola::{batch, block_on, yield_now};
/// use std::cell::Cell;
///
/// let pages = ["a", "b", "c", "d", "e"];
/// let down = &Cell::new(true);
/// let fetch = |(index, page)| async move {
///     for _ in 0..index {
///         yield_now().await; // stands for some I/O
///     }
///     if page == "c" && down.get() { Err("down") } else { Ok(index) }
/// };
/// let error = block_on(batch(pages.into_iter().enumerate()).limit(2).try_map(fetch)).unwrap_err();
/// let parts = error.into_parts();
/// let failed = parts.errors.iter().map(|failed| failed.index);
/// let again: Vec<usize> = failed.chain(parts.cut_off).collect();
/// assert_eq!(again, [2, 3]);
///
/// down.set(false);
/// let again = again.into_iter().map(|index| (index, pages[index]));
/// let done = block_on(batch(again.chain(parts.rest)).limit(2).try_map(fetch));
/// assert_eq!(done.unwrap(), [2, 3, 4]);
/// ```
/// The effects of an item that was cut off are unknown, so what is done again should bear it.
/// The record of the second run counts its own items from 0; only the enumerated index goes on.
///
/// Bookkeeping of what was started belongs in the closure's body, not in its future: the closure
/// is called for every item that is pulled, but a future may be cut off before its first poll.
///
/// # As an error
///
/// As it holds the source, it is `'static` only where that is. For `?` into a boxed error, use
/// [`summary`](Self::summary):
/// ```
/// use gondola::{batch, block_on};
///
/// fn run() -> Result<(), Box<dyn std::error::Error>> {
///     let texts = vec!["1".to_string(), "two".to_string(), "3".to_string()];
///     block_on(batch(&texts).limit(2).try_for_each(|text| async move {
///         text.parse::<u32>().map(drop)
///     }))
///     .map_err(|error| error.summary())?;
///     Ok(())
/// }
/// let message = run().unwrap_err().to_string();
/// assert_eq!(message, "item 1 failed: invalid digit found in string \
///                      (1 completed, 1 failed, 0 cut off in flight)");
/// ```
pub struct BatchError<I, E, P = ()> {
    parts: Box<Parts<I, E, P>>,
}

/// Everything that a [`BatchError`] knows, to be taken apart.
///
/// ```
/// use gondola::batch::{Parts, batch};
///
/// let run = batch(0..9).limit(1);
/// let run = run.try_map(|n| async move { if n < 2 { Ok(n) } else { Err("two") } });
/// let Parts { pulled, partial, rest, .. } = gondola::block_on(run).unwrap_err().into_parts();
/// assert_eq!((pulled, partial, rest), (3, vec![Some(0), Some(1)], 3..9));
/// ```
#[non_exhaustive]
pub struct Parts<I, E, P = ()> {
    /// Why it did not complete.
    pub kind: ErrorKind,
    /// How many items were pulled: those below this index.
    pub pulled: usize,
    /// The failed items, in the order in which they were taken in: the first one ended the batch,
    /// unless it collects. Those of one turn come in the order of their slots, so the first is not
    /// always the lowest.
    pub errors: Vec<ItemError<E>>,
    /// The items that were dropped in flight, in ascending order. Their effects are unknown.
    pub cut_off: Vec<usize>,
    /// What the verb had collected. For the maps, the outputs at their items' indices, up to the
    /// last item that completed: `None` for one before it that did not.
    pub partial: P,
    /// The rest of the source: see [`into_rest`](BatchError::into_rest).
    pub rest: I,
}

impl<I, E, P> BatchError<I, E, P> {
    pub(super) fn new(mut parts: Parts<I, E, P>) -> Self {
        // A heap, for it is 4 kB less of code than a sort: the smallest programs feel it.
        parts.cut_off = std::collections::BinaryHeap::from(parts.cut_off).into_sorted_vec();
        Self { parts: Box::new(parts) }
    }

    /// Why it did not complete.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.kind(), gondola::ErrorKind::Item);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.parts.kind
    }

    /// The index of the first item that failed, in the order of [`errors`](Self::errors). `None` if
    /// none did.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.index(), Some(1));
    /// ```
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.parts.errors.first().map(|first| first.index)
    }

    /// The error of the first item that failed. `None` if none did.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.error(), Some(&"bad"));
    /// ```
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.parts.errors.first().map(|first| &first.error)
    }

    /// All items that failed: the first one, then those of the same turn, whose errors are never
    /// dropped, and those that failed while draining; all of the batch if it collects.
    ///
    /// Those of one turn come in the order of their slots, so the first is not always the lowest.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.errors().len(), 1);
    /// assert_eq!((error.errors()[0].index, error.errors()[0].error), (1, "bad"));
    /// ```
    #[must_use]
    pub fn errors(&self) -> &[ItemError<E>] {
        &self.parts.errors
    }

    /// The items that were dropped in flight, in ascending order. Their effects are unknown.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.cut_off(), [2]);
    /// ```
    #[must_use]
    pub fn cut_off(&self) -> &[usize] {
        &self.parts.cut_off
    }

    /// How many items were pulled from the source: those below this index.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.pulled(), 3);
    /// ```
    #[must_use]
    pub fn pulled(&self) -> usize {
        self.parts.pulled
    }

    /// How many items completed.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.completed(), 1);
    /// ```
    #[must_use]
    pub fn completed(&self) -> usize {
        self.parts.pulled - self.parts.errors.len() - self.parts.cut_off.len()
    }

    /// Whether the item at `index` completed: `false` as well for one that was never pulled. Costs
    /// a search among the failures.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert!(error.is_completed(0));
    /// assert!(!error.is_completed(1) && !error.is_completed(2) && !error.is_completed(3));
    /// ```
    #[must_use]
    pub fn is_completed(&self, index: usize) -> bool {
        index < self.parts.pulled
            && self.parts.cut_off.binary_search(&index).is_err()
            && !self.parts.errors.iter().any(|failed| failed.index == index)
    }

    /// The error of the first item that failed, by value. `None` if none did.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.into_error(), Some("bad"));
    /// ```
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        self.parts.errors.into_iter().next().map(|first| first.error)
    }

    /// The rest of the source: the items that were never pulled.
    ///
    /// It may have returned `None` already, if the failure came after the end of the source. So
    /// [`fuse`](Iterator::fuse) an iterator that would start anew.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// assert_eq!(error.into_rest(), 3..9);
    /// ```
    #[must_use]
    pub fn into_rest(self) -> I {
        self.parts.rest
    }

    /// Everything, to be taken apart.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// let parts = error.into_parts();
    /// assert_eq!((parts.pulled, parts.cut_off, parts.rest), (3, vec![2], 3..9));
    /// ```
    #[must_use]
    pub fn into_parts(self) -> Parts<I, E, P> {
        *self.parts
    }

    /// The error without the source and the outputs, for `?` and for logs.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// # let step = |n| async move {
    /// #     match n { 0 => Ok(()), 1 => Err("bad"), _ => std::future::pending().await }
    /// # };
    /// // Item 0 completes, item 1 fails, item 2 is in flight.
    /// let error = block_on(batch(0..9).limit(3).try_for_each(step)).unwrap_err();
    /// let message = error.summary().to_string();
    /// assert_eq!(message, "item 1 failed: bad (1 completed, 1 failed, 1 cut off in flight)");
    /// ```
    #[must_use]
    pub fn summary(self) -> Summary<E> {
        let (completed, cut_off) = (self.completed(), self.parts.cut_off.len());
        let Parts { kind, errors, .. } = *self.parts;
        Summary { kind, completed, cut_off, errors }
    }
}

impl<I, E: fmt::Debug, P> fmt::Debug for BatchError<I, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt(f)
    }
}

impl<I, E: fmt::Debug, P> fmt::Debug for Parts<I, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchError")
            .field("kind", &self.kind)
            .field("pulled", &self.pulled)
            .field("errors", &self.errors)
            .field("cut_off", &self.cut_off)
            .finish_non_exhaustive()
    }
}

impl<I, E: fmt::Display, P> fmt::Display for BatchError<I, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, errors, cut_off, .. } = &*self.parts;
        display(f, *kind, errors, self.completed(), cut_off.len())
    }
}

impl<I, E: Error + 'static, P> Error for BatchError<I, E, P> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().map(|error| error as _)
    }
}

/// A [`BatchError`] without the source and the outputs: `'static` where the items' errors are.
///
/// ```
/// use gondola::{batch, block_on};
///
/// let run = batch(["1", "x"]).limit(1).try_map(|text| async { text.parse::<u8>() });
/// let summary = block_on(run).unwrap_err().summary();
/// assert_eq!((summary.completed, summary.errors.len(), summary.cut_off), (1, 1, 0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary<E> {
    /// Why it did not complete.
    pub kind: ErrorKind,
    /// How many items completed.
    pub completed: usize,
    /// How many items were dropped in flight.
    pub cut_off: usize,
    /// The items that failed, in the order of [`BatchError::errors`].
    pub errors: Vec<ItemError<E>>,
}

impl<E: fmt::Display> fmt::Display for Summary<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(f, self.kind, &self.errors, self.completed, self.cut_off)
    }
}

impl<E: Error + 'static> Error for Summary<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.errors.first().map(|first| &first.error as _)
    }
}

fn display<E: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    kind: ErrorKind,
    errors: &[ItemError<E>],
    completed: usize,
    cut_off: usize,
) -> fmt::Result {
    match (kind, errors) {
        (ErrorKind::ZeroLimit, _) => return f.write_str("the limit of the batch is zero"),
        (ErrorKind::LimitTooLarge { max }, _) => {
            return write!(f, "the limit of the batch is above {max}");
        }
        (ErrorKind::Item, [ItemError { index, error }, ..]) => {
            write!(f, "item {index} failed: {error}")?;
        }
        _ => f.write_str("the batch was cancelled")?,
    }
    let failed = errors.len();
    write!(f, " ({completed} completed, {failed} failed, {cut_off} cut off in flight)")
}
