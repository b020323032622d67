//! What listeners have in common: how a connection is accepted, and what an error does to the next
//! call.
#![forbid(unsafe_code)]

use super::watched::{Departure, Watched};
use crate::budget::ACCEPT_PAUSE;
use crate::reactor::{Direction, Reactor};
use crate::time::{self, Sleep};
use mio::event::Source;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Errors for want of descriptors, of memory, or of room in epoll.
#[cfg(unix)]
const SHORTAGE: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ENOSPC];
/// WSAEMFILE and WSAENOBUFS.
#[cfg(not(unix))]
const SHORTAGE: [i32; 2] = [10024, 10055];

/// A listening socket.
pub(super) trait Accept: Source {
    type Stream: Source;
    type Address;
    fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>;
}

type Accepted<L> = (Watched<<L as Accept>::Stream>, <L as Accept>::Address);

pub(super) struct Acceptor<L: Accept> {
    pub(super) io: Watched<L>,
    /// After an error.
    pause: Cell<Option<Pause>>,
    /// How `poll_accept` waits for its end.
    rest: Cell<Option<Rest>>,
}

/// `accept` does not try before.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// For a shortage: the departures at the last try. One more ends the pause early.
    departures: Option<usize>,
}

/// A wait for the end of a pause.
struct Rest {
    timer: Sleep,
    departure: Option<Departure>,
}

impl<L: Accept> Acceptor<L> {
    pub(super) fn new(reactor: Rc<Reactor>, listener: L) -> io::Result<Self> {
        let io = Watched::new(reactor, listener, true)?;
        Ok(Self { io, pause: Cell::new(None), rest: Cell::new(None) })
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted<L>> {
        loop {
            if let Some(mut rest) = self.rest() {
                poll_fn(|cx| self.poll_rest(&mut rest, cx)).await?;
            }
            let accepted = self.io.run(Direction::Read, accept).await;
            if let Some(result) = self.take_in(accepted) {
                return result;
            }
        }
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<L>>> {
        loop {
            if let Some(mut rest) = self.rest.take().or_else(|| self.rest()) {
                if self.poll_rest(&mut rest, cx)?.is_pending() {
                    self.rest.set(Some(rest));
                    return Poll::Pending;
                }
            }
            let accepted = ready!(self.io.poll(cx, Direction::Read, accept));
            if let Some(result) = self.take_in(accepted) {
                return Poll::Ready(result);
            }
        }
    }

    /// What is to be returned; `None`: go on with the pause.
    fn take_in(
        &self,
        accepted: io::Result<(L::Stream, L::Address)>,
    ) -> Option<io::Result<Accepted<L>>> {
        let accepted = accepted
            .and_then(|(stream, peer)| Ok((Watched::new(self.io.reactor(), stream, true)?, peer)));
        // Errors without a code are ours: they tell of how this was called.
        let code = accepted.as_ref().err().and_then(io::Error::raw_os_error);
        let Some(code) = code else { return Some(accepted) };
        let departures = SHORTAGE.contains(&code).then(|| self.io.departures());
        match self.pause.get() {
            // It ended early, and what came free went to somebody else. The caller knows of the
            // shortage since it began.
            Some(Pause { until, .. }) if departures.is_some() && time::now() < until => {
                self.pause.set(Some(Pause { until, departures }));
                None
            }
            _ => {
                let until = time::now().checked_add(ACCEPT_PAUSE);
                self.pause.set(until.map(|until| Pause { until, departures }));
                Some(accepted)
            }
        }
    }

    /// A wait for the end of the pause, if there is one.
    fn rest(&self) -> Option<Rest> {
        let Pause { until, departures } = self.pause.get()?;
        let departure = departures.map(|seen| self.io.departure(seen));
        Some(Rest { timer: time::sleep_until(until), departure })
    }

    /// Ready when the pause is over, or something has come free that may help.
    fn poll_rest(&self, rest: &mut Rest, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Rest { timer, departure } = rest;
        self.io.must_be_running()?;
        if departure.as_mut().is_some_and(|departure| Pin::new(departure).poll(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(timer).poll(cx));
        self.pause.set(None);
        Poll::Ready(Ok(()))
    }
}

fn accept<L: Accept>(listener: &L) -> io::Result<(L::Stream, L::Address)> {
    match listener.accept() {
        Err(error) if concerns_one_connection(&error) => Err(io::ErrorKind::Interrupted.into()),
        result => result,
    }
}

/// accept(2) reports the network errors of the connection that it was about to return; the
/// listener itself is fine.
#[cfg(unix)]
fn concerns_one_connection(error: &io::Error) -> bool {
    use libc::{
        ECONNABORTED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOPROTOOPT,
        EPROTO,
    };
    let of_one = [
        ECONNABORTED,
        ECONNRESET,
        EHOSTDOWN,
        EHOSTUNREACH,
        ENETDOWN,
        ENETUNREACH,
        ENOPROTOOPT,
        EPROTO,
    ];
    error.raw_os_error().is_some_and(|code| of_one.contains(&code))
}

#[cfg(not(unix))]
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionReset)
}
