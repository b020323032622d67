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

    fn sound(&self) {
        self.0.0[0].fetch_add(1, Ordering::SeqCst);
    }

    fn hear(&self) {
        self.0.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for TestBell {
    fn drop(&mut self) {
        self.0.0[2].fetch_add(1, Ordering::SeqCst);
    }
}

fn wakes(slots: usize) -> (Wakes<TestBell>, Probe) {
    let probe = Probe::default();
    (Wakes::new(slots, TestBell(probe.clone())), probe)
}

fn turn<B: Bell>(wakes: &Wakes<B>) -> Vec<usize> {
    wakes.begin_turn().map(|(slot, _)| slot).collect()
}

fn waker_of<B: Bell>(wakes: &Wakes<B>, slot: usize) -> LentWaker<'_> {
    assert!(slot < wakes.head().slots);
    // SAFETY: there is such a slot.
    unsafe { wakes.waker(slot / WORD, slot % WORD) }
}

fn abroad<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(f).join().unwrap()
}

const SIZES: [usize; 8] = [1, 2, WORD - 1, WORD, WORD + 1, 2 * WORD + 2, 10_000, (1 << 20) + 1];

#[test]
fn every_tag_wakes_itself_and_nobody_else() {
    for slots in SIZES {
        let (wakes, probe) = wakes(slots);
        let some: Vec<usize> =
            [0, 1, WORD - 2, WORD - 1, WORD, WORD + 1, 2 * WORD, slots / 2, slots - 1]
                .into_iter()
                .filter(|&slot| slot < slots)
                .collect();
        for &slot in &some {
            waker_of(&wakes, slot).wake_by_ref();
            assert!(wakes.any_ready());
            assert_eq!(turn(&wakes), [slot], "{slots}, here");
            let waker = waker_of(&wakes, slot).clone();
            abroad(move || waker.wake());
            assert!(!wakes.any_ready());
            assert_eq!(wakes.drain(), 1);
            assert_eq!(turn(&wakes), [slot], "{slots}, abroad");
        }
        assert_eq!(probe.seen(), [0, some.len(), 0], "nobody slept, so nobody was sounded");
        assert_eq!(wakes.drain(), 0);
    }
}

#[test]
fn a_turn_is_a_snapshot_in_ascending_order() {
    for slots in SIZES.into_iter().filter(|&slots| slots > 2) {
        let (wakes, _) = wakes(slots);
        for slot in [slots - 1, 0, 1] {
            wakes.mark(slot);
        }
        let mut seen = Vec::new();
        for (slot, _) in wakes.begin_turn() {
            // Both behind and before the walk: for the next turn.
            for woken in [0, slots - 2, slots - 1] {
                waker_of(&wakes, woken).wake_by_ref();
            }
            seen.push(slot);
        }
        assert_eq!(seen, [0, 1, slots - 1], "{slots}");
        assert_eq!(turn(&wakes), [0, slots - 2, slots - 1]);
    }
}

#[test]
fn turns_agree_with_a_btree_set() {
    let mut random = xorshift();
    // As many pages as a summary word has bits for, and one more.
    let most = (WORD - 1) * WORD;
    for slots in SIZES.into_iter().chain([most, most + 1]) {
        let (wakes, _) = wakes(slots);
        for _ in 0..20 {
            let mut ready = BTreeSet::new();
            for _ in 0..random() % 200 {
                let slot = random() % slots;
                wakes.mark(slot);
                ready.insert(slot);
            }
            assert_eq!(wakes.any_ready(), !ready.is_empty(), "{slots}");
            assert!(turn(&wakes).into_iter().eq(ready), "{slots}");
            assert!(!wakes.any_ready(), "{slots}");
        }
    }
}

#[test]
fn what_an_unwound_turn_did_not_name_comes_in_the_next() {
    for slots in SIZES.into_iter().filter(|&slots| slots > WORD) {
        let (wakes, _) = wakes(slots);
        let all = [0, 1, WORD - 1, WORD, slots - 1];
        all.into_iter().for_each(|slot| wakes.mark(slot));
        assert_eq!(wakes.begin_turn().map(|(slot, _)| slot).take(2).collect::<Vec<_>>(), [0, 1]);
        wakes.mark(1);
        let mut expected = vec![1, WORD - 1, WORD, slots - 1];
        expected.dedup();
        assert_eq!(turn(&wakes), expected);
    }
}

#[test]
fn a_sleeper_is_rung_once() {
    let (wakes, probe) = wakes(100);
    assert!(wakes.fall_asleep());
    let wakers = [3, 99, 3].map(|slot| waker_of(&wakes, slot).clone());
    abroad(move || wakers.into_iter().for_each(Waker::wake));
    assert_eq!(probe.seen()[0], 1);
    assert_eq!(wakes.drain(), 2);
    assert_eq!(wakes.begin_turn().count(), 2);
    // A wake before parking makes it fail.
    let waker = waker_of(&wakes, 5).clone();
    abroad(move || waker.wake());
    assert!(!wakes.fall_asleep());
    assert_eq!((wakes.drain(), probe.seen()[0]), (1, 1));
    // Woken by something else: the next drain ends the sleep.
    assert_eq!(wakes.begin_turn().count(), 1);
    assert!(wakes.fall_asleep());
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

        fn sound(&self) {
            panic!("ring");
        }
        fn hear(&self) {
            panic!("heard");
        }
    }
    let wakes = Wakes::new(1, Hostile);
    let waker = waker_of(&wakes, 0).clone();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
    assert!(result.is_err());
    assert_eq!(wakes.references(), 1);
    assert_eq!(wakes.begin_turn().count(), 1);
}
