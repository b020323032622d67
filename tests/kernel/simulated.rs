//! A simulated kernel: sockets, epoll with true edges, and a clock, below the real mio.
//!
//! A test binary that defines `epoll_wait`, `recv` and the others is linked to these instead of
//! libc's. On a thread that has no [`Kernel`], and for descriptors that it did not make, they
//! pass the call on. So what runs above is the whole library, unchanged.
//!
//! Time stands still but for a microsecond per call, and jumps while the runtime sleeps. A script
//! says what the peers do, and when. If the runtime sleeps for ever and the script has ended,
//! everything must be waiting for good reason; then all connections are reset.

#![allow(unreachable_pub, reason = "a module of tests")]

use libc::{EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, c_int, c_long, c_void};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Descriptors from here on are simulated.
const FIRST: c_int = 1 << 20;

pub const READ: usize = 0;
pub const WRITE: usize = 1;

const IN: u32 = EPOLLIN as u32;
const OUT: u32 = EPOLLOUT as u32;
const PRI: u32 = EPOLLPRI as u32;
const ERR: u32 = EPOLLERR as u32;
const HUP: u32 = EPOLLHUP as u32;
const RDHUP: u32 = EPOLLRDHUP as u32;

/// What the world does to a socket.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The peer's bytes arrive.
    Data(usize),
    /// An urgent byte arrives: reads stop short of where it stood. On a Unix stream it is a
    /// descriptor that came with the last bytes: a read ends behind them, and no event tells why.
    Urgent,
    /// The peer has no more to say.
    Fin,
    /// The peer resets the connection; with `alone`, only HUP or ERR tells of it.
    Reset {
        alone: bool,
    },
    /// The peer takes bytes, which makes room.
    Drain(usize),
    /// A connection attempt is decided.
    Connected,
    Refused,
    /// The attempt's own port is the one that it tries to reach, and nobody listens there: to TCP,
    /// these are two who open at the same time.
    ConnectedToItself,
    /// A datagram of so many bytes arrives.
    Datagram(usize),
    /// A datagram that was sent earlier found nobody; or the peer, a Unix socket, has turned to
    /// another.
    Unreachable,
    /// There is no memory for the next datagram that is sent, of which no event tells.
    Shortage,
    /// A connection stands in the listener's queue.
    Arrival,
    /// The next connection in the listener's queue was given up by its peer.
    Aborted,
    /// Somebody else takes every descriptor that comes free, for 120 ms.
    Exhausted,
    /// The next operation on the socket is interrupted.
    Interrupted,
    /// An event without a reason.
    Spurious,
    /// An event for a registration that is no more.
    Stale,
    /// The next wait is interrupted.
    Signal,
    /// The process is stopped for so many ns, and a wait that was under way is interrupted.
    Stopped(u64),
    /// The next wait that ends by its time-out returns so many ns later than it ended.
    Late(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connected,
    /// `socket` gives it out, `connect` begins the attempt.
    Connecting,
    /// `accept4` gives it out, after its arrival.
    Arriving,
    Listener,
    UnixStream,
    Udp,
    UnixDatagram,
}

impl Kind {
    fn is_of_datagrams(self) -> bool {
        matches!(self, Self::Udp | Self::UnixDatagram)
    }
}

#[derive(Debug)]
pub struct Socket {
    pub kind: Kind,
    capacity: usize,
    delay: u64,
    open: bool,
    nonblocking: bool,
    to_itself: bool,
    /// The epoll, the token, and the bits that were asked for.
    registered: Option<(c_int, u64, u32)>,
    /// An event is due at this time; with these bits beyond those that are true.
    edge: Option<(u64, u32)>,
    only: Option<u32>,
    incoming: VecDeque<u8>,
    mark: Option<usize>,
    pub sent: usize,
    pub fin: bool,
    pub reset: bool,
    error: c_int,
    interrupted: bool,
    short_of_memory: bool,
    outgoing: usize,
    pub accepted: usize,
    crowded: bool,
    shut: bool,
    /// How many tasks wait in each direction.
    pub waiting: [usize; 2],
    /// Calls that transfer, and those of them that were made for nothing.
    pub calls: [usize; 2],
    pub would_block: [usize; 2],
    /// The last call said EWOULDBLOCK, and no event came since.
    blocked: [bool; 2],
    backlog: VecDeque<Option<usize>>,
    datagrams: VecDeque<Vec<u8>>,
    /// How often a send found the peer's queue full, of which no event tells.
    pub found_full: u64,
}

