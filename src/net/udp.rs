//! UDP.
#![forbid(unsafe_code)]

use super::transfer;
use super::watched::{Watched, current_reactor};
use crate::reactor::Direction::{Read, Write};
use crate::reactor::Reactor;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

/// A UDP socket. Its methods take `&self`: any number of tasks may send and receive.
///
/// ```
/// use gondola::net::UdpSocket;
///
/// # gondola::block_on(async {
/// let server = UdpSocket::bind(([127, 0, 0, 1], 0))?;
/// let client = UdpSocket::bind(([127, 0, 0, 1], 0))?;
/// client.connect(server.local_addr()?)?;
/// client.send(b"ping").await?;
///
/// let mut buffer = [0; 1500];
/// let (count, from) = server.recv_from(&mut buffer).await?;
/// server.send_to(&buffer[..count], from).await?;
/// assert_eq!(client.recv(&mut buffer).await?, 4);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    io: Watched<Socket>,
}

type Socket = mio::net::UdpSocket;

impl UdpSocket {
    /// Binds `address`, such as `([0, 0, 0, 0], 53)`. Port 0 lets the system choose.
    ///
    /// # Errors
    /// The system's (`AddrInUse`, ..); `NotConnected` outside a gondola runtime; `Unsupported` under virtual
    /// time.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let socket = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let again = UdpSocket::bind(socket.local_addr()?);
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let reactor = current_reactor()?;
        Self::new(reactor, mio::net::UdpSocket::bind(address.into())?)
    }

    /// Takes over a socket of std, which becomes non-blocking.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let std = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let socket = UdpSocket::from_std(std)?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        let reactor = current_reactor()?;
        socket.set_nonblocking(true)?;
        Self::new(reactor, mio::net::UdpSocket::from_std(socket))
    }

    fn new(reactor: Rc<Reactor>, socket: mio::net::UdpSocket) -> io::Result<Self> {
        Ok(Self { io: Watched::new(reactor, socket, true)? })
    }

    /// Sets the peer: [`send`](Self::send) sends to it, and only its datagrams are received. It waits for
    /// nothing, and nothing is sent: whether anybody is there shows later.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// assert_eq!(near.peer_addr()?, far.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn connect(&self, address: impl Into<SocketAddr>) -> io::Result<()> {
        self.io.connect(address.into())
    }

    /// Sends a datagram to the peer, whole or not at all, and returns its length. Waits while the system
    /// has no room for it.
    ///
    /// # Errors
    /// The system's: `ConnectionRefused` if an earlier datagram found nobody there, one with the code
    /// `EDESTADDRREQ` without a peer, and with `EMSGSIZE` if the datagram is too long; the
    /// [module](crate::net) says which others.
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// assert_eq!(near.send(b"hi").await?, 2);
    /// assert_eq!(far.recv(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn send(&self, datagram: &[u8]) -> impl Future<Output = io::Result<usize>> {
        self.io.run(Write, move |socket: &Socket| socket.send(datagram))
    }

    /// Receives a datagram from the peer, and returns how much of it is in `buffer`: what is longer than
    /// that is cut off, and lost. 0 is an empty datagram, not an end.
    ///
    /// # Errors
    /// The system's: `ConnectionRefused` if what was sent found nobody there; the [module](crate::net) says
    /// which others.
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// near.send(b"hello").await?;
    /// let mut buffer = [0; 4];
    /// assert_eq!(far.recv(&mut buffer).await?, 4);
    /// assert_eq!(&buffer, b"hell"); // the "o" is lost
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.io.run(Read, move |socket: &Socket| socket.recv(buffer))
    }

    /// Sends a datagram to `address`, whole or not at all, and returns its length. Else as
    /// [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// assert_eq!(near.send_to(b"hi", far.local_addr()?).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn send_to(
        &self,
        datagram: &[u8],
        address: impl Into<SocketAddr>,
    ) -> impl Future<Output = io::Result<usize>> {
        let address = address.into();
        self.io.run(Write, move |socket: &Socket| socket.send_to(datagram, address))
    }

    /// Receives a datagram, and says from whom it is. Else as [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.send_to(b"hi", far.local_addr()?).await?;
    /// assert_eq!(far.recv_from(&mut [0; 8]).await?, (2, near.local_addr()?));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn recv_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.io.run(Read, move |socket: &Socket| socket.recv_from(buffer))
    }

    /// As [`recv`](Self::recv), but the datagram stays, to be received again.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// near.send(b"hi").await?;
    /// assert_eq!(far.peek(&mut [0; 1]).await?, 1);
    /// assert_eq!(far.recv(&mut [0; 8]).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peek(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        self.io.run(Read, move |socket: &Socket| socket.peek(buffer))
    }

    /// As [`recv_from`](Self::recv_from), but the datagram stays, to be received again.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.send_to(b"hi", far.local_addr()?).await?;
    /// assert_eq!(far.peek_from(&mut [0; 8]).await?, (2, near.local_addr()?));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peek_from(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> {
        self.io.run(Read, move |socket: &Socket| socket.peek_from(buffer))
    }

    /// As [`recv_from`](Self::recv_from), for whoever polls by hand. All callers of this method and of its like are one waiter per direction: the last one. Another
    /// task that it displaces is woken, to poll again.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.send_to(b"hi", far.local_addr()?).await?;
    /// let mut buffer = [0; 8];
    /// let received = poll_fn(|cx| far.poll_recv_from(cx, &mut buffer)).await?;
    /// assert_eq!(received, (2, near.local_addr()?));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.io.poll(cx, Read, |socket| socket.recv_from(buffer))
    }

    /// As [`send_to`](Self::send_to), for whoever polls by hand: see
    /// [`poll_recv_from`](Self::poll_recv_from).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let address = far.local_addr()?;
    /// assert_eq!(poll_fn(|cx| near.poll_send_to(cx, b"hi", address)).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        address: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Write, |socket| socket.send_to(datagram, address))
    }

    /// As [`recv_from`](Self::recv_from), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, as far as the runtime knows: only between two polls of a
    /// task does it hear what has come. Else as [`recv`](Self::recv).
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.send_to(b"hi", far.local_addr()?).await?;
    /// far.readable().await?;
    /// assert_eq!(far.try_recv_from(&mut [0; 8])?.0, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.attempt(Read, |socket| socket.recv_from(buffer))
    }

    /// As [`send_to`](Self::send_to), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room, as far as the runtime knows. Else as [`send`](Self::send).
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// assert_eq!(near.try_send_to(b"hi", far.local_addr()?)?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_send_to(
        &self,
        datagram: &[u8],
        address: impl Into<SocketAddr>,
    ) -> io::Result<usize> {
        let address = address.into();
        self.io.attempt(Write, |socket| socket.send_to(datagram, address))
    }

    /// As [`recv`](Self::recv), for whoever polls by hand: see
    /// [`poll_recv_from`](Self::poll_recv_from).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// A datagram is taken by the call that returns it only.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// near.send(b"hi").await?;
    /// let mut buffer = [0; 8];
    /// assert_eq!(poll_fn(|cx| far.poll_recv(cx, &mut buffer)).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Read, |socket| socket.recv(buffer))
    }

    /// As [`send`](Self::send), for whoever polls by hand: see
    /// [`poll_recv_from`](Self::poll_recv_from).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// A send that was cancelled sent nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::future::poll_fn;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// assert_eq!(poll_fn(|cx| near.poll_send(cx, b"hi")).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn poll_send(&self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll(cx, Write, |socket| socket.send(datagram))
    }

    /// As [`recv`](Self::recv), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, as far as the runtime knows. Else as [`recv`](Self::recv).
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// near.send(b"hi").await?;
    /// far.readable().await?;
    /// assert_eq!(far.try_recv(&mut [0; 8])?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.attempt(Read, |socket| socket.recv(buffer))
    }

    /// As [`send`](Self::send), but it never waits.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room, as far as the runtime knows. Else as [`send`](Self::send).
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// assert_eq!(near.try_send(b"hi")?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.io.attempt(Write, |socket| socket.send(datagram))
    }

    /// Waits until there is a datagram or an error, as the kernel says now.
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.send_to(b"hi", far.local_addr()?).await?;
    /// far.readable().await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Read)
    }

    /// Waits until there is room for a datagram, as the kernel says now.
    ///
    /// # Errors
    /// The [module](crate::net) says which.
    ///
    /// # Cancel safety
    /// Loses nothing.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// UdpSocket::bind(([127, 0, 0, 1], 0))?.writable().await?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
        transfer::ready(&self.io, Write)
    }

    /// Whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`); by default not.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let socket = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.broadcast()
    }

    /// Allows, or forbids, to send to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let socket = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.io.set_broadcast(on)
    }

    /// Receives from now on what is sent to `group`, on the interface that has the address `interface`
    /// (`UNSPECIFIED`: the system chooses). Whether this socket hears itself, how far datagrams go and
    /// other options: the crate `socket2` sets them.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    ///
    /// # gondola::block_on(async {
    /// let socket = UdpSocket::bind(([0, 0, 0, 0], 0))?;
    /// let (group, any) = (Ipv4Addr::new(224, 0, 0, 123), Ipv4Addr::UNSPECIFIED);
    /// # let Ok(()) = socket.join_multicast_v4(group, any) else { return Ok(()) }; // no such network
    /// # socket.leave_multicast_v4(group, any)?;
    /// socket.join_multicast_v4(group, any)?;
    /// socket.leave_multicast_v4(group, any)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.join_multicast_v4(&group, &interface)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    ///
    /// # gondola::block_on(async {
    /// let socket = UdpSocket::bind(([0, 0, 0, 0], 0))?;
    /// let (group, any) = (Ipv4Addr::new(224, 0, 0, 123), Ipv4Addr::UNSPECIFIED);
    /// # let Ok(()) = socket.join_multicast_v4(group, any) else { return Ok(()) }; // no such network
    /// # socket.leave_multicast_v4(group, any)?;
    /// socket.join_multicast_v4(group, any)?;
    /// socket.leave_multicast_v4(group, any)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.leave_multicast_v4(&group, &interface)
    }

    /// As [`join_multicast_v4`](Self::join_multicast_v4); `interface` is its number, 0 lets the system
    /// choose.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::net::Ipv6Addr;
    ///
    /// # gondola::block_on(async {
    /// # let Ok(socket) = UdpSocket::bind(([0_u16; 8], 0)) else { return Ok(()) }; // no IPv6
    /// # let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
    /// # let Ok(()) = socket.join_multicast_v6(group, 0) else { return Ok(()) };
    /// # socket.leave_multicast_v6(group, 0)?;
    /// let socket = UdpSocket::bind(([0_u16; 8], 0))?;
    /// let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
    /// socket.join_multicast_v6(group, 0)?;
    /// socket.leave_multicast_v6(group, 0)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.join_multicast_v6(&group, interface)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    /// use std::net::Ipv6Addr;
    ///
    /// # gondola::block_on(async {
    /// # let Ok(socket) = UdpSocket::bind(([0_u16; 8], 0)) else { return Ok(()) }; // no IPv6
    /// # let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
    /// # let Ok(()) = socket.join_multicast_v6(group, 0) else { return Ok(()) };
    /// # socket.leave_multicast_v6(group, 0)?;
    /// let socket = UdpSocket::bind(([0_u16; 8], 0))?;
    /// let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
    /// socket.join_multicast_v6(group, 0)?;
    /// socket.leave_multicast_v6(group, 0)?;
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.leave_multicast_v6(&group, interface)
    }

    /// This end's address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The system's.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// assert_ne!(UdpSocket::bind(([127, 0, 0, 1], 0))?.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The peer's address, if it is [connected](Self::connect).
    ///
    /// # Errors
    /// The system's: `NotConnected` without a peer.
    ///
    /// ```
    /// use gondola::net::UdpSocket;
    ///
    /// # gondola::block_on(async {
    /// let near = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// let far = UdpSocket::bind(([127, 0, 0, 1], 0))?;
    /// near.connect(far.local_addr()?)?;
    /// far.connect(near.local_addr()?)?;
    /// assert_eq!(near.peer_addr()?, far.local_addr()?);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for UdpSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}
