//! Wakers: one shared block per ring, and how a thread falls asleep without missing one.
//!
//! ```text
//!           block (one allocation, reference counted)
//! ┌──────┬─────────┬───────┬──────┬───────────────┬───────┬───────┬──────────────┐
//! │ refs │ summary │ owner │ bell │ tags 0 1 … n-1│ set 0 │ set 1 │ remote words │
//! └──────┴─────────┴───────┴──────┴───────▲───────┴───────┴───────┴──────────────┘
//!                                         │
//!  Waker { data ───────────────────────────, vtable }
//! ```
//!
//! A waker's data pointer is the address of a tag; the tag holds its own index, so the block's
//! head is found by walking back. Waking sets a bit and touches no user data: a waker may
//! outlive its task, its runtime and its thread.
//!
//! # Invariants
//!
//! 1. Every data pointer was derived from the block's own allocation pointer, never from a
//!    reference, and the block lives while `refs` > 0: each waker and the [`Wakes`] hold one.
//! 2. No `&mut` to the block exists after its construction. `owner`, the layout fields and the
//!    tags are never written again.
//! 3. The two sets and `waking` are touched on the thread `owner` only, where
//!    the block was made: `Wakes` is `!Send`, and a waker compares thread identities first. Any
//!    other thread touches only `refs`, `summary`, the remote words (atomics, each on cache lines
//!    of its own) and [`Bell::ring`].
//! 4. A remote wake sets its bit in the remote word, *then* its group's bit in `summary`, both
//!    with read-modify-writes even where the bit is set already: that is what orders everything
//!    before the wake before the poll that it causes.
//! 5. The owner sleeps only after moving `summary` from 0 to PARKED in one compare-exchange. So
//!    a wake before it makes it fail, and the first one after it finds exactly PARKED and rings.
//!
//! ```text
//!        waker, abroad                          owner
//!   word.fetch_or(bit)                     summary: 0 ──CAS──▶ PARKED ──▶ sleep
//!   old = summary.fetch_or(group)             │fails: not 0          ▲
//!   old == PARKED ? ring the bell ────────────┼──────────────────────┘ wakes
//!                                             ▼
//!                                     drain: swap(0), then swap each marked word
//! ```
//!
//! The bell rings at most once per sleep, and never while the owner is awake.

use crate::bits::{Bits, Drain, WORD, ones, shift_for, words_for};
use crate::sync::{AtomicUsize, Cell, Ordering, peek_thread_id, thread_id};
use crossbeam_utils::CachePadded;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// The top bit of `summary`: the owner sleeps, or is about to.
const PARKED: usize = 1 << (WORD - 1);

/// What a wake does beyond setting its bit.
pub(crate) trait Bell: Send + Sync + 'static {
    /// Ends the owner's sleep. Called on any other thread, at most once per sleep.
    fn ring(&self);
    /// Hears of a wake on the owner's thread, after its bit was set.
    fn heard_locally(&self);
    /// The vtable of this bell's wakers: [`vtable`], in a static. A constant could be copied,
    /// and wakers that are equal would not look it.
    const VTABLE: &'static RawWakerVTable;
}

pub(crate) const fn vtable<B: Bell>() -> RawWakerVTable {
    RawWakerVTable::new(
        Head::<B>::clone,
        Head::<B>::wake,
        Head::<B>::wake_by_ref,
        Head::<B>::release,
    )
}

#[repr(C)]
struct Head<B> {
    shared: CachePadded<Shared>,
    bell: B,
    owner: usize,
    layout: Layout,
    len: usize,
    words: usize,
    shift: u32,
    /// Which of the two sets wakes go into; a turn walks the other.
    waking: Cell<usize>,
    summaries: [Cell<usize>; 2],
    sets: [*mut Cell<usize>; 2],
    tags: *const u32,
    remote: *mut CachePadded<AtomicUsize>,
}

struct Shared {
    refs: AtomicUsize,
    summary: AtomicUsize,
}

impl<B: Bell> Head<B> {
    /// The tags stand right behind the head.
    const TAGS: usize = {
        assert!(size_of::<Self>() % align_of::<u32>() == 0);
        size_of::<Self>()
    };

    /// # Safety
    /// `data` is a tag of a live block of this type.
    #[inline(always)]
    unsafe fn find(data: *const ()) -> (*const Self, usize) {
        // SAFETY: the caller's promise; tags are never written after construction (invariant 2).
        let index = unsafe { *data.cast::<u32>() } as usize;
        // SAFETY: the pointer has the whole allocation as its provenance (invariant 1), and the
        // tags stand `TAGS` bytes behind the head, four bytes each.
        let head = unsafe { data.byte_sub(Self::TAGS + index * size_of::<u32>()) };
        (head.cast(), index)
    }