/// What a call on a datagram socket came to: what it carried, or why it failed.
pub type Entry = (usize, &'static str, Result<Vec<u8>, c_int>);

#[derive(Default)]
pub struct Kernel {
    now: u64,
    pub sockets: Vec<Socket>,
    script: VecDeque<(u64, usize, Event)>,
    connecting: VecDeque<usize>,
    stale: Vec<(c_int, u64)>,
    stale_due: bool,
    signals: usize,
    late: u64,
    /// So many sockets may be open at a time.
    pub limit: Option<usize>,
    exhausted_until: u64,
    moved: usize,
    /// How often accept was told that there are no descriptors; since when, and how many were
    /// given out and back by then.
    refused: Option<(usize, u64, usize)>,
    last_event: u64,
    over: bool,
    /// Nothing goes on for longer than this.
    pub horizon: Option<u64>,
    /// Calls of ppoll, and what it is refused with.
    pub precise_waits: usize,
    pub refuses_precision: Option<c_int>,
    /// Calls that may put the thread to sleep, or only look.
    pub waits: usize,
    pub looks: usize,
    pub faults: Vec<String>,
    /// All that datagram sockets took, gave, or were refused, in order.
    pub journal: Vec<Entry>,
}

thread_local! {
    static KERNEL: RefCell<Option<Box<Kernel>>> = const { RefCell::new(None) };
    static SLEEPS: Cell<usize> = const { Cell::new(0) };
}

/// The `at`th byte of what `socket` hears or says.
pub fn pattern(socket: usize, at: usize) -> u8 {
    (socket * 31 + at * 7 + at / 256) as u8
}

/// The descriptor of a socket.
pub fn fd_of(socket: usize) -> c_int {
    FIRST + socket as c_int
}

/// The socket of a descriptor.
pub fn socket_of(fd: c_int) -> usize {
    (fd - FIRST) as usize
}

/// Gives this thread a kernel while `f` runs, and returns it afterwards.
pub fn simulate<T>(kernel: Kernel, f: impl FnOnce() -> T) -> (T, Kernel) {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            KERNEL.take();
        }
    }
    KERNEL.set(Some(Box::new(kernel)));
    let leave = Leave;
    let result = f();
    let kernel = KERNEL.take().expect("it was put there above");
    drop(leave);
    (result, *kernel)
}

/// Asks or tells this thread's kernel something.
pub fn kernel<T>(f: impl FnOnce(&mut Kernel) -> T) -> T {
    KERNEL.with_borrow_mut(|kernel| f(kernel.as_mut().expect("this thread has a kernel")))
}

/// How often this thread has called upon the real kernel to put it to sleep.
pub fn real_sleeps() -> usize {
    SLEEPS.get()
}

impl Kernel {
    pub fn new() -> Self {
        Self { now: 3_600_000_000_000, ..Self::default() }
    }

    /// Adds a socket that hears of its events `delay` ns late.
    pub fn add(&mut self, kind: Kind, capacity: usize, delay: u64) -> usize {
        let at = self.sockets.len();
        if kind == Kind::Connecting {
            self.connecting.push_back(at);
        }
        self.sockets.push(Socket {
            kind,
            capacity,
            delay,
            open: !matches!(kind, Kind::Connecting | Kind::Arriving),
            nonblocking: false,
            to_itself: false,
            registered: None,
            edge: None,
            only: None,
            incoming: VecDeque::new(),
            mark: None,
            sent: 0,
            fin: false,
            reset: false,
            error: 0,
            interrupted: false,
            short_of_memory: false,
            outgoing: 0,
            accepted: 0,
            crowded: false,
            shut: false,
            waiting: [0; 2],
            calls: [0; 2],
            would_block: [0; 2],
            blocked: [false; 2],
            backlog: VecDeque::new(),
            datagrams: VecDeque::new(),
            found_full: 0,
        });
        at
    }

