//! Datagrams over the simulated kernel: what a call took, gave, or was refused, somebody hears of,
//! once; no task is asleep while it could go on, and no call is tried twice without an event.

use crate::simulated::{Entry, Event, Kernel, Kind, READ, WRITE, fd_of, kernel, pattern, simulate};
use crate::sockets::patiently;
use crate::support::cases::{Choices, digest, run};
use gondola::net::{UdpSocket, UnixDatagram};
use gondola::time::{sleep, timeout};
use gondola::{Runtime, try_spawn};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::FromRawFd;
use std::os::unix::net as unix;
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(usize),
    /// With an address.
    Named(usize),
    Peek(usize),
    PeekNamed(usize),
    Try(usize),
    /// `readable` or `writable`, then a try.
    Ready(usize),
    Pause(u64),
}

/// Steps, each given up after a time; then datagrams until the end of the world.
#[derive(Clone, Debug)]
struct Script {
    direction: usize,
    steps: Vec<(Step, Option<u64>)>,
    /// All its plain steps are polls: at most one task of a direction does that, for such tasks
    /// keep displacing each other.
    polls: bool,
    to_the_end: bool,
}

fn script(choices: &mut Choices<'_>, direction: usize, first: bool) -> Script {
    let most = 1 + choices.below(40);
    let impatience = choices.below(60);
    let steps = (0..choices.below(10))
        .map(|_| {
            let size = choices.below(most) as usize;
            let step = match choices.below(13) {
                0..4 => Step::Plain(size),
                4..6 => Step::Named(size),
                6 => Step::Peek(size),
                12 => Step::PeekNamed(size),
                7 | 8 => Step::Try(size),
                9 | 10 => Step::Ready(size),
                _ => Step::Pause(choices.below(2_000)),
            };
            (step, choices.percent(impatience).then(|| choices.below(300)))
        })
        .collect();
    let polls = first && choices.percent(50);
    let to_the_end = direction == READ && choices.percent(70);
    Script { direction, steps, polls, to_the_end }
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

impl Socket {
    fn new(at: usize, kind: Kind) -> Self {
        // SAFETY: the simulated kernel gave out these descriptors.
        unsafe {
            match kind {
                Kind::Udp => Self::Udp(
                    UdpSocket::from_std(std::net::UdpSocket::from_raw_fd(fd_of(at))).unwrap(),
                ),
                _ => {
                    let std = unix::UnixDatagram::from_raw_fd(fd_of(at));
                    Self::Unix(UnixDatagram::from_std(std).unwrap())
                }
            }
        }
    }

    async fn read(&self, step: Step, polls: bool, buffer: &mut [u8]) -> io::Result<usize> {
        let of_peer = |(count, from): (usize, SocketAddr)| {
            assert_eq!(from, PEER.into());
            count
        };
        let of_nobody = |(count, from): (usize, unix::SocketAddr)| {
            assert!(from.is_unnamed());
            count
        };
        match (step, self) {
            (Step::Named(_), Self::Udp(socket)) => socket.recv_from(buffer).await.map(of_peer),
            (Step::Named(_), Self::Unix(socket)) => socket.recv_from(buffer).await.map(of_nobody),
            (Step::Peek(_), Self::Udp(socket)) => socket.peek(buffer).await,
            (Step::PeekNamed(_), Self::Udp(socket)) => socket.peek_from(buffer).await.map(of_peer),
            (Step::Ready(_), Self::Udp(socket)) => {
                socket.readable().await?;
                socket.try_recv_from(buffer).map(of_peer)
            }
            (Step::Ready(_), Self::Unix(socket)) => {
                socket.readable().await?;
                socket.try_recv(buffer)
            }
            (Step::Try(_), Self::Udp(socket)) => socket.try_recv(buffer),
            (Step::Try(_), Self::Unix(socket)) => socket.try_recv(buffer),
            (_, Self::Udp(socket)) if polls && buffer.len() % 2 == 0 => {
                poll_fn(|cx| socket.poll_recv_from(cx, buffer)).await.map(of_peer)
            }
            (_, Self::Udp(socket)) if polls => poll_fn(|cx| socket.poll_recv(cx, buffer)).await,
            (_, Self::Unix(socket)) if polls => poll_fn(|cx| socket.poll_recv(cx, buffer)).await,
            (_, Self::Udp(socket)) => socket.recv(buffer).await,
            (_, Self::Unix(socket)) => socket.recv(buffer).await,
        }
    }

    async fn write(&self, step: Step, polls: bool, datagram: &[u8]) -> io::Result<usize> {
        match (step, self) {
            (Step::Named(_), Self::Udp(socket)) => socket.send_to(datagram, PEER).await,
            (Step::Named(_), Self::Unix(socket)) => socket.send_to(datagram, "/peer").await,
            (Step::Ready(_), Self::Udp(socket)) => {
                socket.writable().await?;
                socket.try_send_to(datagram, PEER)
            }
            (Step::Ready(_), Self::Unix(socket)) => {
                socket.writable().await?;
                socket.try_send(datagram)
            }
            (Step::Try(_), Self::Udp(socket)) => socket.try_send(datagram),
            (Step::Try(_), Self::Unix(socket)) => socket.try_send(datagram),
            (_, Self::Udp(socket)) if polls && datagram.len() % 2 == 0 => {
                poll_fn(|cx| socket.poll_send_to(cx, datagram, PEER.into())).await
            }
            (_, Self::Udp(socket)) if polls => poll_fn(|cx| socket.poll_send(cx, datagram)).await,
            (_, Self::Unix(socket)) if polls => poll_fn(|cx| socket.poll_send(cx, datagram)).await,
            (_, Self::Udp(socket)) => socket.send(datagram).await,
            (_, Self::Unix(socket)) => socket.send(datagram).await,
        }
    }
}

#[derive(Clone, Default)]
struct Log {
    journal: Rc<RefCell<Vec<Entry>>>,
    /// How often a full queue may have been found, by all operations together.
    tries: Rc<Cell<u64>>,
}

async fn work(at: usize, socket: Rc<Socket>, script: Script, log: Log) {
    let Script { direction, steps, polls, to_the_end } = script;
    let rest = std::iter::repeat_n((Step::Plain(50), None), if to_the_end { 10_000 } else { 0 });
    let mut said = 0;
    for (step, mut patience) in steps.into_iter().chain(rest) {
        let (Step::Plain(size)
        | Step::Named(size)
        | Step::Peek(size)
        | Step::PeekNamed(size)
        | Step::Try(size)
        | Step::Ready(size)) = step
        else {
            if let Step::Pause(micros) = step {
                sleep(Duration::from_micros(micros)).await;
            }
            continue;
        };
        let by_name = matches!((step, &*socket), (Step::Named(_), Socket::Unix(_)));
        if direction == WRITE && by_name {
            // Its pauses are blind, so it may be late; and it would not hear of the end.
            patience = Some(patience.unwrap_or(1_000));
        }
        let mut buffer = [0; 50];
        let bytes: Vec<u8> = (said..said + size).map(|n| pattern(at, n)).collect();
        let operation = async {
            match direction {
                READ => socket.read(step, polls, &mut buffer[..size]).await,
                _ => socket.write(step, polls, &bytes).await,
            }
        };
        let result = if direction == WRITE && by_name {
            let start = kernel(|kernel| kernel.now());
            let limit = Duration::from_micros(patience.expect("set just now"));
            let result = timeout(limit, operation).await.ok();
            let elapsed = kernel(|kernel| kernel.now()) - start;
            log.tries.set(log.tries.get() + 1 + elapsed / 1_000_000);
            result
        } else {
            patiently((at, direction), patience, operation).await
        };
        let name = match (direction, step, &*socket) {
            (WRITE, ..) => "send",
            (_, Step::Peek(_) | Step::PeekNamed(_), Socket::Udp(_)) => "peek",
            _ => "recv",
        };
        match result {
            None => {}
            // There was nothing, as far as events have told.
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {
                assert!(matches!(step, Step::Try(_)), "{step:?}: {error}");
                let forgotten = kernel(|kernel| kernel.is_forgotten(at, direction));
                assert!(!forgotten, "it would not have blocked");
            }
            Some(Err(error)) => {
                let code = error.raw_os_error().expect("the kernel's");
                log.journal.borrow_mut().push((at, name, Err(code)));
                if code == libc::ENETDOWN {
                    return;
                }
            }
            Some(Ok(count)) => {
                let bytes = if direction == READ { &buffer[..count] } else { &bytes[..count] };
                log.journal.borrow_mut().push((at, name, Ok(bytes.to_vec())));
                said += 1;
            }
        }
    }
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let mut world = Kernel::new();
    let horizon = 1 + choices.below(2_000);
    let kinds: Vec<Kind> = (0..1 + choices.below(2))
        .map(|_| if choices.percent(50) { Kind::Udp } else { Kind::UnixDatagram })
        .collect();
    let mut scripts = Vec::new();
    for (at, &kind) in kinds.iter().enumerate() {
        let capacity = 1 + choices.below(5) as usize;
        let delay = choices.below(3) * choices.below(200_000);
        world.add(kind, capacity, delay);
        for _ in 0..choices.below(30) {
            let event = match choices.below(26) {
                0..11 => Event::Datagram(choices.below(60) as usize),
                11..16 => Event::Drain(1 + choices.below(3) as usize),
                16 => Event::Shortage,
                17 | 18 => Event::Unreachable,
                19 | 20 => Event::Interrupted,
                21 | 22 => Event::Spurious,
                23 => Event::Stopped(choices.below(horizon) * 1_000),
                24 => Event::Late(choices.below(horizon) * 1_000),
                _ => Event::Signal,
            };
            world.plan(choices.below(horizon) * 1_000, at, event);
        }
        for direction in [READ, WRITE] {
            for n in 0..choices.below(4) {
                scripts.push((at, script(choices, direction, n == 0)));
            }
        }
    }
    world.horizon = Some(world.now() + 3_600_000_000_000);
    let log = Log::default();
    let ((), kernel) = simulate(world, || {
        let mut runtime = Runtime::builder().slots(32).build().unwrap();
        runtime.block_on(async {
            let sockets: Vec<Rc<Socket>> = kinds
                .iter()
                .enumerate()
                .map(|(at, &kind)| Rc::new(Socket::new(at, kind)))
                .collect();
            let tasks: Vec<_> = scripts
                .into_iter()
                .map(|(at, script)| {
                    try_spawn(work(at, sockets[at].clone(), script, log.clone())).unwrap()
                })
                .collect();
            drop(sockets);
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(format!("{runtime:?}").contains("timers: 0, watches: 0"), "{runtime:?}");
        kernel(|kernel| assert_eq!(kernel.left_open(), 0));
    });
    let journal = log.journal.take();
    assert!(kernel.faults.is_empty(), "{:#?}\n{journal:#?}", kernel.faults);
    assert_eq!(journal, kernel.journal, "not all that happened was heard of, or not in order");
    let found_full: u64 = kernel.sockets.iter().map(|socket| socket.found_full).sum();
    assert!(found_full <= log.tries.get(), "a full queue was tried {found_full} times");
    let mut sum = kernel.now();
    digest(&mut sum, journal);
    sum
}

#[test]
fn every_datagram_is_heard_of_once_and_nobody_sleeps_on() {
    run(50_000, case);
}