    /// # Safety
    /// `head` is a live block's. The result consists of atomics: it may be used up to the call
    /// that frees the block.
    #[inline(always)]
    unsafe fn shared<'a>(head: *const Self) -> &'a Shared {
        // SAFETY: the caller's promise; never mutably borrowed (invariant 2).
        unsafe { &(*head).shared }
    }

    /// # Safety
    /// As `find`, with one reference held for the call. The result holds one more.
    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the caller's promise.
        let (head, _) = unsafe { Self::find(data) };
        // SAFETY: the block is alive: the caller holds a reference.
        let before = unsafe { Self::shared(head) }.refs.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // Only a loop of leaked clones gets here; the next step would be a use after free.
            std::process::abort();
        }
        RawWaker::new(data, B::VTABLE)
    }

    /// # Safety
    /// As `find`; the caller gives up one reference.
    unsafe fn wake(data: *const ()) {
        /// Gives the reference back even if a bell panics.
        struct Release<B: Bell>(*const (), PhantomData<B>);
        impl<B: Bell> Drop for Release<B> {
            fn drop(&mut self) {
                // SAFETY: the reference that `wake` was handed is given up here, once.
                unsafe { Head::<B>::release(self.0) };
            }
        }
        let _release = Release::<B>(data, PhantomData);
        // SAFETY: the reference is held until `_release` is dropped.
        unsafe { Self::wake_by_ref(data) };
    }

    /// # Safety
    /// As `find`, with one reference held for the call.
    unsafe fn wake_by_ref(data: *const ()) {
        // SAFETY: the caller's promise.
        let (head, index) = unsafe { Self::find(data) };
        // SAFETY: alive while the caller's reference is; `owner` is never written (invariant 2).
        if unsafe { (*head).owner } == peek_thread_id() {
            // SAFETY: this is the owner's thread (invariant 3).
            unsafe { Self::set(head, 0) }.insert(index);
            // SAFETY: the block is alive and never mutably borrowed (invariant 2).
            unsafe { &(*head).bell }.heard_locally();
        } else {
            // SAFETY: the block is alive.
            unsafe { Self::wake_remotely(head, index) };
        }
    }

    /// # Safety
    /// `head` is a live block's.
    #[cold]
    unsafe fn wake_remotely(head: *const Self, index: usize) {
        let word = index / WORD;
        // SAFETY: the tag's index is below the number of bits, so its word exists.
        let remote = unsafe { &*(*head).remote.add(word) };
        // SAFETY: the block is alive.
        let (shared, group) = unsafe { (Self::shared(head), 1 << (word >> (*head).shift)) };
        // Invariant 4: this order, and never skipped.
        remote.fetch_or(1 << (index % WORD), Ordering::Release);
        if shared.summary.fetch_or(group, Ordering::AcqRel) == PARKED {
            // SAFETY: the block is alive and never mutably borrowed (invariant 2).
            unsafe { (*head).bell.ring() };
        }
    }

    /// # Safety
    /// As `find`; the caller gives up one reference.
    unsafe fn release(data: *const ()) {
        // SAFETY: the caller's promise.
        let (head, _) = unsafe { Self::find(data) };
        // SAFETY: the caller's reference is alive until this very subtraction.
        if unsafe { Self::shared(head) }.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: that was the last reference, and AcqRel orders every other use before this.
            unsafe { Self::free(head.cast_mut()) };
        }
    }

    /// # Safety
    /// Nobody else can reach the block any more.
    #[cold]
    unsafe fn free(head: *mut Self) {
        // SAFETY: each part was written by `Wakes::new` and is dropped once, here; the words need
        // it for loom only.
        let layout = unsafe {
            let words = (*head).words;
            for set in (*head).sets {
                ptr::drop_in_place(ptr::slice_from_raw_parts_mut(set, words));
            }
            ptr::drop_in_place(ptr::slice_from_raw_parts_mut((*head).remote, words));
            let layout = (*head).layout;
            ptr::drop_in_place(head);
            layout
        };
        // SAFETY: this is the layout that it was allocated with.
        unsafe { dealloc(head.cast(), layout) };
    }

    /// The set that wakes go into (`turned` = 0), or the other one (1).
    ///
    /// # Safety
    /// The block outlives the view, and this is its owner's thread.
    #[inline(always)]
    unsafe fn set<'a>(head: *const Self, turned: usize) -> Bits<'a> {
        // SAFETY: invariants 2 and 3; `words` cells were written there.
        unsafe {
            // Masked: spares every wake and every turn a check of the bounds.
            let at = ((*head).waking.get() ^ turned) & 1;
            Bits {
                summary: &(*head).summaries[at],
                words: std::slice::from_raw_parts((*head).sets[at], (*head).words),
                shift: (*head).shift,
            }
        }
    }
}

