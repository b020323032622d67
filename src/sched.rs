//! The revolution: the whole scheduling policy, in one function.
#![forbid(unsafe_code)]

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

/// Polls between two looks at I/O and timers while there is work: a look costs about 100 ns, a
/// poll a few.
const POLLS_PER_LOOK: usize = 64;

/// What a runtime consists of. Sockets, sleeps and handles hold on to the part that they use.
pub(crate) struct Core {
    pub(crate) wakes: Rc<Wakes<ReactorBell>>,
    pub(crate) ring: Rc<Ring>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) reactor: Rc<Reactor>,
    pub(crate) polls: Cell<usize>,
}

/// What one revolution did.
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

/// Revolutions until the root future is ready.
pub(crate) fn drive(core: &Core, root: Root<'_>) -> io::Result<()> {
    let mut root = Some(root);
    while root.is_some() {
        revolution(core, &mut root, true)?;
    }
    Ok(())
}

/// One turn of the wheel. With `sleep`, it waits at its end while there is nothing to do. A root
/// future that is ready is taken out.
#[inline(always)]
pub(crate) fn revolution(
    core: &Core,
    root: &mut Option<Root<'_>>,
    sleep: bool,
) -> io::Result<Turn> {
    let Core { wakes, ring, timers, reactor, polls } = core;
    let mut turn = Turn { woken_outside: wakes.drain(), ..Turn::default() };

    // 1. Everybody who is ready now, once. Who is woken meanwhile waits for the next revolution.
    for (slot, waker) in wakes.turn() {
        reactor.refill_budget();
        let cx = &mut Context::from_waker(&waker);
        let poll = match root {
            _ if slot < ring.slots() => ring.poll(slot, cx),
            Some(future) => {
                let poll = future.as_mut().poll(cx);
                *root = root.take().filter(|_| poll.is_pending());
                Some(poll)
            }
            None => None,
        };
        turn.polled += usize::from(poll.is_some());
        turn.completed += usize::from(poll == Some(Poll::Ready(())));
    }

    // The root future is done: its caller goes on, and does not sleep first.
    let sleep = sleep && root.is_some();

    // 2. I/O and timers: when idle, and after a number of polls even if never idle. Batches have
    //    charged the polls of their items to `polls`; an I/O operation counts like a poll.
    polls.set(polls.get() + turn.polled + reactor.take_spent());
    if !wakes.any_ready() || polls.get() >= POLLS_PER_LOOK {
        polls.set(0);
        reactor.dispatch(); // what a waker's panic has left
        turn.fired = timers.fire_due();
        // 3. Sleep, if nobody can run: from the clock's reading in `fire_due` to the wait no user
        //    code runs. If something fired, a foreign waker may have taken its time: then the next
        //    revolution reads the clock again, and sleeps.
        if sleep && turn.fired == 0 && !wakes.any_ready() && wakes.park() {
            match timers.next() {
                Some((deadline, _)) if timers.clock.is_virtual() => {
                    timers.clock.advance_to(deadline);
                }
                None if timers.clock.is_virtual() => deadlock(core),
                next => turn.events = reactor.wait(next.map(|(_, wait)| wait))?,
            }
            turn.fired += timers.fire_due();
        } else if reactor.sources() > 0 {
            turn.events = reactor.wait(Some(std::time::Duration::ZERO))?;
        }
        reactor.dispatch();
    }
    turn.busy = wakes.any_ready();
    Ok(turn)
}

fn deadlock(core: &Core) -> ! {
    let (slots, taken, waiting) = (core.ring.slots(), core.ring.taken(), core.ring.waiting());
    if taken == slots && waiting > 0 {
        panic!("deadlock: all {slots} slots are taken, and {waiting} tasks wait for a slot");
    }
    panic!(
        "deadlock: {taken} of {slots} slots and the root future wait, no timer is armed, \
         and virtual time cannot move"
    );
}
