//! Echo and batch traffic with faults, on one runtime, for as long as asked:
//! `GONDOLA_SOAK=3600 cargo test --release --test soak -- --nocapture` (seconds; 2 by default).
//!
//! Between rounds everything is idle, and must be as it was: each item accounted for once, each
//! task's future dropped but those of the listener and of the kept connections, each descriptor
//! closed but theirs. Over the last three quarters of the time memory must not grow.
#![cfg(target_os = "linux")]

#[path = "support/cases.rs"]
mod cases;
#[path = "support/net.rs"]
mod net;

use cases::Choices;
use futures::future::{join, poll_fn, try_join};
use gondola::batch::{BatchError, batch};
use gondola::net::{ReadHalf, TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use gondola::{CancellationToken, JoinHandle, OnError, Runtime, Stop, reserve, yield_now};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::mpsc::{self, Sender};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// Less than the items in flight can ask for, so that connections wait outside.
const SLOTS: usize = 32;
/// Connections kept at most: fewer than slots, or all of those could be held by nobody's.
const KEPT: usize = 16;
/// What never happens takes longer than this.
const NEVER: Duration = Duration::from_secs(30);
/// An hour must leave the machine to others, and some ports.
const CPU_SHARE: f64 = 0.2;
const CONNECTIONS_PER_SECOND: f64 = 150.0;
/// Rounds until the heap has seen nearly all that it will ever hold at a time.
const WARM_UP: u64 = 40;

/// The failure, or the panic, of something that was meant to fail.
#[derive(Debug)]
struct Planned;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Too little time, so the item is dropped wherever it is.
    Late,
    /// The client leaves in the middle: with a reset, or as it pleases the kernel.
    Reset,
    Leave,
    HalfClose,
    ServerPanics,
    ServerLeaves,
    Fails,
    Panics,
}

/// The last one ends its whole batch, so not every batch has it.
const FAULTS: [Fault; 8] = {
    use Fault::*;
    [Late, Reset, Leave, HalfClose, ServerPanics, ServerLeaves, Fails, Panics]
};
const GIVEN_UP: ErrorKind = ErrorKind::ConnectionAborted;

type Job = Box<dyn FnOnce() + Send>;

struct World {
    choices: RefCell<Choices<'static>>,
    data: Vec<u8>,
    address: SocketAddr,
    kept: RefCell<Vec<TcpStream>>,
    servers: RefCell<Vec<JoinHandle<()>>>,
    /// A thread that runs jobs, one after the other.
    other_thread: Sender<Job>,
    /// In this round connections may end, and descriptors run out, at any time.
    rough: Cell<bool>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    done: Cell<u64>,
    failed: Cell<u64>,
    cut_off: Cell<u64>,
    lost: Cell<u64>,
    connections: Cell<u64>,
    bytes: Cell<u64>,
    tasks: Cell<usize>,
}

fn add(cell: &Cell<u64>, count: usize) {
    cell.set(cell.get() + count as u64);
}

/// A task's future that counts as long as it exists.
fn counted<F: Future>(world: &Rc<World>, future: F) -> impl Future<Output = F::Output> + use<F> {
    struct Alive(Rc<World>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.tally.tasks.set(self.0.tally.tasks.get() - 1);
        }
    }
    world.tally.tasks.set(world.tally.tasks.get() + 1);
    let alive = Alive(world.clone());
    async move {
        let _alive = alive;
        future.await
    }
}

// The server.

async fn serve(world: Rc<World>, listener: TcpListener) {
    loop {
        let slot = reserve().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let mut servers = world.servers.borrow_mut();
                servers.retain(|task| !task.is_finished());
                servers.push(slot.spawn(counted(&world, echo(stream))));
            }
            Err(error) => assert!(world.rough.get() && is_exhausted(&error), "accept: {error}"),
        }
    }
}

const HEAD: usize = 5;
const STAY: u8 = 0;
const LEAVE: u8 = 1;
const PANIC: u8 = 2;

