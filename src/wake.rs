//! Wakers: one shared block per ring, and how a thread falls asleep without missing one.
//!
//! ```text
//!  block (one allocation, reference counted)
//! ┌─────────────────────────────┬────────┬────────┬─        ┌ page ───────────────────────────────┐
//! │ refs summary │ owner bell … │ page 0 │ page 1 │ …       │ addresses 0…63 │ set 0 set 1 │ remote │
//! └─────────────────────────────┴────────┴────────┴─        └──▲──────────────────────────────────┘
//!                                                              │
//!                                              Waker { data ───┘, vtable }
//! ```
//!
//! The block has a byte for each slot. It is never read: only its address matters, for that is the
//! waker's data pointer. Pages are aligned, so the high bits of the address say which page it is,
//! and the low bits say which bit there belongs to the slot. Waking sets that bit and touches no
//! user data. So a waker may outlive its task, its runtime and its thread.
//!
//! A summary bit stands for a group of `1 << shift` pages. It is set with each bit of its group,
//! and may outlive the last of them. So a local summary of 0 says that no bit is set, and a remote
//! one that no wake which has returned is still to be taken in.
//!
//! # Invariants
//!
//! 1. Every data pointer was derived from the block's own allocation pointer, never from a
//!    reference, and the block lives while `refs` > 0: each waker and the [`Wakes`] hold one.
//! 2. No `&mut` to the block exists between its construction and [`Head::free`], and in between
//!    only cells and atomics are written.
//! 3. The sets, the local summaries and `waking` are touched by the thread `owner` only, where the
//!    block was made: `Wakes` is `!Send`, and a waker compares thread identities first. What any
//!    other thread writes is `refs`, `summary` and the remote words (atomics, on cache lines of
//!    their own), and what [`Bell::sound`] does.
//! 4. A remote wake sets its bit in the remote word, *then* its group's bit in `summary`, both
//!    with read-modify-writes even where the bit is set already: that is what orders everything
//!    before the wake before the poll that it causes, and lets the owner see a wake that returned.
//! 5. The owner sleeps only after moving `summary` from 0 to ASLEEP in one compare-exchange. So
//!    a wake before it makes it fail, and the first wake after it finds exactly ASLEEP and sounds
//!    the bell.
//!
//! ```text
//!     a wake on another thread                   owner
//!   word.fetch_or(bit)                     summary: 0 ──CAS──▶ ASLEEP ──▶ sleep
//!   old = summary.fetch_or(group)             │fails: not 0          ▲
//!   old == ASLEEP ? sound the bell ───────────┼──────────────────────┘ wakes
//!                                             ▼
//!                                     drain: swap(0), then swap each marked word
//! ```
//!
//! The bell sounds at most once per sleep, and never while the owner is awake.

use crate::bits::{WORD, ones, shift_for, words_for};
use crate::sync::{AtomicUsize, Cell, Ordering, peek_thread_id, thread_id};
use crossbeam_utils::CachePadded;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// The top bit of `summary`: the owner sleeps, or is about to.
const ASLEEP: usize = 1 << (WORD - 1);

/// What a wake does beyond setting its bit.
pub(crate) trait Bell: Send + Sync + 'static {
    /// Ends the owner's sleep. Called on a thread other than the owner's, at most once per sleep.
    fn sound(&self);
    /// Hears of a wake on the owner's thread, after its bit was set.
    fn hear(&self);
    /// The vtable of this bell's wakers: [`vtable`], in a static. A constant could be copied,
    /// and equal wakers would not compare equal.
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

// Aligned as a page is, so that the pages begin at its end.
#[repr(C, align(64))]
struct Head<B> {
    shared: CachePadded<Shared>,
    bell: B,
    owner: usize,
    /// Which of the two sets wakes go into; a turn walks the other.
    waking: Cell<bool>,
    summaries: [Cell<usize>; 2],
    slots: usize,
    pages: usize,
    shift: u32,
    /// How many more pages a group has than one: a mask.
    more: usize,
    /// Where the allocation begins that the block stands in.
    room: *mut u8,
}

struct Shared {
    refs: AtomicUsize,
    summary: AtomicUsize,
}

/// The slots of one word, and its bits.
#[repr(C)]
struct Page<B> {
    /// Addresses for the wakers, nothing else.
    addresses: Addresses,
    head: *const Head<B>,
    /// The bit of the page's group in the summaries.
    group: usize,
    sets: [Cell<usize>; 2],
    remote: CachePadded<AtomicUsize>,
}