    /// `socket` meets `event`, `after` ns from now. Kept in order.
    pub fn plan(&mut self, after: u64, socket: usize, event: Event) {
        let at = self.now + after;
        self.last_event = self.last_event.max(at);
        let place = self.script.partition_point(|&(other, ..)| other <= at);
        self.script.insert(place, (at, socket, event));
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    /// The thread computes for so many ns.
    pub fn compute(&mut self, ns: u64) {
        self.pass(self.now + ns);
    }

    /// What a monotonic clock never does, and some did.
    pub fn step_back(&mut self, by: u64) {
        self.now -= by;
    }

    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Lets time pass, and happen what happens meanwhile.
    fn pass(&mut self, until: u64) {
        self.now = self.now.max(until);
        while self.script.front().is_some_and(|&(at, ..)| at <= self.now) {
            let (_, at, event) = self.script.pop_front().expect("seen just now");
            self.happen(at, event);
        }
    }

    fn happen(&mut self, at: usize, event: Event) {
        let now = self.now;
        match event {
            Event::Signal => return self.signals += 1,
            Event::Stopped(ns) => return (self.now, self.signals) = (now + ns, self.signals + 1),
            Event::Late(ns) => return self.late = ns,
            Event::Exhausted => return self.exhausted_until = now + 120_000_000,
            Event::Stale => return self.stale_due = true,
            Event::Arrival | Event::Aborted => {
                let listener = self.sockets.iter_mut().find(|socket| socket.kind == Kind::Listener);
                let listener = listener.expect("arrivals need a listener");
                listener.backlog.push_back(matches!(event, Event::Arrival).then_some(at));
                return listener.raise(now, 0);
            }
            _ => {}
        }
        let socket = &mut self.sockets[at];
        match event {
            Event::Interrupted => socket.interrupted = true,
            Event::Shortage => socket.short_of_memory = true,
            Event::Spurious => socket.raise(now, IN | OUT),
            Event::Connected | Event::Refused | Event::ConnectedToItself
                if socket.kind == Kind::Connecting =>
            {
                if matches!(event, Event::Refused) {
                    (socket.error, socket.reset) = (libc::ECONNREFUSED, true);
                } else {
                    socket.kind = Kind::Connected;
                    socket.to_itself = matches!(event, Event::ConnectedToItself);
                }
                socket.raise(now, 0);
            }
            // Nothing passes over a connection that is not, or not any more.
            _ if socket.reset || socket.kind == Kind::Connecting => {}
            Event::Data(count) if !socket.fin => {
                socket.incoming.extend((socket.sent..socket.sent + count).map(|n| pattern(at, n)));
                socket.sent += count;
                socket.raise(now, 0);
            }
            Event::Datagram(length) => {
                let first = socket.sent;
                socket.sent += 1;
                socket
                    .datagrams
                    .push_back((first..first + length).map(|n| pattern(at, n)).collect());
                socket.raise(now, 0);
            }
            Event::Unreachable => {
                socket.error = match socket.kind {
                    Kind::Udp => libc::ECONNREFUSED,
                    _ => libc::ECONNRESET,
                };
                socket.raise(now, 0);
            }
            Event::Urgent if !socket.fin => {
                socket.mark = Some(socket.incoming.len());
                socket.raise(now, 0);
            }
            Event::Fin => {
                socket.fin = true;
                socket.raise(now, 0);
            }
            Event::Reset { alone } => {
                (socket.reset, socket.error) = (true, libc::ECONNRESET);
                if alone && socket.edge.is_none() {
                    socket.only = Some(if now % 2 == 0 { HUP } else { ERR });
                }
                socket.raise(now, 0);
            }
            Event::Drain(count) => {
                socket.outgoing -= count.min(socket.outgoing);
                if socket.crowded && socket.is_roomy() {
                    socket.crowded = false;
                    socket.raise(now, 0);
                }
            }
            _ => {}
        }
    }

    /// One system call begins.
    fn enter(&mut self) {
        self.pass(self.now + 1_000);
    }

    /// Whether an event is due. One whose reason has gone by itself is none.
    fn is_due(&mut self, epoll: c_int) -> bool {
        let now = self.now;
        let mut due = self.stale_due && self.stale.iter().any(|stale| stale.0 == epoll);
        for socket in self.sockets.iter_mut().filter(|socket| socket.is_in(epoll)) {
            if let Some((_, extra)) = socket.edge.filter(|&(at, _)| at <= now) {
                if socket.bits(extra) == 0 {
                    socket.edge = None;
                    // epoll has asked in vain, and so will hear of room.
                    socket.crowded |= !socket.is_roomy();
                } else {
                    due = true;
                }
            }
        }
        due
    }

    fn take_events(&mut self, epoll: c_int, most: usize) -> Vec<(u32, u64)> {
        let mut events = Vec::new();
        if std::mem::take(&mut self.stale_due) {
            let all = IN | OUT | RDHUP | HUP | ERR;
            let stale = self.stale.iter().filter(|stale| stale.0 == epoll);
            events.extend(stale.map(|stale| (all, stale.1)).take(most));
        }
        for socket in self.sockets.iter_mut().filter(|socket| socket.is_in(epoll)) {
            let due = socket.edge.filter(|&(at, _)| at <= self.now && events.len() < most);
            if let (Some((_, extra)), Some((_, token, _))) = (due, socket.registered) {
                socket.edge = None;
                let bits = socket.bits(extra);
                socket.crowded |= !socket.is_roomy();
                socket.only = None;
                let heard = [IN | PRI | RDHUP | HUP | ERR, OUT | HUP | ERR];
                for (blocked, of_interest) in socket.blocked.iter_mut().zip(heard) {
                    *blocked &= bits & of_interest == 0;
                }
                events.push((bits, token));
            }
        }
        events
    }

    /// Sleeps until an event is due, at most for `timeout` ns. Returns whether there is one.
    fn wait(&mut self, epoll: c_int, timeout: Option<u64>) -> Result<bool, c_int> {
        self.enter();
        self.looks += usize::from(timeout == Some(0));
        self.waits += usize::from(timeout != Some(0));
        let deadline = timeout.map(|timeout| self.now.saturating_add(timeout));
        // Nothing has happened for long, but somebody still tries.
        if self.now > self.last_event + 10_000_000_000 && self.limit.is_some() && !self.over {
            self.end_the_world();
        }
        if self.horizon.is_some_and(|horizon| self.now > horizon) {
            self.fault("it does not come to an end".into());
            return Err(libc::EDEADLK);
        }
        loop {
            if self.signals > 0 {
                self.signals -= 1;
                return Err(libc::EINTR);
            }
            let due = self.is_due(epoll);
            if due || timeout == Some(0) {
                return Ok(due);
            }
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                let late = std::mem::take(&mut self.late);
                self.pass(self.now + late);
                return Ok(false);
            }
            let sockets = self.sockets.iter().filter(|socket| socket.is_in(epoll));
            let next = sockets.filter_map(|socket| socket.edge.map(|edge| edge.0));
            let next = next.chain(self.script.front().map(|next| next.0)).chain(deadline).min();
            match next {
                Some(next) => self.pass(next),
                None if !self.over => self.end_the_world(),
                None => {
                    self.fault("asleep for ever, with every connection reset".into());
                    return Err(libc::EDEADLK);
                }
            }
        }
    }

    fn end_the_world(&mut self) {
        self.over = true;
        let now = self.now;
        for at in 0..self.sockets.len() {
            if (0..2).any(|way| self.sockets[at].waiting[way] > 0 && self.is_possible(at, way)) {
                let socket = &self.sockets[at];
                let fault = format!("socket {at} waits for what is there: {socket:?}");
                self.fault(fault);
            }
            let socket = &mut self.sockets[at];
            if socket.kind == Kind::Listener {
                (socket.reset, socket.only) = (true, Some(HUP));
                socket.raise(now, 0);
            } else {
                let refused = socket.kind == Kind::Connecting;
                self.happen(
                    at,
                    if refused { Event::Refused } else { Event::Reset { alone: true } },
                );
            }
        }
    }

