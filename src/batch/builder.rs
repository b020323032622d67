//! A batch before it runs: its source, its limit, its settings, and the verbs that make a run of it.
#![forbid(unsafe_code)]

use super::limited::{Limits, Under};
use super::on_error::OnError;
use super::run::{Plan, Run};
use super::source::{Growing, Source};
use super::verbs::{ForEach, InOrder, Map};
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
/// use std::cell::Cell;
///
/// let sum = Cell::new(0); // one thread: no lock
/// block_on(batch([1, 2, 3]).limit(2).for_each(async |n| sum.set(sum.get() + n))).unwrap();
/// assert_eq!(sum.get(), 6);
/// ```
///
/// The record of a batch that failed names items by their index. `batch(items.enumerate())` tells
/// it to the closure as well:
/// ```
/// use gondola::{batch, block_on};
///
/// let names = ["a", "b", "c"];
/// let lines = block_on(batch(names.iter().enumerate()).limit(2).map(async |(index, name)| {
///     format!("{index}: {name}")
/// }));
/// assert_eq!(lines.unwrap(), ["0: a", "1: b", "2: c"]);
/// ```
///
/// The first `None` of the source is its end: it is not asked again, unless the batch is
/// [`growing`](Batch::growing). It is dropped when the run is over, so no item should wait for something that happens only when the source is dropped (for a
/// `Sender` in it, say): that would be for ever.
///
/// A batch without a limit has no verbs:
/// ```compile_fail,E0277
/// gondola::batch([1, 2, 3]).for_each(async |_| ());
/// ```
pub fn batch<I: IntoIterator>(items: I) -> Batch<I::IntoIter, ()> {
    batch_of(items.into_iter())
}

pub(super) fn batch_of<I>(items: I) -> Batch<I, ()> {
    Batch { items, limit: (), on_error: OnError::default(), token: None }
}

/// A batch that waits for its verb. Returned by [`batch`], with `K = ()`: then it needs a
/// [`limit`](Self::limit) first.
///
/// ```
/// let batch = gondola::batch(["a", "b"]).limit(2);
/// assert_eq!(gondola::block_on(batch.map(async |s| s.len())).unwrap(), [1, 1]);
/// ```
#[must_use = "a batch does nothing until its verb is awaited"]
pub struct Batch<I, K = usize> {
    items: I,
    limit: K,
    on_error: OnError,
    token: Option<CancellationToken>,
}

impl<I> Batch<I, ()> {
    /// At most `limit` futures exist at any moment, and one item is pulled only when there is a
    /// slot for its future.
    ///
    /// The memory for all of them, `limit` times the size of a future, is allocated at the first
    /// poll; less, if the source says ([`size_hint`](Iterator::size_hint)) that it is shorter.
    ///
    /// More waits per item, or longer ones, want a higher limit. What helps to find it is the
    /// experiment: see `examples/sweep`. With 0, or more than 2^20 for a source that does not
    /// say that it is shorter, the run ends at once with an error that gives the source back.
    ///
    /// ```
    /// use gondola::{batch, block_on, ErrorKind};
    ///
    /// let record = block_on(batch(1..4).limit(0).for_each(async |_| ())).unwrap_err();
    /// assert_eq!((record.kind, record.rest), (ErrorKind::ZeroLimit, 1..4));
    /// ```
    ///
    /// A [`Limit`](super::Limit) instead of a number can be changed while the batch runs, and an
    /// [`Auto`](super::Auto) finds itself.
    pub fn limit<K: Limits>(self, limit: K) -> Batch<I, K> {
        let Self { items, on_error, token, .. } = self;
        Batch { items, limit, on_error, token }
    }
}

impl<I: Iterator, K> Batch<I, K> {
    /// Takes `None` of the source for "nothing now". It is asked again in each turn with a free slot,
    /// and is at its end once it says `None` with nothing in flight. So items may bring forth
    /// others: the links of a page, the next page of a list. What the source has must not depend on
    /// anything but the items: who else would wake the batch? Its size hint is not believed.
    ///
    /// ```
    /// use gondola::{batch, block_on};
    /// use std::cell::RefCell;
    ///
    /// // Each page but the last links to two others.
    /// let links = RefCell::new(vec![1]);
    /// let crawl = batch(std::iter::from_fn(|| links.borrow_mut().pop())).growing().limit(4);
    /// let pages = block_on(crawl.map(async |page| {
    ///     if page < 64 {
    ///         links.borrow_mut().extend([2 * page, 2 * page + 1]);
    ///     }
    ///     page
    /// }));
    /// assert_eq!(pages.unwrap().len(), 127);
    /// ```
    pub fn growing(self) -> Batch<Growing<I>, K> {
        let Self { items, limit, on_error, token } = self;
        Batch { items: Growing::new(items), limit, on_error, token }
    }
}

