//! The listening socket.
#![forbid(unsafe_code)]

use super::tcp_stream::TcpStream;
use super::watched::{Departure, Watched, current_reactor};
use crate::budget::ACCEPT_PAUSE;
use crate::reactor::{Direction, Reactor};
use crate::time::{self, Sleep};
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
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

/// A TCP socket that listens. Dropping it closes it; connections not accepted yet are reset.
///
/// ```
/// use gondola::net::{TcpListener, TcpStream};
///
/// # gondola::block_on(async {
/// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, _) = listener.accept().await?;
/// client.write_all(b"ping").await?;
/// let mut buffer = [0; 4];
/// server.read_exact(&mut buffer).await?;
/// assert_eq!(&buffer, b"ping");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TcpListener {
    io: Watched<mio::net::TcpListener>,
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

impl TcpListener {
    /// Binds `address`, such as `([127, 0, 0, 1], 80)`, and listens. Port 0 lets the system choose.
    /// On Unix an address in TIME_WAIT can be bound again at once (`SO_REUSEADDR`).
    ///
    /// As many connections as the backlog says may wait to be accepted. It is mio's and std's: 128
    /// on most systems, and the system's limit cuts a longer one. To change it, listen once more.
    ///
    /// # Errors
    /// The system's (`AddrInUse`, ..); `NotConnected` outside a gondola runtime; `Unsupported`
    /// under virtual time.
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// socket2::SockRef::from(&listener).listen(1024)?; // the backlog
    ///
    /// let again = TcpListener::bind(listener.local_addr()?);
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let reactor = current_reactor()?;
        Self::new(reactor, mio::net::TcpListener::bind(address.into())?)
    }

    /// Takes over a socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let std = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = TcpListener::from_std(std)?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        let reactor = current_reactor()?;
        listener.set_nonblocking(true)?;
        Self::new(reactor, mio::net::TcpListener::from_std(listener))
    }

    fn new(reactor: Rc<Reactor>, listener: mio::net::TcpListener) -> io::Result<Self> {
        let io = Watched::new(reactor, listener, true)?;
        Ok(Self { io, pause: Cell::new(None), rest: Cell::new(None) })
    }

    /// The next connection, and its peer. The connection belongs to the listener's runtime.
    ///
    /// # Errors
    /// A connection that its peer gave up while it queued is passed over. What is left are errors
    /// of three kinds:
    ///
    /// - A shortage: the system has no descriptor, memory or room in epoll left (on Unix
    ///   `raw_os_error` says `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` or `ENOSPC`). The listener
    ///   survives it, and the connection waits in the queue. The next call tries again as soon as
    ///   a socket of this runtime has been closed, and after 50 ms at the latest. A shortage is
    ///   reported at most once in 50 ms.
    /// - Any other error of the system: the listener was shut down from elsewhere, or it is no
    ///   listener, or a sandbox forbids the call. It will not pass. The next call waits 50 ms.
    /// - `NotConnected`, if this call would have to wait while the listener's runtime is not running.
    ///
    /// So a loop that merely reports what the system says does not spin. A server goes on after a
    /// shortage and ends on everything else, as the example `echo` does.
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the poll that returns it.
    ///
    /// ```
    /// use gondola::net::{TcpListener, TcpStream};
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_stream, peer) = listener.accept().await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
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

    /// As [`accept`](Self::accept), for whoever polls by hand. All callers of this method are one
    /// waiter: of two tasks that poll the same listener, the last one waits. The other is woken, to
    /// poll again. Both get on, but they keep each other awake: let such tasks `accept`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the call that returns it.
    ///
    /// ```
    /// use gondola::net::{TcpListener, TcpStream};
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
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
        accepted: io::Result<(mio::net::TcpStream, SocketAddr)>,
    ) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = accepted
            .and_then(|(stream, peer)| Ok((TcpStream::new(self.io.reactor(), stream)?, peer)));
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

    /// The address that it listens on, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
}

fn accept(listener: &mio::net::TcpListener) -> io::Result<(mio::net::TcpStream, SocketAddr)> {
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

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for TcpListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}
