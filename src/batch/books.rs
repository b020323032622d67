//! What became of the items, and the result that is made of it.
#![forbid(unsafe_code)]

use super::error::{BatchError, ErrorKind, ItemError};
use super::feed::Feed;
use super::on_error::OnError;
use super::source::Source;
use super::verbs::Verb;
use crate::panic::Contained;

pub(super) struct Books<V, E> {
    verb: V,
    pub(super) on_error: OnError,
    pub(super) errors: Vec<ItemError<E>>,
    pub(super) cut_off: Vec<usize>,
}

pub(super) type Outcome<I, V, O> = Result<
    <V as Verb<O>>::Whole,
    Box<BatchError<<I as Source>::Rest, <V as Verb<O>>::Error, <V as Verb<O>>::Partial>>,
>;

impl<V, E> Books<V, E> {
    pub(super) fn new(verb: V, on_error: OnError) -> Self {
        Self { verb, on_error, errors: Vec::new(), cut_off: Vec::new() }
    }

    #[inline(always)]
    pub(super) fn take_in<I, F, O>(&mut self, index: usize, output: O, feed: &mut Feed<I, F>)
    where
        V: Verb<O, Error = E>,
    {
        if let Err(error) = self.verb.take_in(index, output) {
            self.errors.push(ItemError { index, error });
            match self.on_error {
                OnError::Stop(how) => feed.stop(ErrorKind::Item, how),
                OnError::Collect => self.verb.skip(index),
            }
        }
    }

    /// Whether the verb lets the item of this index begin.
    #[inline(always)]
    pub(super) fn lets_begin<O>(&self, index: usize) -> bool
    where
        V: Verb<O, Error = E>,
    {
        self.verb.lets_begin(index)
    }

    /// The end: what the user gave is dropped, then the result is made. If something panics on the
    /// way, whatever was collected is dropped as well.
    #[inline(always)]
    pub(super) fn close<I: Source, F, O>(self, feed: Feed<I, F>) -> Outcome<I, V, O>
    where
        V: Verb<O, Error = E>,
    {
        let Feed { items, f, cancel, pulled, stopped, .. } = feed;
        let kind = stopped.or((!self.errors.is_empty()).then_some(ErrorKind::Item));
        let mut contained = Contained::default();
        contained.drop(f);
        contained.drop(cancel);
        let rest = match kind {
            Some(_) => Some(items.into_rest()),
            None => {
                contained.drop(items);
                None
            }
        };
        if contained.has_panicked() {
            contained.drop(rest);
            self.scrap(&mut contained);
            contained.resume();
            unreachable!("a panic was contained");
        }
        let Self { verb, errors, cut_off, .. } = self;
        let (Some(kind), Some(rest)) = (kind, rest) else { return Ok(verb.whole()) };
        // A heap, for it is 4 kB less of code than a sort: the smallest programs feel it.
        let cut_off = std::collections::BinaryHeap::from(cut_off).into_sorted_vec();
        let partial = verb.partial();
        Err(Box::new(BatchError { kind, pulled, errors, cut_off, partial, rest }))
    }

    pub(super) fn scrap<O>(self, contained: &mut Contained)
    where
        V: Verb<O, Error = E>,
    {
        self.verb.scrap(contained);
        contained.drop_each(self.errors);
    }
}
