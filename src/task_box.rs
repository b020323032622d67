//! The task box: one heap cell for a task whose type the ring has forgotten.
//!
//! ```text
//! ┌────────┬────────┬──────────┬───────┬────────────────────────────┐
//! │ vtable │ joiner │ capacity │ state │ union: future/output/panic │
//! └────────┴────────┴──────────┴───────┴────────────────────────────┘
//!
//!  RUNNING ──1 abort()──▶ ABORTING
//!     │ 2 Ready, panic       │ 3 at its next poll; or shutdown, from either
//!     ▼                      ▼
//!  CLOSING: the future's destructor runs; to the handle the task is not finished yet
//!     │ 4 value              │ 5 panic              │ 6 aborted
//!     ▼                      ▼                      ▼
//!  OUTPUT                  PANIC                CANCELLED
//!     └──────────────────────┴──────────────────────┘ 7 the handle takes it, or is dropped
//!                            ▼
//!                          EMPTY ──8 a future that fits──▶ RUNNING, the next occupant
//! ```
//! With the handle gone already, 4 to 6 lead to EMPTY at once.
//!
//! # Invariants
//!
//! 1. `state` says which field of the union is alive: RUNNING and ABORTING the future, OUTPUT the
//!    output, PANIC the payload, the others none. It is changed *before* a value is dropped or moved
//!    out, so no unwinding drops one twice.
//! 2. The owners are the slot ([`TaskBox`]), the handle ([`Joint`]) and any number of abort handles
//!    ([`Aborter`]), all on one thread (none is `Send`), and `owners` says which there are. Whoever
//!    gives up last frees the memory. A box is used again only when it is the slot's alone.
//! 3. A future is pinned from its placing until its drop: it is never moved, and its memory is
//!    not reused before.
//! 4. The slot polls, cancels and reuses; the handle reads. While user code runs (poll, drop, a
//!    joiner's wake), no reference into the box is alive, except the future's own.
//! 5. `vtable` belongs to the type of the present occupant; `capacity` to the allocation.

use crate::error::JoinError;
use crate::panic::{Payload, dispose, wake_in_passing};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Running,
    Aborting,
    Closing,
    Output,
    Panic,
    Cancelled,
    Empty,
}

#[repr(C)]
struct Header {
    vtable: Cell<&'static VTable>,
    joiner: Cell<Option<Waker>>,
    size: u32,
    align_log2: u8,
    state: Cell<State>,
    owners: Cell<u16>,
}

/// The owners of a box: the slot and the handle, a bit each, and so many abort handles below.
const SLOT: u16 = 1 << 15;
const HANDLE: u16 = 1 << 14;

impl Header {
    #[inline]
    fn has(&self, owner: u16) -> bool {
        self.owners.get() & owner != 0
    }

    #[inline]
    fn add(&self, owner: u16) {
        self.owners.set(self.owners.get() + owner);
    }

    fn is_finished(&self) -> bool {
        use State::{Aborting, Closing, Running};
        !matches!(self.state.get(), Running | Aborting | Closing)
    }

    /// Asks the slot to drop the future at its next poll. `false`: there is none to drop.
    fn abort(&self) -> bool {
        if self.state.get() == State::Running {
            self.state.set(State::Aborting);
        }
        self.state.get() == State::Aborting
    }
}

#[repr(C)]
struct Body<F: Future> {
    header: Header,
    content: UnsafeCell<Content<F>>,
}

#[repr(C)]
union Content<F: Future> {
    future: ManuallyDrop<F>,
    output: ManuallyDrop<F::Output>,
    // Boxed twice: a thin pointer keeps every task a word smaller.
    panic: ManuallyDrop<Box<Payload>>,
}

struct VTable {
    /// Polls the future; on completion stores the output in its place.
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> Poll<()>,
    /// Drops whatever the state says is alive.
    clear: unsafe fn(NonNull<Header>),
    /// Where the union stands, in bytes from the start of the box.
    content: usize,
}

