//! Words of bits: their arithmetic, and a set of small numbers that finds its lowest member.
#![forbid(unsafe_code)]

use std::cell::Cell;

pub(crate) const WORD: usize = usize::BITS as usize;

/// Groups a summary word can name: its top bit is left for the parking protocol.
const GROUPS: usize = WORD - 1;

/// How many words hold `bits` bits.
pub(crate) const fn words_for(bits: usize) -> usize {
    bits.div_ceil(WORD)
}

/// The smallest shift at which one summary word covers `pages` pages.
pub(crate) const fn shift_for(pages: usize) -> u32 {
    let mut shift = 0;
    while pages.saturating_sub(1) >> shift >= GROUPS {
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

/// A set of small numbers that finds its lowest member: a bit of `summary` says that its word is
/// not empty.
pub(crate) struct BitSet {
    summary: Box<[Cell<usize>]>,
    words: Box<[Cell<usize>]>,
}

impl BitSet {
    /// Every number below `len`.
    pub(crate) fn full(len: usize) -> Self {
        let words = |bits| (0..words_for(bits)).map(|_| Cell::new(0)).collect();
        let set = Self { summary: words(words_for(len)), words: words(len) };
        (0..len).for_each(|number| set.insert(number));
        set
    }

    pub(crate) fn insert(&self, number: usize) {
        for (words, at) in [(&self.words, number), (&self.summary, number / WORD)] {
            let word = &words[at / WORD];
            word.set(word.get() | 1 << (at % WORD));
        }
    }

    /// Removes the lowest member.
    pub(crate) fn pop_first(&self) -> Option<usize> {
        // One word of `summary` stands for WORD × WORD numbers: there are few.
        let at = self.summary.iter().position(|group| group.get() != 0)?;
        let group = self.summary[at].get();
        let first = at * WORD + group.trailing_zeros() as usize;
        let bits = self.words[first].get();
        self.words[first].set(bits & (bits - 1));
        if bits.is_power_of_two() {
            self.summary[at].set(group & (group - 1));
        }
        Some(first * WORD + bits.trailing_zeros() as usize)
    }
}

#[cfg(all(test, not(gondola_loom)))]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The same numbers each time.
    pub(crate) fn xorshift() -> impl FnMut() -> usize {
        let mut seed = 0x5eed_u64;
        move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        }
    }

    #[test]
    fn agrees_with_a_btree_set() {
        let mut random = xorshift();
        let words = [1, 2, WORD - 1, WORD, WORD + 1, 2 * WORD + 2];
        let summaries = [WORD.pow(2), WORD.pow(2) + 1, WORD.pow(3) + 1];
        for len in words.into_iter().chain(summaries) {
            let (set, mut model) = (BitSet::full(len), BTreeSet::from_iter(0..len));
            for _ in 0..2 {
                for _ in 0..2_000 {
                    let number = random() % len;
                    if random() % 2 == 0 {
                        set.insert(number);
                        model.insert(number);
                    } else {
                        assert_eq!(set.pop_first(), model.pop_first(), "{len}");
                    }
                }
                while let Some(first) = model.pop_first() {
                    assert_eq!(set.pop_first(), Some(first), "{len}");
                }
                assert_eq!(set.pop_first(), None, "{len}");
            }
        }
    }

    #[test]
    fn one_summary_word_covers_a_million_slots() {
        // Without the top bit of the summary word, which is for parking.
        let most = (WORD - 1) * WORD;
        let words = [1, 2, WORD - 1, WORD, WORD + 1];
        for bits in words.into_iter().chain([most, most + 1, 10_000, 1 << 20, (1 << 20) + 1]) {
            let pages = words_for(bits);
            assert!((pages - 1) >> shift_for(pages) < GROUPS, "{bits}");
        }
        assert_eq!(shift_for(words_for(most)), 0);
        assert_eq!(shift_for(words_for(most + 1)), 1);
    }
}