/// Messages are an order, a length, and as many bytes to echo: half of them, unless it stays.
async fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    // Why it ended is for the client to judge.
    while stream.read_exact(&mut buffer[..HEAD]).await.is_ok() {
        let (order, length) = (buffer[0], buffer[1..HEAD].try_into().unwrap());
        let length = u32::from_le_bytes(length) as usize;
        let mut left = if order == STAY { length } else { length / 2 };
        while left > 0 {
            let most = left.min(buffer.len());
            match stream.read(&mut buffer[..most]).await {
                Ok(count @ 1..) if stream.write_all(&buffer[..count]).await.is_ok() => {
                    left -= count
                }
                _ => return,
            }
        }
        match order {
            STAY => {}
            PANIC => resume_unwind(Box::new(Planned)),
            LEAVE => return,
            other => panic!("order {other}: these bytes are out of step"),
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

fn is_gone(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    [BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof].contains(&error.kind())
}

// The items.

struct Plan {
    fault: Fault,
    message: Range<usize>,
    piece: u64,
    fresh: bool,
    keep: bool,
    resets: bool,
    hops: bool,
    cancels: bool,
}

impl Plan {
    fn draw(world: &World, faults: u64, panics: bool) -> Self {
        let mut choices = world.choices.borrow_mut();
        let fault = match choices.percent(faults) {
            true => FAULTS[choices.index(FAULTS.len() - usize::from(!panics))],
            false => Fault::None,
        };
        let most = 1 << [5, 9, 13, 18][choices.weighted(&[4, 8, 4, 1])];
        let length = 1 + choices.index(most);
        let start = choices.index(world.data.len() - length);
        Self {
            fault,
            message: start..start + length,
            piece: 1 + length as u64 / (1 + choices.below(16)),
            fresh: choices.percent(3),
            keep: choices.percent(98),
            resets: choices.percent(80),
            hops: choices.percent(20),
            cancels: choices.percent(1),
        }
    }
}

/// Lets the other thread wake this task: once when asked to, and at times when nobody waits.
async fn hop(world: &World) {
    let micros = world.choices.borrow_mut().below(200);
    let (done, wait) = futures::channel::oneshot::channel();
    poll_fn(|cx| {
        let waker = cx.waker().clone();
        let _ = world.other_thread.send(Box::new(move || waker.wake_by_ref()));
        Poll::Ready(())
    })
    .await;
    let _ = world.other_thread.send(Box::new(move || {
        thread::sleep(Duration::from_micros(micros));
        let _ = done.send(()); // Whoever waited may be gone.
    }));
    wait.await.expect("the other thread runs every job");
}

async fn hear(world: &World, reader: &mut ReadHalf<'_>, mut due: &[u8]) -> io::Result<()> {
    let mut buffer = [0; 2048];
    while !due.is_empty() {
        let most = 1 + world.choices.borrow_mut().index(buffer.len().min(due.len()));
        let count = reader.read(&mut buffer[..most]).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        assert_eq!(buffer[..count], due[..count], "wrong bytes");
        add(&world.tally.bytes, count);
        due = &due[count..];
    }
    Ok(())
}

async fn exchange(world: &World, plan: &Plan) -> io::Result<()> {
    if plan.hops {
        hop(world).await;
    }
    let kept = if plan.fresh { None } else { world.kept.borrow_mut().pop() };
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect(world.address).await.inspect(|stream| {
            stream.set_nodelay(true).unwrap();
            add(&world.tally.connections, 1);
        })?,
    };
    if plan.fault == Fault::Reset {
        close_by_reset(&stream);
    }
    let message = &world.data[plan.message.clone()];
    let order = match plan.fault {
        Fault::ServerPanics => PANIC,
        Fault::ServerLeaves => LEAVE,
        _ => STAY,
    };
    let (now, later) = message.split_at(match plan.fault {
        Fault::Reset | Fault::Leave => message.len() / 2,
        Fault::HalfClose => message.len().saturating_sub(1000),
        _ => message.len(),
    });
    let (mut reader, mut writer) = stream.split();
    let say = async {
        let [a, b, c, d] = (message.len() as u32).to_le_bytes();
        writer.write_all(&[order, a, b, c, d]).await?;
        let mut left = message;
        while !left.is_empty() {
            let size = 1 + world.choices.borrow_mut().below(plan.piece) as usize;
            let (piece, rest) = left.split_at(size.min(left.len()));
            writer.write_all(piece).await?;
            left = rest;
            if size % 4 == 0 {
                yield_now().await;
            }
        }
        io::Result::Ok(())
    };
    let listen = async {
        hear(world, &mut reader, now).await?;
        match plan.fault {
            Fault::Reset | Fault::Leave => Err(GIVEN_UP.into()),
            _ => Ok(()),
        }
    };
    try_join(say, listen).await?;
    if plan.fault == Fault::HalfClose {
        stream.shutdown(Shutdown::Write)?;
        hear(world, &mut stream.split().0, later).await?;
        assert_eq!(stream.read(&mut [0]).await?, 0, "bytes after the end");
    } else if plan.keep && world.kept.borrow().len() < KEPT {
        world.kept.borrow_mut().push(stream);
        return Ok(());
    }
    if plan.resets {
        close_by_reset(&stream);
    }
    Ok(())
}

/// Leaves no port in TIME_WAIT.
fn close_by_reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: an open socket, and a value of its own size.
    let result = unsafe {
        let (fd, length) = (stream.as_fd().as_raw_fd(), size_of_val(&linger) as libc::socklen_t);
        let value = (&raw const linger).cast();
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, length)
    };
    assert_eq!(result, 0);
}