    fn open(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.open).count()
    }

    fn has_descriptors(&self) -> bool {
        self.now >= self.exhausted_until && self.limit.is_none_or(|limit| self.open() < limit)
    }

    /// Whether a call would get somewhere, and an event has told so or will.
    fn is_possible(&self, at: usize, direction: usize) -> bool {
        let socket = &self.sockets[at];
        match socket.kind {
            Kind::Listener => socket.readable() && self.has_descriptors(),
            _ if direction == READ => socket.readable(),
            _ => socket.writable() && (socket.is_roomy() || socket.is_failing()),
        }
    }

    /// Whether it may be the pause of an accept without descriptors that keeps a waiter from going
    /// on: it is blind to what somebody else does.
    fn may_pause(&self) -> bool {
        self.now < self.exhausted_until + 60_000_000
    }

    /// Whether a waiter was forgotten: it could go on, and no event is on its way.
    pub fn is_forgotten(&self, at: usize, direction: usize) -> bool {
        let socket = &self.sockets[at];
        let told = socket.registered.is_some() && socket.edge.is_none();
        told && self.is_possible(at, direction) && !self.may_pause()
    }

    /// Whether a waiter was given up at `deadline` although it could go on, and an event that told
    /// so was due by then.
    pub fn is_overlooked(&self, at: usize, direction: usize, deadline: u64) -> bool {
        let due = self.sockets[at].edge.is_some_and(|(due, _)| due <= deadline);
        due && self.is_possible(at, direction) && !self.may_pause()
    }

    /// A call on a socket begins: may it be made?
    fn admit(&mut self, at: usize) -> Result<&mut Socket, c_int> {
        self.enter();
        let (open, nonblocking) = (self.sockets[at].open, self.sockets[at].nonblocking);
        if !open || !nonblocking {
            self.fault(format!("socket {at} used closed or blocking"));
            return Err(libc::EBADF);
        }
        Ok(&mut self.sockets[at])
    }

    /// A call that transfers, or asks for an event if it can't: what is wrong with it?
    fn begin(&mut self, at: usize, direction: usize) -> Result<&mut Socket, c_int> {
        let socket = self.admit(at)?;
        socket.calls[direction] += 1;
        if socket.blocked[direction] {
            let fault = format!("socket {at} was tried without an event: {socket:?}");
            self.fault(fault);
            return Err(libc::EIO);
        }
        if std::mem::take(&mut socket.interrupted) {
            return Err(libc::EINTR);
        }
        let possible = if direction == READ { socket.readable() } else { socket.writable() };
        if !possible {
            socket.block(direction);
            return Err(libc::EWOULDBLOCK);
        }
        Ok(&mut self.sockets[at])
    }

    /// Whether the socket is ready, for a caller who will wait for an event if it is not.
    fn look(&mut self, at: usize, direction: usize) -> Result<usize, c_int> {
        match self.begin(at, direction) {
            // A send would get somewhere, but as with events, that is too little to be told.
            Ok(socket) if direction == WRITE && !socket.is_roomy() && !socket.is_failing() => {
                socket.block(WRITE);
                Ok(0)
            }
            Ok(_) => Ok(1),
            Err(libc::EWOULDBLOCK) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// A whole datagram or the beginning of it; what does not fit is lost.
    fn receive_datagram(
        &mut self,
        at: usize,
        buffer: &mut [u8],
        peek: bool,
    ) -> Result<usize, c_int> {
        let socket = self.begin(at, READ)?;
        let result = match (std::mem::take(&mut socket.error), socket.datagrams.front()) {
            (0, Some(datagram)) => {
                let count = datagram.len().min(buffer.len());
                buffer[..count].copy_from_slice(&datagram[..count]);
                if !peek {
                    socket.datagrams.pop_front();
                }
                Ok(buffer[..count].to_vec())
            }
            (0, None) => Err(libc::ENETDOWN),
            (error, _) => Err(error),
        };
        let count = result.as_ref().map(Vec::len).map_err(|&error| error);
        self.journal.push((at, if peek { "peek" } else { "recv" }, result));
        count
    }

    /// `by_name`: of a Unix socket without a peer, whose events say nothing of a full queue.
    fn send_datagram(&mut self, at: usize, buffer: &[u8], by_name: bool) -> Result<usize, c_int> {
        let socket = if by_name { self.admit(at)? } else { self.begin(at, WRITE)? };
        if by_name {
            if std::mem::take(&mut socket.interrupted) {
                return Err(libc::EINTR);
            }
            if !socket.writable() {
                socket.found_full += 1;
                return Err(libc::EWOULDBLOCK);
            }
        }
        let result = match std::mem::take(&mut socket.error) {
            0 if socket.reset => Err(libc::ENETDOWN),
            0 if std::mem::take(&mut socket.short_of_memory) => Err(libc::ENOBUFS),
            0 => {
                socket.outgoing += 1;
                Ok(buffer.to_vec())
            }
            error => Err(error),
        };
        let count = result.as_ref().map(Vec::len).map_err(|&error| error);
        self.journal.push((at, "send", result));
        count
    }

    fn receive(
        &mut self,
        at: usize,
        buffers: &mut [&mut [u8]],
        peek: bool,
    ) -> Result<usize, c_int> {
        let socket = self.begin(at, READ)?;
        if socket.incoming.is_empty() {
            // Once the error, then the end.
            return match std::mem::take(&mut socket.error) {
                0 => Ok(0),
                error => Err(error),
            };
        }
        socket.mark = socket.mark.filter(|&before| before > 0);
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let count = wanted.min(socket.incoming.len()).min(socket.mark.unwrap_or(usize::MAX));
        let places = buffers.iter_mut().flat_map(|buffer| buffer.iter_mut());
        for (place, &byte) in places.zip(socket.incoming.iter().take(count)) {
            *place = byte;
        }
        if !peek {
            socket.incoming.drain(..count);
            socket.mark = socket.mark.map(|before| before - count);
        }
        Ok(count)
    }

    fn send(&mut self, at: usize, buffers: &[&[u8]], flags: c_int) -> Result<usize, c_int> {
        if flags & libc::MSG_NOSIGNAL == 0 {
            self.fault("a send that may raise SIGPIPE".into());
        }
        let socket = self.begin(at, WRITE)?;
        if socket.kind == Kind::UnixStream && (socket.reset || socket.shut) {
            // The error is left to a read.
            return Err(libc::EPIPE);
        }
        if socket.reset || socket.shut {
            return Err(match std::mem::take(&mut socket.error) {
                0 => libc::EPIPE,
                error => error,
            });
        }
        let wanted: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let count = wanted.min(socket.capacity - socket.outgoing);
        let said = buffers.iter().flat_map(|buffer| buffer.iter()).take(count);
        let first = socket.accepted;
        let wrong = said.zip(first..).any(|(&byte, n)| byte != pattern(at, n));
        socket.accepted += count;
        socket.outgoing += count;
        socket.crowded |= count < wanted;
        if wrong {
            self.fault(format!("socket {at} was sent wrong bytes from {first} on"));
        }
        Ok(count)
    }
}

impl Socket {
    fn is_in(&self, epoll: c_int) -> bool {
        self.registered.is_some_and(|(at, ..)| at == epoll)
    }

    fn raise(&mut self, now: u64, extra: u32) {
        let (at, before) = self.edge.unwrap_or((now + self.delay, 0));
        self.edge = Some((at, before | extra));
    }

    /// A call would have blocked; its caller waits for an event.
    fn block(&mut self, direction: usize) {
        self.would_block[direction] += 1;
        self.crowded |= direction == WRITE;
        self.blocked[direction] = true;
    }

    /// Whether any call on a socket of datagrams fails next, though nothing has ended.
    fn is_failing(&self) -> bool {
        self.kind.is_of_datagrams() && self.error != 0
    }

    fn has_input(&self) -> bool {
        match self.kind {
            Kind::Listener => !self.backlog.is_empty() || self.reset,
            Kind::Udp | Kind::UnixDatagram => !self.datagrams.is_empty() || self.reset,
            _ => !self.incoming.is_empty() || self.fin || self.reset,
        }
    }

    fn readable(&self) -> bool {
        self.has_input() || self.is_failing()
    }

    fn writable(&self) -> bool {
        match self.kind {
            Kind::Listener => false,
            Kind::Connecting => self.reset,
            _ => self.outgoing < self.capacity || self.reset || self.shut || self.is_failing(),
        }
    }

    /// Linux tells of room once there is a good piece of it; a send gets even the last byte.
    fn is_roomy(&self) -> bool {
        let free = self.capacity.saturating_sub(self.outgoing);
        let enough = match self.kind {
            Kind::UnixStream | Kind::UnixDatagram => free * 4 >= self.capacity * 3,
            Kind::Udp => free * 2 >= self.capacity,
            _ => free * 3 >= self.capacity,
        };
        self.reset || self.shut || enough
    }

    /// What an event tells: what is so, and was asked for.
    fn bits(&self, extra: u32) -> u32 {
        let asked = self.registered.map_or(0, |(.., mask)| mask) | ERR | HUP;
        self.only.unwrap_or((self.state() | extra) & asked)
    }

    fn state(&self) -> u32 {
        let mut mask = 0;
        for (on, bits) in [
            // An error of datagrams is told by ERR alone.
            (self.has_input(), IN),
            (self.writable() && self.is_roomy(), OUT),
            (self.mark.is_some() && self.kind != Kind::UnixStream, PRI),
            (self.fin || self.reset, RDHUP | IN),
            ((self.fin && self.shut) || self.reset, HUP),
            (self.error != 0, ERR),
        ] {
            mask |= if on { bits } else { 0 };
        }
        mask
    }
}

/// Answers a call about a simulated descriptor, as libc would.
fn answer(fd: c_int, f: impl FnOnce(&mut Kernel, usize) -> Result<usize, c_int>) -> Option<c_long> {
    if fd < FIRST {
        return None;
    }
    Some(in_libc_terms(kernel(|kernel| f(kernel, socket_of(fd)))))
}

fn in_libc_terms(result: Result<usize, c_int>) -> c_long {
    match result {
        Ok(value) => value as c_long,
        Err(code) => {
            // SAFETY: the address of this thread's errno.
            unsafe { *libc::__errno_location() = code };
            -1
        }
    }
}

fn simulating() -> bool {
    KERNEL.try_with(|kernel| kernel.borrow().is_some()).unwrap_or(false)
}

/// The real call, with whatever it was given.
macro_rules! real {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the caller's arguments, passed on unchanged.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}

/// What a simulated clock says, in seconds and nanoseconds.
fn simulated_time(clock: libc::clockid_t) -> Option<[u64; 2]> {
    (clock == libc::CLOCK_MONOTONIC && simulating()).then(|| {
        let now = kernel(|kernel| kernel.now);
        [now / 1_000_000_000, now % 1_000_000_000]
    })
}

#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let Some([seconds, nanos]) = simulated_time(clock) else {
        return real!(SYS_clock_gettime, clock, time) as c_int;
    };
    // SAFETY: the caller's place for the answer.
    unsafe { ((*time).tv_sec, (*time).tv_nsec) = (seconds as _, nanos as _) };
    0
}

