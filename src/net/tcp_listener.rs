//! The listening socket.
#![forbid(unsafe_code)]

use super::TcpStream;
use super::io::{Io, current_reactor};
use crate::budget::ACCEPT_PAUSE;
use crate::reactor::{Direction, Reactor};
use crate::time;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

/// A TCP socket that listens. Dropping it closes it; connections not accepted yet are reset.
///
/// ```
/// use gondola::net::{TcpListener, TcpStream};
///
/// gondola::block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
///     let (mut server, _) = listener.accept().await?;
///     client.write_all(b"ping").await?;
///     let mut buffer = [0; 4];
///     server.read_exact(&mut buffer).await?;
///     assert_eq!(&buffer, b"ping");
///     Ok::<_, std::io::Error>(())
/// })
/// # .unwrap();
/// ```
#[derive(Debug)]
pub struct TcpListener {
    io: Io<mio::net::TcpListener>,
    /// Out of descriptors at the last try: not again before this.
    paused_until: Cell<Option<Instant>>,
}

impl TcpListener {
    /// Binds and listens. Port 0 lets the system choose. The queue is mio's and std's: 128 on most
    /// systems; for another one, prepare the socket elsewhere and take it over by
    /// [`from_std`](Self::from_std). On Unix an address in TIME_WAIT can be bound again at once
    /// (`SO_REUSEADDR`).
    ///
    /// # Errors
    /// The system's (`AddrInUse`, ..); `NotConnected` outside a gondola runtime; `Unsupported`
    /// under virtual time.
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// # gondola::block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
    /// let again = TcpListener::bind(listener.local_addr()?);
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let reactor = current_reactor()?;
        Self::new(reactor, mio::net::TcpListener::bind(address)?)
    }

    /// Takes over a socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// ```
    /// use gondola::net::TcpListener;
    ///
    /// gondola::block_on(async {
    ///     let std = std::net::TcpListener::bind("127.0.0.1:0")?;
    ///     let listener = TcpListener::from_std(std)?;
    ///     assert_ne!(listener.local_addr()?.port(), 0);
    ///     Ok::<_, std::io::Error>(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        let reactor = current_reactor()?;
        listener.set_nonblocking(true)?;
        Self::new(reactor, mio::net::TcpListener::from_std(listener))
    }

    fn new(reactor: Rc<Reactor>, listener: mio::net::TcpListener) -> io::Result<Self> {
        Ok(Self { io: Io::new(reactor, listener, true)?, paused_until: Cell::new(None) })
    }

    /// The next connection, and its peer. The connection belongs to the listener's runtime.
    ///
    /// # Errors
    /// The system's. None that a peer or a shortage causes ends the listener: a connection that its
    /// peer gave up while it queued is passed over, and after running out of descriptors or memory
    /// the next call waits 50 ms before it tries again, so that a loop that merely reports the
    /// error does not spin.
    /// `ResourceBusy`, if another call is waiting already.
    ///
    /// # Cancel safety
    /// No connection is lost: one is taken from the queue only by the poll that returns it.
    ///
    /// ```
    /// # use gondola::net::{TcpListener, TcpStream};
    /// # gondola::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_stream, peer) = listener.accept().await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(until) = self.paused_until.get() {
            let mut pause = time::sleep_until(until);
            poll_fn(|cx| {
                self.io.must_be_running()?;
                Pin::new(&mut pause).poll(cx).map(Ok::<_, io::Error>)
            })
            .await?;
            self.paused_until.set(None);
        }
        let accept = |listener: &mio::net::TcpListener| match listener.accept() {
            Err(error) if concerns_one_connection(&error) => Err(io::ErrorKind::Interrupted.into()),
            result => result,
        };
        let accepted = self.io.run(Direction::Read, accept).await;
        let stream = accepted
            .and_then(|(stream, peer)| Ok((TcpStream::new(self.io.reactor(), stream)?, peer)));
        if stream.as_ref().is_err_and(means_exhausted) {
            self.paused_until.set(time::now().checked_add(ACCEPT_PAUSE));
        }
        stream
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
    /// let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
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
fn means_exhausted(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ENOSPC];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}

#[cfg(not(unix))]
fn means_exhausted(error: &io::Error) -> bool {
    // Not an error of ours, such as ResourceBusy.
    error.raw_os_error().is_some()
}

#[cfg(unix)]
impl std::os::fd::AsFd for TcpListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}