async fn item(world: &World, plan: Plan, mut flight: Flight) -> Result<usize, Planned> {
    let patience = match plan.fault {
        Fault::Late => Duration::from_micros(world.choices.borrow_mut().below(500)),
        _ => NEVER,
    };
    let outcome = timeout(patience, exchange(world, &plan)).await;
    let result = match (plan.fault, outcome) {
        (Fault::Late, Err(_)) | (Fault::Fails, Ok(Ok(()))) => Err(Planned),
        (fault, Err(_)) => panic!("{fault:?} stands still"),
        (Fault::Panics, Ok(Ok(()))) => resume_unwind(Box::new(Planned)),
        (Fault::Reset | Fault::Leave, Ok(Err(error))) if error.kind() == GIVEN_UP => Ok(()),
        (Fault::ServerPanics | Fault::ServerLeaves, Ok(result)) => match result {
            Err(error) if is_gone(&error) || world.rough.get() => Err(Planned),
            other => panic!("the server left, and yet {other:?}"),
        },
        (_, Ok(Ok(()))) => Ok(()),
        (_, Ok(Err(error))) if world.rough.get() && (is_gone(&error) || is_exhausted(&error)) => {
            Err(Planned)
        }
        (fault, Ok(Err(error))) => panic!("{fault:?}: {error}"),
    };
    flight.land(if result.is_ok() { Fate::Done } else { Fate::Failed });
    result.map(|()| flight.index)
}

// The batches, and what they say of their items beside what the items know.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waiting,
    InFlight,
    Done,
    Failed,
    CutOff,
}

struct Ledger(RefCell<Vec<Fate>>);

impl Ledger {
    fn count(&self, fate: Fate) -> usize {
        self.0.borrow().iter().filter(|&&other| other == fate).count()
    }
}

struct Flight {
    ledger: Rc<Ledger>,
    index: usize,
    fate: Fate,
}

impl Flight {
    fn new(ledger: &Rc<Ledger>, index: usize) -> Self {
        let before = std::mem::replace(&mut ledger.0.borrow_mut()[index], Fate::InFlight);
        assert_eq!(before, Fate::Waiting, "item {index} is pulled twice");
        Self { ledger: ledger.clone(), index, fate: Fate::CutOff }
    }

    fn land(&mut self, fate: Fate) {
        self.fate = fate;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.ledger.0.borrow_mut()[self.index] = self.fate;
    }
}

