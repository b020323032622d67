//! What a verb does with the outputs of the items.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

mod sealed {
    pub trait Sealed {}
}

/// How a verb takes outputs in; implemented by the four verbs only. Its types say what a
/// [`Run`](super::Run) of that verb returns: `Result<Whole, BatchError<I, Error, Partial>>`.
///
/// ```
/// use gondola::batch::{TryMap, Verb};
///
/// type Item = Result<u8, String>;
/// let whole: <TryMap<u8, String> as Verb<Item>>::Whole = vec![1, 2];
/// let partial: <TryMap<u8, String> as Verb<Item>>::Partial = vec![None, Some(2)];
/// # assert_eq!(whole.len(), partial.len());
/// ```
pub trait Verb<Output>: sealed::Sealed {
    /// What a failed item returns; [`Infallible`] where none can fail.
    type Error;
    /// What has been collected when the batch ends with an error.
    type Partial;
    /// What a whole batch returns.
    type Whole;

    #[doc(hidden)]
    fn take_in(&mut self, index: usize, output: Output) -> Result<(), Self::Error>;
    #[doc(hidden)]
    fn partial(self) -> Self::Partial;
    #[doc(hidden)]
    fn whole(self) -> Self::Whole;
}

/// The verb of [`Batch::for_each`](super::Batch::for_each), to name the type of a run.
///
/// ```
/// use gondola::batch::{ForEach, Run, batch};
/// use std::{future::{Ready, ready}, ops::Range};
///
/// fn run() -> Run<Range<u8>, fn(u8) -> Ready<()>, Ready<()>, ForEach> {
///     batch(0..3).limit(2).for_each(|_| ready(()))
/// }
/// assert!(gondola::block_on(run()).is_ok());
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ForEach {}

impl sealed::Sealed for ForEach {}

impl Verb<()> for ForEach {
    type Error = Infallible;
    type Partial = ();
    type Whole = ();

    fn take_in(&mut self, _: usize, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn partial(self) {}

    fn whole(self) {}
}

/// The verb of [`Batch::try_for_each`](super::Batch::try_for_each).
///
/// ```
/// use gondola::batch::{Run, TryForEach, batch};
/// use std::{future::{Ready, ready}, ops::Range};
///
/// type Done = Ready<Result<(), u8>>;
/// fn run() -> Run<Range<u8>, fn(u8) -> Done, Done, TryForEach<u8>> {
///     batch(0..3).limit(2).try_for_each(|n| ready(Err(n)))
/// }
/// assert_eq!(gondola::block_on(run()).unwrap_err().into_error(), Some(0));
/// ```
pub struct TryForEach<E> {
    error: PhantomData<fn() -> E>,
}

impl<E> Default for TryForEach<E> {
    fn default() -> Self {
        Self { error: PhantomData }
    }
}

impl<E> fmt::Debug for TryForEach<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryForEach")
    }
}

impl<E> sealed::Sealed for TryForEach<E> {}

impl<E> Verb<Result<(), E>> for TryForEach<E> {
    type Error = E;
    type Partial = ();
    type Whole = ();

    fn take_in(&mut self, _: usize, output: Result<(), E>) -> Result<(), E> {
        output
    }

    fn partial(self) {}

    fn whole(self) {}
}

/// The verb of [`Batch::map`](super::Batch::map).
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
pub struct Map<O> {
    outputs: Vec<Option<O>>,
}

impl<O> Map<O> {
    fn put(&mut self, index: usize, output: O) {
        if self.outputs.len() <= index {
            self.outputs.resize_with(index + 1, || None);
        }
        self.outputs[index] = Some(output);
    }
}

impl<O> Default for Map<O> {
    fn default() -> Self {
        Self { outputs: Vec::new() }
    }
}

impl<O> fmt::Debug for Map<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("outputs", &self.outputs.len()).finish()
    }
}

impl<O> sealed::Sealed for Map<O> {}

impl<O> Verb<O> for Map<O> {
    type Error = Infallible;
    type Partial = Vec<Option<O>>;
    type Whole = Vec<O>;

    fn take_in(&mut self, index: usize, output: O) -> Result<(), Infallible> {
        self.put(index, output);
        Ok(())
    }

    fn partial(self) -> Vec<Option<O>> {
        self.outputs
    }

    fn whole(self) -> Vec<O> {
        self.outputs.into_iter().flatten().collect()
    }
}

/// The verb of [`Batch::try_map`](super::Batch::try_map).
///
/// ```
/// use gondola::batch::{Run, TryMap, batch};
/// use std::{future::{Ready, ready}, ops::Range};
///
/// type Done = Ready<Result<u8, ()>>;
/// fn run() -> Run<Range<u8>, fn(u8) -> Done, Done, TryMap<u8, ()>> {
///     batch(0..3).limit(2).try_map(|n| ready(Ok(n + 1)))
/// }
/// assert_eq!(gondola::block_on(run()).unwrap(), [1, 2, 3]);
/// ```
pub struct TryMap<O, E> {
    map: Map<O>,
    error: PhantomData<fn() -> E>,
}

impl<O, E> Default for TryMap<O, E> {
    fn default() -> Self {
        Self { map: Map::default(), error: PhantomData }
    }
}

impl<O, E> fmt::Debug for TryMap<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}

impl<O, E> sealed::Sealed for TryMap<O, E> {}

impl<O, E> Verb<Result<O, E>> for TryMap<O, E> {
    type Error = E;
    type Partial = Vec<Option<O>>;
    type Whole = Vec<O>;

    fn take_in(&mut self, index: usize, output: Result<O, E>) -> Result<(), E> {
        self.map.put(index, output?);
        Ok(())
    }

    fn partial(self) -> Vec<Option<O>> {
        self.map.partial()
    }

    fn whole(self) -> Vec<O> {
        self.map.whole()
    }
}
