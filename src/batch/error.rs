//! The record of a batch that did not complete: it accounts for every item.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;

/// Why a batch did not complete.
///
/// ```
/// use gondola::{ErrorKind, batch, block_on};
///
/// let run = batch([1, 2]).limit(1).try_for_each(|_| async { Err("bad") });
/// assert_eq!(block_on(run).unwrap_err().kind, ErrorKind::Item);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// At least one item failed.
    Item,
    /// Its token was cancelled before it was done. Items that failed before, under `Collect`, or
    /// while the batch was drained, are among the errors.
    Cancelled,
    /// It was told to stop ([`stop`](super::Run::stop), [`stop_when`](super::Run::stop_when)), and
    /// left something undone.
    Stopped,
    /// The limit was 0. Nothing was pulled.
    ZeroLimit,
    /// The window was 0. Nothing was pulled.
    ZeroWindow,
    /// The limit was larger than a ring can be. Nothing was pulled.
    LimitTooLarge {
        /// The largest ring: 2^20 slots.
        max: usize,
    },
    /// The source has more items than there are indices. The batch has run the first `max` items
    /// to their end, and begun no other. Only a machine of 32 bits gets there.
    TooManyItems {
        /// The most items of one batch: 2^31 on 32 bits, 2^63 on 64.
        max: usize,
    },
}

/// The failure of one item.
///
/// ```
/// use gondola::{batch, block_on};
///
/// let run = batch(["1", "x"]).limit(1).try_map(async |text| text.parse::<u8>());
/// let failed = block_on(run).unwrap_err().errors.remove(0);
/// assert_eq!((failed.index, failed.error), (1, "x".parse::<u8>().unwrap_err()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemError<E> {
    /// The position of the item in the source, from 0.
    pub index: usize,
    /// What its future returned.
    pub error: E,
}

/// The record of a batch that did not complete: what became of each of its items.
///
/// Items are named by their position in the source. Each of them has exactly one of four fates. It
/// completed, it failed ([`errors`](Self::errors)), it was [cut off](Self::cut_off) in flight, or it
/// is in the [rest](Self::rest) of the source and was never begun.
///
/// By default a batch ends in the turn in which the first item fails. The record has every failure
/// of that turn, so there may be more than one.
///
/// ```
/// use gondola::{batch, block_on, yield_now};
///
/// let run = batch(0..9).limit(3).try_map(async |n| {
///     match n {
///         0 => Ok("done"),
///         1 => Err("bad"),
///         _ => Ok({ yield_now().await; "never seen" }),
///     }
/// });
/// let record = block_on(run).unwrap_err();
/// assert_eq!((record.index(), record.error(), record.pulled), (Some(1), Some(&"bad"), 2));
/// assert_eq!((record.completed(), record.partial), (1, vec![Some("done")]));
/// assert_eq!((record.cut_off, record.rest), (vec![], 2..9)); // nothing was begun after the failure
/// ```
///
/// # Resuming
///
/// Do again what failed and what was cut off, and go on with the rest. The effects of an item that
/// was cut off are unknown, so whatever is done again should bear it. Over `items.enumerate()` the
/// closure knows the index by which the record names the item, and the rest of such a source goes
/// on counting where it stopped:
/// ```
/// use gondola::{batch, block_on, yield_now};
/// use std::cell::Cell;
///
/// let pages = ["a", "b", "c", "d", "e"];
/// let down = Cell::new(true);
/// let fetch = async |(index, page)| {
///     for _ in 0..index {
///         yield_now().await; // stands for some I/O
///     }
///     if page == "c" && down.get() { Err("down") } else { Ok(index) }
/// };
/// let record = block_on(batch(pages.into_iter().enumerate()).limit(2).try_map(fetch)).unwrap_err();
/// let failed = record.errors.iter().map(|failed| failed.index);
/// let again: Vec<usize> = failed.chain(record.cut_off).collect();
/// assert_eq!(again, [2, 3]);
///
/// down.set(false);
/// let again = again.into_iter().map(|index| (index, pages[index]));
/// let done = block_on(batch(again.chain(record.rest)).limit(2).try_map(fetch));
/// assert_eq!(done.unwrap(), [2, 3, 4]);
/// ```
/// The record of the second run counts its own items from 0; only the enumerated index goes on.
///
/// # With `?`
///
/// It is not a [`std::error::Error`] itself, because it holds the source, which may borrow. `?` makes
/// one of it, without the source and the outputs, in a function that returns `Box<dyn Error>`,
/// `Box<dyn Error + Send + Sync>` or [`io::Error`] (of the kind of the item's error, if that is an
/// `io::Error`). With the feature `anyhow` it does so for `anyhow::Error` as well. The error of an
/// item may be whatever these boxes take: an `Error`, an `anyhow::Error`, a box or a string. The
/// message has the whole chain of its sources.
/// ```
/// use gondola::{batch, block_on};
///
/// fn run() -> Result<(), Box<dyn std::error::Error>> {
///     let texts = vec!["1".to_string(), "two".to_string(), "3".to_string()];
///     block_on(batch(&texts).limit(2).try_for_each(async |text| text.parse::<u32>().map(drop)))?;
///     Ok(())
/// }
/// let message = run().unwrap_err().to_string();
/// assert_eq!(message, "item 1 failed: invalid digit found in string \
///                      (1 completed, 1 failed, 0 cut off in flight)");
/// ```
#[non_exhaustive]
pub struct BatchError<I, E, P = ()> {
    /// Why it did not complete.
    pub kind: ErrorKind,
    /// How many items were pulled from the source, and so begun: those below this index.
    pub pulled: usize,
    /// The items that failed: the first one, then those of the same turn, then those that failed
    /// while the batch was drained; all of the batch if it collects.
    ///
    /// They stand in the order in which the batch took them in. Those of one turn come in the order
    /// of their slots, so the first is not always the lowest.
    pub errors: Vec<ItemError<E>>,
    /// The items that were dropped in flight, in ascending order. Their effects are unknown.
    pub cut_off: Vec<usize>,
    /// What the verb had collected. For the maps: the outputs at their items' indices, up to the
    /// last item that completed, and `None` for each one before it that did not.
    pub partial: P,
    /// The rest of the source: the items that were never pulled.
    ///
    /// It may have returned `None` already, if the batch ended after the end of the source. So
    /// [`fuse`](Iterator::fuse) an iterator that would start anew.
    pub rest: I,
}

