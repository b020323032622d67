//! A small HTTP/1.1 client: GET over `http://`, one request at a time per connection.
//!
//! Bodies are streamed out of the connection's own buffer, so that neither their length nor the
//! number of their chunks costs memory. There are no redirects, no proxies and no TLS.

mod target;

pub(crate) use target::{Target, UrlError};

use gondola::net::TcpStream;
use http::StatusCode;
use httparse::Status::{self, Complete, Partial};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// The most that a head, a line of a chunk's size, or trailers may take.
const MAX_HEAD: usize = 64 * 1024;

/// Nearly all heads fit; a connection's buffer grows only for one that does not.
const BUFFER: usize = 16 * 1024;

const MAX_HEADERS: usize = 128;

/// What a response says before its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) framing: Framing,
    /// Whether the connection can serve another request once the body has been read.
    pub(crate) keep_alive: bool,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A connection to a server, with at most one response on its way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// The bytes of `start..end` were received and not yet used.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    body: Body,
    keep_alive: bool,
}

/// What of the body comes next.
#[derive(Clone, Copy, Debug)]
enum Body {
    Done,
    Length(u64),
    UntilClose,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

impl Connection {
    /// Connects to the first of the addresses that accepts.
    pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for &address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let (buffer, body) = (vec![0; BUFFER], Body::Done);
                    return Ok(Self { stream, buffer, start: 0, end: 0, body, keep_alive: true });
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Whether another [`get`](Self::get) can follow: the last response was read to its end, and
    /// neither it nor a mishap closed the connection.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keep_alive && matches!(self.body, Body::Done) && self.start == self.end
    }

    /// Sends a request, and waits for the head of its response.
    pub(crate) async fn get(&mut self, target: &Target) -> Result<Head, Error> {
        if !self.is_reusable() {
            return Err(Error::NotReusable);
        }
        // Until the head is there: who drops this future leaves the connection out of step.
        self.keep_alive = false;
        self.stream.write_all(target.request.as_bytes()).await?;
        if !self.fill().await? {
            return Err(Error::Closed);
        }
        let head = loop {
            let head = self.parse(parse_head).await?;
            // Interim responses are news that we did not ask for.
            if !head.status.is_informational() {
                break head;
            }
        };
        self.keep_alive = head.keep_alive;
        self.body = match head.framing {
            Framing::Length(0) => Body::Done,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::ChunkSize,
            Framing::UntilClose => Body::UntilClose,
        };
        Ok(head)
    }

    /// The next piece of the body, as it comes; `None` at its end. Dropping the future loses
    /// nothing.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        let wanted = loop {
            match self.body {
                Body::Done => return Ok(None),
                Body::Length(left) | Body::Chunk(left) => break left,
                Body::UntilClose => break u64::MAX,
                Body::ChunkSize => {
                    self.body = match self.parse(parse_chunk_size).await? {
                        0 => Body::Trailers,
                        size => Body::Chunk(size),
                    }
                }
                Body::ChunkEnd => {
                    self.parse(parse_line_end).await?;
                    self.body = Body::ChunkSize;
                }
                Body::Trailers => {
                    self.parse(parse_trailers).await?;
                    self.body = Body::Done;
                }
            }
        };
        if self.start == self.end && !self.fill().await? {
            if !matches!(self.body, Body::UntilClose) {
                return Err(Error::Truncated);
            }
            self.body = Body::Done;
            return Ok(None);
        }
        let count = wanted.min((self.end - self.start) as u64);
        match &mut self.body {
            Body::Length(left) if *left == count => self.body = Body::Done,
            Body::Chunk(left) if *left == count => self.body = Body::ChunkEnd,
            Body::Length(left) | Body::Chunk(left) => *left -= count,
            _ => {}
        }
        let from = self.start;
        self.start += count as usize;
        Ok(Some(&self.buffer[from..self.start]))
    }

    /// Uses up what `parser` understands, reading on until it is complete.
    async fn parse<T>(
        &mut self,
        parser: impl Fn(&[u8]) -> Result<Status<(usize, T)>, Error>,
    ) -> Result<T, Error> {
        loop {
            if let Complete((used, value)) = parser(&self.buffer[self.start..self.end])? {
                self.start += used;
                return Ok(value);
            }
            if !self.fill().await? {
                return Err(Error::Truncated);
            }
        }
    }

    /// Reads behind what is there already; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, Error> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start.., 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else if self.end < MAX_HEAD {
                self.buffer.resize(2 * self.end, 0);
            } else {
                return Err(Error::TooLong);
            }
        }
        let count = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += count;
        Ok(count > 0)
    }
}

