//! Placing tasks in the ring of the current runtime. What happens where there is none, or where it
//! is gone, follows the one rule that [`Runtime`](crate::Runtime#outside-a-runtime) states.
#![forbid(unsafe_code)]

use crate::context;
use crate::error::{TrySpawnError, TrySpawnErrorKind};
use crate::join::JoinHandle;
use crate::sched::Core;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Places a future in a free slot of the current runtime; it is polled in the next turn.
///
/// The future need be neither `Send` nor small: it is moved once, into the slot's memory. Once
/// that memory is warm, spawning allocates nothing.
///
/// # Errors
/// Gives the future back when every slot is taken, or when no runtime is entered on this thread.
/// To wait for a slot instead, see [`reserve`].
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// gondola::block_on(async {
///     let count = Rc::new(Cell::new(0));
///     let shared = count.clone();
///     let task = gondola::try_spawn(async move { shared.set(1) }).unwrap();
///     task.await.unwrap();
///     assert_eq!(count.get(), 1);
/// });
/// ```
pub fn try_spawn<F>(future: F) -> Result<JoinHandle<F::Output>, TrySpawnError<F>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let core = match context::try_current() {
        Some(core) if !core.ring.is_closed() => core,
        _ => return Err(TrySpawnError::new(future, TrySpawnErrorKind::NoRuntime)),
    };
    match core.ring.try_take() {
        Some(slot) => Ok(spawn_at(&core, slot, future)),
        None => {
            let slots = core.ring.len();
            Err(TrySpawnError::new(future, TrySpawnErrorKind::Full { slots }))
        }
    }
}

fn spawn_at<F>(core: &Core, slot: usize, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let joint = core.ring.place(slot, future);
    core.wakes.mark(slot);
    JoinHandle::new(joint, slot, core.wakes.clone())
}

/// Waits for a slot of the current runtime, first come, first served.
///
/// Take the slot *before* the work arrives: a server that reserves before it accepts leaves
/// connections in the kernel's queue while it is full.
///
/// Waiting here from inside a task holds one slot while waiting for another: if every task does
/// it, all wait for ever. Under virtual time that is a panic that says so.
///
/// # Panics
/// When first polled outside a gondola runtime.
///
/// # Cancel safety
/// A waiter that is dropped leaves the queue; a slot that it was promised goes to the next.
///
/// ```
/// use gondola::{Runtime, reserve};
///
/// let mut runtime = Runtime::builder().slots(1).build()?;
/// runtime.block_on(async {
///     let first = reserve().await.spawn(async { 1 });
///     let second = reserve().await.spawn(async { 2 }); // once the first is done
///     assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn reserve() -> Reserve {
    Reserve { core: None, queued: None }
}

/// The future of [`reserve`].
///
/// It waits for the runtime in which it is first polled. If that is gone, it is ready: what is then
/// spawned in the slot is dropped, as [`Slot::spawn`] says.
///
/// ```
/// let mut runtime = gondola::Runtime::new()?;
/// let waiting: gondola::Reserve = gondola::reserve();
/// let slot = runtime.block_on(waiting);
/// drop(runtime);
/// assert!(gondola::block_on(slot.spawn(async {})).unwrap_err().is_cancelled());
/// # Ok::<_, std::io::Error>(())
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Reserve {
    /// `None` before the first poll.
    core: Option<Rc<Core>>,
    /// In the queue, while it waits.
    queued: Option<u32>,
}

impl Future for Reserve {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        let Self { core, queued } = &mut *self;
        let core = core.get_or_insert_with(|| context::current());
        core.ring.poll_take(queued, cx.waker()).map(|slot| Slot { core: core.clone(), slot })
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let (Some(core), Some(key)) = (&self.core, self.queued.take()) {
            core.ring.leave(key);
        }
    }
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").field("queued", &self.queued.is_some()).finish_non_exhaustive()
    }
}

/// A reserved slot. Dropping it gives the slot back.
///
/// ```
/// gondola::block_on(async {
///     let slot = gondola::reserve().await;
///     assert_eq!(slot.spawn(async { 5 }).await.unwrap(), 5);
/// });
/// ```
#[must_use = "a slot that is dropped is given back"]
pub struct Slot {
    core: Rc<Core>,
    slot: usize,
}

impl Slot {
    /// Places a future in this slot; it is polled in the next turn.
    ///
    /// If the runtime is gone, the future is dropped and the handle says that it was cancelled.
    ///
    /// ```
    /// gondola::block_on(async {
    ///     let slot = gondola::reserve().await;
    ///     let text = String::from("moved in"); // work that arrives once there is a slot
    ///     assert_eq!(slot.spawn(async move { text.len() }).await.unwrap(), 8);
    /// });
    /// ```
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let core = self.core.clone();
        let slot = self.into_index();
        spawn_at(&core, slot, future)
    }

    /// Ends the reservation without giving the slot back.
    fn into_index(mut self) -> usize {
        std::mem::replace(&mut self.slot, usize::MAX)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.slot != usize::MAX {
            self.core.ring.give_up(self.slot);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("index", &self.slot).finish_non_exhaustive()
    }
}

/// Waits until no slot is taken: until every task is done, and every reservation used or given up.
/// For a graceful end, in the root future: inside a task it would wait for that task as well, for
/// ever.
///
/// It is enough that this was so for a moment while it waited.
///
/// # Panics
/// When first polled outside a gondola runtime.
///
/// # Cancel safety
/// Nothing is lost.
///
/// ```
/// use gondola::time::{sleep, timeout};
/// use gondola::{tasks_done, try_spawn};
/// use std::time::Duration;
///
/// gondola::block_on(async {
///     for n in 0..3 {
///         try_spawn(sleep(Duration::from_millis(n))).unwrap().detach();
///     }
///     // So long, but not longer; what is still there when the runtime goes is dropped.
///     timeout(Duration::from_secs(2), tasks_done()).await.unwrap();
///     assert_eq!(gondola::metrics().unwrap().taken, 0);
/// });
/// ```
pub fn tasks_done() -> TasksDone {
    TasksDone { core: None, waits: None }
}

/// The future of [`tasks_done`].
///
/// ```
/// let done: gondola::TasksDone = gondola::tasks_done();
/// gondola::block_on(done);
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct TasksDone {
    /// `None` before the first poll.
    core: Option<Rc<Core>>,
    waits: Option<u32>,
}

impl Future for TasksDone {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { core, waits } = &mut *self;
        core.get_or_insert_with(|| context::current()).ring.poll_done(waits, cx.waker())
    }
}

impl Drop for TasksDone {
    fn drop(&mut self) {
        if let (Some(core), Some(key)) = (&self.core, self.waits.take()) {
            core.ring.leave_done(key);
        }
    }
}

impl fmt::Debug for TasksDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TasksDone").finish_non_exhaustive()
    }
}