#[repr(C, align(64))]
struct Addresses([u8; WORD]);
const _: () = assert!(align_of::<Addresses>() % WORD == 0);

impl<B: Bell> Head<B> {
    /// The page and the bit of a slot.
    ///
    /// # Safety
    /// `data` is a slot of a live block of this type. The result may be used as long as the block
    /// lives.
    #[inline(always)]
    unsafe fn find<'a>(data: *const ()) -> (&'a Page<B>, usize) {
        let page = data.map_addr(|address| address & !(WORD - 1)).cast::<Page<B>>();
        // SAFETY: slots stand at the start of their page, which is aligned; the pointer has the
        // whole allocation as its provenance (invariant 1), and there is no `&mut` (invariant 2).
        (unsafe { &*page }, 1 << (data.addr() % WORD))
    }

    /// # Safety
    /// As `find`, of the page's head.
    #[inline(always)]
    unsafe fn of<'a>(page: &Page<B>) -> &'a Self {
        // SAFETY: the block is alive, and its head never mutably borrowed (invariant 2).
        unsafe { &*page.head }
    }

    /// # Safety
    /// As `find`, with one reference held for the call. The result holds one more.
    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the caller's promise, and its reference.
        let head = unsafe { Self::of(Self::find(data).0) };
        if head.shared.refs.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
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
            #[inline(always)]
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
    #[inline]
    unsafe fn wake_by_ref(data: *const ()) {
        // First: where this takes a call, no register has to be kept across it.
        let here = peek_thread_id();
        // SAFETY: the caller's promise, and its reference.
        let (page, bit) = unsafe { Self::find(data) };
        // SAFETY: as above.
        let head = unsafe { Self::of(page) };
        if head.owner == here {
            head.set(page, bit);
            head.bell.hear();
        } else {
            head.wake_remotely(page, bit);
        }
    }

    /// Sets bits, on the owner's thread.
    #[inline(always)]
    fn set(&self, page: &Page<B>, bits: usize) {
        let waking = usize::from(self.waking.get());
        let (set, summary) = (&page.sets[waking], &self.summaries[waking]);
        set.set(set.get() | bits);
        summary.set(summary.get() | page.group);
    }

    #[cold]
    #[inline(never)]
    fn wake_remotely(&self, page: &Page<B>, bit: usize) {
        // Invariant 4: this order, and never skipped.
        page.remote.fetch_or(bit, Ordering::Release);
        if self.shared.summary.fetch_or(page.group, Ordering::AcqRel) == ASLEEP {
            self.bell.sound();
        }
    }

    /// # Safety
    /// As `find`; the caller gives up one reference.
    unsafe fn release(data: *const ()) {
        // SAFETY: the caller's promise, and its reference.
        let page = unsafe { Self::find(data).0 };
        // SAFETY: as above.
        let head = unsafe { Self::of(page) };
        if head.shared.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: that was the last reference, and AcqRel orders every other use before this.
            unsafe { Self::free(page.head.cast_mut()) };
        }
    }

    /// Whether a page is the last of its group.
    #[inline(always)]
    fn ends_group(&self, page: usize) -> bool {
        page & self.more == self.more
    }

    /// The pages begin right behind the head.
    fn layout(pages: usize) -> Layout {
        const { assert!(size_of::<Self>() % align_of::<Page<B>>() == 0) };
        const { assert!(align_of::<Self>() >= align_of::<Page<B>>()) };
        let pages = Layout::array::<Page<B>>(pages).expect("the ring's limit keeps this small");
        Layout::new::<Self>().extend(pages).expect("as above").0
    }

    /// What is allocated for it: with as much more as aligning it by hand may take. Allocators are
    /// slow where they have to align, and a batch inside a batch makes a block for each item.
    fn room(pages: usize) -> Layout {
        let block = Self::layout(pages);
        // What any allocation is aligned to.
        let aligned = 2 * size_of::<usize>();
        let size = block.size() + block.align() - aligned;
        Layout::from_size_align(size, aligned).expect("the ring's limit keeps this small")
    }

    /// # Safety
    /// Nobody else can reach the block any more.
    #[cold]
    unsafe fn free(head: *mut Self) {
        // SAFETY: head and pages were written by `Wakes::new` and are dropped once, here; the
        // pages need it for loom only.
        let (room, pages) = unsafe {
            let (room, pages) = ((*head).room, (*head).pages);
            let first = head.add(1).cast::<Page<B>>();
            ptr::drop_in_place(ptr::slice_from_raw_parts_mut(first, pages));
            ptr::drop_in_place(head);
            (room, pages)
        };
        // SAFETY: it begins there, and this is the layout that it was allocated with.
        unsafe { dealloc(room, Self::room(pages)) };
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

    #[inline(always)]
    fn deref(&self) -> &Waker {
        &self.waker
    }
}

