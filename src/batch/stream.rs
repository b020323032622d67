//! The feature `stream`: items that come when they come.
#![forbid(unsafe_code)]

use super::builder::{Batch, batch_of};
use super::source::{Pulled, Source, sealed};
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Begins a batch over the items of a stream, as [`batch`](super::batch()) over those of an iterator.
///
/// The stream is polled for one item at a time, only when there is a slot for it, after `Pending` not
/// before it has woken its waker, and never after its end. Its size hint is believed as an
/// iterator's is. (Pin a stream that is not `Unpin`: `std::pin::pin!(stream)`.)
///
/// ```
/// use futures::stream;
/// use gondola::{batch, block_on};
///
/// let pages = std::pin::pin!(stream::unfold(1, async |page| {
///     gondola::yield_now().await; // stands for a request
///     (page <= 3).then_some((page * 10, page + 1))
/// }));
/// let run = batch::stream(pages).limit(2).map(async |page| page + 1);
/// assert_eq!(block_on(run).unwrap(), [11, 21, 31]);
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "stream")))]
pub fn stream<S: Stream + Unpin>(stream: S) -> Batch<Streamed<S>, ()> {
    batch_of(Streamed { inner: stream })
}

/// The source of [`stream`].
#[cfg_attr(docsrs, doc(cfg(feature = "stream")))]
#[derive(Clone, Debug)]
pub struct Streamed<S> {
    inner: S,
}

impl<S> sealed::Sealed for Streamed<S> {}

impl<S: Stream + Unpin> Source for Streamed<S> {
    type Item = S::Item;
    type Rest = S;

    const MAY_GROW: bool = true;
    const WAKES: bool = true;

    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Pulled<S::Item> {
        match Pin::new(&mut self.inner).poll_next(cx) {
            Poll::Ready(Some(item)) => Pulled::Item(item),
            Poll::Ready(None) => Pulled::End,
            Poll::Pending => Pulled::Nothing,
        }
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }

    fn into_rest(self) -> S {
        self.inner
    }
}