/// How many items the batch accounts for otherwise than they do themselves.
fn misjudged<W, P>(
    ledger: &Ledger,
    result: Result<W, Box<BatchError<Range<usize>, Planned, P>>>,
    outputs: impl FnOnce(Result<W, P>) -> Option<Vec<Option<usize>>>,
) -> usize {
    let fates = ledger.0.borrow();
    let mut told = vec![Fate::Done; fates.len()];
    let outputs = outputs(result.map_err(|record| {
        assert_eq!(record.rest, record.pulled..fates.len());
        told[record.pulled..].fill(Fate::Waiting);
        let failed = record.errors.iter().map(|failed| (failed.index, Fate::Failed));
        for (index, fate) in failed.chain(record.cut_off.iter().map(|&at| (at, Fate::CutOff))) {
            assert_eq!(told[index], Fate::Done, "item {index} is named twice, or was never pulled");
            told[index] = fate;
        }
        record.partial
    }));
    if let Some(outputs) = outputs {
        for (index, fate) in told.iter().enumerate() {
            let due = (*fate == Fate::Done).then_some(index);
            assert_eq!(outputs.get(index).copied().flatten(), due, "output {index}");
        }
    }
    told.iter().zip(&*fates).filter(|(told, known)| told != known).count()
}

async fn run_batch(world: Rc<World>, ledger: Rc<Ledger>, patience: Duration) {
    let (limit, policy, faults, panics, maps, token) = {
        let mut choices = world.choices.borrow_mut();
        let most = [4, 8, SLOTS][choices.weighted(&[3, 3, 1])];
        let policies = [OnError::Stop(Stop::Cancel), OnError::Stop(Stop::Drain), OnError::Collect];
        (
            1 + choices.index(most),
            policies[choices.index(3)],
            [0, 1, 5, 20][choices.index(4)],
            choices.percent(10),
            choices.percent(50),
            choices.percent(25).then(CancellationToken::new),
        )
    };
    let each = |index| {
        let (world, token) = (&world, &token);
        let flight = Flight::new(&ledger, index);
        let plan = Plan::draw(world, faults, panics);
        async move {
            match token {
                Some(token) if plan.cancels && plan.hops => {
                    let token = token.clone();
                    let _ = world.other_thread.send(Box::new(move || token.cancel()));
                }
                Some(token) if plan.cancels => token.cancel(),
                _ => {}
            }
            item(world, plan, flight).await
        }
    };
    let items = 0..ledger.0.borrow().len();
    let mut run = batch(items).limit(limit).on_error(policy);
    if let Some(token) = &token {
        run = run.cancel_on(token);
    }
    // If it is late, it is dropped half way: then only the items know.
    let misjudged = if maps {
        timeout(patience, run.try_map(each)).await.map(|result| {
            misjudged(&ledger, result, |outputs| {
                Some(outputs.map_or_else(|some| some, |all| all.into_iter().map(Some).collect()))
            })
        })
    } else {
        let each = |index| futures::TryFutureExt::map_ok(each(index), drop);
        let result = timeout(patience, run.try_for_each(each)).await;
        result.map(|result| misjudged(&ledger, result, |_| None))
    };
    match misjudged {
        Ok(count) => add(&world.tally.lost, count),
        Err(_) => assert!(patience < NEVER, "the batch stands still"),
    }
}

// The rounds.

/// Grants no descriptor until it is dropped.
struct Outage(libc::rlimit);

impl Outage {
    fn begin() -> Self {
        let lowest = File::open("/dev/null").unwrap().as_raw_fd();
        let mut usual = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: it points to a limit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut usual) }, 0);
        set_limit(&libc::rlimit { rlim_cur: lowest as libc::rlim_t, ..usual });
        Self(usual)
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        set_limit(&self.0);
    }
}

fn set_limit(limit: &libc::rlimit) {
    // SAFETY: it points to a limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) }, 0);
}

fn micros(world: &World, below: u64) -> Duration {
    Duration::from_micros(world.choices.borrow_mut().below(below))
}

