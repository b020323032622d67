//! A watched socket, and the one way in which every operation on it runs.
#![forbid(unsafe_code)]

use crate::budget;
use crate::context;
use crate::reactor::{Direction, POLLED, Reactor};
use mio::Token;
use mio::event::Source;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

pub(super) struct Watched<S: Source> {
    socket: S,
    token: Token,
    reactor: Rc<Reactor>,
    /// Of the poll methods of each direction: refused for want of budget, last time.
    refused: [Cell<bool>; 2],
}

impl<S: Source> Watched<S> {
    /// Has a socket watched; `ready` is what to assume of it at first.
    pub(super) fn new(reactor: Rc<Reactor>, mut socket: S, ready: bool) -> io::Result<Self> {
        let token = reactor.register(&mut socket, ready)?;
        Ok(Self { socket, token, reactor, refused: [const { Cell::new(false) }; 2] })
    }

    pub(super) fn reactor(&self) -> Rc<Reactor> {
        self.reactor.clone()
    }

    #[cfg(unix)]
    pub(super) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether waiting makes sense: nobody waits at a reactor that nobody polls.
    pub(super) fn must_be_running(&self) -> io::Result<()> {
        match self.reactor.is_entered() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::NotConnected, NOT_RUNNING)),
        }
    }

    /// Runs `operation` until it says something other than `WouldBlock`, waiting in between.
    pub(super) fn run<T, F>(&self, direction: Direction, operation: F) -> Operation<'_, S, F>
    where
        F: FnMut(&S) -> io::Result<T> + Unpin,
    {
        Operation { wait: self.wait(direction), operation }
    }

    /// What an operation has to know of itself from one poll to the next.
    pub(super) fn wait(&self, direction: Direction) -> Wait<'_, S> {
        Wait { io: self, direction, ticket: None, refused: false }
    }

    /// As [`run`](Self::run), for a poll method. All those of a direction are one waiter: whoever
    /// called last.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let mut refused = self.refused[direction as usize].get();
        let poll = self.advance(cx, direction, &mut refused, || POLLED, operation);
        self.refused[direction as usize].set(refused);
        poll
    }

    /// As [`run`](Self::run), but it never waits: then it is `WouldBlock`.
    pub(super) fn attempt<T>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        while self.reactor.is_ready(self.token, direction) {
            if let Some(result) = self.call(direction, &mut operation) {
                return result;
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Tries, as long as the socket may be ready; else waits for an event.
    #[inline(always)]
    fn advance<T>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        refused: &mut bool,
        ticket: impl FnOnce() -> u64,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.reactor.is_ready(self.token, direction) {
            if !budget::take_step(refused) {
                // The readiness stays: the next poll goes on right here.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(result) = self.call(direction, &mut operation) {
                return Poll::Ready(result);
            }
        }
        self.must_be_running()?;
        self.reactor.set_waiter(self.token, direction, ticket(), cx.waker());
        Poll::Pending
    }

    /// One try. `None`: the kernel has nothing to say, or not yet.
    #[inline(always)]
    fn call<T>(
        &self,
        direction: Direction,
        operation: &mut impl FnMut(&S) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        match operation(&self.socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.reactor.set_ready(self.token, direction, false);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            result => Some(result),
        }
    }

    /// How many watches have ended: if it grows, a descriptor has come free.
    pub(super) fn departures(&self) -> usize {
        self.reactor.departures()
    }

    /// Waits until there are other than `seen` departures.
    pub(super) fn departure(&self, seen: usize) -> Departure {
        let ticket = self.reactor.new_ticket();
        Departure { reactor: self.reactor.clone(), seen, ticket }
    }

    /// Assumes readiness until a call says otherwise.
    pub(super) fn assume_ready(&self, direction: Direction) {
        self.reactor.set_ready(self.token, direction, true);
    }

    /// From now on, a short transfer says nothing.
    #[cfg(unix)]
    pub(super) fn distrust_short(&self) {
        self.reactor.distrust_short(self.token);
    }

    /// Notes a transfer on a stream socket: a short one says that the kernel has no more.
    pub(super) fn transferred(&self, direction: Direction, done: usize, wanted: usize) {
        if 0 < done && done < wanted {
            self.reactor.clear_ready_if_short(self.token, direction);
        }
    }
}

/// Where a new socket will be watched; asked before anything is done to the outside world.
pub(super) fn current_reactor() -> io::Result<Rc<Reactor>> {
    match context::try_current() {
        Some(core) if core.reactor.allows_watches() => Ok(core.reactor.clone()),
        Some(_) => {
            let why = "virtual time has no sockets: it could not tell when to advance";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        None => Err(io::Error::new(io::ErrorKind::NotConnected, crate::error::NO_RUNTIME)),
    }
}

const NOT_RUNNING: &str = "the gondola runtime of this socket is not running on this thread";

impl<S: Source> Deref for Watched<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

impl<S: Source> Drop for Watched<S> {
    fn drop(&mut self) {
        self.reactor.deregister(&mut self.socket, self.token);
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

/// One operation on its way.
pub(super) struct Operation<'a, S: Source, F> {
    wait: Wait<'a, S>,
    operation: F,
}

impl<S: Source, T, F> Future for Operation<'_, S, F>
where
    F: FnMut(&S) -> io::Result<T> + Unpin,
{
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Self { wait, operation } = &mut *self;
        wait.advance(cx, operation)
    }
}

/// The waits of one operation. Dropping it ends them.
pub(super) struct Wait<'a, S: Source> {
    pub(super) io: &'a Watched<S>,
    direction: Direction,
    /// Set once it has waited: its name at the reactor.
    ticket: Option<u64>,
    /// Refused for want of budget, last time.
    refused: bool,
}

impl<S: Source> Wait<'_, S> {
    #[inline(always)]
    pub(super) fn advance<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let Self { io, direction, ticket, refused } = self;
        let ticket = || *ticket.get_or_insert_with(|| io.reactor.new_ticket());
        io.advance(cx, *direction, refused, ticket, operation)
    }
}

impl<S: Source> Drop for Wait<'_, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.io.reactor.clear_waiter(self.io.token, self.direction, ticket);
        }
    }
}

/// A wait for a descriptor to come free. Dropping it ends it.
pub(super) struct Departure {
    reactor: Rc<Reactor>,
    seen: usize,
    ticket: u64,
}

impl Future for Departure {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.reactor.poll_departure(self.seen, self.ticket, cx.waker())
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.reactor.clear_departure(self.ticket);
    }
}
