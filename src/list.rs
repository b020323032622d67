//! Doubly linked lists in one slab: any number of queues over storage that is reused, with
//! removal from the middle, so that a cancelled waiter leaves at once and leaves nothing behind.
#![forbid(unsafe_code)]

use crate::room::Room;

const NIL: u32 = u32::MAX;

/// One queue. Its nodes live in a [`Nodes`].
#[derive(Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self { head: NIL, tail: NIL }
    }
}

#[derive(Debug)]
struct Node<T> {
    prev: u32,
    next: u32,
    value: T,
}

/// The storage of the queues. A node is in one queue or in none.
#[derive(Debug)]
pub(crate) struct Nodes<T>(Room<Node<T>>);

impl<T> Nodes<T> {
    pub(crate) const fn new() -> Self {
        Self(Room::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> &mut T {
        &mut self.0[key].value
    }

    /// Appends a value; its key stays good until [`remove`](Self::remove).
    pub(crate) fn push_back(&mut self, list: &mut List, value: T) -> u32 {
        let key = self.0.insert(Node { prev: list.tail, next: NIL, value });
        match list.tail {
            NIL => list.head = key,
            tail => self.0[tail].next = key,
        }
        list.tail = key;
        key
    }

    /// Takes the first node out of its queue; it keeps its key and its value.
    pub(crate) fn unlink_front(&mut self, list: &mut List) -> Option<u32> {
        let key = list.head;
        if key == NIL {
            return None;
        }
        list.head = self.0[key].next;
        match list.head {
            NIL => list.tail = NIL,
            next => self.0[next].prev = NIL,
        }
        Some(key)
    }

    /// Takes a node out of `list`, the queue that it is in.
    pub(crate) fn unlink(&mut self, list: &mut List, key: u32) {
        let Node { prev, next, .. } = self.0[key];
        match prev {
            NIL => list.head = next,
            prev => self.0[prev].next = next,
        }
        match next {
            NIL => list.tail = prev,
            next => self.0[next].prev = prev,
        }
    }

    /// Moves all of `from` behind the end of `to`, at a fixed cost.
    pub(crate) fn append(&mut self, to: &mut List, from: &mut List) {
        let from = std::mem::replace(from, List::new());
        match (to.tail, from.head) {
            (_, NIL) => {}
            (NIL, _) => *to = from,
            (tail, head) => {
                self.0[tail].next = head;
                self.0[head].prev = tail;
                to.tail = from.tail;
            }
        }
    }

    /// Frees a node that is in no queue.
    pub(crate) fn remove(&mut self, key: u32) -> T {
        self.0.remove(key).value
    }
}

#[cfg(all(test, not(gondola_loom)))]
mod tests {
    use super::*;

    fn drain(nodes: &mut Nodes<u32>, list: &mut List) -> Vec<u32> {
        let mut out = Vec::new();
        while let Some(key) = nodes.unlink_front(list) {
            out.push(nodes.remove(key));
        }
        out
    }

    #[test]
    fn first_in_first_out_with_leavers_from_every_place() {
        for leaver in 0..4 {
            let (mut nodes, mut list) = (Nodes::new(), List::new());
            let keys: Vec<u32> = (0..4).map(|n| nodes.push_back(&mut list, n)).collect();
            nodes.unlink(&mut list, keys[leaver]);
            assert_eq!(nodes.remove(keys[leaver]), leaver as u32);
            let rest: Vec<u32> = (0..4).filter(|&n| n != leaver as u32).collect();
            assert_eq!(drain(&mut nodes, &mut list), rest);
            assert!(list.head == NIL && nodes.len() == 0);
        }
    }

    #[test]
    fn appending_keeps_the_order_and_empties_the_source() {
        let mut nodes = Nodes::new();
        let (mut a, mut b, mut none) = (List::new(), List::new(), List::new());
        nodes.push_back(&mut a, 1);
        nodes.push_back(&mut b, 2);
        nodes.push_back(&mut b, 3);
        nodes.append(&mut a, &mut none);
        nodes.append(&mut a, &mut b);
        assert!(b.head == NIL && b.tail == NIL);
        nodes.append(&mut b, &mut a);
        assert_eq!(drain(&mut nodes, &mut b), [1, 2, 3]);
    }
}
