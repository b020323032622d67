//! Storage that grows with a burst, and gives its memory back.
//!
//! Entries never move, for others hold their keys. So an array can be cut off only behind its last
//! entry: one that came late in a burst, and stays, keeps the room before it. Of an array in pieces
//! it would keep one piece, but a sleep would take 30 % more instructions.
//!
//! # Invariants
//!
//! 1. A key is good from `insert` to `remove`.
//! 2. `capacity` is the slab's, `half` is half of that, and `upper` counts the entries from `half`
//!    on.
//! 3. An array is cut when its upper half is empty and no more than a quarter of it is taken. So
//!    each cut halves it at least; and from a growth to the next cut, half of what it held has to
//!    leave. On average, a step costs no more than it would without cuts.
#![forbid(unsafe_code)]

use slab::Slab;
use std::ops::{Index, IndexMut};

/// Room for so many entries is kept: as many as a runtime has slots by default. As long as there
/// are no more, nothing is allocated once warm.
const KEPT: usize = 1024;

/// A slab that gives back what a burst took.
#[derive(Debug)]
pub(crate) struct Room<T> {
    slab: Slab<T>,
    capacity: u32,
    half: u32,
    upper: u32,
}

impl<T> Room<T> {
    pub(crate) const fn new() -> Self {
        Self { slab: Slab::new(), capacity: 0, half: 0, upper: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The key is never `u32::MAX`.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let key = self.slab.insert(value) as u32;
        if key >= self.capacity {
            self.measure();
        } else {
            self.upper += u32::from(key >= self.half);
        }
        key
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        self.slab.get_mut(key as usize)
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: u32) -> T {
        let value = self.slab.remove(key as usize);
        self.upper -= u32::from(key >= self.half);
        if self.upper == 0 && is_roomy(self.slab.len(), self.capacity as usize) {
            self.cut();
        }
        value
    }

    /// The array has another size.
    #[cold]
    fn measure(&mut self) {
        self.capacity = u32::try_from(self.slab.capacity()).expect("fewer than 2^32 entries");
        self.half = self.capacity / 2;
        let from_behind = self.slab.iter().rev();
        self.upper = from_behind.take_while(|&(key, _)| key as u32 >= self.half).count() as u32;
    }

    #[cold]
    fn cut(&mut self) {
        self.slab.shrink_to_fit();
        self.slab.reserve(KEPT.saturating_sub(self.slab.len()));
        self.measure();
    }
}

impl<T> Index<u32> for Room<T> {
    type Output = T;

    fn index(&self, key: u32) -> &T {
        &self.slab[key as usize]
    }
}

impl<T> IndexMut<u32> for Room<T> {
    fn index_mut(&mut self, key: u32) -> &mut T {
        &mut self.slab[key as usize]
    }
}

fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity > KEPT && len <= capacity / 4
}

/// Gives back half of an array of which three quarters are empty.
pub(crate) fn cut<T>(array: &mut Vec<T>) {
    if is_roomy(array.len(), array.capacity()) {
        array.shrink_to(KEPT.max(array.capacity() / 2));
    }
}

#[cfg(all(test, not(gondola_loom)))]
mod tests {
    use super::*;
    use crate::bits::tests::xorshift;
    use std::collections::BTreeMap;

    impl<T> Room<T> {
        fn check(&self) {
            assert_eq!(self.capacity as usize, self.slab.capacity());
            let upper = self.slab.iter().filter(|&(key, _)| key >= self.half as usize);
            assert_eq!(self.upper as usize, upper.count());
        }
    }

    #[test]
    fn agrees_with_a_btree_map_whatever_its_size() {
        let mut random = xorshift();
        let (mut room, mut model) = (Room::new(), BTreeMap::new());
        for size in [3, 5_000, 10, 1_100, 9_000, 600, 0, 2_000, 0] {
            for _ in 0..20_000 {
                let insert = random() % 10 < if model.len() < size { 9 } else { 1 };
                if insert && size > 0 {
                    let value = random();
                    assert_eq!(model.insert(room.insert(value), value), None, "a key twice");
                } else if let Some((&key, _)) = model.range(random() as u32 % 10_000..).next() {
                    assert_eq!(Some(room.remove(key)), model.remove(&key));
                }
            }
            room.check();
            assert_eq!(room.len(), model.len());
            assert!(model.iter().all(|(&key, value)| room[key] == *value));
            if let Some(last) = model.keys().next_back() {
                let most = KEPT.max(4 * model.len()).max(2 * (*last as usize + 1));
                assert!(
                    room.slab.capacity() <= most,
                    "{} for {}",
                    room.slab.capacity(),
                    room.len()
                );
            }
        }
    }

    /// The sizes through which an array goes while all leave it, each to come back ten times.
    fn sizes<S>(
        mut store: S,
        push: fn(&mut S),
        pop: fn(&mut S),
        size: fn(&S) -> usize,
    ) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut step = |step: fn(&mut S)| {
            step(&mut store);
            sizes.push(size(&store));
        };
        (0..8 * KEPT).for_each(|_| step(push));
        for _ in 0..8 * KEPT {
            step(pop);
            for _ in 0..10 {
                step(push);
                step(pop);
            }
        }
        sizes.dedup();
        sizes
    }

    #[test]
    fn one_that_comes_and_goes_does_not_make_the_array_breathe() {
        let room = sizes(
            (Room::new(), Vec::new()),
            |(room, keys)| keys.push(room.insert(())),
            |(room, keys)| room.remove(keys.pop().expect("one is left")),
            |(room, _)| room.slab.capacity(),
        );
        let array = sizes(
            Vec::new(),
            |array| array.push(0_u8),
            |array| {
                array.pop();
                cut(array);
            },
            Vec::capacity,
        );
        for sizes in [room, array] {
            assert_eq!(sizes.last(), Some(&KEPT));
            let (up, down) =
                sizes.split_at(sizes.iter().position(|&size| size >= 8 * KEPT).unwrap());
            // An array that was cut, and is full, grows once.
            assert!(up.len() <= 13 && down.len() <= 7, "{sizes:?}");
        }
    }
}
