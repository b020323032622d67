//! The block by itself, without any future. `models.rs` is about what threads do to each other.

use super::*;
use crate::bits::tests::xorshift;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;

/// Counts what it hears, and its end.
#[derive(Clone, Default)]
struct Probe(Arc<[Count; 3]>);

impl Probe {
    /// Remote rings, local wakes, drops.
    fn seen(&self) -> [usize; 3] {
        [0, 1, 2].map(|n| self.0[n].load(Ordering::SeqCst))
    }
}

struct TestBell(Probe);

static VTABLE: RawWakerVTable = vtable::<TestBell>();

impl Bell for TestBell {
    const VTABLE: &'static RawWakerVTable = &VTABLE;

    fn ring(&self) {
        self.0.0[0].fetch_add(1, Ordering::SeqCst);
    }

    fn heard_locally(&self) {
        self.0.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for TestBell {
    fn drop(&mut self) {
        self.0.0[2].fetch_add(1, Ordering::SeqCst);
    }
}

fn wakes(tags: usize) -> (Wakes<TestBell>, Probe) {
    let probe = Probe::default();
    (Wakes::new(tags, TestBell(probe.clone())), probe)
}

fn turn<B: Bell>(wakes: &Wakes<B>) -> Vec<usize> {
    wakes.turn().map(|(tag, _)| tag).collect()
}

fn waker_of<B: Bell>(wakes: &Wakes<B>, tag: usize) -> LentWaker<'_> {
    assert!(tag < wakes.head().tags);
    // SAFETY: there is such a tag.
    unsafe { wakes.waker(tag / WORD, tag % WORD) }
}

fn abroad<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(f).join().unwrap()
}

const SIZES: [usize; 8] = [1, 2, WORD - 1, WORD, WORD + 1, 2 * WORD + 2, 10_000, (1 << 20) + 1];

#[test]
fn every_tag_wakes_itself_and_nobody_else() {
    for tags in SIZES {
        let (wakes, probe) = wakes(tags);
        let some: Vec<usize> =
            [0, 1, WORD - 2, WORD - 1, WORD, WORD + 1, 2 * WORD, tags / 2, tags - 1]
                .into_iter()
                .filter(|&tag| tag < tags)
                .collect();
        for &tag in &some {
            waker_of(&wakes, tag).wake_by_ref();
            assert!(wakes.any_ready());
            assert_eq!(turn(&wakes), [tag], "{tags}, here");
            let waker = waker_of(&wakes, tag).clone();
            abroad(move || waker.wake());
            assert!(!wakes.any_ready());
            assert_eq!(wakes.drain(), 1);
            assert_eq!(turn(&wakes), [tag], "{tags}, abroad");
        }
        assert_eq!(probe.seen(), [0, some.len(), 0], "nobody slept, so nobody was rung");
        assert_eq!(wakes.drain(), 0);
    }
}

#[test]
fn a_turn_is_a_snapshot_in_ascending_order() {
    for tags in SIZES.into_iter().filter(|&tags| tags > 2) {
        let (wakes, _) = wakes(tags);
        for tag in [tags - 1, 0, 1] {
            wakes.mark(tag);
        }
        let mut seen = Vec::new();
        for (tag, _) in wakes.turn() {
            // Both behind and before the walk: for the next turn.
            for woken in [0, tags - 2, tags - 1] {
                waker_of(&wakes, woken).wake_by_ref();
            }
            seen.push(tag);
        }
        assert_eq!(seen, [0, 1, tags - 1], "{tags}");
        assert_eq!(turn(&wakes), [0, tags - 2, tags - 1]);
    }
}

#[test]
fn turns_agree_with_a_btree_set() {
    let mut random = xorshift();
    // As many pages as a summary word has bits for, and one more.
    let most = (WORD - 1) * WORD;
    for tags in SIZES.into_iter().chain([most, most + 1]) {
        let (wakes, _) = wakes(tags);
        for _ in 0..20 {
            let mut ready = BTreeSet::new();
            for _ in 0..random() % 200 {
                let tag = random() % tags;
                wakes.mark(tag);
                ready.insert(tag);
            }
            assert_eq!(wakes.any_ready(), !ready.is_empty(), "{tags}");
            assert!(turn(&wakes).into_iter().eq(ready), "{tags}");
            assert!(!wakes.any_ready(), "{tags}");
        }
    }
}

#[test]
fn what_an_unwound_turn_did_not_name_comes_in_the_next() {
    for tags in SIZES.into_iter().filter(|&tags| tags > WORD) {
        let (wakes, _) = wakes(tags);
        let all = [0, 1, WORD - 1, WORD, tags - 1];
        all.into_iter().for_each(|tag| wakes.mark(tag));
        assert_eq!(wakes.turn().map(|(tag, _)| tag).take(2).collect::<Vec<_>>(), [0, 1]);
        wakes.mark(1);
        let mut expected = vec![1, WORD - 1, WORD, tags - 1];
        expected.dedup();
        assert_eq!(turn(&wakes), expected);
    }
}

#[test]
fn a_sleeper_is_rung_once() {
    let (wakes, probe) = wakes(100);
    assert!(wakes.park());
    let wakers = [3, 99, 3].map(|tag| waker_of(&wakes, tag).clone());
    abroad(move || wakers.into_iter().for_each(Waker::wake));
    assert_eq!(probe.seen()[0], 1);
    assert_eq!(wakes.drain(), 2);
    assert_eq!(wakes.turn().count(), 2);
    // A wake before parking makes it fail.
    let waker = waker_of(&wakes, 5).clone();
    abroad(move || waker.wake());
    assert!(!wakes.park());
    assert_eq!((wakes.drain(), probe.seen()[0]), (1, 1));
    // Woken by something else: the next drain ends the sleep.
    assert_eq!(wakes.turn().count(), 1);
    assert!(wakes.park());
    assert_eq!(wakes.drain(), 0);
    let waker = waker_of(&wakes, 5).clone();
    abroad(move || waker.wake());
    assert_eq!(probe.seen()[0], 1);
}

#[test]
fn the_block_lives_as_long_as_its_last_waker_wherever_that_is() {
    let (wakes, probe) = wakes(3);
    assert_eq!(wakes.references(), 1);
    let waker = waker_of(&wakes, 2).clone();
    let twin = waker.clone();
    assert!(waker.will_wake(&twin) && waker.will_wake(&waker_of(&wakes, 2)));
    assert!(!waker.will_wake(&waker_of(&wakes, 1)));
    assert_eq!(wakes.references(), 3);
    drop(twin);
    drop(wakes);
    assert_eq!(probe.seen()[2], 0);
    waker.wake_by_ref();
    abroad(move || {
        waker.wake_by_ref();
        drop(waker);
    });
    assert_eq!(probe.seen()[2], 1);
}

#[test]
fn a_bell_that_panics_costs_no_reference() {
    struct Hostile;
    static VTABLE: RawWakerVTable = vtable::<Hostile>();
    impl Bell for Hostile {
        const VTABLE: &'static RawWakerVTable = &VTABLE;

        fn ring(&self) {
            panic!("ring");
        }
        fn heard_locally(&self) {
            panic!("heard");
        }
    }
    let wakes = Wakes::new(1, Hostile);
    let waker = waker_of(&wakes, 0).clone();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
    assert!(result.is_err());
    assert_eq!(wakes.references(), 1);
    assert_eq!(wakes.turn().count(), 1);
}
