//! The listening socket.
#![forbid(unsafe_code)]

use super::tcp_stream::TcpStream;
use super::watched::{Watched, current_reactor};
use crate::budget::ACCEPT_PAUSE;
use crate::reactor::{Direction, Reactor};
use crate::time;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
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
#[derive(Debug)]
pub struct TcpListener {
    io: Watched<mio::net::TcpListener>,
    /// After an error.
    pause: Cell<Option<Pause>>,
}

/// `accept` does not try before.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    /// For a shortage: the departures at the last try. One more ends the pause early.
    departures: Option<usize>,
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
        Ok(Self { io: Watched::new(reactor, listener, true)?, pause: Cell::new(None) })
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
    /// - `ResourceBusy`, if another call waits already, and `NotConnected`, if this one would have
    ///   to wait while the listener's runtime is not running: these concern the call.
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
        let accept = |listener: &mio::net::TcpListener| match listener.accept() {
            Err(error) if concerns_one_connection(&error) => Err(io::ErrorKind::Interrupted.into()),
            result => result,
        };
        loop {
            self.pause().await?;
            let accepted = self.io.run(Direction::Read, accept).await;
            let accepted = accepted
                .and_then(|(stream, peer)| Ok((TcpStream::new(self.io.reactor(), stream)?, peer)));
            // Errors without a code are ours: they tell of how this was called.
            let code = accepted.as_ref().err().and_then(io::Error::raw_os_error);
            let Some(code) = code else { return accepted };
            let departures = SHORTAGE.contains(&code).then(|| self.io.departures());
            match self.pause.get() {
                // It ended early, and what came free went to somebody else. The caller knows of
                // the shortage since it began: go on with the pause.
                Some(Pause { until, .. }) if departures.is_some() && time::now() < until => {
                    self.pause.set(Some(Pause { until, departures }));
                }
                _ => {
                    let until = time::now().checked_add(ACCEPT_PAUSE);
                    self.pause.set(until.map(|until| Pause { until, departures }));
                    return accepted;
                }
            }
        }
    }

    /// Waits until the pause is over, if there is one, or something has come free that may help.
    async fn pause(&self) -> io::Result<()> {
        let Some(Pause { until, departures }) = self.pause.get() else { return Ok(()) };
        let mut timer = time::sleep_until(until);
        let mut departure = departures.map(|seen| self.io.departure(seen));
        poll_fn(|cx| {
            self.io.must_be_running()?;
            if departure.as_mut().is_some_and(|departure| Pin::new(departure).poll(cx).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut timer).poll(cx));
            self.pause.set(None);
            Poll::Ready(Ok(()))
        })
        .await
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

#[cfg(unix)]
impl std::os::fd::AsFd for TcpListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}