// On systems of 32 bits, glibc's `timespec` has 32 for the seconds. So std calls this one, which
// answers in two words of 64 bits.
#[cfg(all(target_env = "gnu", target_pointer_width = "32"))]
#[unsafe(no_mangle)]
extern "C" fn __clock_gettime64(clock: libc::clockid_t, time: *mut [u64; 2]) -> c_int {
    // The number is the same on all of them; the crate libc has no name for it.
    const SYS_CLOCK_GETTIME64: c_long = 403;
    let Some(now) = simulated_time(clock) else {
        // SAFETY: the caller's arguments, passed on unchanged.
        return unsafe { libc::syscall(SYS_CLOCK_GETTIME64, clock, time) } as c_int;
    };
    // SAFETY: the caller's place for the answer.
    unsafe { *time = now };
    0
}

#[unsafe(no_mangle)]
extern "C" fn epoll_ctl(
    epoll: c_int,
    what: c_int,
    fd: c_int,
    event: *mut libc::epoll_event,
) -> c_int {
    let answer = answer(fd, |kernel, at| {
        kernel.enter();
        let now = kernel.now;
        let socket = &mut kernel.sockets[at];
        match what {
            libc::EPOLL_CTL_ADD if socket.registered.is_none() => {
                // SAFETY: the caller's event.
                let (mask, token) = unsafe { ((*event).events, (*event).u64) };
                let all = IN | OUT | RDHUP | PRI | libc::EPOLLET as u32;
                // PRIORITY too: without it, an edge would not tell why a read stops short.
                if mask & all != all {
                    kernel.fault(format!("registered for {mask:x} only"));
                    return Err(libc::EINVAL);
                }
                socket.registered = Some((epoll, token, mask));
                if socket.state() != 0 {
                    socket.raise(now, 0);
                }
                Ok(0)
            }
            libc::EPOLL_CTL_DEL => {
                let registered = socket.registered.take().ok_or(libc::ENOENT)?;
                socket.edge = None;
                kernel.stale.push((registered.0, registered.1));
                Ok(0)
            }
            _ => Err(libc::EINVAL),
        }
    });
    answer.unwrap_or_else(|| real!(SYS_epoll_ctl, epoll, what, fd, event)) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut libc::epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    if !simulating() {
        SLEEPS.set(SLEEPS.get() + usize::from(timeout != 0));
        let none = std::ptr::null::<c_void>();
        return real!(SYS_epoll_pwait, epoll, events, most, timeout, none, 8) as c_int;
    }
    let timeout = u64::try_from(timeout).ok().map(|ms| ms * 1_000_000);
    let result = kernel(|kernel| {
        kernel.wait(epoll, timeout)?;
        Ok(kernel.take_events(epoll, most as usize))
    });
    in_libc_terms(result.map(|found| {
        for (n, &(mask, token)) in found.iter().enumerate() {
            // SAFETY: the caller's array of `most` places.
            unsafe { *events.add(n) = libc::epoll_event { events: mask, u64: token } };
        }
        found.len()
    })) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn ppoll(
    fds: *mut libc::pollfd,
    count: libc::nfds_t,
    timeout: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    if !simulating() {
        // SAFETY: the caller's timeout, if there is one.
        let looks = unsafe { timeout.as_ref() }.is_some_and(|t| (t.tv_sec, t.tv_nsec) == (0, 0));
        SLEEPS.set(SLEEPS.get() + usize::from(!looks));
        return real!(SYS_ppoll, fds, count, timeout, mask, 8) as c_int;
    }
    // SAFETY: the caller's timeout.
    let timeout = unsafe { (*timeout).tv_sec as u64 * 1_000_000_000 + (*timeout).tv_nsec as u64 };
    // SAFETY: the caller's one descriptor.
    let epoll = unsafe { (*fds).fd };
    in_libc_terms(kernel(|kernel| {
        kernel.precise_waits += 1;
        match kernel.refuses_precision {
            Some(code) => Err(code),
            None => kernel.wait(epoll, Some(timeout)).map(usize::from),
        }
    })) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn recv(fd: c_int, buffer: *mut c_void, length: usize, flags: c_int) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's buffer.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) };
        let peek = flags & libc::MSG_PEEK != 0;
        match kernel.sockets[at].kind {
            kind if kind.is_of_datagrams() => kernel.receive_datagram(at, buffer, peek),
            _ => kernel.receive(at, &mut [buffer], peek),
        }
    });
    let none = std::ptr::null::<c_void>();
    answer.unwrap_or_else(|| real!(SYS_recvfrom, fd, buffer, length, flags, none, none)) as isize
}