/// The owner's end of a block. `!Send`: it stays on the thread that made it.
pub(crate) struct Wakes<B: Bell> {
    head: NonNull<Head<B>>,
}

/// A waker lent for one poll: no reference was counted for it.
pub(crate) struct LentWaker<'a> {
    waker: ManuallyDrop<Waker>,
    block: PhantomData<&'a ()>,
}

impl Deref for LentWaker<'_> {
    type Target = Waker;

    fn deref(&self) -> &Waker {
        &self.waker
    }
}

impl<B: Bell> Wakes<B> {
    /// A block with tags `0..tags`, owned by this thread. No bit is set.
    pub(crate) fn new(tags: usize, bell: B) -> Self {
        assert!(tags > 0, "a block has at least one tag");
        let words = words_for(tags);
        // Four arrays of at most 2^32 elements behind a head: no size overflows on 64 bits, and
        // on 32 bits the ring's own limit (2^20 tags) keeps them small.
        let plan = || {
            let (layout, tag) = Layout::new::<Head<B>>().extend(Layout::array::<u32>(tags)?)?;
            let cells = Layout::array::<Cell<usize>>(words)?;
            let (layout, one) = layout.extend(cells)?;
            let (layout, other) = layout.extend(cells)?;
            let remote = Layout::array::<CachePadded<AtomicUsize>>(words)?;
            let (layout, remote) = layout.extend(remote)?;
            Ok::<_, std::alloc::LayoutError>((layout.pad_to_align(), tag, [one, other], remote))
        };
        let (layout, tag, sets, remote) = plan().expect("the ring's limit keeps this small");
        assert_eq!(tag, Head::<B>::TAGS);
        // SAFETY: a head is in it, so the size is not zero.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let head = block.cast::<Head<B>>();
        // SAFETY: each array lies where `plan` put it, inside the fresh allocation, and every
        // element is written before anything can read it.
        unsafe {
            let tags_at = block.add(tag).cast::<u32>();
            let sets = sets.map(|set| block.add(set).cast::<Cell<usize>>());
            let remote = block.add(remote).cast::<CachePadded<AtomicUsize>>();
            for index in 0..tags {
                tags_at.add(index).write(u32::try_from(index).expect("at most 2^32 tags"));
            }
            for word in 0..words {
                sets[0].add(word).write(Cell::new(0));
                sets[1].add(word).write(Cell::new(0));
                remote.add(word).write(CachePadded::new(AtomicUsize::new(0)));
            }
            head.write(Head {
                shared: CachePadded::new(Shared {
                    refs: AtomicUsize::new(1),
                    summary: AtomicUsize::new(0),
                }),
                bell,
                owner: thread_id(),
                layout,
                len: tags,
                words,
                shift: shift_for(words),
                waking: Cell::new(0),
                summaries: [Cell::new(0), Cell::new(0)],
                sets: sets.map(NonNull::as_ptr),
                tags: tags_at.as_ptr(),
                remote: remote.as_ptr(),
            });
        }
        Self { head }
    }

    #[inline(always)]
    fn head(&self) -> &Head<B> {
        // SAFETY: this holds a reference, and there is no `&mut` to the block (invariant 2).
        unsafe { self.head.as_ref() }
    }