async fn round(world: &Rc<World>) {
    let (aborts, outage, batches) = {
        let mut choices = world.choices.borrow_mut();
        (choices.percent(10), choices.percent(5), 1 + choices.index(3))
    };
    world.rough.set(aborts || outage);
    let mut running = Vec::new();
    for _ in 0..batches {
        let length = 1 + world.choices.borrow_mut().index(250);
        let ledger = Rc::new(Ledger(RefCell::new(vec![Fate::Waiting; length])));
        let [dropped, aborted] = [(); 2].map(|()| world.choices.borrow_mut().percent(5));
        let patience = if dropped { micros(world, 5000) } else { 2 * NEVER };
        let run = counted(world, run_batch(world.clone(), ledger.clone(), patience));
        running.push((reserve().await.spawn(run), aborted, ledger));
    }
    let batches = async {
        for (task, aborted, ledger) in running {
            if aborted {
                sleep(micros(world, 5000)).await;
                task.abort();
            }
            match task.await.map_err(|error| error.into_panic()) {
                Ok(()) => {}
                Err(Err(_)) => assert!(aborted, "somebody aborted a batch"),
                Err(Ok(payload)) if payload.is::<Planned>() => {}
                Err(Ok(payload)) => resume_unwind(payload),
            }
            add(&world.tally.done, ledger.count(Fate::Done));
            add(&world.tally.failed, ledger.count(Fate::Failed));
            add(&world.tally.cut_off, ledger.count(Fate::CutOff));
            add(&world.tally.lost, ledger.count(Fate::InFlight));
        }
    };
    let trouble = async {
        sleep(micros(world, 3000)).await;
        if aborts {
            let servers = world.servers.borrow();
            (0..3.min(servers.len())).for_each(|at| servers[at].abort());
        }
        if outage {
            let _outage = Outage::begin();
            sleep(micros(world, 5000)).await;
        } else {
            drop(Runtime::builder().slots(4).build().unwrap());
        }
    };
    join(batches, trouble).await;

    // Connections are accepted in their order: once this one is served, all have been.
    let last = Plan { fresh: true, ..Plan::draw(world, 0, false) };
    timeout(NEVER, exchange(world, &last)).await.expect("it accepts no more").unwrap();
    let mut kept = std::mem::take(&mut *world.kept.borrow_mut());
    kept.truncate(if world.rough.get() { 0 } else { KEPT / 2 });
    world.kept.replace(kept);
    let only_kept = async {
        // The listener has a task as well.
        while world.tally.tasks.get() != 1 + world.kept.borrow().len() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(NEVER, only_kept).await.expect("a task's future is not dropped");
}

/// A runtime that is dropped with its tasks, which wait in both directions.
fn passing_runtime(world: &Rc<World>) {
    let mut runtime = Runtime::builder().slots(4).build().unwrap();
    runtime.block_on(async {
        let (mut near, mut far) = net::pair().await;
        let data = world.data.clone();
        let write = async move { while near.write(&data).await.is_ok() {} };
        let read = async move { drop(far.read(&mut [0; 16]).await) };
        reserve().await.spawn(counted(world, write)).detach();
        reserve().await.spawn(counted(world, read)).detach();
        yield_now().await;
    });
}

// The account.

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    // SAFETY: it only asks.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64 / 1024.0
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it points to a time.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Of the line that is closest to the points, by least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count().max(1) as f64;
    let sum = |f: fn((f64, f64)) -> f64| points.clone().map(f).sum::<f64>();
    let (x, y) = (sum(|(x, _)| x) / count, sum(|(_, y)| y) / count);
    let (xy, xx) = (sum(|(x, y)| x * y) / count - x * y, sum(|(x, _)| x * x) / count - x * x);
    xy / xx
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_and_nothing_grows() {
    let seed = number("GONDOLA_SEED").unwrap_or(1);
    let length = number("GONDOLA_SOAK").unwrap_or(2) as f64;
    println!("GONDOLA_SEED={seed} GONDOLA_SOAK={length}");
    let (other_thread, jobs) = mpsc::channel::<Job>();
    let jobs = thread::spawn(move || jobs.into_iter().for_each(|job| job()));
    let mut runtime = Runtime::builder().slots(SLOTS).build().unwrap();
    let world = runtime.block_on(async {
        let listener = TcpListener::bind(net::loopback()).unwrap();
        let world = Rc::new(World {
            choices: RefCell::new(Choices::seed(seed)),
            data: net::pattern(1 << 19),
            address: listener.local_addr().unwrap(),
            kept: RefCell::default(),
            servers: RefCell::default(),
            other_thread,
            rough: Cell::new(false),
            tally: Tally::default(),
        });
        let serve = counted(&world, serve(world.clone(), listener));
        reserve().await.spawn(serve).detach();
        world
    });

    let tally = &world.tally;
    let (mut begin, mut samples, mut usual) = (Instant::now(), Vec::new(), None);
    let (mut next_sample, mut next_report) = (0.0, 0.0);
    for count in 0.. {
        let before = (Instant::now(), cpu_seconds(), tally.connections.get());
        // Anew for each round, because they remember all that was chosen.
        world.choices.replace(Choices::seed(seed + count));
        runtime.block_on(round(&world));
        if world.choices.borrow_mut().percent(10) {
            passing_runtime(&world);
        }

        let (open, kept) = (descriptors(), 2 * world.kept.borrow().len());
        assert_eq!(tally.lost.get(), 0, "items are lost");
        assert_eq!(open - kept, *usual.get_or_insert(open - kept), "beside the {kept} kept ones");
        // The listener's task holds one slot more, for the next connection.
        let (taken, sources) = (2 + kept / 2, 1 + kept);
        let idle = format!("slots: {SLOTS}, taken: {taken}, timers: 0, watches: {sources}, ..");
        assert_eq!(format!("{runtime:?}"), format!("Runtime {{ {idle} }}"));
        if count < WARM_UP {
            begin = Instant::now();
            continue;
        }
        let elapsed = begin.elapsed().as_secs_f64();
        if elapsed >= next_sample {
            next_sample = elapsed + length / 200.0;
            samples.push((elapsed, resident_kib(), (open - kept) as f64));
        }
        let over = elapsed >= length;
        if elapsed >= next_report || over {
            next_report = elapsed + (length / 20.0).max(0.5);
            let Tally { done, failed, cut_off, lost, connections, bytes, .. } = tally;
            let (mib, rss) = (bytes.get() >> 20, resident_kib());
            println!(
                "{elapsed:7.1} s: {} done, {} failed as planned, {} cut off, {} lost; \
                 {} connections, {mib} MiB; RSS {rss} KiB, {open} descriptors, {kept} of them kept",
                done.get(),
                failed.get(),
                cut_off.get(),
                lost.get(),
                connections.get(),
            );
        }
        if over {
            break;
        }
        let (begun, cpu, connections) = before;
        let due = (cpu_seconds() - cpu) / CPU_SHARE;
        let due = due.max((tally.connections.get() - connections) as f64 / CONNECTIONS_PER_SECOND);
        let pause = Duration::from_secs_f64(due).saturating_sub(begun.elapsed());
        runtime.block_on(sleep(pause));
    }

    let late = samples.iter().filter(|sample| sample.0 >= length / 4.0);
    let memory = slope(late.clone().map(|&(at, rss, _)| (at, rss)));
    let opened = slope(late.map(|&(at, _, open)| (at, open)));
    println!(
        "RSS {:+.1} KiB an hour, descriptors {:+.3} an hour, {:.1} s of CPU",
        memory * 3600.0,
        opened * 3600.0,
        cpu_seconds(),
    );
    let growth = memory * length * 0.75;
    // A slope needs some time to mean something.
    assert!(length < 60.0 || growth < 1024.0, "RSS grew by {growth} KiB in three quarters");
    drop(runtime);
    assert_eq!(tally.tasks.get(), 0, "the runtime is gone, a task's future is not");
    drop(world);
    jobs.join().unwrap();
}
