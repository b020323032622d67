//! The reactor: mio's poll, a slab of watches, and what is known of their readiness.
//!
//! Each source of events is watched once, edge-triggered, for both directions. An edge says that
//! something *may* be possible; only the system call knows. So readiness is assumed until a call
//! says `WouldBlock`, and every operation follows the same rule: try first, wait second.
//!
//! # Invariants
//!
//! 1. A token is (index, generation), half a word each. A watch ends before its descriptor is
//!    closed, and no task runs between the kernel's answer and its dispatch. So a stale token can
//!    only lie among the events in hand, and its generation tells.
//! 2. Readiness is cleared by `WouldBlock`, in the poll that got it, on the thread that dispatches
//!    events: a newer event cannot be erased. A short transfer clears it as well, if
//!    [`Watch::ending`] allows.
//! 3. Any number of operations may wait for a direction. An event wakes them all; HUP and ERR wake
//!    those of both directions.
//! 4. Events are first all recorded, then their waiters woken from `due`: a waker that panics
//!    loses no edge, and leaves the rest of `due` to the next look.
#![forbid(unsafe_code)]

use crate::budget::{EVENTS_PER_ANSWER, PRECISE_BELOW};
use crate::room::Room;
use crate::sys::{self, wait_for_events};
use crate::wake::{Bell, vtable};
use mio::event::Event;
use mio::{Events, Interest, Token};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::task::{Poll, RawWakerVTable, Waker};
use std::time::Duration;

