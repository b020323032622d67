//! Sockets over the simulated kernel: byte for byte what was sent, no error without a reason, no
//! task asleep while it could go on, no call tried twice without an event, nothing left open.

use crate::simulated::{
    Event, Kernel, Kind, READ, WRITE, fd_of, kernel, pattern, simulate, socket_of,
};
use crate::support::cases::{Choices, digest, run};
use futures::FutureExt;
use gondola::net::{self, TcpListener, TcpStream, UnixStream, unix};
use gondola::time::{sleep, timeout};
use gondola::{JoinHandle, Runtime, try_spawn};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(usize),
    Vectored(usize, usize),
    /// `read_exact` and `write_all`: not cancelled.
    Whole(usize),
    Peek(usize),
    /// By a poll method.
    Polled(usize),
    /// Without waiting.
    Try(usize),
    /// `readable` or `writable`, then a try. Never of nothing.
    Ready(usize),
    Pause(u64),
    Shutdown,
}

/// What a task does: steps, each given up after a time, and whether it goes on to the end.
#[derive(Clone, Debug)]
struct Script {
    steps: Vec<(Step, Option<u64>)>,
    to_the_end: bool,
}

fn script(choices: &mut Choices<'_>) -> Script {
    let most = 1 + choices.below(100);
    let impatience = choices.below(60);
    let steps = (0..choices.below(8))
        .map(|_| {
            let size = choices.below(most) as usize;
            let step = match choices.below(16) {
                10 | 11 => Step::Polled(size),
                12 | 13 => Step::Ready(size + 1),
                14 | 15 => Step::Try(size),
                0..5 => Step::Plain(size),
                5 => Step::Vectored(size, choices.below(most) as usize),
                6 => Step::Whole(size),
                7 => Step::Peek(size),
                8 => Step::Pause(choices.below(2_000)),
                _ => Step::Shutdown,
            };
            let patience = choices.percent(impatience).then(|| choices.below(300));
            let empty = matches!(
                step,
                Step::Plain(0)
                    | Step::Peek(0)
                    | Step::Polled(0)
                    | Step::Try(0)
                    | Step::Vectored(0, 0)
            );
            (step, if empty { Some(0) } else { patience })
        })
        .collect();
    Script { steps, to_the_end: choices.percent(70) }
}

/// Says to the kernel that a task waits, for as long as it lives.
pub(crate) struct Waits(usize, usize);

impl Waits {
    fn new(socket: usize, direction: usize) -> Self {
        kernel(|kernel| kernel.sockets[socket].waiting[direction] += 1);
        Self(socket, direction)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        kernel(|kernel| kernel.sockets[self.0].waiting[self.1] -= 1);
    }
}

/// Waits for an operation, for `patience` microseconds at most: `None` if that was not enough.
pub(crate) async fn patiently<T>(
    (socket, direction): (usize, usize),
    patience: Option<u64>,
    operation: impl Future<Output = io::Result<T>>,
) -> Option<io::Result<T>> {
    if patience == Some(0) {
        return operation.now_or_never();
    }
    let waiting = Waits::new(socket, direction);
    let start = kernel(|kernel| kernel.now());
    let result = match patience {
        Some(micros) => timeout(Duration::from_micros(micros), operation).await.ok(),
        None => Some(operation.await),
    };
    drop(waiting);
    // Given up: it had better not have been possible all the while, nor have become so in time.
    if let (None, Some(micros)) = (&result, patience) {
        kernel(|kernel| {
            if kernel.is_forgotten(socket, direction) {
                kernel.faults.push(format!("socket {socket} was forgotten"));
            }
            if kernel.is_overlooked(socket, direction, start + micros * 1_000) {
                kernel.faults.push(format!("socket {socket} timed out over what was there"));
            }
        });
    }
    result
}

/// A half of a stream, of either kind: they have the same methods, but no trait.
enum Half<T, U> {
    Tcp(T),
    Unix(U),
}

type ReadHalf = Half<net::OwnedReadHalf, unix::OwnedReadHalf>;
type WriteHalf = Half<net::OwnedWriteHalf, unix::OwnedWriteHalf>;

macro_rules! with {
    ($half:ident => $call:expr) => {
        match &mut $half {
            Half::Tcp($half) => $call,
            Half::Unix($half) => $call,
        }
    };
}

/// A try that would have blocked comes to nothing, but only if no event has told of more.
fn tried<T>((socket, direction): (usize, usize), result: io::Result<T>) -> Option<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let forgotten = kernel(|kernel| kernel.is_forgotten(socket, direction));
            assert!(!forgotten, "it would not have blocked");
            None
        }
        result => Some(result),
    }
}