impl<I: Source, K: Under> Batch<I, K> {
    /// What to do once an item has failed; by default `Stop(Cancel)`.
    ///
    /// ```
    /// use gondola::{OnError, batch, block_on};
    ///
    /// let run = batch(0..4).limit(2).on_error(OnError::Collect);
    /// let even = async |n| if n % 2 == 0 { Ok(()) } else { Err("odd") };
    /// let record = block_on(run.try_for_each(even)).unwrap_err();
    /// let failed: Vec<usize> = record.errors.iter().map(|error| error.index).collect();
    /// assert_eq!((failed, record.completed()), (vec![1, 3], 2));
    /// ```
    pub fn on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// Ends the batch with a record once `token` is cancelled. What is in flight is dropped; to drain
    /// it, see [`Run::stop_when`]. A batch that has nothing left to do completes all the same. Of two
    /// tokens, the last one counts.
    ///
    /// The token is asked before each pull. If it is cancelled by the source or the closure, the
    /// item in hand is still begun: its future is polled once.
    ///
    /// ```
    /// use gondola::{CancellationToken, ErrorKind, batch, block_on};
    ///
    /// let token = CancellationToken::new();
    /// let run = batch(0..).limit(1).cancel_on(&token).for_each(async |n| {
    ///     if n == 2 {
    ///         token.cancel();
    ///         std::future::pending().await
    ///     }
    /// });
    /// let record = block_on(run).unwrap_err();
    /// assert_eq!((record.kind, record.completed()), (ErrorKind::Cancelled, 2));
    /// assert_eq!((record.cut_off, record.rest), (vec![2], 3..));
    /// ```
    pub fn cancel_on(self, token: &CancellationToken) -> Self {
        Self { token: Some(token.clone()), ..self }
    }

    /// Runs `f`'s future for each item. Nothing happens before the run is polled.
    ///
    /// To pull is to begin: `f` is called for an item as soon as it is pulled, and the future is
    /// polled at once, before the next item is pulled. So the items begin in their order.
    ///
    /// # Errors
    /// A bad limit, or cancelled: [`BatchError`](super::BatchError) with what is done and what is left.
    ///
    /// # Panics
    /// The run panics with a panic of the source, the closure or an item, or of a destructor of
    /// theirs; also with one of an item that is cut off. It has dropped everything else by then, the
    /// record and the outputs included. It also panics if it is polled after it was ready.
    ///
    /// # Cancel safety
    /// Dropping the run drops every item in flight, at once. The rest of the source goes with it:
    /// to keep that, cancel a token ([`cancel_on`](Self::cancel_on)).
    ///
    /// ```
    /// use gondola::{batch, block_on, yield_now};
    /// use std::cell::Cell;
    ///
    /// let sum = Cell::new(0); // one thread: no lock
    /// block_on(batch(1..=4).limit(2).for_each(async |n| {
    ///     yield_now().await;
    ///     sum.set(sum.get() + n);
    /// })).unwrap();
    /// assert_eq!(sum.get(), 10);
    /// ```
    pub fn for_each<F, Fut>(self, f: F) -> Run<K::Source<I>, F, Fut, ForEach>
    where
        K: Limits,
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = ()>,
    {
        Run::new(self.plan(), f, ForEach::new())
    }

