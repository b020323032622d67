//! How a batch that did not complete accounts for every item.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

/// Why a batch did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// At least one item failed.
    Item,
    /// Its token was cancelled.
    Cancelled,
    /// The limit was 0. Nothing was pulled.
    ZeroLimit,
    /// The limit was larger than a ring can be. Nothing was pulled.
    LimitTooLarge {
        /// The largest ring.
        max: usize,
    },
}

/// The failure of one item.
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
/// As it holds the source, it is `'static` only where that is. For `?` into a boxed error, use
/// [`summary`](Self::summary).
///
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
#[non_exhaustive]
pub struct Parts<I, E, P = ()> {
    /// Why it did not complete.
    pub kind: ErrorKind,
    /// How many items were pulled: those below this index.
    pub pulled: usize,
    /// The failed items, in the order in which they were taken in: the first one ended the batch,
    /// unless it collects.
    pub errors: Vec<ItemError<E>>,
    /// The items that were dropped in flight, in ascending order. Their effects are unknown.
    pub cut_off: Vec<usize>,
    /// What the verb had collected: for the maps, an output for each completed item.
    pub partial: P,
    /// The rest of the source.
    pub rest: I,
}

impl<I, E, P> BatchError<I, E, P> {
    pub(super) fn new(mut parts: Parts<I, E, P>) -> Self {
        parts.cut_off.sort_unstable();
        Self { parts: Box::new(parts) }
    }

    /// Why it did not complete.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.parts.kind
    }

    /// The index of the first item that failed.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.parts.errors.first().map(|first| first.index)
    }

    /// The error of the first item that failed.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.parts.errors.first().map(|first| &first.error)
    }

    /// All items that failed: the first one, then those of the same turn or that failed while
    /// draining; all of the batch if it collects.
    #[must_use]
    pub fn errors(&self) -> &[ItemError<E>] {
        &self.parts.errors
    }

    /// The items that were dropped in flight, in ascending order. Their effects are unknown.
    #[must_use]
    pub fn cut_off(&self) -> &[usize] {
        &self.parts.cut_off
    }

    /// How many items were pulled from the source: those below this index.
    #[must_use]
    pub fn pulled(&self) -> usize {
        self.parts.pulled
    }

    /// How many items completed.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.parts.pulled - self.parts.errors.len() - self.parts.cut_off.len()
    }

    /// Whether the item at `index` completed. Costs a search among the failures.
    #[must_use]
    pub fn is_completed(&self, index: usize) -> bool {
        index < self.parts.pulled
            && self.parts.cut_off.binary_search(&index).is_err()
            && !self.parts.errors.iter().any(|failed| failed.index == index)
    }

    /// The error of the first item that failed.
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        self.parts.errors.into_iter().next().map(|first| first.error)
    }

    /// The rest of the source: the items that were never pulled.
    #[must_use]
    pub fn into_rest(self) -> I {
        self.parts.rest
    }

    /// Everything, to be taken apart.
    #[must_use]
    pub fn into_parts(self) -> Parts<I, E, P> {
        *self.parts
    }

    /// The error without the source and the outputs, for `?` and for logs.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary<E> {
    /// Why it did not complete.
    pub kind: ErrorKind,
    /// How many items completed.
    pub completed: usize,
    /// How many items were dropped in flight.
    pub cut_off: usize,
    /// The items that failed.
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
        (ErrorKind::Cancelled, _) | (ErrorKind::Item, []) => {
            f.write_str("the batch was cancelled")?
        }
        (ErrorKind::Item, [ItemError { index, error }, ..]) => {
            write!(f, "item {index} failed: {error}")?;
        }
    }
    let failed = errors.len();
    write!(f, " ({completed} completed, {failed} failed, {cut_off} cut off in flight)")
}