/// The traces of all tasks, in one.
type Log = Rc<RefCell<Vec<String>>>;

async fn reader(socket: usize, mut half: ReadHalf, script: Script, log: Log) {
    let at = (socket, READ);
    let mut got = 0;
    let steps = script.steps.into_iter().map(Some);
    let rest = std::iter::repeat_n(None, if script.to_the_end { 10_000 } else { 0 });
    for step in steps.chain(rest) {
        let (step, patience) = step.unwrap_or((Step::Plain(50), None));
        let mut buffer = [0; 200];
        let (result, asked) = match step {
            Step::Plain(size) => {
                let buffer = &mut buffer[..size];
                (with!(half => patiently(at, patience, half.read(buffer)).await), size)
            }
            Step::Peek(size) => {
                let Half::Tcp(half) = &mut half else { continue };
                (patiently(at, patience, half.peek(&mut buffer[..size])).await, size)
            }
            Step::Polled(size) => {
                let polled = poll_fn(|cx| with!(half => half.poll_read(cx, &mut buffer[..size])));
                (patiently(at, patience, polled).await, size)
            }
            Step::Try(size) => (tried(at, with!(half => half.try_read(&mut buffer[..size]))), size),
            Step::Ready(size) => {
                let ready = async {
                    with!(half => half.readable().await)?;
                    with!(half => half.try_read(&mut buffer[..size]))
                };
                (patiently(at, patience, ready).await, size)
            }
            Step::Whole(size) => {
                let whole = async { with!(half => half.read_exact(&mut buffer[..size]).await) };
                (patiently(at, None, whole).await.map(|done| done.map(|()| size)), size)
            }
            Step::Vectored(one, two) => {
                let (a, b) = buffer.split_at_mut(one);
                let buffers = &mut [IoSliceMut::new(a), IoSliceMut::new(&mut b[..two])];
                (
                    with!(half => patiently(at, patience, half.read_vectored(buffers)).await),
                    one + two,
                )
            }
            Step::Pause(micros) => {
                sleep(Duration::from_micros(micros)).await;
                continue;
            }
            Step::Shutdown => continue,
        };
        log.borrow_mut().push(format!("{socket} {step:?}: {result:?}"));
        let (fin, reset, sent) = kernel(|kernel| {
            let socket = &kernel.sockets[socket];
            (socket.fin, socket.reset, socket.sent)
        });
        match result {
            None => {}
            Some(Ok(0)) if asked == 0 => {}
            _ if asked == 0 => panic!("who asks for nothing gets it at once"),
            Some(Ok(0)) => {
                assert!((fin || reset) && got == sent, "an end after {got} of {sent} bytes");
                return;
            }
            Some(Ok(count)) => {
                let right = (got..).map(|n| pattern(socket, n));
                assert!(buffer.iter().take(count).copied().eq(right.take(count)), "wrong bytes");
                got += if matches!(step, Step::Peek(_)) { 0 } else { count };
            }
            Some(Err(error)) => {
                let whole = matches!(step, Step::Whole(_));
                match error.kind() {
                    ErrorKind::ConnectionReset => assert!(reset && (whole || got == sent)),
                    ErrorKind::UnexpectedEof => assert!((fin || reset) && whole),
                    _ => panic!("{error}"),
                }
                return;
            }
        }
    }
}