#[unsafe(no_mangle)]
extern "C" fn readv(fd: c_int, buffers: *const libc::iovec, count: c_int) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's buffers, `count` of them.
        let buffers = unsafe { std::slice::from_raw_parts(buffers, count as usize) };
        let mut buffers: Vec<&mut [u8]> = buffers
            .iter()
            // SAFETY: as above.
            .map(|b| unsafe { std::slice::from_raw_parts_mut(b.iov_base.cast(), b.iov_len) })
            .collect();
        kernel.receive(at, &mut buffers, false)
    });
    answer.unwrap_or_else(|| real!(SYS_readv, fd, buffers, count)) as isize
}

#[unsafe(no_mangle)]
extern "C" fn send(fd: c_int, buffer: *const c_void, length: usize, flags: c_int) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's buffer.
        let buffer = unsafe { std::slice::from_raw_parts(buffer.cast(), length) };
        match kernel.sockets[at].kind {
            kind if kind.is_of_datagrams() => kernel.send_datagram(at, buffer, false),
            _ => kernel.send(at, &[buffer], flags),
        }
    });
    let none = std::ptr::null::<c_void>();
    answer.unwrap_or_else(|| real!(SYS_sendto, fd, buffer, length, flags, none, 0)) as isize
}

/// std's `UnixDatagram::send`, and `UnixStream`'s as well until it named a flag. Datagrams raise no
/// SIGPIPE, and Rust's runtime ignores it.
#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, buffer: *const c_void, length: usize) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's buffer.
        let buffer = unsafe { std::slice::from_raw_parts(buffer.cast(), length) };
        match kernel.sockets[at].kind {
            Kind::UnixStream => kernel.send(at, &[buffer], libc::MSG_NOSIGNAL),
            _ => kernel.send_datagram(at, buffer, false),
        }
    });
    answer.unwrap_or_else(|| real!(SYS_write, fd, buffer, length)) as isize
}