    #[inline(always)]
    fn ready(&self) -> Bits<'_> {
        // SAFETY: this holds a reference and is on the owner's thread (invariant 3).
        unsafe { Head::set(self.head.as_ptr(), 0) }
    }

    fn remote(&self) -> &[CachePadded<AtomicUsize>] {
        // SAFETY: invariant 2; `words` atomics were written there.
        unsafe { std::slice::from_raw_parts(self.head().remote, self.head().words) }
    }

    pub(crate) fn bell(&self) -> &B {
        &self.head().bell
    }

    /// The waker of tag `index`.
    ///
    /// # Safety
    /// There is such a tag.
    #[inline(always)]
    unsafe fn waker(&self, index: usize) -> LentWaker<'_> {
        // SAFETY: the tag exists, and the pointer comes from the allocation (invariant 1).
        let data = unsafe { self.head().tags.add(index) };
        // SAFETY: the vtable's functions take a tag of a live block. The reference it stands on is
        // this `Wakes`', whose lifetime the result carries, and it is never dropped.
        let waker = unsafe { Waker::new(data.cast(), B::VTABLE) };
        LentWaker { waker: ManuallyDrop::new(waker), block: PhantomData }
    }

    /// Marks a tag as ready, as a wake on this thread does, but tells no bell.
    #[inline(always)]
    pub(crate) fn mark(&self, index: usize) {
        assert!(index < self.head().len, "no such tag");
        self.ready().insert(index);
    }

    #[inline(always)]
    pub(crate) fn any_ready(&self) -> bool {
        !self.ready().is_empty()
    }

    /// Takes in what other threads have woken and ends a sleep. Returns how many tags that was.
    #[inline(always)]
    pub(crate) fn drain(&self) -> usize {
        // A wake that happens before this call is seen even by a relaxed load; any other may as
        // well come later. Only falling asleep needs the exchange.
        match self.head().shared.summary.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.take_remote(),
        }
    }

    #[cold]
    fn take_remote(&self) -> usize {
        let (ready, remote) = (self.ready(), self.remote());
        let mut count = 0;
        let groups = self.head().shared.summary.swap(0, Ordering::AcqRel) & !PARKED;
        for group in ones(groups) {
            let first = group << ready.shift;
            let end = remote.len().min(first + (1 << ready.shift));
            for (word, remote) in (first..end).zip(&remote[first..end]) {
                // An empty word whose bit is on its way has its summary bit on the way too.
                if remote.load(Ordering::Relaxed) != 0 {
                    let mask = remote.swap(0, Ordering::AcqRel);
                    ready.merge(word, mask);
                    count += mask.count_ones() as usize;
                }
            }
        }
        count
    }

    /// Begins a turn: what is ready now becomes its snapshot. Wakes from here on, those of tags
    /// that are still to come included, go into the other set, and count for the next turn.
    #[inline(always)]
    pub(crate) fn turn(&self) -> Turn<'_, B> {
        let (drain, mask) = self.ready().drain();
        let waking = &self.head().waking;
        waking.set(waking.get() ^ 1);
        Turn { wakes: self, drain, word: 0, mask }
    }

    /// Says that the owner falls asleep. `false`: a remote wake came first; do not.
    #[must_use]
    pub(crate) fn park(&self) -> bool {
        debug_assert!(!self.any_ready(), "nobody sleeps with work at hand");
        let summary = &self.head().shared.summary;
        summary.compare_exchange(0, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[cfg(all(test, not(gondola_loom)))]
    pub(crate) fn references(&self) -> usize {
        self.head().shared.refs.load(Ordering::Relaxed)
    }
}

/// The tags of one turn, in ascending order, each with its waker. Dropped before its end, because
/// something unwinds, it leaves the tags that it has not named to the next turn.
pub(crate) struct Turn<'a, B: Bell> {
    wakes: &'a Wakes<B>,
    drain: Drain,
    word: usize,
    mask: usize,
}

impl<'a, B: Bell> Iterator for Turn<'a, B> {
    type Item = (usize, LentWaker<'a>);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.mask == 0 && (self.drain.is_done() || !self.load_word()) {
            return None;
        }
        let bit = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        let tag = self.word * WORD + bit;
        // SAFETY: only bits of tags are ever set: by their wakers, and by `mark`, which checks.
        Some((tag, unsafe { self.wakes.waker(tag) }))
    }
}

impl<B: Bell> Turn<'_, B> {
    fn load_word(&mut self) -> bool {
        // SAFETY: the `Wakes` holds a reference, and this is the owner's thread (invariant 3).
        let set = unsafe { Head::set(self.wakes.head.as_ptr(), 1) };
        match self.drain.next_word(set) {
            Some(next) => {
                (self.word, self.mask) = next;
                true
            }
            None => false,
        }
    }

    #[cold]
    fn give_back(&mut self) {
        while self.mask != 0 || self.load_word() {
            self.wakes.ready().merge(self.word, std::mem::take(&mut self.mask));
        }
    }
}

impl<B: Bell> Drop for Turn<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.mask != 0 || !self.drain.is_done() {
            self.give_back();
        }
    }
}

impl<B: Bell> Drop for Wakes<B> {
    fn drop(&mut self) {
        // SAFETY: tag 0 exists, and the reference of this `Wakes` is given up once.
        unsafe { Head::<B>::release(self.head().tags.cast()) };
    }
}

#[cfg(all(test, gondola_loom))]
pub(crate) mod models;
#[cfg(all(test, not(gondola_loom)))]
mod tests;
