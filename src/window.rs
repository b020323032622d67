//! Outputs on their way to somebody who wants them in order: a place for each from the next one on.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Window<O> {
    /// From the next one on; `Some(None)` for one that is to be skipped.
    held: VecDeque<Option<Option<O>>>,
    next: usize,
}

impl<O> Window<O> {
    pub(crate) const fn new() -> Self {
        Self { held: VecDeque::new(), next: 0 }
    }

    /// The index of the next one.
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// Takes in the output at `index`; `None` if it is to be skipped.
    pub(crate) fn put(&mut self, index: usize, output: Option<O>) {
        let place = index - self.next;
        if self.held.len() <= place {
            self.held.resize_with(place + 1, || None);
        }
        self.held[place] = Some(output);
    }

    /// Gives the next one away, if it is there.
    pub(crate) fn take(&mut self) -> Option<Option<O>> {
        let output = self.held.front_mut()?.take()?;
        self.held.pop_front();
        self.next += 1;
        Some(output)
    }

    /// Those that are there, with their indices.
    pub(crate) fn held(self) -> impl Iterator<Item = (usize, O)> {
        (self.next..).zip(self.held).filter_map(|(index, held)| Some((index, held??)))
    }
}