#[unsafe(no_mangle)]
extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: usize,
    flags: c_int,
    address: *mut libc::sockaddr,
    address_length: *mut libc::socklen_t,
) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's buffer.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) };
        let count = kernel.receive_datagram(at, buffer, flags & libc::MSG_PEEK != 0)?;
        match kernel.sockets[at].kind {
            // A socket without a name: nothing but its family.
            Kind::UnixDatagram => {
                // SAFETY: the caller's place for an address, large enough for any of std's.
                unsafe {
                    (*address).sa_family = libc::AF_UNIX as _;
                    *address_length = size_of::<libc::sa_family_t>() as _;
                }
            }
            _ => write_address(address, address_length, PEER),
        }
        Ok(count)
    });
    let real = || real!(SYS_recvfrom, fd, buffer, length, flags, address, address_length);
    answer.unwrap_or_else(real) as isize
}

#[unsafe(no_mangle)]
extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: usize,
    flags: c_int,
    address: *const libc::sockaddr,
    address_length: libc::socklen_t,
) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's buffer.
        let buffer = unsafe { std::slice::from_raw_parts(buffer.cast(), length) };
        let by_name = kernel.sockets[at].kind == Kind::UnixDatagram;
        kernel.send_datagram(at, buffer, by_name)
    });
    let real = || real!(SYS_sendto, fd, buffer, length, flags, address, address_length);
    answer.unwrap_or_else(real) as isize
}

