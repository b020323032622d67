//! A source under a limit that changes.
#![forbid(unsafe_code)]

use super::auto::{Auto, Seeking};
use super::limit::{Limit, Watching};
use super::source::{Control, Pulled, Source, sealed};
use std::task::Context;

/// A source under a limit: the source itself, if that is a number, or none at all.
pub trait Under {
    type Source<I: Source>: Source<Item = I::Item, Rest = I::Rest>;
}

#[diagnostic::on_unimplemented(
    message = "this batch has no limit yet",
    label = "needs a limit first",
    note = "add `.limit(k)` before the verb: at most `k` items are in flight at any moment"
)]
pub trait Limits: Under {
    /// The most that it may be, and the source under it.
    fn over<I: Source>(self, items: I) -> (usize, Self::Source<I>);
}

impl Under for () {
    type Source<I: Source> = I;
}

impl Under for usize {
    type Source<I: Source> = I;
}

impl Under for Limit {
    type Source<I: Source> = Limited<I, Watching>;
}

impl Under for Auto {
    type Source<I: Source> = Limited<I, Seeking>;
}

impl<L: Under> Under for &L {
    type Source<I: Source> = L::Source<I>;
}

impl Limits for usize {
    fn over<I: Source>(self, items: I) -> (usize, I) {
        (self, items)
    }
}

impl Limits for Limit {
    fn over<I: Source>(self, items: I) -> (usize, Self::Source<I>) {
        (self.max(), Limited { items, control: Watching::new(self) })
    }
}

impl Limits for Auto {
    fn over<I: Source>(self, items: I) -> (usize, Self::Source<I>) {
        (self.max(), Limited { items, control: Seeking::new(self) })
    }
}

impl<L: Limits + Clone> Limits for &L {
    fn over<I: Source>(self, items: I) -> (usize, Self::Source<I>) {
        self.clone().over(items)
    }
}

/// A source, and what limits it.
#[derive(Debug)]
pub struct Limited<I, C> {
    items: I,
    control: C,
}

impl<I, C> sealed::Sealed for Limited<I, C> {}

impl<I: Source, C: Control> Source for Limited<I, C> {
    type Item = I::Item;
    type Rest = I::Rest;

    const MAY_GROW: bool = I::MAY_GROW;
    const WAKES: bool = I::WAKES;

    fn pull(&mut self, in_flight: usize) -> Pulled<I::Item> {
        self.items.pull(in_flight)
    }

    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Pulled<I::Item> {
        self.items.poll_pull(cx)
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.items.hint()
    }

    fn into_rest(self) -> I::Rest {
        self.items.into_rest()
    }

    fn control(&mut self) -> Option<&mut impl Control> {
        Some(&mut self.control)
    }
}