fn parse_head(bytes: &[u8]) -> Result<Status<(usize, Head)>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Complete(used) = response.parse(bytes)? else { return Ok(Partial) };

    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Error::Malformed("a bad status"))?;
    let modern = response.version == Some(1);
    let (mut close, mut keep) = (false, false);
    let (mut chunked, mut length) = (false, None);
    for header in response.headers.iter() {
        let is = |name| header.name.eq_ignore_ascii_case(name);
        let value = std::str::from_utf8(header.value).unwrap_or("not text");
        let elements = || value.split(',').map(str::trim);
        if is("connection") {
            close |= elements().any(|element| element.eq_ignore_ascii_case("close"));
            keep |= elements().any(|element| element.eq_ignore_ascii_case("keep-alive"));
        } else if is("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case("chunked") {
                return Err(Error::Malformed("an unknown transfer encoding"));
            }
            chunked = true;
        } else if is("content-length") {
            for element in elements() {
                let digits = element.bytes().all(|byte| byte.is_ascii_digit());
                let this = element.parse::<u64>().ok().filter(|_| digits);
                if this.is_none() || length.is_some_and(|length| Some(length) != this) {
                    return Err(Error::Malformed("a bad content length"));
                }
                length = this;
            }
        }
    }
    let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match length {
        _ if empty || status.is_informational() => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    // Two contradicting lengths: who reads on behind such a body may read what another planted.
    let dubious = chunked && (length.is_some() || !modern);
    let persists = if modern { !close } else { keep && !close };
    let keep_alive = persists && !dubious && framing != Framing::UntilClose;
    Ok(Complete((used, Head { status, framing, keep_alive })))
}

fn parse_chunk_size(bytes: &[u8]) -> Result<Status<(usize, u64)>, Error> {
    httparse::parse_chunk_size(bytes).map_err(|_| Error::Malformed("a bad chunk size"))
}

fn parse_line_end(bytes: &[u8]) -> Result<Status<(usize, ())>, Error> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(Complete((2, ()))),
        [] | [b'\r'] => Ok(Partial),
        _ => Err(Error::Malformed("a chunk is longer than it said")),
    }
}

fn parse_trailers(bytes: &[u8]) -> Result<Status<(usize, ())>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = httparse::parse_headers(bytes, &mut headers)?;
    Ok(match parsed {
        Complete((used, _)) => Complete((used, ())),
        Partial => Partial,
    })
}

/// Why there is no response, or no whole one.
#[derive(Debug)]
pub(crate) enum Error {
    Io(io::Error),
    /// Closed before the first byte of the response: on a connection that was kept alive, it is
    /// the server that had waited long enough.
    Closed,
    /// Closed in the middle of a response.
    Truncated,
    /// Not HTTP.
    Syntax(httparse::Error),
    Malformed(&'static str),
    /// A head above 64 KiB.
    TooLong,
    /// The connection still holds an earlier response, or has served its last one.
    NotReusable,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<httparse::Error> for Error {
    fn from(error: httparse::Error) -> Self {
        Self::Syntax(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the server closed the connection without a response"),
            Self::Truncated => f.write_str("the response ended before its end"),
            Self::Syntax(error) => write!(f, "not an HTTP/1.1 response: {error}"),
            Self::Malformed(what) => write!(f, "not an HTTP/1.1 response: {what}"),
            Self::TooLong => write!(f, "the head of the response is above {MAX_HEAD} bytes"),
            Self::NotReusable => f.write_str("the connection cannot serve another request"),
        }
    }
}

impl std::error::Error for Error {}
