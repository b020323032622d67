//! Where items come from: an iterator, or one that may have more to give later; and how many of them
//! may be in flight, if that changes.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::task::Context;

/// What a batch pulls its items from: every [`Iterator`], [`Growing`], and with the feature `stream`
/// streams.
///
/// ```
/// use gondola::batch::{Batch, Source};
///
/// fn politely<S: Source>(batch: Batch<S, ()>) -> Batch<S> {
///     batch.limit(2)
/// }
/// assert!(gondola::block_on(politely(gondola::batch(0..3)).for_each(async |_| {})).is_ok());
/// ```
pub trait Source: sealed::Sealed {
    /// What it gives.
    type Item;

    /// What the record of a batch has as the rest of it.
    type Rest;

    /// Whether it may have nothing now and something later.
    #[doc(hidden)]
    const MAY_GROW: bool;

    /// Whether it has a waker of its own for that: it is asked again once it was woken.
    #[doc(hidden)]
    const WAKES: bool = false;

    #[doc(hidden)]
    fn pull(&mut self, _in_flight: usize) -> Pulled<Self::Item> {
        unreachable!("it is polled")
    }

    /// If it has a waker of its own.
    #[doc(hidden)]
    fn poll_pull(&mut self, _cx: &mut Context<'_>) -> Pulled<Self::Item> {
        unreachable!("it is asked without a waker")
    }

    /// As [`Iterator::size_hint`].
    #[doc(hidden)]
    fn hint(&self) -> (usize, Option<usize>);

    #[doc(hidden)]
    fn into_rest(self) -> Self::Rest;

    /// What limits it, if that changes: see [`Limited`](super::limited::Limited).
    #[doc(hidden)]
    fn control(&mut self) -> Option<&mut impl Control> {
        None::<&mut Infallible>
    }
}

/// A limit that changes while the batch runs. What it hears costs nothing where there is none.
#[doc(hidden)]
pub trait Control {
    /// A poll of the batch begins, and ends.
    fn enter(&mut self) {}
    fn leave(&mut self) {}

    /// How many may be in flight; asked once in a turn, and not changed until the next time but by
    /// what it hears.
    fn look(&mut self) -> usize;
    fn seen(&self) -> usize;

    /// Has the task woken at the next change that comes from outside. `true`: it has come already.
    fn wait(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    /// The item in a slot begins, and ends. So many were in flight when this turn began; or with it,
    /// if it ended at once.
    fn began(&mut self, _slot: usize) {}
    fn ended(&mut self, _slot: usize, _in_flight: usize) {}
}

/// There is none.
impl Control for Infallible {
    fn look(&mut self) -> usize {
        match *self {}
    }

    fn seen(&self) -> usize {
        match *self {}
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub enum Pulled<T> {
    Item(T),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

pub(super) mod sealed {
    pub trait Sealed {}
    impl<I: Iterator> Sealed for I {}
}

impl<I> sealed::Sealed for Growing<I> {}

impl<I: Iterator> Source for I {
    type Item = I::Item;
    type Rest = I;

    const MAY_GROW: bool = false;

    #[inline(always)]
    fn pull(&mut self, _: usize) -> Pulled<I::Item> {
        match self.next() {
            Some(item) => Pulled::Item(item),
            None => Pulled::End,
        }
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.size_hint()
    }

    fn into_rest(self) -> I {
        self
    }
}

/// The source of [`Batch::growing`](super::Batch::growing).
#[derive(Clone, Debug)]
pub struct Growing<I> {
    inner: I,
}

impl<I> Growing<I> {
    pub(super) const fn new(inner: I) -> Self {
        Self { inner }
    }
}

impl<I: Iterator> Source for Growing<I> {
    type Item = I::Item;
    type Rest = I;

    const MAY_GROW: bool = true;

    fn pull(&mut self, in_flight: usize) -> Pulled<I::Item> {
        match self.inner.next() {
            Some(item) => Pulled::Item(item),
            None if in_flight > 0 => Pulled::Nothing,
            None => Pulled::End,
        }
    }

    /// Not the iterator's: what it has at present says nothing of what will come.
    fn hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }

    fn into_rest(self) -> I {
        self.inner
    }
}