impl<F: Future> Body<F> {
    const VTABLE: &'static VTable = &VTable {
        poll: Self::poll,
        clear: Self::clear,
        content: std::mem::offset_of!(Self, content),
    };

    /// # Safety
    /// `task` is a live box occupied by this type, and no reference into its content is alive.
    unsafe fn content(task: NonNull<Header>) -> *mut Content<F> {
        // SAFETY: the header is the first field of `Body<F>` (repr(C)), and the pointer carries
        // the whole allocation.
        UnsafeCell::raw_get(unsafe { &raw const (*task.cast::<Self>().as_ptr()).content })
    }

    /// # Safety
    /// As `content`, in state RUNNING, not from inside this same poll.
    unsafe fn poll(task: NonNull<Header>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the caller's promise.
        let content = unsafe { Self::content(task) };
        // SAFETY: RUNNING: the future is alive (invariant 1) and pinned (invariant 3).
        let future = unsafe { Pin::new_unchecked(&mut *(*content).future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            // SAFETY: the caller's promise, and the poll is over.
            Ok(Poll::Ready(output)) => unsafe { Self::complete(task, Ok(output)) },
            // SAFETY: as above.
            Err(payload) => unsafe { Self::complete(task, Err(payload)) },
        }
        Poll::Ready(())
    }

    /// Drops the future and puts what it came to in its place. Apart from `poll`, so that polls
    /// that end with `Pending`, which most do, have a small frame.
    ///
    /// # Safety
    /// As `poll`.
    #[inline(never)]
    unsafe fn complete(task: NonNull<Header>, output: Result<F::Output, Payload>) {
        // SAFETY: the caller's promise.
        let content = unsafe { Self::content(task) };
        // SAFETY: header and box are alive; a handle that was dropped meanwhile left it to the slot.
        let header = unsafe { task.as_ref() };
        header.state.set(State::Closing);
        // SAFETY: the future is alive, and since CLOSING no longer counted (invariant 1).
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe {
            ManuallyDrop::drop(&mut (*content).future);
        }));
        // A destructor that panics ends the task like a panic in its body.
        let result = match (output, dropped) {
            (Err(payload), dropped) => {
                dropped.unwrap_or_else(dispose);
                Err(payload)
            }
            (Ok(output), Err(payload)) => {
                dispose_of(output);
                Err(payload)
            }
            (Ok(output), Ok(())) => Ok(output),
        };
        if !header.has(HANDLE) {
            header.state.set(State::Empty);
            return match result {
                Ok(output) => dispose_of(output),
                Err(payload) => dispose(payload),
            };
        }
        // Through a pointer to the field: the union by value would be copied at its full size.
        header.state.set(match result {
            Ok(output) => {
                // SAFETY: nothing in the content is alive (CLOSING), and every field is at its start.
                unsafe { content.cast::<F::Output>().write(output) };
                State::Output
            }
            Err(payload) => {
                // SAFETY: as above.
                unsafe { content.cast::<Box<Payload>>().write(Box::new(payload)) };
                State::Panic
            }
        });
    }

    /// # Safety
    /// As `content`, and not from inside a poll of this future.
    unsafe fn clear(task: NonNull<Header>) {
        // SAFETY: the caller's promise.
        let content = unsafe { Self::content(task) };
        // SAFETY: the header is alive.
        let header = unsafe { task.as_ref() };
        let state = header.state.replace(State::Closing);
        // Contained: a panicking destructor harms neither ring nor handle.
        let dropped = catch_unwind(AssertUnwindSafe(|| match state {
            // SAFETY: that state had this field alive, and no longer counts it (invariant 1).
            State::Running | State::Aborting => unsafe {
                ManuallyDrop::drop(&mut (*content).future);
            },
            // SAFETY: as above.
            State::Output => unsafe { ManuallyDrop::drop(&mut (*content).output) },
            // SAFETY: as above.
            State::Panic => dispose(*unsafe { ManuallyDrop::take(&mut (*content).panic) }),
            State::Closing | State::Cancelled | State::Empty => {}
        }));
        header.state.set(State::Empty);
        dropped.unwrap_or_else(dispose);
    }
}

