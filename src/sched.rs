//! The turn: the whole scheduling policy, in one function.
#![forbid(unsafe_code)]

use crate::budget::{self, STEPS};
use crate::reactor::{Reactor, ReactorBell};
use crate::ring::Ring;
use crate::timer::Timers;
use crate::wake::Wakes;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The wakers of a ring's tasks, which end a sleep in the reactor.
pub(crate) type TaskWakes = Wakes<ReactorBell>;

/// What a runtime consists of. Sockets, sleeps and handles hold on to the part that they use.
pub(crate) struct Core {
    pub(crate) wakes: Rc<TaskWakes>,
    pub(crate) ring: Rc<Ring>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) reactor: Rc<Reactor>,
    /// The odometer at the last look at I/O and timers.
    pub(crate) looked_at: Cell<u32>,
    /// A guest has told its host that it sleeps: a wake from another thread has rung the bell, perhaps.
    pub(crate) parked: Cell<bool>,
    /// Which one it is, among those of this thread.
    pub(crate) number: u32,
}

/// What one turn did.
///
/// ```
/// use gondola::{Runtime, yield_now};
///
/// let mut runtime = Runtime::new()?;
/// runtime.block_on(async { gondola::try_spawn(yield_now()).unwrap().detach() });
/// let first = runtime.turn()?;
/// assert_eq!((first.polled, first.completed, first.busy), (1, 0, true));
/// let second = runtime.turn()?;
/// assert_eq!((second.polled, second.completed, second.busy), (1, 1, false));
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Tasks polled, each once; the root future counts as one.
    pub polled: usize,
    /// Tasks that completed, by an output, a panic or an abort.
    pub completed: usize,
    /// Tasks that other threads had woken since the last turn.
    pub woken_outside: usize,
    /// Timers that fired.
    pub fired: usize,
    /// Sockets that had an event.
    pub events: usize,
    /// Whether tasks are ready for the next turn already.
    pub busy: bool,
}

pub(crate) type Root<'a> = Pin<&'a mut dyn Future<Output = ()>>;

/// Turns until the root future is ready.
pub(crate) fn drive(core: &Core, root: Root<'_>) -> io::Result<()> {
    let mut root = Some(root);
    while root.is_some() {
        turn(core, &mut root, true)?;
    }
    Ok(())
}

/// One turn of the wheel. With `sleep`, it waits at its end while there is nothing to do. A root
/// future that is ready is taken out.
#[inline(always)]
pub(crate) fn turn(core: &Core, root: &mut Option<Root<'_>>, sleep: bool) -> io::Result<Turn> {
    let Core { wakes, ring, timers, reactor, looked_at, parked, .. } = core;
    let mut turn = Turn { woken_outside: wakes.drain(), ..Turn::default() };

    // 1. Poll each slot that was woken before this moment, once, in ascending order. From here on a
    //    wake goes into the other set: a task that wakes itself, or a neighbour, waits for the next
    //    turn. So a turn ends, whatever the tasks do, and nobody is overtaken.
    for (slot, waker) in wakes.begin_turn() {
        // What an earlier task left of its budget is no gain of this one, nor is its greed a loss.
        budget::refill();
        let cx = &mut Context::from_waker(&waker);
        let poll = match root {
            _ if slot < ring.len() => ring.poll(slot, cx),
            // The root future's slot is the last one: it sees what all the others did in this turn.
            Some(future) => {
                let poll = future.as_mut().poll(cx);
                *root = root.take().filter(|_| poll.is_pending());
                Some(poll)
            }
            // A stale wake of a root future that has gone, or one in a turn by hand.
            None => None,
        };
        turn.polled += usize::from(poll.is_some());
        turn.completed += usize::from(poll == Some(Poll::Ready(())));
    }

    // The root future is done: its caller goes on, and does not sleep first.
    let sleep = sleep && root.is_some();

    // 2. Look at I/O and timers: whenever nobody is ready, for then nothing else can happen; and
    //    after 128 steps even if somebody always is, for a look costs as much as twenty polls. What
    //    the tasks did inside, their batches and operations have counted already.
    let now = budget::count(turn.polled as u32);
    if !wakes.any_ready() || now.wrapping_sub(looked_at.get()) >= STEPS {
        looked_at.set(now);
        // A waker that panicked in an earlier look has left the others here.
        reactor.dispatch();
        // The clock first, then the events, then the timers that were due by that clock. So the
        // events that came before a deadline are known when its timer fires, and no time-out
        // fires over data that are there: not even if the process was stopped until long after.
        let next = timers.next();
        let due = next.is_some_and(|(_, wait)| wait.is_zero());
        // 3. Sleep, if nobody can run. From the clock's reading to the wait no user code runs, so
        //    nobody can have become ready, nor time have passed, unnoticed. A wake from another
        //    thread can: then falling asleep fails, and the next turn takes it in.
        if sleep && !due && !wakes.any_ready() && wakes.fall_asleep() {
            match next {
                Some((deadline, _)) if timers.clock.is_virtual() => {
                    timers.clock.advance_to(deadline);
                }
                None if timers.clock.is_virtual() => deadlock(core),
                next => turn.events = reactor.wait(next.map(|(_, wait)| wait))?,
            }
        } else if reactor.watches() > 0 || parked.get() {
            // Somebody can run, or the caller has other things to do: ask, but do not wait.
            parked.set(false);
            turn.events = reactor.wait(Some(Duration::ZERO))?;
        }
        // The timers first, in the order of their deadlines. Whoever has both a time-out and data
        // is polled once, and finds the data.
        turn.fired = timers.fire_due();
        reactor.dispatch();
    }
    turn.busy = wakes.any_ready();
    Ok(turn)
}

/// Falls asleep for a guest, whose host waits in its stead, at most so long. `None`: there is
/// something to do first.
pub(crate) fn park(core: &Core) -> Option<Duration> {
    let Core { wakes, timers, reactor, parked, .. } = core;
    let wait = timers.next().map_or(Duration::MAX, |(_, wait)| wait);
    if wait.is_zero() || reactor.has_due() || wakes.any_ready() || !wakes.fall_asleep() {
        return None;
    }
    parked.set(true);
    Some(wait)
}

fn deadlock(core: &Core) -> ! {
    let (slots, taken, queued) = (core.ring.len(), core.ring.taken(), core.ring.queued());
    if taken == slots && queued > 0 {
        panic!("deadlock: all {slots} slots are taken, and {queued} tasks wait for a slot");
    }
    panic!(
        "deadlock: {taken} of {slots} slots and the root future wait, no timer is armed, \
         and virtual time cannot move"
    );
}