impl<I, E, P> BatchError<I, E, P> {
    /// The index of the first item that failed, in the order of [`errors`](Self::errors). `None` if
    /// no item did.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// let record = block_on(batch(0..9).limit(3).try_for_each(async |n| Err(n))).unwrap_err();
    /// assert_eq!(record.index(), Some(0));
    /// ```
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.errors.first().map(|first| first.index)
    }

    /// The error of the first item that failed. `None` if no item did.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// let record = block_on(batch([7, 8]).limit(1).try_for_each(async |n| Err(n))).unwrap_err();
    /// assert_eq!(record.error(), Some(&7));
    /// ```
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.errors.first().map(|first| &first.error)
    }

    /// The error of the first item that failed, by value. `None` if no item did.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// let record = block_on(batch([7, 8]).limit(1).try_for_each(async |n| Err(n))).unwrap_err();
    /// assert_eq!(record.into_error(), Some(7));
    /// ```
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        self.errors.into_iter().next().map(|first| first.error)
    }

    /// How many items completed.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// let fetch = async |n| if n < 5 { Ok(()) } else { Err("five") };
    /// let record = block_on(batch(0..9).limit(2).try_for_each(fetch)).unwrap_err();
    /// assert_eq!(record.completed(), 5);
    /// ```
    #[must_use]
    pub fn completed(&self) -> usize {
        self.pulled - self.errors.len() - self.cut_off.len()
    }

    /// Whether the item at `index` completed. `false` as well for an item that was never pulled.
    /// Costs a search among the failures.
    ///
    /// ```
    /// # use gondola::{batch, block_on};
    /// let fetch = async |n| if n < 5 { Ok(()) } else { Err("five") };
    /// let record = block_on(batch(0..9).limit(2).try_for_each(fetch)).unwrap_err();
    /// assert!(record.is_completed(4) && !record.is_completed(5) && !record.is_completed(6));
    /// ```
    #[must_use]
    pub fn is_completed(&self, index: usize) -> bool {
        index < self.pulled
            && self.cut_off.binary_search(&index).is_err()
            && !self.errors.iter().any(|failed| failed.index == index)
    }

    pub(super) fn tell(&self) -> Told {
        Told {
            kind: self.kind,
            index: self.index(),
            completed: self.completed(),
            failed: self.errors.len(),
            cut_off: self.cut_off.len(),
        }
    }

    fn into_failure<C>(self) -> Failure<C>
    where
        E: Into<C>,
    {
        Failure { told: self.tell(), cause: self.into_error().map(Into::into) }
    }
}