async fn writer(socket: usize, mut half: WriteHalf, script: Script, log: Log) {
    let at = (socket, WRITE);
    let mut said = 0;
    for (step, patience) in script.steps {
        let bytes: Vec<u8> = (said..said + 200).map(|n| pattern(socket, n)).collect();
        let (result, asked) = match step {
            Step::Plain(size) => {
                (with!(half => patiently(at, patience, half.write(&bytes[..size])).await), size)
            }
            Step::Polled(size) => {
                let polled = poll_fn(|cx| with!(half => half.poll_write(cx, &bytes[..size])));
                (patiently(at, patience, polled).await, size)
            }
            Step::Try(size) => (tried(at, with!(half => half.try_write(&bytes[..size]))), size),
            Step::Ready(size) => {
                let ready = async {
                    with!(half => half.writable().await)?;
                    with!(half => half.try_write(&bytes[..size]))
                };
                (patiently(at, patience, ready).await, size)
            }
            Step::Whole(size) => {
                let whole = async { with!(half => half.write_all(&bytes[..size]).await) };
                (patiently(at, None, whole).await.map(|done| done.map(|()| size)), size)
            }
            Step::Vectored(one, two) => {
                let buffers = [&bytes[..one], &bytes[one..one + two]].map(IoSlice::new);
                (
                    with!(half => patiently(at, patience, half.write_vectored(&buffers)).await),
                    one + two,
                )
            }
            Step::Pause(micros) => {
                sleep(Duration::from_micros(micros)).await;
                continue;
            }
            Step::Shutdown => break,
            Step::Peek(_) => continue,
        };
        log.borrow_mut().push(format!("{socket} {step:?}: {result:?}"));
        let (reset, accepted) = kernel(|kernel| {
            let socket = &kernel.sockets[socket];
            (socket.reset, socket.accepted)
        });
        match result {
            None if asked > 0 => {}
            None => panic!("who says nothing has said it at once"),
            Some(Ok(count)) => {
                assert_eq!(count > 0, asked > 0, "nothing written, and no error");
                said += count;
            }
            Some(Err(error)) => {
                let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(reset && kinds.contains(&error.kind()), "{error}");
                return;
            }
        }
        assert_eq!(said, accepted, "written and not told, or told and not written");
    }
}

struct Plan {
    kinds: Vec<Kind>,
    scripts: Vec<[Script; 2]>,
    patience: Vec<Option<u64>>,
    /// Whether there are fewer descriptors than sockets.
    limited: bool,
    log: Log,
}

fn talk(plan: &Plan, stream: TcpStream) -> [JoinHandle<()>; 2] {
    let socket = socket_of(stream.as_fd().as_raw_fd());
    let (reads, writes) = stream.into_split();
    talk_by_halves(plan, socket, Half::Tcp(reads), Half::Tcp(writes))
}

fn talk_by_halves(
    plan: &Plan,
    socket: usize,
    read_half: ReadHalf,
    write_half: WriteHalf,
) -> [JoinHandle<()>; 2] {
    let [reads, writes] = plan.scripts[socket].clone();
    [
        try_spawn(reader(socket, read_half, reads, plan.log.clone())).unwrap(),
        try_spawn(writer(socket, write_half, writes, plan.log.clone())).unwrap(),
    ]
}

async fn accept_all(plan: &Plan, listener: TcpListener, socket: usize) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let patience = plan.patience[socket];
    let mut wanted = plan.kinds.iter().filter(|kind| **kind == Kind::Arriving).count();
    while wanted > 0 {
        let accepted = patiently((socket, READ), patience, listener.accept()).await;
        plan.log.borrow_mut().push(format!("accepted {accepted:?}"));
        match accepted {
            None => {}
            Some(Ok((stream, _))) => {
                tasks.extend(talk(plan, stream));
                wanted -= 1;
            }
            Some(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Some(Err(error)) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}"),
        }
    }
    tasks
}

async fn connect(plan: &Plan, socket: usize) -> Vec<JoinHandle<()>> {
    // Attempts begin in the order of the sockets, which is that of `Kernel::add`.
    let connected = TcpStream::connect(([127, 0, 0, 1], 1));
    let connected = patiently((socket, WRITE), plan.patience[socket], connected).await;
    plan.log.borrow_mut().push(format!("connected {connected:?}"));
    match connected {
        None => vec![],
        Some(Ok(stream)) => {
            let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            assert_ne!(local, peer, "connected to itself");
            talk(plan, stream).into()
        }
        Some(Err(error)) => {
            // Refused, or connected and reset before anybody looked.
            let kinds = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
            let none_left = plan.limited && error.raw_os_error() == Some(libc::EMFILE);
            assert!(none_left || kinds.contains(&error.kind()), "{error}");
            vec![]
        }
    }
}