fn dispose_of<T>(value: T) {
    catch_unwind(AssertUnwindSafe(|| drop(value))).unwrap_or_else(dispose);
}

/// Ends the ownership of one owner, who does not use the box after this.
fn give_up(task: NonNull<Header>, owner: u16) {
    // SAFETY: the caller is an owner until here, so the box is alive.
    let header = unsafe { task.as_ref() };
    header.owners.set(header.owners.get() - owner);
    if header.owners.get() != 0 {
        return;
    }
    debug_assert_eq!(header.state.get(), State::Empty);
    let layout = Layout::from_size_align(header.size as usize, 1 << header.align_log2)
        .expect("it was a layout when it was allocated");
    drop(header.joiner.replace(None));
    // SAFETY: no owner is left (invariant 2), nothing in it needs a drop, and this is the layout
    // that it was allocated with (invariant 5).
    unsafe { dealloc(task.as_ptr().cast(), layout) };
}

/// Wakes the joiner when it is dropped.
pub(crate) struct Joiner(Option<Waker>);

impl Drop for Joiner {
    fn drop(&mut self) {
        if let Some(joiner) = self.0.take() {
            wake_in_passing(joiner);
        }
    }
}

/// The slot's end of a box.
pub(crate) struct TaskBox {
    task: NonNull<Header>,
}

impl TaskBox {
    /// Places `future`, in the memory of `old` if that is free and large enough.
    pub(crate) fn place<F>(old: Option<TaskBox>, future: F) -> (TaskBox, Joint<F::Output>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let layout = Layout::new::<Body<F>>();
        let slot = match old.filter(|old| old.fits(layout)) {
            Some(slot) => slot,
            None => TaskBox::allocate(layout),
        };
        let header = slot.header();
        header.vtable.set(Body::<F>::VTABLE);
        header.add(HANDLE);
        // SAFETY: the memory fits `Body<F>`, its content is not in use (EMPTY), and the header now
        // names this type. The future moves from the argument straight into its place.
        unsafe {
            let content = Body::<F>::content(slot.task);
            content.cast::<F>().write(future);
        }
        header.state.set(State::Running);
        let joint = Joint { task: slot.task, output: PhantomData };
        (slot, joint)
    }

    fn allocate(layout: Layout) -> TaskBox {
        let size = u32::try_from(layout.size()).expect("a future of less than 4 GiB");
        let align_log2 = layout.align().trailing_zeros() as u8;
        // SAFETY: a header is in it, so the size is not zero.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let task = memory.cast::<Header>();
        // SAFETY: fresh memory of at least a header's size and alignment.
        unsafe {
            task.write(Header {
                vtable: Cell::new(Body::<std::future::Ready<()>>::VTABLE),
                joiner: Cell::new(None),
                size,
                align_log2,
                state: Cell::new(State::Empty),
                owners: Cell::new(SLOT),
            });
        }
        TaskBox { task }
    }

    fn header(&self) -> &Header {
        // SAFETY: the slot owns the box (invariant 2).
        unsafe { self.task.as_ref() }
    }

    fn is_alive(&self) -> bool {
        matches!(self.header().state.get(), State::Running | State::Aborting)
    }

    fn fits(&self, layout: Layout) -> bool {
        let header = self.header();
        header.owners.get() == SLOT
            && header.state.get() == State::Empty
            && layout.size() <= header.size as usize
            && layout.align() <= 1 << header.align_log2
    }

