//! The other end of the socket rows: a process of its own, so that its CPU time is not in theirs.
//! It connects, and then answers or asks as many requests as it is told.

use lexopt::ValueExt as _;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What the process does.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Asks, one request at a time on each connection, and expects an echo.
    Ask,
    /// Answers each request with [`ANSWER`] times itself.
    Answer,
}

pub(crate) const ANSWER: usize = 4;

/// Room for a message, and for more: so that a read that got it all is seen to be short.
pub(crate) fn room(bytes: usize) -> usize {
    (2 * bytes).max(1024)
}

/// The process, while this one lives.
pub(crate) struct Load {
    process: Child,
    orders: Option<ChildStdin>,
    reports: ChildStdout,
}

impl Load {
    /// With the connections, which std has accepted.
    pub(crate) fn start(
        kind: Kind,
        connections: usize,
        bytes: usize,
    ) -> (Self, Vec<std::net::TcpStream>) {
        raise_limit();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kind = match kind {
            Kind::Ask => "ask",
            Kind::Answer => "answer",
        };
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--load", kind, &address.to_string()])
            .args([connections, bytes].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let accept = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&[0]).unwrap();
            stream
        };
        let streams = (0..connections).map(accept).collect();
        let (orders, reports) = (process.stdin.take(), process.stdout.take().unwrap());
        (Self { process, orders, reports }, streams)
    }

    /// Lets it do so many requests.
    pub(crate) fn begin(&mut self, requests: u64) {
        self.orders.as_mut().unwrap().write_all(&requests.to_le_bytes()).unwrap();
    }

    /// Waits until they are done, and found to be right.
    pub(crate) fn end(&mut self) {
        self.reports.read_exact(&mut [0]).expect("the load has found an error");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if std::thread::panicking() {
            _ = self.process.kill(); // it may wait for us
        }
        self.orders = None;
        let status = self.process.wait().unwrap();
        assert!(status.success() || std::thread::panicking(), "the load: {status}");
    }
}

/// A thousand connections for each of the implementations.
fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the write, and for the read.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(limit.rlim_cur.max(20_000));
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Ready for reading, edge-triggered; the tokens are the indices.
pub(crate) fn registered(
    poll: &Poll,
    streams: impl IntoIterator<Item = std::net::TcpStream>,
) -> Vec<TcpStream> {
    let register = |(index, stream): (usize, std::net::TcpStream)| {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE).unwrap();
        stream
    };
    streams.into_iter().enumerate().map(register).collect()
}

/// Waits; no events, if a signal came first.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Reads once; `None`: nothing yet.
pub(crate) fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The process itself: `ask|answer ADDRESS CONNECTIONS BYTES`, where BYTES is a request's size.
pub(crate) fn main(arguments: &mut lexopt::Parser) -> Result<(), Box<dyn Error>> {
    let kind = match arguments.value()?.to_str() {
        Some("ask") => Kind::Ask,
        Some("answer") => Kind::Answer,
        _ => return Err("no such load".into()),
    };
    let address: SocketAddr = arguments.value()?.parse()?;
    let connections: usize = arguments.value()?.parse()?;
    let bytes: usize = arguments.value()?.parse()?;
    let connect = |_| {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Accepted: a full queue would cost the next one a second.
        stream.read_exact(&mut [0])?;
        Ok(stream)
    };
    let streams = (0..connections).map(connect).collect::<io::Result<Vec<_>>>()?;
    let poll = Poll::new()?;
    let lines = registered(&poll, streams).into_iter();
    let lines = lines.map(|stream| Line { stream, message: vec![0x5a; bytes], got: 0 }).collect();
    let (events, buffer) = (Events::with_capacity(1024), vec![0; room(bytes)]);
    let mut other = Other { poll, events, lines, buffer };
    let mut requests = [0; 8];
    while io::stdin().read_exact(&mut requests).is_ok() {
        let requests = u64::from_le_bytes(requests);
        match kind {
            Kind::Ask => other.ask(requests)?,
            Kind::Answer => other.answer(requests)?,
        }
        let mut stdout = io::stdout();
        stdout.write_all(&[0])?;
        stdout.flush()?;
    }
    Ok(())
}

struct Line {
    stream: TcpStream,
    message: Vec<u8>,
    /// How much of it has come.
    got: usize,
}

struct Other {
    poll: Poll,
    events: Events,
    lines: Vec<Line>,
    buffer: Vec<u8>,
}

impl Other {
    fn ask(&mut self, requests: u64) -> io::Result<()> {
        let mut numbers = 0..requests;
        for (line, number) in self.lines.iter_mut().zip(numbers.by_ref()) {
            line.ask(number)?;
        }
        self.receive(requests, |line, bytes| {
            if line.message.get(line.got..line.got + bytes.len()) != Some(bytes) {
                return Err(io::Error::other("not the echo"));
            }
            line.got += bytes.len();
            let whole = line.got == line.message.len();
            if let Some(number) = whole.then(|| numbers.next()).flatten() {
                line.ask(number)?;
            }
            Ok(whole)
        })
    }

    fn answer(&mut self, requests: u64) -> io::Result<()> {
        self.receive(requests, |line, bytes| {
            let Some(place) = line.message.get_mut(line.got..line.got + bytes.len()) else {
                return Err(io::Error::other("more than a request"));
            };
            place.copy_from_slice(bytes);
            line.got += bytes.len();
            let whole = line.got == line.message.len();
            if whole {
                line.got = 0;
                line.stream.write_all(&line.message.repeat(ANSWER))?;
            }
            Ok(whole)
        })
    }

    /// Reads until so many messages are whole, as `take` says of what has come.
    fn receive(
        &mut self,
        messages: u64,
        mut take: impl FnMut(&mut Line, &[u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut left = messages;
        while left > 0 {
            wait(&mut self.poll, &mut self.events)?;
            for event in &self.events {
                let line = &mut self.lines[event.token().0];
                let Some(read) = read(&mut line.stream, &mut self.buffer)? else { continue };
                left -= u64::from(take(line, &self.buffer[..read])?);
            }
        }
        Ok(())
    }
}

impl Line {
    fn ask(&mut self, number: u64) -> io::Result<()> {
        self.got = 0;
        self.message[..8].copy_from_slice(&number.to_le_bytes());
        self.stream.write_all(&self.message)
    }
}