impl<I, E: fmt::Debug, P> fmt::Debug for BatchError<I, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchError")
            .field("kind", &self.kind)
            .field("pulled", &self.pulled)
            .field("errors", &self.errors)
            .field("cut_off", &self.cut_off)
            .finish_non_exhaustive()
    }
}

/// With the chain of the sources of the item's error. For an item's error that is not an
/// [`Error`], see [With `?`](Self#with-).
impl<I, E: Error + 'static, P> fmt::Display for BatchError<I, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell().fmt(f, self.error().map(|error| error as _))
    }
}

type Dyn = dyn Error + 'static;
type Boxed = Box<Dyn>;
type BoxedSend = Box<dyn Error + Send + Sync>;

/// A record without the source, the outputs and the errors but one: what `?` makes of it.
struct Failure<C> {
    told: Told,
    cause: Option<C>,
}

/// What is told of a record: all but the error of its first item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    kind: ErrorKind,
    index: Option<usize>,
    completed: usize,
    failed: usize,
    cut_off: usize,
}

impl Told {
    /// With the chain of `cause`, if it is what ended the batch.
    fn fmt(self, f: &mut fmt::Formatter<'_>, mut cause: Option<&Dyn>) -> fmt::Result {
        match (self.kind, self.index) {
            (ErrorKind::ZeroLimit, _) => return f.write_str("the limit of the batch is zero"),
            (ErrorKind::ZeroWindow, _) => return f.write_str("the window of the batch is zero"),
            (ErrorKind::LimitTooLarge { max }, _) => {
                return write!(f, "the limit of the batch is above {max}");
            }
            (ErrorKind::TooManyItems { max }, _) => write!(f, "the batch ended after {max} items")?,
            (ErrorKind::Item, Some(index)) => {
                write!(f, "item {index} failed")?;
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
            }
            (ErrorKind::Stopped, _) => f.write_str("the batch was stopped")?,
            (ErrorKind::Cancelled | ErrorKind::Item, _) => {
                f.write_str("the batch was cancelled")?
            }
        }
        let Self { completed, failed, cut_off, .. } = self;
        write!(f, " ({completed} completed, {failed} failed, {cut_off} cut off in flight)")
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Told::fmt(*self, f, None)
    }
}

macro_rules! failure_of {
    ($Cause:ty) => {
        impl Failure<$Cause> {
            fn cause(&self) -> Option<&Dyn> {
                self.cause.as_ref().map(|cause| &**cause as &Dyn)
            }
        }

        impl fmt::Display for Failure<$Cause> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.told.fmt(f, self.cause())
            }
        }

        impl fmt::Debug for Failure<$Cause> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Error for Failure<$Cause> {
            fn source(&self) -> Option<&Dyn> {
                self.cause()
            }
        }

        impl<I, E: Into<$Cause>, P> From<Box<BatchError<I, E, P>>> for $Cause {
            fn from(record: Box<BatchError<I, E, P>>) -> Self {
                Box::new(record.into_failure::<$Cause>())
            }
        }
    };
}
failure_of!(Boxed);
failure_of!(BoxedSend);

impl<I, E: Into<BoxedSend>, P> From<Box<BatchError<I, E, P>>> for io::Error {
    fn from(record: Box<BatchError<I, E, P>>) -> Self {
        let failure = record.into_failure::<BoxedSend>();
        let kind = match (failure.told.kind, failure.cause()) {
            (ErrorKind::Item, Some(cause)) => cause.downcast_ref().map(io::Error::kind),
            (ErrorKind::ZeroLimit | ErrorKind::ZeroWindow | ErrorKind::LimitTooLarge { .. }, _) => {
                Some(io::ErrorKind::InvalidInput)
            }
            _ => None,
        };
        io::Error::new(kind.unwrap_or(io::ErrorKind::Other), failure)
    }
}
