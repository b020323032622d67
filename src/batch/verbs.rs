//! What a verb does with the outputs of the items.
#![forbid(unsafe_code)]

use super::error::ErrorKind;
use crate::outputs::Outputs;
use crate::panic::Contained;
use crate::window::Window;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

mod sealed {
    use std::convert::Infallible;

    pub trait Sealed {}

    /// An error that an item of this output may have.
    pub trait ErrorOf<Output, Ok>: Sized {
        fn split(output: Output) -> Result<Ok, Self>;
    }

    impl<O> ErrorOf<O, O> for Infallible {
        fn split(output: O) -> Result<O, Self> {
            Ok(output)
        }
    }

    impl<O, E> ErrorOf<Result<O, E>, O> for E {
        fn split(output: Result<O, E>) -> Result<O, E> {
            output
        }
    }
}

use sealed::ErrorOf;

/// How a verb takes outputs in; implemented by [`ForEach`], [`Map`] and
/// [`InOrder`] only. Its types say what a
/// [`Run`](super::Run) of that verb returns: `Result<Whole, Box<BatchError<_, Error, Partial>>>`.
///
/// ```
/// use gondola::batch::{Map, Verb};
///
/// type Item = Result<u8, String>;
/// let whole: <Map<u8, String> as Verb<Item>>::Whole = vec![1, 2];
/// let partial: <Map<u8, String> as Verb<Item>>::Partial = vec![None, Some(2)];
/// # assert_eq!(whole.len(), partial.len());
/// ```
pub trait Verb<Output>: sealed::Sealed {
    /// What a failed item returns; [`Infallible`] where none can fail.
    type Error;
    /// What has been collected when the batch ends with an error.
    type Partial;
    /// What a whole batch returns.
    type Whole;

    /// Whether the item at `index` may begin as yet.
    #[doc(hidden)]
    fn lets_begin(&self, _index: usize) -> bool {
        true
    }

    /// What is wrong with it, if anything.
    #[doc(hidden)]
    fn fault(&self) -> Option<ErrorKind> {
        None
    }

    /// Hears that an item has failed, and that the others go on.
    #[doc(hidden)]
    fn skip(&mut self, _index: usize) {}

    /// Makes room for the outputs of so many items.
    #[doc(hidden)]
    fn expect(&mut self, _items: usize) {}
    #[doc(hidden)]
    fn take_in(&mut self, index: usize, output: Output) -> Result<(), Self::Error>;
    #[doc(hidden)]
    fn partial(self) -> Self::Partial;
    #[doc(hidden)]
    fn whole(self) -> Self::Whole;
    /// Drops what was collected.
    #[doc(hidden)]
    fn scrap(self, contained: &mut Contained)
    where
        Self: Sized,
    {
        contained.drop(self);
    }
}

/// The verb of [`Batch::for_each`](super::Batch::for_each), and with errors that of
/// [`Batch::try_for_each`](super::Batch::try_for_each): to name the type of a run.
///
/// ```
/// use gondola::batch::{ForEach, Run, batch};
/// use std::{future::{Ready, ready}, ops::Range};
///
/// type Done = Ready<Result<(), u8>>;
/// fn run() -> Run<Range<u8>, fn(u8) -> Done, Done, ForEach<u8>> {
///     batch(0..3).limit(2).try_for_each(|n| ready(Err(n)))
/// }
/// assert_eq!(gondola::block_on(run()).unwrap_err().into_error(), Some(0));
/// ```
pub struct ForEach<E = Infallible> {
    error: PhantomData<fn() -> E>,
}

impl<E> ForEach<E> {
    pub(super) const fn new() -> Self {
        Self { error: PhantomData }
    }
}

impl<E> fmt::Debug for ForEach<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForEach")
    }
}

impl<E> sealed::Sealed for ForEach<E> {}