const HALF: u32 = usize::BITS / 2;
const BELL: Token = Token(usize::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

pub(crate) struct Reactor {
    /// None under virtual time, which knows neither sockets nor sleep.
    kernel: Option<Kernel>,
    watches: RefCell<Room<Watch>>,
    generation: Cell<usize>,
    ticket: Cell<u64>,
    due: RefCell<VecDeque<Waker>>,
    /// How many watches have ended, each of which gave a descriptor back; and who waits for that.
    departures: Cell<usize>,
    starving: RefCell<Vec<Waiter>>,
    /// Whether the runtime of this reactor is entered.
    entered: Cell<bool>,
}

/// What talks to the kernel.
struct Kernel {
    poll: sys::Poll,
    events: RefCell<Events>,
    /// Whether it lets us wait for less than mio's whole milliseconds.
    precise: Cell<bool>,
}

struct Watch {
    generation: usize,
    ready: [bool; 2],
    /// The first waiter of each direction. The others, which are rare, stand in `more`.
    waiters: [Option<Waiter>; 2],
    more: Vec<(Direction, Waiter)>,
    /// Read-closed, HUP, ERR or urgent data was seen, or [`Reactor::distrust_short`] called: no
    /// short transfer clears readiness any more.
    ending: bool,
}

struct Waiter {
    ticket: u64,
    waker: Waker,
}

/// The ticket that all poll methods of a direction share.
pub(crate) const POLLED: u64 = 0;

/// The bell of a runtime: it ends the sleep in the kernel, if there is one.
pub(crate) struct ReactorBell(Option<mio::Waker>);

static VTABLE: RawWakerVTable = vtable::<ReactorBell>();

impl Bell for ReactorBell {
    const VTABLE: &'static RawWakerVTable = &VTABLE;

    fn sound(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(mio::Waker::wake) {
            // Swallowed, it would be a task that never wakes.
            panic!("a sleeping runtime could not be woken: {error}");
        }
    }

    // A thread that wakes its own tasks is awake.
    fn hear(&self) {}
}

impl Reactor {
    /// With `is_virtual`, nothing is asked of the kernel.
    ///
    /// # Errors
    /// The system's, when it grants no epoll or eventfd.
    pub(crate) fn new(is_virtual: bool) -> io::Result<(Self, ReactorBell)> {
        let (kernel, waker) = match is_virtual {
            true => (None, None),
            false => {
                let poll = sys::Poll::new()?;
                let waker = mio::Waker::new(&poll.registry(), BELL)?;
                let events = RefCell::new(Events::with_capacity(EVENTS_PER_ANSWER));
                (Some(Kernel { poll, events, precise: Cell::new(true) }), Some(waker))
            }
        };
        let reactor = Self {
            kernel,
            watches: RefCell::new(Room::new()),
            generation: Cell::new(0),
            ticket: Cell::new(0),
            due: RefCell::new(VecDeque::new()),
            departures: Cell::new(0),
            starving: RefCell::new(Vec::new()),
            entered: Cell::new(false),
        };
        Ok((reactor, ReactorBell(waker)))
    }

    fn kernel(&self) -> &Kernel {
        self.kernel.as_ref().expect("under virtual time there are no watches, and nobody sleeps")
    }

    /// Begins to watch a descriptor, and assumes `ready` of it until a call says otherwise.
    ///
    /// # Errors
    /// The system's, for example when its watches are used up.
    pub(crate) fn register(
        &self,
        io: &mut impl mio::event::Source,
        ready: bool,
    ) -> io::Result<Token> {
        let mut watches = self.watches.borrow_mut();
        let generation = self.generation.get();
        let (ready, waiters, more) = ([ready; 2], [None, None], Vec::new());
        let index = watches.insert(Watch { generation, ready, waiters, more, ending: false });
        let token = Token(generation << HALF | index as usize);
        // The largest index is left to the bell's token.
        let registered = match (index as usize) < (1 << HALF) - 1 {
            true => self.kernel().poll.registry().register(io, token, interest()),
            false => Err(io::Error::other("the reactor can watch no more descriptors")),
        };
        if let Err(error) = registered {
            watches.remove(index);
            return Err(error);
        }
        self.generation.set((generation + 1) & (usize::MAX >> HALF));
        Ok(token)
    }

    /// Ends a watch. Its descriptor is closed after this, not before.
    pub(crate) fn deregister(&self, io: &mut impl mio::event::Source, token: Token) {
        // It can only fail for a descriptor that the user closed behind our back.
        let _ = self.kernel().poll.registry().deregister(io);
        let gone = self.watches.borrow_mut().remove(index(token));
        debug_assert_eq!(gone.generation, generation(token));
        drop(gone);
        self.departures.set(self.departures.get().wrapping_add(1));
        // Woken by the next look: by then the descriptor is closed.
        let starving = self.starving.take();
        self.due.borrow_mut().extend(starving.into_iter().map(|waiter| waiter.waker));
    }

    pub(crate) fn departures(&self) -> usize {
        self.departures.get()
    }

    /// Whether a watch has ended since there were `seen` departures. If not, `waker` hears of the
    /// next one, until [`clear_departure`](Self::clear_departure).
    pub(crate) fn poll_departure(&self, seen: usize, ticket: u64, waker: &Waker) -> Poll<()> {
        let fresh = Waiter { ticket, waker: waker.clone() };
        // The clone is foreign code: a watch may have ended in it.
        if self.departures.get() != seen {
            return Poll::Ready(());
        }
        let old = self.take_starving(ticket);
        self.starving.borrow_mut().push(fresh);
        drop(old);
        Poll::Pending
    }

    /// The waiter `ticket` waits no longer for a departure.
    pub(crate) fn clear_departure(&self, ticket: u64) {
        drop(self.take_starving(ticket));
    }

    fn take_starving(&self, ticket: u64) -> Option<Waiter> {
        let mut starving = self.starving.borrow_mut();
        let at = starving.iter().position(|waiter| waiter.ticket == ticket)?;
        Some(starving.swap_remove(at))
    }

    pub(crate) fn is_ready(&self, token: Token, direction: Direction) -> bool {
        self.watches.borrow()[index(token)].ready[direction as usize]
    }

    pub(crate) fn set_ready(&self, token: Token, direction: Direction, ready: bool) {
        self.watches.borrow_mut()[index(token)].ready[direction as usize] = ready;
    }

    /// After a transfer that filled less than the buffer: on a stream, on epoll, the kernel has no
    /// more, so the call that would only say `WouldBlock` is spared. Not near the stream's end:
    /// data and FIN may share one edge, and the FIN must not be lost. Nor after urgent data, nor
    /// where it is [distrusted](Self::distrust_short).
    pub(crate) fn clear_ready_if_short(&self, token: Token, direction: Direction) {
        if cfg!(any(target_os = "linux", target_os = "android")) {
            let watch = &mut self.watches.borrow_mut()[index(token)];
            watch.ready[direction as usize] &= watch.ending;
        }
    }

    /// A short transfer says nothing here, and will not clear readiness.
    #[cfg(unix)]
    pub(crate) fn distrust_short(&self, token: Token) {
        self.watches.borrow_mut()[index(token)].ending = true;
    }

    /// Names an operation that has to wait; never reused.
    pub(crate) fn new_ticket(&self) -> u64 {
        self.ticket.set(self.ticket.get().wrapping_add(1));
        self.ticket.get()
    }

    /// The operation `ticket` waits for `direction`; `waker` hears of the next event.
    pub(crate) fn set_waiter(
        &self,
        token: Token,
        direction: Direction,
        ticket: u64,
        waker: &Waker,
    ) {
        let first = |watch: &Watch| {
            let first = watch.waiters[direction as usize].as_ref();
            first.is_some_and(|first| first.ticket == ticket && first.waker.will_wake(waker))
        };
        if first(&self.watches.borrow()[index(token)]) {
            return;
        }
        let fresh = Waiter { ticket, waker: waker.clone() };
        let old = self.watches.borrow_mut()[index(token)].put(direction, fresh);
        // Of the poll methods only the last caller waits. Whoever it displaces is woken, and asks
        // again: two tasks at one socket cost turns, but none of them hangs.
        match old {
            Some(old) if ticket == POLLED && !old.waker.will_wake(waker) => old.waker.wake(),
            old => drop(old),
        }
    }

    /// The operation `ticket` waits no longer.
    pub(crate) fn clear_waiter(&self, token: Token, direction: Direction, ticket: u64) {
        let old = self.watches.borrow_mut()[index(token)].take(direction, ticket);
        drop(old);
    }

    /// The descriptor that is readable when there are events, or when a bell has rung. `None` under
    /// virtual time.
    #[cfg(unix)]
    pub(crate) fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.kernel.as_ref().map(|kernel| kernel.poll.as_fd())
    }

    /// Not under virtual time, which could not tell when to advance.
    pub(crate) fn allows_watches(&self) -> bool {
        self.kernel.is_some()
    }

    pub(crate) fn is_entered(&self) -> bool {
        self.entered.get()
    }

    pub(crate) fn set_entered(&self, entered: bool) -> bool {
        self.entered.replace(entered)
    }

    pub(crate) fn watches(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Asks the kernel for events, waiting for them at most `timeout` (`None`: for ever), and
    /// records them: whatever had happened at the time of the call is known afterwards. Runs no
    /// user code. Returns how many events of watches there were.
    ///
    /// # Errors
    /// The system's. A signal is none.
    pub(crate) fn wait(&self, mut timeout: Option<Duration>) -> io::Result<usize> {
        let kernel = self.kernel();
        let events = &mut *kernel.events.borrow_mut();
        let watches = &mut *self.watches.borrow_mut();
        let due = &mut *self.due.borrow_mut();
        let mut count = 0;
        // One answer may not hold all events. Each watch comes once before any comes again.
        for _ in 0..=watches.len() / EVENTS_PER_ANSWER {
            while let Err(error) = kernel.ask(events, timeout) {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                // A signal came, or the process was stopped for who knows how long: that is no
                // answer. So ask again, but wait no longer.
                timeout = Some(Duration::ZERO);
            }
            for event in events.iter().filter(|event| event.token() != BELL) {
                let watch = watches.get_mut(index(event.token()));
                if let Some(watch) =
                    watch.filter(|watch| watch.generation == generation(event.token()))
                {
                    watch.record(event, due);
                    count += 1;
                }
            }
            if events.iter().count() < EVENTS_PER_ANSWER {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(count)
    }

    /// Whether there is somebody to be woken by [`dispatch`](Self::dispatch).
    pub(crate) fn has_due(&self) -> bool {
        !self.due.borrow().is_empty()
    }

    /// Wakes whom the recorded events concern.
    pub(crate) fn dispatch(&self) {
        loop {
            let Some(waker) = self.due.borrow_mut().pop_front() else { return };
            waker.wake();
        }
    }
}

impl Kernel {
    /// Fills `events`.
    ///
    /// mio waits in whole milliseconds, rounded up. So a wait is split: whole milliseconds in mio,
    /// less one, and the rest precisely. A long wait that some event ends early, as most time-outs
    /// are, never gets to the second part.
    fn ask(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let Self { poll, precise, .. } = self;
        events.clear();
        let timeout = match timeout {
            Some(wait) if wait.is_zero() || !precise.get() => timeout,
            Some(rest) if rest < PRECISE_BELOW => match wait_for_events(poll, rest) {
                Ok(true) => Some(Duration::ZERO),
                Ok(false) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                // A sandbox forbids it, or the kernel is old: mio alone from now on.
                Err(_) => {
                    precise.set(false);
                    timeout
                }
            },
            Some(long) => {
                let millis = u64::try_from(long.as_millis() - 1).unwrap_or(u64::MAX);
                Some(Duration::from_millis(millis))
            }
            None => None,
        };
        poll.poll(events, timeout)
    }
}

impl Watch {
    /// Puts a waiter in, and returns the one of the same operation that was there.
    #[inline]
    fn put(&mut self, direction: Direction, fresh: Waiter) -> Option<Waiter> {
        match &mut self.waiters[direction as usize] {
            Some(first) if first.ticket == fresh.ticket => Some(std::mem::replace(first, fresh)),
            first if first.is_none() && self.more.is_empty() => first.replace(fresh),
            _ => self.put_behind(direction, fresh),
        }
    }

    #[cold]
    fn put_behind(&mut self, direction: Direction, fresh: Waiter) -> Option<Waiter> {
        let old = self.take_behind(direction, fresh.ticket);
        match &mut self.waiters[direction as usize] {
            Some(_) => self.more.push((direction, fresh)),
            first => *first = Some(fresh),
        }
        old
    }

    #[inline]
    fn take(&mut self, direction: Direction, ticket: u64) -> Option<Waiter> {
        match self.waiters[direction as usize].take_if(|first| first.ticket == ticket) {
            None if !self.more.is_empty() => self.take_behind(direction, ticket),
            first => first,
        }
    }

    #[cold]
    fn take_behind(&mut self, direction: Direction, ticket: u64) -> Option<Waiter> {
        let own = |(way, waiter): &(_, Waiter)| *way == direction && waiter.ticket == ticket;
        let at = self.more.iter().position(own)?;
        Some(self.more.swap_remove(at).1)
    }

    #[cold]
    fn wake_more(&mut self, direction: Direction, due: &mut VecDeque<Waker>) {
        for (way, waiter) in std::mem::take(&mut self.more) {
            match way == direction {
                true => due.push_back(waiter.waker),
                false => self.more.push((way, waiter)),
            }
        }
    }

    fn record(&mut self, event: &Event, due: &mut VecDeque<Waker>) {
        let ended = event.is_error() || (event.is_read_closed() && event.is_write_closed());
        self.ending |=
            ended || event.is_read_closed() || event.is_write_closed() || event.is_priority();
        let readable = event.is_readable() || event.is_read_closed() || event.is_priority();
        let writable = event.is_writable() || event.is_write_closed();
        for (direction, happened) in
            [(Direction::Read, readable || ended), (Direction::Write, writable || ended)]
        {
            if happened {
                self.ready[direction as usize] = true;
                if let Some(first) = self.waiters[direction as usize].take() {
                    due.push_back(first.waker);
                }
                if !self.more.is_empty() {
                    self.wake_more(direction, due);
                }
            }
        }
    }
}

/// Both directions. Urgent data too, where a read may stop short of it: no edge would tell of what
/// lies behind.
fn interest() -> Interest {
    let both = Interest::READABLE | Interest::WRITABLE;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let both = both | Interest::PRIORITY;
    both
}

fn index(token: Token) -> u32 {
    (token.0 & (usize::MAX >> HALF)) as u32
}

fn generation(token: Token) -> usize {
    token.0 >> HALF
}
