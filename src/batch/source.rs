//! Where items come from: an iterator, or one that may have more to give later.
#![forbid(unsafe_code)]

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
}

/// The source of [`Batch::growing`](super::Batch::growing), and what the record of such a batch has
/// as its rest.
///
/// ```
/// use gondola::batch;
///
/// let run = batch(0..9).growing().limit(1).try_for_each(async |n| if n < 2 { Ok(()) } else { Err(n) });
/// let record = gondola::block_on(run).unwrap_err();
/// assert_eq!(record.rest.into_inner(), 3..9);
/// ```
#[derive(Clone, Debug)]
pub struct Growing<I> {
    inner: I,
}

impl<I> Growing<I> {
    pub(super) const fn new(inner: I) -> Self {
        Self { inner }
    }

    /// The iterator again.
    pub fn into_inner(self) -> I {
        self.inner
    }
}

impl<I: Iterator> Source for Growing<I> {
    type Item = I::Item;

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
}