/// Everything a case consists of is decided before it begins.
fn plan(choices: &mut Choices<'_>) -> (Kernel, Plan) {
    let mut kernel = Kernel::new();
    let count = 1 + choices.below(3) as usize;
    let kinds: Vec<Kind> = (0..count)
        .map(|_| match choices.below(8) {
            4 => Kind::Connecting,
            5 => Kind::Arriving,
            6 | 7 => Kind::UnixStream,
            _ => Kind::Connected,
        })
        .chain([Kind::Listener])
        .collect();
    let horizon = 1 + choices.below(2_000);
    let eagerness = choices.below(20);
    for (at, &kind) in kinds.iter().enumerate() {
        let capacity = 1 + choices.below(150) as usize;
        let delay = choices.below(3) * choices.below(200_000);
        kernel.add(kind, capacity, delay);
        let moment = |choices: &mut Choices<'_>| choices.below(horizon) * 1_000;
        match kind {
            Kind::Connecting => {
                let decided = match choices.below(10) {
                    0 => Event::Refused,
                    1 => Event::ConnectedToItself,
                    _ => Event::Connected,
                };
                kernel.plan(moment(choices), at, decided);
            }
            Kind::Arriving => kernel.plan(moment(choices), at, Event::Arrival),
            _ => {}
        }
        for _ in 0..choices.below(1 + eagerness) {
            let size = 1 + choices.below(120) as usize;
            let event = match (kind, choices.below(26)) {
                (Kind::Listener, 0..4) => Event::Exhausted,
                (Kind::Listener, 4..8) => Event::Aborted,
                (_, 0..8) => Event::Data(size),
                (_, 8..15) => Event::Drain(size),
                (_, 15) => Event::Urgent,
                (_, 16) => Event::Fin,
                (_, 17) => Event::Reset { alone: choices.percent(50) },
                (_, 18 | 19) => Event::Interrupted,
                (_, 20 | 21) => Event::Spurious,
                (_, 22) => Event::Stale,
                (_, 23) => Event::Stopped(choices.below(horizon) * 1_000),
                (_, 24) => Event::Late(choices.below(horizon) * 1_000),
                _ => Event::Signal,
            };
            let of_streams = matches!(
                event,
                Event::Data(_) | Event::Drain(_) | Event::Urgent | Event::Fin | Event::Reset { .. }
            );
            if kind != Kind::Listener || !of_streams {
                kernel.plan(moment(choices), at, event);
            }
        }
    }
    let scripts = kinds.iter().map(|_| [script(choices), script(choices)]).collect();
    let patience =
        kinds.iter().map(|_| choices.percent(20).then(|| 1 + choices.below(1_000))).collect();
    let limited = choices.percent(20);
    if limited {
        let is_open = |kind: &&Kind| matches!(kind, Kind::Connected | Kind::UnixStream);
        let open = kinds.iter().filter(is_open).count();
        kernel.limit = Some(2 + open + choices.below(2) as usize);
    }
    (kernel, Plan { kinds, scripts, patience, limited, log: Log::default() })
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let (mut world, plan) = plan(choices);
    world.horizon = Some(world.now() + 3_600_000_000_000);
    let ((), kernel) = simulate(world, || {
        let mut runtime = Runtime::builder().slots(32).build().unwrap();
        runtime.block_on(async {
            let listener = plan.kinds.len() - 1;
            let mut tasks = Vec::new();
            for (at, kind) in plan.kinds.iter().enumerate() {
                match kind {
                    Kind::Connected => {
                        // SAFETY: the simulated kernel gave out these descriptors.
                        let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(at)) };
                        tasks.extend(talk(&plan, TcpStream::from_std(stream).unwrap()));
                    }
                    Kind::UnixStream => {
                        // SAFETY: as above.
                        let stream =
                            unsafe { std::os::unix::net::UnixStream::from_raw_fd(fd_of(at)) };
                        let (reads, writes) = UnixStream::from_std(stream).unwrap().into_split();
                        let halves = (Half::Unix(reads), Half::Unix(writes));
                        tasks.extend(talk_by_halves(&plan, at, halves.0, halves.1));
                    }
                    _ => {}
                }
            }
            // SAFETY: as above.
            let std = unsafe { std::net::TcpListener::from_raw_fd(fd_of(listener)) };
            let accepting = accept_all(&plan, TcpListener::from_std(std).unwrap(), listener);
            let connecting = (0..listener)
                .filter(|&at| plan.kinds[at] == Kind::Connecting)
                .map(|at| connect(&plan, at));
            let (accepted, connected) =
                futures::join!(accepting, futures::future::join_all(connecting));
            tasks.extend(accepted.into_iter().chain(connected.into_iter().flatten()));
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(format!("{runtime:?}").contains("timers: 0, watches: 0"), "{runtime:?}");
    });
    let log = plan.log.take();
    assert!(kernel.faults.is_empty(), "{:#?}\n{log:#?}", kernel.faults);
    assert_eq!(kernel.left_open(), 0);
    let mut sum = kernel.now();
    digest(&mut sum, log);
    sum
}

#[test]
fn bytes_arrive_and_nobody_sleeps_on() {
    run(100_000, case);
}
