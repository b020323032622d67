//! Sets of small numbers as words of bits, with one summary word above them.
//!
//! A summary bit stands for a group of `1 << shift` words. Invariants:
//!
//! 1. A set of one word has no use for the summary, and does not keep it. In a larger one, a set
//!    bit lies in a group whose summary bit is set. The converse may lag: a summary bit may
//!    outlive the last bit of its group until the next search walks over the group.
//! 2. `is_empty` is exact for a set that only ever grows and is emptied as a whole.
//!
//! The words live elsewhere (in a box, or in the block that wakers share), so a [`Bits`] is a
//! borrowed view. All of it is `Cell`: user code may set bits while a walk is under way.
#![forbid(unsafe_code)]

use crate::sync::Cell;

pub(crate) const WORD: usize = usize::BITS as usize;

/// Groups a summary word can name: its top bit is left for the parking protocol.
const GROUPS: usize = WORD - 1;

/// How many words hold `bits` bits.
pub(crate) const fn words_for(bits: usize) -> usize {
    bits.div_ceil(WORD)
}

/// The smallest shift at which one summary word covers `words` words.
pub(crate) const fn shift_for(words: usize) -> u32 {
    let mut shift = 0;
    while words.saturating_sub(1) >> shift >= GROUPS {
        shift += 1;
    }
    shift
}

/// The positions of the set bits of one word, lowest first.
pub(crate) fn ones(mut word: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        lowest
    })
}

/// A borrowed view of a set.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a> {
    pub(crate) summary: &'a Cell<usize>,
    pub(crate) words: &'a [Cell<usize>],
    pub(crate) shift: u32,
}

impl Bits<'_> {
    #[inline(always)]
    pub(crate) fn insert(self, index: usize) {
        self.merge(index / WORD, 1 << (index % WORD));
    }

    /// Sets every bit of `mask` in one word.
    #[inline(always)]
    pub(crate) fn merge(self, word: usize, mask: usize) {
        self.words[word].set(self.words[word].get() | mask);
        if self.words.len() > 1 {
            self.summary.set(self.summary.get() | 1 << (word >> self.shift));
        }
    }

    #[inline(always)]
    pub(crate) fn remove(self, index: usize) {
        let word = &self.words[index / WORD];
        word.set(word.get() & !(1 << (index % WORD)));
    }

    /// Invariant 2 says for which sets.
    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        match self.words {
            [word] => word.get() == 0,
            _ => self.summary.get() == 0,
        }
    }

    /// Empties this set, whose members come out in ascending order, one word of them at a time:
    /// that of a set of one word at once.
    #[inline(always)]
    pub(crate) fn drain(self) -> (Drain, usize) {
        match self.words {
            [word] => (Drain { groups: 0, next: 0, end: 0 }, word.replace(0)),
            _ => (Drain { groups: self.summary.replace(0), next: 0, end: 0 }, 0),
        }
    }

    /// The lowest member.
    pub(crate) fn first(self) -> Option<usize> {
        let word = self.first_word()?;
        Some(word * WORD + self.words[word].get().trailing_zeros() as usize)
    }

    /// The first word that is not empty.
    fn first_word(self) -> Option<usize> {
        if let [word] = self.words {
            return (word.get() != 0).then_some(0);
        }
        while self.summary.get() != 0 {
            let group = self.summary.get().trailing_zeros() as usize;
            let first = group << self.shift;
            let end = self.words.len().min(first + (1 << self.shift));
            if let Some(word) = (first..end).find(|&word| self.words[word].get() != 0) {
                return Some(word);
            }
            self.summary.set(self.summary.get() & !(1 << group));
        }
        None
    }
}

/// How far a set has been emptied. It borrows nothing: the set goes with each call.
pub(crate) struct Drain {
    groups: usize,
    next: usize,
    end: usize,
}

impl Drain {
    #[inline(always)]
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.end && self.groups == 0
    }

    /// The next word that is not empty, emptied by this, and its position.
    pub(crate) fn next_word(&mut self, set: Bits<'_>) -> Option<(usize, usize)> {
        loop {
            while self.next < self.end {
                self.next += 1;
                let mask = set.words[self.next - 1].replace(0);
                if mask != 0 {
                    return Some((self.next - 1, mask));
                }
            }
            if self.groups == 0 {
                return None;
            }
            self.next = (self.groups.trailing_zeros() as usize) << set.shift;
            self.end = set.words.len().min(self.next + (1 << set.shift));
            self.groups &= self.groups - 1;
        }
    }
}

/// A set that owns its words.
pub(crate) struct BitSet {
    summary: Cell<usize>,
    words: Box<[Cell<usize>]>,
}

impl BitSet {
    /// Every number below `len`.
    pub(crate) fn full(len: usize) -> Self {
        let set = Self {
            summary: Cell::new(0),
            words: (0..words_for(len)).map(|_| Cell::new(0)).collect(),
        };
        (0..len).for_each(|index| set.view().insert(index));
        set
    }

    pub(crate) fn view(&self) -> Bits<'_> {
        let shift = shift_for(self.words.len());
        Bits { summary: &self.summary, words: &self.words, shift }
    }
}

#[cfg(all(test, not(gondola_loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SIZES: [usize; 9] = [1, 2, 63, 64, 65, 130, 4_032, 4_033, 10_000];

    fn empty(len: usize) -> BitSet {
        let set = BitSet::full(len);
        (0..len).for_each(|index| set.view().remove(index));
        assert_eq!(set.view().first(), None);
        set
    }

    #[test]
    fn one_summary_word_covers_a_million_slots() {
        for len in SIZES.into_iter().chain([1 << 20, (1 << 20) + 1]) {
            let words = words_for(len);
            assert!((words - 1) >> shift_for(words) < GROUPS, "{len}");
        }
        assert_eq!(shift_for(words_for(4_032)), 0);
        assert_eq!(shift_for(words_for(4_033)), 1);
    }

    #[test]
    fn a_full_set_walks_in_order() {
        for len in SIZES {
            let set = BitSet::full(len);
            let mut seen = Vec::new();
            while let Some(index) = set.view().first() {
                set.view().remove(index);
                seen.push(index);
            }
            assert!(seen.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn agrees_with_a_btree_set() {
        let mut seed = 0x5eed_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for len in SIZES {
            let set = empty(len);
            let mut model = BTreeSet::new();
            for _ in 0..2_000 {
                let index = random() % len;
                match random() % 4 {
                    0 | 1 => {
                        set.view().insert(index);
                        model.insert(index);
                    }
                    2 => {
                        set.view().remove(index);
                        model.remove(&index);
                    }
                    _ => assert_eq!(set.view().first(), model.first().copied(), "{len}"),
                }
            }
            let (mut drain, mask) = set.view().drain();
            let mut words = vec![(0, mask)];
            words.extend(std::iter::from_fn(|| drain.next_word(set.view())));
            assert!(drain.is_done());
            for (word, mask) in words {
                for bit in ones(mask) {
                    assert_eq!(model.pop_first(), Some(word * WORD + bit), "{len}");
                }
            }
            assert!(set.view().is_empty());
            assert!(model.is_empty());
        }
    }
}