/// Of one descriptor, and without waiting: whether it is ready.
#[unsafe(no_mangle)]
extern "C" fn poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int {
    let first = match count {
        // SAFETY: the caller's one descriptor.
        1 => unsafe { *fds },
        _ => libc::pollfd { fd: 0, events: 0, revents: 0 },
    };
    let answer = answer(first.fd, |kernel, at| {
        assert_eq!((count, timeout), (1, 0));
        kernel.look(at, if first.events & libc::POLLOUT != 0 { WRITE } else { READ })
    });
    // There is no such call on every architecture; with a time-out, this is it.
    answer.unwrap_or_else(|| {
        let wait = libc::timespec {
            tv_sec: libc::time_t::from(timeout / 1_000),
            tv_nsec: (timeout % 1_000 * 1_000_000) as _,
        };
        let wait = if timeout < 0 { std::ptr::null() } else { &raw const wait };
        real!(SYS_ppoll, fds, count, wait, std::ptr::null::<c_void>(), 8)
    }) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> isize {
    let answer = answer(fd, |kernel, at| {
        // SAFETY: the caller's message and its buffers.
        let buffers: Vec<&[u8]> = unsafe {
            std::slice::from_raw_parts((*message).msg_iov, (*message).msg_iovlen as _)
                .iter()
                .map(|b| std::slice::from_raw_parts(b.iov_base.cast(), b.iov_len))
                .collect()
        };
        kernel.send(at, &buffers, flags)
    });
    answer.unwrap_or_else(|| real!(SYS_sendmsg, fd, message, flags)) as isize
}

#[unsafe(no_mangle)]
extern "C" fn accept4(
    fd: c_int,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
    flags: c_int,
) -> c_int {
    let answer = answer(fd, |kernel, at| {
        // Before Linux looks at the queue, it wants a descriptor.
        kernel.enter();
        if !kernel.has_descriptors() {
            // Once, each 50 ms, and whenever one was given out or back.
            let (count, since, before) = kernel.refused.unwrap_or((0, kernel.now, kernel.moved));
            kernel.refused = Some((count + 1, since, before));
            let pauses = (kernel.now - since) / 50_000_000;
            if count > pauses as usize + kernel.moved - before {
                kernel.fault("accept does not pause while there are no descriptors".into());
                return Err(libc::EINVAL);
            }
            return Err(libc::EMFILE);
        }
        kernel.moved += 1;
        kernel.begin(at, READ)?;
        let new = match kernel.sockets[at].backlog.pop_front() {
            Some(Some(new)) => new,
            Some(None) => return Err(libc::ECONNABORTED),
            None => return Err(libc::EINVAL),
        };
        let socket = &mut kernel.sockets[new];
        socket.open = true;
        socket.nonblocking = flags & libc::SOCK_NONBLOCK != 0;
        socket.kind = Kind::Connected;
        write_address(address, length, PEER);
        Ok(fd_of(new) as usize)
    });
    answer.unwrap_or_else(|| real!(SYS_accept4, fd, address, length, flags)) as c_int
}

/// The port of every peer, and of every socket of ours.
const PEER: u16 = 1;
const OURS: u16 = 2;

fn write_address(address: *mut libc::sockaddr, length: *mut libc::socklen_t, port: u16) {
    // SAFETY: the caller's place for an address, large enough for any of std's and mio's.
    unsafe {
        let place = address.cast::<libc::sockaddr_in>();
        *place = std::mem::zeroed();
        (*place).sin_family = libc::AF_INET as _;
        (*place).sin_addr.s_addr = u32::from(std::net::Ipv4Addr::LOCALHOST).to_be();
        (*place).sin_port = port.to_be();
        *length = size_of::<libc::sockaddr_in>() as _;
    }
}

#[unsafe(no_mangle)]
extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if simulating() {
        let next = kernel(|kernel| {
            let at = kernel.connecting.pop_front().expect("an attempt is planned");
            if kernel.limit.is_some_and(|limit| kernel.open() >= limit) {
                return Err(libc::EMFILE);
            }
            let socket = &mut kernel.sockets[at];
            (socket.open, socket.nonblocking) = (true, kind & libc::SOCK_NONBLOCK != 0);
            Ok(fd_of(at) as usize)
        });
        return in_libc_terms(next) as c_int;
    }
    real!(SYS_socket, domain, kind, protocol) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn connect(fd: c_int, address: *const libc::sockaddr, length: libc::socklen_t) -> c_int {
    let answer = answer(fd, |_, _| Err(libc::EINPROGRESS));
    answer.unwrap_or_else(|| real!(SYS_connect, fd, address, length)) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn getpeername(
    fd: c_int,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
) -> c_int {
    let answer = answer(fd, |kernel, at| {
        kernel.enter();
        if kernel.sockets[at].kind == Kind::Connecting {
            return Err(libc::ENOTCONN);
        }
        write_address(address, length, PEER);
        Ok(0)
    });
    answer.unwrap_or_else(|| real!(SYS_getpeername, fd, address, length)) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn getsockname(
    fd: c_int,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
) -> c_int {
    let answer = answer(fd, |kernel, at| {
        kernel.enter();
        let to_itself = kernel.sockets[at].to_itself;
        write_address(address, length, if to_itself { PEER } else { OURS });
        Ok(0)
    });
    answer.unwrap_or_else(|| real!(SYS_getsockname, fd, address, length)) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut libc::socklen_t,
) -> c_int {
    let answer = answer(fd, |kernel, at| {
        kernel.enter();
        assert_eq!((level, name), (libc::SOL_SOCKET, libc::SO_ERROR));
        let error = std::mem::take(&mut kernel.sockets[at].error);
        // SAFETY: the caller's place for an int.
        unsafe { *value.cast::<c_int>() = error };
        Ok(0)
    });
    answer.unwrap_or_else(|| real!(SYS_getsockopt, fd, level, name, value, length)) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    let answer = answer(fd, |kernel, at| {
        kernel.enter();
        let (now, socket) = (kernel.now, &mut kernel.sockets[at]);
        if socket.reset {
            return Err(libc::ENOTCONN);
        }
        socket.shut |= how != libc::SHUT_RD;
        socket.raise(now, 0);
        Ok(0)
    });
    answer.unwrap_or_else(|| real!(SYS_shutdown, fd, how)) as c_int
}

// Variadic in C; on Linux's ABIs its arguments are passed like any others.
#[unsafe(no_mangle)]
extern "C" fn ioctl(fd: c_int, request: libc::c_ulong, argument: *mut c_void) -> c_int {
    let answer = answer(fd, |kernel, at| {
        assert_eq!(request, libc::FIONBIO);
        // SAFETY: FIONBIO's argument is an int.
        kernel.sockets[at].nonblocking = unsafe { *argument.cast::<c_int>() } != 0;
        Ok(0)
    });
    answer.unwrap_or_else(|| real!(SYS_ioctl, fd, request, argument)) as c_int
}

// Variadic too. With debug assertions, std asks whether what it closes is open.
#[unsafe(no_mangle)]
extern "C" fn fcntl(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
    let answer = answer(fd, |kernel, at| {
        assert_eq!(command, libc::F_GETFD);
        if kernel.sockets[at].open { Ok(0) } else { Err(libc::EBADF) }
    });
    answer.unwrap_or_else(|| real!(SYS_fcntl, fd, command, argument)) as c_int
}

#[unsafe(no_mangle)]
extern "C" fn close(fd: c_int) -> c_int {
    let answer = answer(fd, |kernel, at| {
        let socket = &mut kernel.sockets[at];
        let wrong = !socket.open || socket.registered.is_some();
        socket.open = false;
        kernel.moved += 1;
        if wrong {
            kernel.fault(format!("socket {at} closed twice, or while registered"));
        }
        Ok(0)
    });
    answer.unwrap_or_else(|| real!(SYS_close, fd)) as c_int
}

impl Kernel {
    /// After everything was dropped: what is still open.
    pub fn left_open(&self) -> usize {
        self.open()
    }
}