impl<B: Bell> Wakes<B> {
    /// A block with slots `0..slots`, owned by this thread. No bit is set.
    pub(crate) fn new(slots: usize, bell: B) -> Self {
        assert!(slots > 0, "a block has at least one slot");
        let shift = shift_for(words_for(slots));
        // Whole groups, so that nobody has to look for the end of the last one.
        let pages = words_for(slots).next_multiple_of(1 << shift);
        let layout = Head::<B>::room(pages);
        // SAFETY: a head is in it, so the size is not zero.
        let Some(room) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let offset = room.align_offset(align_of::<Head<B>>());
        // SAFETY: so much was allocated beyond the block.
        let head = unsafe { room.add(offset) }.cast::<Head<B>>();
        // SAFETY: head and pages lie inside the fresh allocation (`room`), and each is written
        // before anything can read it.
        unsafe {
            head.write(Head {
                shared: CachePadded::new(Shared {
                    refs: AtomicUsize::new(1),
                    summary: AtomicUsize::new(0),
                }),
                bell,
                owner: thread_id(),
                waking: Cell::new(false),
                summaries: [Cell::new(0), Cell::new(0)],
                slots,
                pages,
                shift,
                more: (1 << shift) - 1,
                room: room.as_ptr(),
            });
            let first = head.add(1).cast::<Page<B>>();
            for page in 0..pages {
                first.add(page).write(Page {
                    addresses: Addresses([0; WORD]),
                    head: head.as_ptr(),
                    group: 1 << (page >> shift),
                    sets: [Cell::new(0), Cell::new(0)],
                    remote: CachePadded::new(AtomicUsize::new(0)),
                });
            }
        }
        Self { head }
    }

    #[inline(always)]
    fn head(&self) -> &Head<B> {
        // SAFETY: this holds a reference, and there is no `&mut` to the block (invariant 2).
        unsafe { self.head.as_ref() }
    }

    /// From the allocation's pointer, since wakers come from here (invariant 1).
    ///
    /// # Safety
    /// There is such a page.
    #[inline(always)]
    unsafe fn page(&self, page: usize) -> NonNull<Page<B>> {
        debug_assert!(page < self.head().pages);
        // SAFETY: the pages stand behind the head.
        unsafe { self.head.add(1).cast::<Page<B>>().add(page) }
    }

    pub(crate) fn bell(&self) -> &B {
        &self.head().bell
    }