    /// Runs `f`'s future for each item, each of which may fail.
    ///
    /// # Errors
    /// Once an item has failed, as [`on_error`](Self::on_error) says; also as
    /// [`for_each`](Self::for_each), whose panics and cancel safety it shares. [`BatchError`](super::BatchError) has
    /// every failure of the turn that ended the batch: more than one is possible.
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let texts = batch(["1", "x", "3"]).limit(1);
    /// let run = texts.try_for_each(async |text| text.parse::<u32>().map(drop));
    /// let record = block_on(run).unwrap_err();
    /// assert_eq!(record.index(), Some(1));
    /// assert_eq!(record.rest.collect::<Vec<_>>(), ["3"]);
    /// ```
    ///
    /// Over `items.enumerate()` the closure knows the index as well; [`BatchError`](super::BatchError) shows how to
    /// resume with it.
    pub fn try_for_each<F, Fut, E>(self, f: F) -> Run<K::Source<I>, F, Fut, ForEach<E>>
    where
        K: Limits,
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        Run::new(self.plan(), f, ForEach::new())
    }

    /// Runs `f`'s future for each item, and returns the outputs in the order of the items.
    ///
    /// # Errors
    /// As [`for_each`](Self::for_each), whose panics and cancel safety it shares. The outputs so
    /// far are in the record, as [`BatchError::partial`](super::BatchError::partial).
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let lengths = block_on(batch(["a", "bb"]).limit(2).map(async |text| text.len()));
    /// assert_eq!(lengths.unwrap(), [1, 2]);
    /// ```
    pub fn map<F, Fut>(self, f: F) -> Run<K::Source<I>, F, Fut, Map<Fut::Output>>
    where
        K: Limits,
        F: FnMut(I::Item) -> Fut,
        Fut: Future,
    {
        Run::new(self.plan(), f, Map::new())
    }

    /// Runs `f`'s future for each item, each of which may fail, and returns the outputs in the
    /// order of the items.
    ///
    /// # Errors
    /// As [`try_for_each`](Self::try_for_each). The outputs so far are in the record, as
    /// [`BatchError::partial`](super::BatchError::partial).
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let parsed = block_on(batch(["1", "2"]).limit(2).try_map(async |t| t.parse::<u8>()));
    /// assert_eq!(parsed.unwrap(), [1, 2]);
    /// ```
    pub fn try_map<F, Fut, O, E>(self, f: F) -> Run<K::Source<I>, F, Fut, Map<O, E>>
    where
        K: Limits,
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = Result<O, E>>,
    {
        Run::new(self.plan(), f, Map::new())
    }

    /// As [`map`](Self::map), but hands each output to `deliver` once all before it have been
    /// handed over: in the order of the source, as they come, in constant memory.
    ///
    /// An output that comes before its turn is held. At most `window` items are begun beyond the
    /// first one that is not done, so no more than that are held; the limit fills up if the window
    /// is larger. `deliver` runs in the poll of the batch: it should be quick. (For a task that takes
    /// the outputs in, let it be `|output| { let _ = sender.send(output); }`.)
    ///
    /// # Errors
    /// As [`map`](Self::map), with the outputs that were held, and their indices, as `partial`; and
    /// [`ZeroWindow`](super::ErrorKind::ZeroWindow).
    ///
    /// # Panics
    /// As [`map`](Self::map), and with a panic of `deliver`.
    ///
    /// # Cancel safety
    /// As [`for_each`](Self::for_each).
    ///
    /// ```
    /// use gondola::{batch, block_on, yield_now};
    ///
    /// let mut lines = Vec::new();
    /// let run = batch(0..6_usize).limit(3).in_order(4, async |n| {
    ///     for _ in n..6 {
    ///         yield_now().await; // the first take longest
    ///     }
    ///     n
    /// }, |n| lines.push(n));
    /// block_on(run).unwrap();
    /// assert_eq!(lines, [0, 1, 2, 3, 4, 5]);
    /// ```
    pub fn in_order<F, Fut, G>(
        self,
        window: usize,
        f: F,
        deliver: G,
    ) -> Run<K::Source<I>, F, Fut, InOrder<Fut::Output, G>>
    where
        K: Limits,
        F: FnMut(I::Item) -> Fut,
        Fut: Future,
        G: FnMut(Fut::Output),
    {
        Run::new(self.plan(), f, InOrder::new(window, deliver))
    }

    /// As [`in_order`](Self::in_order), of items that may fail. Under
    /// [`Collect`](OnError::Collect) an item that failed is skipped; else it is where the
    /// deliveries end.
    ///
    /// # Errors
    /// As [`in_order`](Self::in_order), and that of an item.
    ///
    /// # Panics
    /// As [`in_order`](Self::in_order).
    ///
    /// # Cancel safety
    /// As [`for_each`](Self::for_each).
    ///
    /// ```
    /// use gondola::{batch, block_on};
    ///
    /// let mut numbers = Vec::new();
    /// let parse = async |text: &str| text.parse::<u8>();
    /// let run = batch(["1", "2", "x", "3"]).limit(1).try_in_order(8, parse, |n| numbers.push(n));
    /// assert_eq!(block_on(run).unwrap_err().index(), Some(2));
    /// assert_eq!(numbers, [1, 2]);
    /// ```
    pub fn try_in_order<F, Fut, G, O, E>(
        self,
        window: usize,
        f: F,
        deliver: G,
    ) -> Run<K::Source<I>, F, Fut, InOrder<O, G, E>>
    where
        K: Limits,
        F: FnMut(I::Item) -> Fut,
        Fut: Future<Output = Result<O, E>>,
        G: FnMut(O),
    {
        Run::new(self.plan(), f, InOrder::new(window, deliver))
    }

    fn plan(self) -> Plan<K::Source<I>>
    where
        K: Limits,
    {
        let Self { items, limit, on_error, token } = self;
        let (limit, items) = limit.over(items);
        Plan { items, limit, on_error, token }
    }
}

impl<I, K: fmt::Debug> fmt::Debug for Batch<I, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("limit", &self.limit)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}
