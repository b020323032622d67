//! The outputs of a map, each at the index of its item, in the very memory of the result.
//!
//! A vector of options would be larger where an option is, and a second one would be needed for the
//! result. So a bit says of each place whether its output is there.
//!
//! # Invariants
//!
//! 1. A place holds an output exactly while its bit in `present` is set. A bit is cleared *before*
//!    the output is moved out or dropped, so no unwinding drops one twice.
//! 2. There is a bit for each place, and `missing` counts those that are not set.

use crate::bits::{WORD, words_for};
use crate::panic::Contained;
use std::mem::{ManuallyDrop, MaybeUninit};

pub(crate) struct Outputs<O> {
    places: Vec<MaybeUninit<O>>,
    present: Vec<usize>,
    missing: usize,
}

impl<O> Outputs<O> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), present: Vec::new(), missing: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Makes room for so many, if that can be had: a source may lie.
    pub(crate) fn reserve(&mut self, count: usize) {
        let _ = self.places.try_reserve_exact(count);
        let _ = self.present.try_reserve_exact(words_for(count));
    }

    /// Takes in the output of an item, which has none yet.
    pub(crate) fn put(&mut self, index: usize, output: O) {
        if self.len() <= index {
            self.missing += index + 1 - self.len();
            self.present.resize(words_for(index + 1), 0);
            self.places.resize_with(index + 1, MaybeUninit::uninit);
        }
        debug_assert!(self.present[index / WORD] & 1 << (index % WORD) == 0);
        self.places[index].write(output);
        self.present[index / WORD] |= 1 << (index % WORD);
        self.missing -= 1;
    }

    fn take(&mut self, index: usize) -> Option<O> {
        let (word, bit) = (&mut self.present[index / WORD], 1 << (index % WORD));
        if *word & bit == 0 {
            return None;
        }
        *word &= !bit;
        // SAFETY: the bit was set until just now: the output is there, and moved out once
        // (invariant 1).
        Some(unsafe { self.places[index].assume_init_read() })
    }

    /// All of them, without gaps. Allocates nothing.
    pub(crate) fn whole(mut self) -> Vec<O> {
        assert_eq!(self.missing, 0, "every item has completed");
        self.present.fill(0);
        let places = std::mem::take(&mut self.places);
        let mut places = ManuallyDrop::new(places);
        let (start, len, capacity) = (places.as_mut_ptr(), places.len(), places.capacity());
        // SAFETY: a `MaybeUninit<O>` has the layout of an `O`, and each of them is there (none is
        // missing, invariant 2). They and their memory are owned by the result alone: no bit is set
        // any more, and `places` is not dropped.
        unsafe { Vec::from_raw_parts(start.cast::<O>(), len, capacity) }
    }

    /// Those that are there, with gaps.
    pub(crate) fn partial(mut self) -> Vec<Option<O>> {
        (0..self.len()).map(|index| self.take(index)).collect()
    }
}

impl<O> Drop for Outputs<O> {
    fn drop(&mut self) {
        let mut contained = Contained::default();
        if std::mem::needs_drop::<O>() {
            contained.drop_each((0..self.len()).filter_map(|index| self.take(index)));
        }
        contained.resume();
    }
}

#[cfg(all(test, not(gondola_loom)))]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn outputs_are_given_back_or_dropped_exactly_once() {
        for len in [0, 1, 2, 63, 64, 65, 200] {
            for gap in [None, Some(0), Some(len / 2)] {
                let outputs = || {
                    let counted = Rc::new(());
                    let mut outputs = Outputs::new();
                    // From behind, so that the first one makes room for all.
                    for index in (0..len).rev().filter(|&index| Some(index) != gap) {
                        outputs.put(index, (index, counted.clone()));
                    }
                    (outputs, counted)
                };
                let (dropped, counted) = outputs();
                drop(dropped);
                assert_eq!(Rc::strong_count(&counted), 1);

                let (partial, counted) = outputs();
                let there = partial.partial();
                let expected = (0..there.len()).map(|index| (Some(index) != gap).then_some(index));
                assert!(there.iter().map(|one| one.as_ref().map(|one| one.0)).eq(expected));
                drop(there);
                assert_eq!(Rc::strong_count(&counted), 1);

                if gap.is_none_or(|gap| gap + 1 >= len) {
                    let (whole, counted) = outputs();
                    let all = whole.whole();
                    assert!(all.iter().map(|one| one.0).eq(0..all.len()));
                    assert_eq!(Rc::strong_count(&counted), 1 + all.len());
                    drop(all);
                    assert_eq!(Rc::strong_count(&counted), 1);
                }
            }
        }
    }
}
