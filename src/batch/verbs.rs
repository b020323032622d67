//! What a verb does with the outputs of the items.
#![forbid(unsafe_code)]

use super::error::ErrorKind;
use crate::outputs::Outputs;
use crate::panic::Contained;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

mod sealed {
    pub trait Sealed {}
}

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

    /// Whether an item must not begin before [`horizon`](Self::horizon) has passed its index.
    #[doc(hidden)]
    const IS_BOUNDED: bool = false;

    /// The index of the first item that must not begin as yet.
    #[doc(hidden)]
    fn horizon(&self) -> usize {
        usize::MAX
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
    fn scrap(self, contained: &mut Contained);
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

impl<E> Default for ForEach<E> {
    fn default() -> Self {
        Self { error: PhantomData }
    }
}

impl<E> fmt::Debug for ForEach<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForEach")
    }
}

impl<E> sealed::Sealed for ForEach<E> {}

impl Verb<()> for ForEach {
    type Error = Infallible;
    type Partial = ();
    type Whole = ();

    fn take_in(&mut self, _: usize, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn partial(self) {}

    fn whole(self) {}

    fn scrap(self, _: &mut Contained) {}
}

impl<E> Verb<Result<(), E>> for ForEach<E> {
    type Error = E;
    type Partial = ();
    type Whole = ();

    fn take_in(&mut self, _: usize, output: Result<(), E>) -> Result<(), E> {
        output
    }

    fn partial(self) {}

    fn whole(self) {}

    fn scrap(self, _: &mut Contained) {}
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

impl<O, E> Default for Map<O, E> {
    fn default() -> Self {
        Self { outputs: Outputs::new(), error: PhantomData }
    }
}

impl<O, E> fmt::Debug for Map<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("outputs", &self.outputs.len()).finish()
    }
}

impl<O, E> sealed::Sealed for Map<O, E> {}

impl<O> Verb<O> for Map<O> {
    type Error = Infallible;
    type Partial = Vec<Option<O>>;
    type Whole = Vec<O>;

    fn expect(&mut self, items: usize) {
        self.outputs.reserve(items);
    }

    fn take_in(&mut self, index: usize, output: O) -> Result<(), Infallible> {
        self.outputs.put(index, output);
        Ok(())
    }

    fn partial(self) -> Vec<Option<O>> {
        self.outputs.partial()
    }

    fn whole(self) -> Vec<O> {
        self.outputs.whole()
    }

    fn scrap(self, contained: &mut Contained) {
        contained.drop(self.outputs);
    }
}

impl<O, E> Verb<Result<O, E>> for Map<O, E> {
    type Error = E;
    type Partial = Vec<Option<O>>;
    type Whole = Vec<O>;

    fn expect(&mut self, items: usize) {
        self.outputs.reserve(items);
    }

    fn take_in(&mut self, index: usize, output: Result<O, E>) -> Result<(), E> {
        self.outputs.put(index, output?);
        Ok(())
    }

    fn partial(self) -> Vec<Option<O>> {
        self.outputs.partial()
    }

    fn whole(self) -> Vec<O> {
        self.outputs.whole()
    }

    fn scrap(self, contained: &mut Contained) {
        contained.drop(self.outputs);
    }
}

/// The verb of [`Batch::in_order`](super::Batch::in_order), and with errors that of
/// [`Batch::try_in_order`](super::Batch::try_in_order).
pub struct InOrder<O, G, E = Infallible> {
    /// From the next one on: outputs that came before their turn, and failures to be skipped.
    held: VecDeque<Option<Held<O>>>,
    next: usize,
    window: usize,
    deliver: G,
    error: PhantomData<fn() -> E>,
}

enum Held<O> {
    Output(O),
    Failure,
}

impl<O, G: FnMut(O), E> InOrder<O, G, E> {
    pub(super) fn new(window: usize, deliver: G) -> Self {
        Self { held: VecDeque::new(), next: 0, window, deliver, error: PhantomData }
    }

    fn put(&mut self, index: usize, held: Held<O>) {
        let at = index - self.next;
        if self.held.len() <= at {
            self.held.resize_with(at + 1, || None);
        }
        self.held[at] = Some(held);
        while let Some(front @ Some(_)) = self.held.front_mut() {
            let front = front.take();
            // Before it is delivered: that is code of the user's, which may panic.
            self.held.pop_front();
            self.next += 1;
            if let Some(Held::Output(output)) = front {
                (self.deliver)(output);
            }
        }
    }

    fn rest(self) -> Vec<(usize, O)> {
        let held = (self.next..).zip(self.held);
        held.filter_map(|(index, held)| match held? {
            Held::Output(output) => Some((index, output)),
            Held::Failure => None,
        })
        .collect()
    }
}

impl<O, G, E> fmt::Debug for InOrder<O, G, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOrder").field("next", &self.next).field("window", &self.window).finish()
    }
}

impl<O, G, E> sealed::Sealed for InOrder<O, G, E> {}

/// What is the same with errors and without.
macro_rules! in_order {
    () => {
        type Partial = Vec<(usize, O)>;
        type Whole = ();

        const IS_BOUNDED: bool = true;

        fn horizon(&self) -> usize {
            self.next.saturating_add(self.window)
        }

        fn fault(&self) -> Option<ErrorKind> {
            (self.window == 0).then_some(ErrorKind::ZeroWindow)
        }

        fn skip(&mut self, index: usize) {
            self.put(index, Held::Failure);
        }

        fn partial(self) -> Vec<(usize, O)> {
            self.rest()
        }

        fn whole(self) {}

        fn scrap(self, contained: &mut Contained) {
            let Self { held, deliver, .. } = self;
            contained.drop_each(held);
            contained.drop(deliver);
        }
    };
}

impl<O, G: FnMut(O)> Verb<O> for InOrder<O, G> {
    type Error = Infallible;

    in_order!();

    fn take_in(&mut self, index: usize, output: O) -> Result<(), Infallible> {
        self.put(index, Held::Output(output));
        Ok(())
    }
}

impl<O, G: FnMut(O), E> Verb<Result<O, E>> for InOrder<O, G, E> {
    type Error = E;

    in_order!();

    fn take_in(&mut self, index: usize, output: Result<O, E>) -> Result<(), E> {
        self.put(index, Held::Output(output?));
        Ok(())
    }
}