    /// Polls the task, or drops it if it was aborted. Ready: its future is gone, its output
    /// stands for the handle, and the joiner is to be woken. `None`: it was gone before.
    #[inline]
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        let header = self.header();
        if header.state.get() == State::Running {
            let poll = header.vtable.get().poll;
            // SAFETY: RUNNING, and the vtable is the occupant's (invariant 5). The ring takes this
            // out of its slot for the poll, so that it cannot be polled from inside.
            return Some(unsafe { poll(self.task, cx) });
        }
        self.is_alive().then(|| {
            self.cancel();
            Poll::Ready(())
        })
    }

    /// Drops the future, if it is still alive; the handle will hear that it was cancelled.
    pub(crate) fn cancel(&self) {
        let header = self.header();
        if !self.is_alive() {
            return;
        }
        let clear = header.vtable.get().clear;
        // SAFETY: the vtable is the occupant's, and the slot does not call this inside a poll.
        unsafe { clear(self.task) };
        if header.has(HANDLE) {
            header.state.set(State::Cancelled);
        }
    }

    /// Whom to tell that the task is finished. Foreign code: woken once the books are in order.
    pub(crate) fn take_joiner(&self) -> Joiner {
        Joiner(self.header().joiner.replace(None))
    }
}

impl Drop for TaskBox {
    fn drop(&mut self) {
        self.cancel();
        let _joiner = self.take_joiner();
        give_up(self.task, SLOT);
    }
}

/// The handle's end of a box.
pub(crate) struct Joint<T> {
    task: NonNull<Header>,
    output: PhantomData<fn() -> T>,
}

impl<T> Joint<T> {
    fn header(&self) -> &Header {
        // SAFETY: the handle owns the box (invariant 2).
        unsafe { self.task.as_ref() }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.header().is_finished()
    }

    pub(crate) fn abort(&self) -> bool {
        self.header().abort()
    }

    /// # Panics
    /// If the task has 16,383 of them.
    pub(crate) fn aborter(&self) -> Aborter {
        let count = self.header().owners.get() & (HANDLE - 1);
        assert!(count < HANDLE - 1, "a task has {count} abort handles at most");
        self.header().add(1);
        Aborter { task: self.task }
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let header = self.header();
        let result = match header.state.get() {
            State::Running | State::Aborting | State::Closing => {
                self.join(cx.waker());
                // The waker's clone is foreign code too: it may have run the task to its end.
                return if self.is_finished() { self.poll(cx) } else { Poll::Pending };
            }
            State::Output => {
                header.state.set(State::Empty);
                // SAFETY: OUTPUT: a `T` is alive in the union; it is moved out once (invariant 1).
                Ok(unsafe { self.content().cast::<T>().read() })
            }
            State::Panic => {
                header.state.set(State::Empty);
                // SAFETY: as above, for PANIC.
                Err(JoinError::panic(*unsafe { self.content().cast::<Box<Payload>>().read() }))
            }
            State::Cancelled => {
                header.state.set(State::Empty);
                Err(JoinError::cancelled())
            }
            State::Empty => panic!("a JoinHandle was polled after it had completed"),
        };
        Poll::Ready(result)
    }

    /// Whom to tell.
    fn join(&self, waker: &Waker) {
        let joiner = &self.header().joiner;
        let old = joiner.replace(None);
        let same = old.as_ref().is_some_and(|old| old.will_wake(waker));
        joiner.set(if same { old } else { Some(waker.clone()) });
    }

    /// The union, whose fields all stand at its start (repr(C)).
    fn content(&self) -> *mut u8 {
        // SAFETY: the occupant's vtable says where the union stands inside the allocation.
        unsafe { self.task.as_ptr().cast::<u8>().add(self.header().vtable.get().content) }
    }
}

impl<T> Drop for Joint<T> {
    fn drop(&mut self) {
        let header = self.header();
        drop(header.joiner.replace(None));
        if self.is_finished() && header.state.get() != State::Empty {
            let clear = header.vtable.get().clear;
            // SAFETY: the vtable is the occupant's; the future is gone, so this is no poll of it.
            unsafe { clear(self.task) };
        }
        give_up(self.task, HANDLE);
    }
}

/// The end of an abort handle.
pub(crate) struct Aborter {
    task: NonNull<Header>,
}

impl Aborter {
    fn header(&self) -> &Header {
        // SAFETY: it owns the box, among others (invariant 2).
        unsafe { self.task.as_ref() }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.header().is_finished()
    }

    pub(crate) fn abort(&self) -> bool {
        self.header().abort()
    }
}

impl Drop for Aborter {
    fn drop(&mut self) {
        give_up(self.task, 1);
    }
}