impl<Output, E: ErrorOf<Output, ()>> Verb<Output> for ForEach<E> {
    type Error = E;
    type Partial = ();
    type Whole = ();

    fn take_in(&mut self, _: usize, output: Output) -> Result<(), E> {
        E::split(output)
    }

    fn partial(self) {}

    fn whole(self) {}
}

/// The verb of [`Batch::map`](super::Batch::map), and with errors that of
/// [`Batch::try_map`](super::Batch::try_map).
///
/// ```
/// use gondola::batch::{Map, Run, batch};
/// use std::{future::{Ready, ready}, ops::Range};
///
/// fn run() -> Run<Range<u8>, fn(u8) -> Ready<u8>, Ready<u8>, Map<u8>> {
///     batch(0..3).limit(2).map(|n| ready(n * n))
/// }
/// assert_eq!(gondola::block_on(run()).unwrap(), [0, 1, 4]);
/// ```
pub struct Map<O, E = Infallible> {
    outputs: Outputs<O>,
    error: PhantomData<fn() -> E>,
}

impl<O, E> Map<O, E> {
    pub(super) const fn new() -> Self {
        Self { outputs: Outputs::new(), error: PhantomData }
    }
}

impl<O, E> fmt::Debug for Map<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("outputs", &self.outputs.len()).finish()
    }
}

impl<O, E> sealed::Sealed for Map<O, E> {}

impl<Output, O, E: ErrorOf<Output, O>> Verb<Output> for Map<O, E> {
    type Error = E;
    type Partial = Vec<Option<O>>;
    type Whole = Vec<O>;

    fn expect(&mut self, items: usize) {
        self.outputs.reserve(items);
    }

    fn take_in(&mut self, index: usize, output: Output) -> Result<(), E> {
        self.outputs.put(index, E::split(output)?);
        Ok(())
    }

    fn partial(self) -> Vec<Option<O>> {
        self.outputs.partial()
    }

    fn whole(self) -> Vec<O> {
        self.outputs.whole()
    }
}

/// The verb of [`Batch::in_order`](super::Batch::in_order), and with errors that of
/// [`Batch::try_in_order`](super::Batch::try_in_order).
pub struct InOrder<O, G, E = Infallible> {
    window: Window<O>,
    size: usize,
    deliver: G,
    error: PhantomData<fn() -> E>,
}

impl<O, G: FnMut(O), E> InOrder<O, G, E> {
    pub(super) const fn new(size: usize, deliver: G) -> Self {
        Self { window: Window::new(), size, deliver, error: PhantomData }
    }

    fn put(&mut self, index: usize, output: Option<O>) {
        self.window.put(index, output);
        while let Some(next) = self.window.take() {
            next.map(&mut self.deliver);
        }
    }
}

impl<O, G, E> fmt::Debug for InOrder<O, G, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOrder").field("next", &self.window.next()).finish_non_exhaustive()
    }
}

impl<O, G, E> sealed::Sealed for InOrder<O, G, E> {}

impl<Output, O, G: FnMut(O), E: ErrorOf<Output, O>> Verb<Output> for InOrder<O, G, E> {
    type Error = E;
    type Partial = Vec<(usize, O)>;
    type Whole = ();

    fn fault(&self) -> Option<ErrorKind> {
        (self.size == 0).then_some(ErrorKind::ZeroWindow)
    }

    fn lets_begin(&self, index: usize) -> bool {
        index - self.window.next() < self.size
    }

    fn take_in(&mut self, index: usize, output: Output) -> Result<(), E> {
        self.put(index, Some(E::split(output)?));
        Ok(())
    }

    fn skip(&mut self, index: usize) {
        self.put(index, None);
    }

    fn partial(self) -> Vec<(usize, O)> {
        self.window.held().collect()
    }

    fn whole(self) {}

    fn scrap(self, contained: &mut Contained) {
        contained.drop_each(self.window.held());
        contained.drop(self.deliver);
    }
}