    /// The waker of a slot.
    ///
    /// # Safety
    /// There is such a page, and such a slot in it.
    #[inline(always)]
    unsafe fn waker(&self, page: usize, bit: usize) -> LentWaker<'_> {
        // SAFETY: the slot exists, and the pointer comes from the allocation (invariant 1).
        let data = unsafe { self.page(page).cast::<u8>().add(bit) };
        // SAFETY: the vtable's functions take a slot of a live block. The reference it stands on is
        // this `Wakes`', whose lifetime the result carries, and it is never dropped.
        let waker = unsafe { Waker::new(data.as_ptr().cast(), B::VTABLE) };
        LentWaker { waker: ManuallyDrop::new(waker), block: PhantomData }
    }

    /// Marks a slot as ready, as a wake on this thread does, but tells no bell.
    #[inline(always)]
    pub(crate) fn mark(&self, slot: usize) {
        assert!(slot < self.head().slots, "no such slot");
        // SAFETY: there is such a slot, so there is its page.
        let page = unsafe { self.page(slot / WORD).as_ref() };
        self.head().set(page, 1 << (slot % WORD));
    }

    /// The waker of a slot, for a poll that no wake has asked for: the first one.
    #[inline(always)]
    pub(crate) fn waker_of(&self, slot: usize) -> LentWaker<'_> {
        assert!(slot < self.head().slots, "no such slot");
        // SAFETY: there is such a slot, so there is its page.
        unsafe { self.waker(slot / WORD, slot % WORD) }
    }

    /// Whether another thread has woken something since the last [`drain`](Self::drain). A wake
    /// that happens before this call is seen.
    #[inline(always)]
    pub(crate) fn any_remote(&self) -> bool {
        self.head().shared.summary.load(Ordering::Relaxed) != 0
    }

    #[inline(always)]
    pub(crate) fn any_ready(&self) -> bool {
        self.head().summaries[usize::from(self.head().waking.get())].get() != 0
    }

    /// Takes in what other threads have woken and ends a sleep. Returns how many slots that was.
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
    #[inline(never)]
    fn take_remote(&self) -> usize {
        let head = self.head();
        let mut count = 0;
        let groups = head.shared.summary.swap(0, Ordering::AcqRel) & !ASLEEP;
        for group in ones(groups) {
            for page in group << head.shift..(group + 1) << head.shift {
                // SAFETY: only groups that exist are named, and each is whole.
                let page = unsafe { self.page(page).as_ref() };
                // An empty word whose bit is on its way has its summary bit on the way too.
                if page.remote.load(Ordering::Relaxed) != 0 {
                    let bits = page.remote.swap(0, Ordering::AcqRel);
                    head.set(page, bits);
                    count += bits.count_ones() as usize;
                }
            }
        }
        count
    }

    /// Begins a turn: what is ready now becomes its snapshot. Wakes from here on, those of slots
    /// that are still to come included, go into the other set, and count for the next turn.
    #[inline(always)]
    pub(crate) fn begin_turn(&self) -> Woken<'_, B> {
        let head = self.head();
        let set = head.waking.get();
        head.waking.set(!set);
        let groups = head.summaries[usize::from(set)].replace(0);
        Woken { wakes: self, set, groups, page: usize::MAX, bits: 0 }
    }

    /// Says that the owner falls asleep. `false`: a remote wake came first; do not.
    #[must_use]
    pub(crate) fn fall_asleep(&self) -> bool {
        debug_assert!(!self.any_ready(), "nobody sleeps with work at hand");
        let summary = &self.head().shared.summary;
        summary.compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[cfg(all(test, not(gondola_loom)))]
    pub(crate) fn references(&self) -> usize {
        self.head().shared.refs.load(Ordering::Relaxed)
    }
}

/// The slots of one turn, in ascending order, each with its waker. Dropped before its end, because
/// something unwinds, it leaves the slots that it has not named to the next turn.
pub(crate) struct Woken<'a, B: Bell> {
    wakes: &'a Wakes<B>,
    /// Which set is walked.
    set: bool,
    /// Those that are still to come.
    groups: usize,
    /// The present page, at first the one before 0, and what is left of it.
    page: usize,
    bits: usize,
}

impl<'a, B: Bell> Iterator for Woken<'a, B> {
    type Item = (usize, LentWaker<'a>);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.bits == 0 && !self.next_page() {
            return None;
        }
        let bit = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        // SAFETY: only bits of slots are ever set: by their wakers, and by `mark`, which checks.
        Some((self.page * WORD + bit, unsafe { self.wakes.waker(self.page, bit) }))
    }
}

impl<B: Bell> Woken<'_, B> {
    /// Goes to the next page that is not empty, and empties it.
    #[inline(always)]
    fn next_page(&mut self) -> bool {
        let head = self.wakes.head();
        loop {
            if head.ends_group(self.page) {
                if self.groups == 0 {
                    return false;
                }
                self.page = (self.groups.trailing_zeros() as usize) << head.shift;
                self.groups &= self.groups - 1;
            } else {
                self.page += 1;
            }
            // SAFETY: only groups that exist are named, and each is whole.
            let page = unsafe { self.wakes.page(self.page).as_ref() };
            self.bits = page.sets[usize::from(self.set)].replace(0);
            if self.bits != 0 {
                return true;
            }
        }
    }

    #[inline(always)]
    fn is_done(&self) -> bool {
        self.bits == 0 && self.groups == 0 && self.wakes.head().ends_group(self.page)
    }

    #[cold]
    fn give_back(&mut self) {
        while self.bits != 0 || self.next_page() {
            // SAFETY: it was there when it was emptied.
            let page = unsafe { self.wakes.page(self.page).as_ref() };
            self.wakes.head().set(page, std::mem::take(&mut self.bits));
        }
    }
}

impl<B: Bell> Drop for Woken<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_done() {
            self.give_back();
        }
    }
}

impl<B: Bell> Drop for Wakes<B> {
    fn drop(&mut self) {
        // SAFETY: slot 0 exists, and the reference of this `Wakes` is given up once.
        unsafe { Head::<B>::release(self.page(0).as_ptr().cast()) };
    }
}

#[cfg(all(test, gondola_loom))]
pub(crate) mod models;
#[cfg(all(test, not(gondola_loom)))]
mod tests;
