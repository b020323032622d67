//! Wakers that are kept: by other items, tasks, threads and tokens; and what it takes to wait.

use crate::batches::{Batch, ByHand, Style, everywhere, on_runtimes};
use crate::harness::{By, Done, Row, Tally, leak, live_bytes, thread_cpu};
use crate::runtimes::*;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = [8, 64, 1024].map(chain).into();
    rows.extend([woken_by_task(), woken_by_timer(), flood(), ping_pong(), asleep()]);
    rows.extend([cancelled(), idle_items(), idle_tasks()]);
    rows
}

/// Items each of which is woken by the one that starts after it.
fn chain(k: usize) -> Row {
    let row = Row::new(format!("wake-each-other-{k}"), "ns/item", 512_000, 1);
    everywhere!(row, chains, k)
}

#[derive(Default)]
struct Chain {
    begun: Cell<u64>,
    last: Cell<Option<Waker>>,
}

fn chains<B: Batch>(row: Row, k: usize) -> Row {
    row.entry(B::name(), move |n| {
        let (batch, tally, chain) = (B::new(k), Tally::leaked(), leak(Chain::default()));
        move || {
            batch.batch(n, k, move |item| async move {
                let place = chain.begun.get() + 1;
                let mut begun = false;
                poll_fn(|cx| {
                    if !begun {
                        begun = true;
                        chain.begun.set(place);
                        if let Some(previous) = chain.last.replace(Some(cx.waker().clone())) {
                            previous.wake();
                        }
                    }
                    // Nobody comes after the last one.
                    if chain.begun.get() > place || place == n {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
                tally.add(item);
            });
            chain.begun.take();
            chain.last.take();
            Done::sum(tally.take())
        }
    })
}

/// Items wait here for the next round. They are ready only after it has begun.
#[derive(Default)]
struct Board {
    round: Cell<u64>,
    woken: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
    /// Who waits for items that wait.
    caller: Cell<Option<Waker>>,
}

impl Board {
    async fn wait(&self) {
        let mut round = None;
        poll_fn(|cx| {
            let begun = *round.get_or_insert_with(|| {
                self.wakers.borrow_mut().push(cx.waker().clone());
                self.caller.take().into_iter().for_each(Waker::wake);
                self.round.get()
            });
            if self.round.get() > begun { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Ready once an item waits. (A task that wakes itself until then keeps monoio from all others.)
    async fn called(&self) {
        poll_fn(|cx| {
            if self.wakers.borrow().is_empty() {
                self.caller.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Begins the next round; returns how many were woken in all.
    fn wake(&self) -> u64 {
        self.round.set(self.round.get() + 1);
        for waker in self.wakers.borrow_mut().drain(..) {
            self.woken.set(self.woken.get() + 1);
            waker.wake();
        }
        self.woken.get()
    }
}

fn woken_by_task() -> Row {
    let row = Row::new("woken-by-task-64", "ns/item", 256_000, 1);
    let row = by_task::<ByHand>(row);
    on_runtimes!(row, by_task)
}

fn by_task<B: Batch<On: Detach>>(row: Row) -> Row {
    woken_from_beside::<B, _>(row, 64, Board::called)
}

/// As `sleep-1ms-1000`, but with one timer for all.
fn woken_by_timer() -> Row {
    let row = Row::new("woken-by-timer-1000", "ns/item", 50_000, 1000);
    let row = by_timer::<ByHand>(row);
    on_runtimes!(row, by_timer)
}

fn by_timer<B: Batch<On: Detach + Timed>>(row: Row) -> Row {
    woken_from_beside::<B, _>(row, 1000, |_| B::On::sleep(Duration::from_millis(1)))
}

/// A task beside the batch wakes all who wait, each time that `pause` is over.
fn woken_from_beside<B: Batch<On: Detach>, Fut: Future<Output = ()> + 'static>(
    row: Row,
    k: usize,
    pause: fn(&'static Board) -> Fut,
) -> Row {
    row.entry(B::name(), move |n| {
        let (batch, tally, board) = (B::new(k), Tally::leaked(), leak(Board::default()));
        move || {
            board.woken.set(0);
            let on = batch.on();
            on.run(async {
                on.detach(async move {
                    while board.wake() < n {
                        pause(board).await;
                    }
                });
            });
            batch.batch(n, k, move |item| async move {
                board.wait().await;
                tally.add(item);
            });
            Done::sum(tally.take())
        }
    })
}

/// Gives another thread the waker of a task that is polled until `over`; returns what `abroad` does.
fn with_waker_abroad<T: Send + 'static>(
    crew: &impl Crew,
    abroad: impl FnOnce(Waker) -> T + Send + 'static,
    over: impl Fn() -> bool + 'static,
) -> T {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || abroad(receiver.recv().unwrap()));
    let mut task = Some((sender, over));
    crew.crew(1, || {
        let (sender, over) = task.take().unwrap();
        let mut sender = Some(sender);
        poll_fn(move |cx| {
            if let Some(sender) = sender.take() {
                sender.send(cx.waker().clone()).unwrap();
            }
            if over() { Poll::Ready(()) } else { Poll::Pending }
        })
    });
    thread.join().unwrap()
}

/// Calls `$add` for all who have a task that another thread may wake: monoio's may not, unless it
/// is built with a feature that is not among the default ones.
macro_rules! crews {
    ($row:expr, $add:ident) => {{
        let row = $add::<Gondola>($row);
        let row = $add::<Tokio>(row);
        let row = $add::<TokioLocalSet>(row);
        let row = $add::<Smol>(row);
        let row = $add::<Pool>(row);
        let row = $add::<Unordered>(row);
        let row = $add::<Buffered>(row);
        let row = $add::<Embassy>(row);
        #[cfg(target_os = "linux")]
        let row = $add::<Compio>(row);
        row
    }};
}

/// Another thread wakes a task as fast as it can: that thread's CPU time.
fn flood() -> Row {
    let row = Row::new("wake-flood", "ns/wake, waker's side", 2_048_000, 1).counted().by(By::Work);
    let row = row.entry("limit", |n| {
        move || {
            let [woken, done] = [const { AtomicBool::new(false) }; 2];
            let measured = thread::scope(|scope| {
                let waker = scope.spawn(|| {
                    let start = thread_cpu();
                    (0..n).for_each(|_| _ = woken.swap(true, AcqRel));
                    let end = thread_cpu();
                    done.store(true, Release);
                    end - start
                });
                while !done.load(Acquire) {
                    woken.swap(false, AcqRel);
                }
                waker.join().unwrap()
            });
            Done { sum: n, measured, but: None }
        }
    });
    crews!(row, floods)
}

fn floods<C: Crew>(row: Row) -> Row {
    row.entry(C::NAME, |n| {
        let crew = C::new(1);
        move || {
            let woken = Arc::new(AtomicU64::new(0));
            let (all, seen) = (woken.clone(), woken.clone());
            let abroad = move |waker: Waker| {
                let start = thread_cpu();
                (1..n).for_each(|_| waker.wake_by_ref());
                let end = thread_cpu();
                all.store(n, Release);
                waker.wake();
                end - start
            };
            let measured = with_waker_abroad(&crew, abroad, move || seen.load(Acquire) == n);
            Done { sum: woken.load(Acquire), measured, but: None }
        }
    })
}

/// A task and another thread, which spins, take turns: wall time.
fn ping_pong() -> Row {
    let row = Row::new("ping-pong", "ns wall/round trip", 50_000, 1).counted().by(By::Wall);
    let row = row.entry("limit", |n| {
        move || {
            let table = Table::default();
            thread::scope(|scope| {
                scope.spawn(|| table.play(n, || {}));
                for turn in 1..=n {
                    table.ping.store(turn, Release);
                    spin_until(&table.pong, turn);
                }
            });
            Done::sum(table.pong.into_inner())
        }
    });
    crews!(row, ping_pongs)
}

#[derive(Default)]
struct Table {
    ping: AtomicU64,
    pong: AtomicU64,
}

impl Table {
    fn play(&self, n: u64, wake: impl Fn()) {
        for turn in 1..=n {
            spin_until(&self.ping, turn);
            self.pong.store(turn, Release);
            wake();
        }
    }
}

/// Gives way now and then: there may be one core only.
fn spin_until(number: &AtomicU64, least: u64) {
    let mut spins = 0_u32;
    while number.load(Acquire) < least {
        spins += 1;
        if spins.is_multiple_of(1 << 14) { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

fn ping_pongs<C: Crew>(row: Row) -> Row {
    row.entry(C::NAME, |n| {
        let crew = C::new(1);
        move || {
            let table = Arc::new(Table::default());
            let (other, own) = (table.clone(), table.clone());
            let abroad = move |waker: Waker| other.play(n, || waker.wake_by_ref());
            with_waker_abroad(&crew, abroad, move || {
                let turn = own.pong.load(Acquire);
                if turn < n {
                    own.ping.store(turn + 1, Release);
                }
                turn == n
            });
            Done::sum(table.pong.load(Acquire))
        }
    })
}

/// Another thread wakes a task whose thread sleeps: wall time from the wake to the poll.
fn asleep() -> Row {
    let row = Row::new("wake-asleep", "ns wall/wake", 500, 1).counted().by(By::Work);
    let row = row.entry("limit", |n| {
        move || {
            let (bed, sleeper) = (Bed::new(), thread::current());
            thread::scope(|scope| {
                scope.spawn(|| bed.call(n, || sleeper.unpark()));
                while !bed.all_woken(n) {
                    thread::park();
                }
            });
            bed.done()
        }
    });
    crews!(asleeps::<TokioIo>(row), asleeps)
}

fn asleeps<C: Crew>(row: Row) -> Row {
    row.entry(C::NAME, |n| {
        let crew = C::new(1);
        move || {
            let bed = Arc::new(Bed::new());
            let (other, own) = (bed.clone(), bed.clone());
            let abroad = move |waker: Waker| other.call(n, || waker.wake_by_ref());
            with_waker_abroad(&crew, abroad, move || own.all_woken(n));
            bed.done()
        }
    })
}

struct Bed {
    made: Instant,
    /// When the sleeper was called; 0: it knows.
    called: AtomicU64,
    woken: AtomicU64,
    late: AtomicU64,
}

impl Bed {
    fn new() -> Self {
        let [called, woken, late] = [const { AtomicU64::new(0) }; 3];
        Bed { made: Instant::now(), called, woken, late }
    }

    fn now(&self) -> u64 {
        self.made.elapsed().as_nanos() as u64
    }

    fn call(&self, n: u64, wake: impl Fn()) {
        for _ in 0..n {
            // Long enough to fall asleep.
            thread::sleep(Duration::from_micros(200));
            while self.called.load(Acquire) != 0 {
                thread::sleep(Duration::from_micros(200));
            }
            self.called.store(self.now(), Release);
            wake();
        }
    }

    fn all_woken(&self, n: u64) -> bool {
        let called = self.called.swap(0, AcqRel);
        if called != 0 {
            self.late.fetch_add(self.now() - called, Relaxed);
            self.woken.fetch_add(1, Relaxed);
        }
        self.woken.load(Relaxed) == n
    }

    fn done(&self) -> Done {
        Done { sum: self.woken.load(Relaxed), measured: self.late.load(Relaxed), but: None }
    }
}

/// Someone who can be waited for by many.
trait Token: 'static {
    fn new() -> Self;
    fn cancel(&self);
    async fn wait(&self);
}

macro_rules! token {
    ($($Type:ty),*) => {
        $(impl Token for $Type {
            fn new() -> Self {
                Self::new()
            }

            fn cancel(&self) {
                self.cancel();
            }

            async fn wait(&self) {
                self.cancelled().await;
            }
        })*
    };
}

token!(gondola::CancellationToken, tokio_util::sync::CancellationToken);

impl Token for Board {
    fn new() -> Self {
        Self::default()
    }

    fn cancel(&self) {
        self.wake();
    }

    async fn wait(&self) {
        self.wait().await;
    }
}

const WAITERS: usize = 10_000;

/// Waiters that are created, wait, and are woken by one token.
fn cancelled() -> Row {
    type Theirs = tokio_util::sync::CancellationToken;
    use crate::batches::{ForEachBuffered, ForEachConcurrent, Ours, Over, Workers};
    let row = Row::new("cancel-10000", "ns/waiter", 200_000, WAITERS as u64);
    let row = cancels::<ByHand, Board>(row);
    let row = cancels::<Over<Gondola, Ours>, gondola::CancellationToken>(row);
    let row = cancels::<Workers<Gondola>, gondola::CancellationToken>(row);
    let row = cancels::<Workers<Tokio>, Theirs>(row);
    let row = cancels::<Workers<TokioLocalSet>, Theirs>(row);
    let row = cancels::<Workers<Smol>, Theirs>(row);
    let row = cancels::<Workers<Embassy>, Theirs>(row);
    let row = cancels::<Over<BlockOn, ForEachConcurrent>, Theirs>(row);
    let row = cancels::<Over<BlockOn, ForEachBuffered>, Theirs>(row);
    #[cfg(target_os = "linux")]
    let row = cancels::<Workers<Compio>, Theirs>(cancels::<Workers<Monoio>, Theirs>(row));
    row
}

fn cancels<B: Batch, T: Token>(row: Row) -> Row {
    row.entry(B::name(), |n| {
        let (batch, tally, begun) = (B::new(WAITERS), Tally::leaked(), leak(Cell::new(0)));
        move || {
            let mut sum = 0;
            for round in 0..n / WAITERS as u64 {
                let token = leak(T::new());
                begun.set(0);
                batch.batch(WAITERS as u64, WAITERS, move |item| async move {
                    begun.set(begun.get() + 1);
                    // The last one, when all the others wait.
                    if begun.get() == WAITERS {
                        token.cancel();
                    } else {
                        token.wait().await;
                    }
                    tally.add(round * WAITERS as u64 + item);
                });
                sum += tally.take();
            }
            Done::sum(sum)
        }
    })
}

type Wakers = RefCell<Vec<Waker>>;

/// A future of 8 bytes that waits for ever. Its waker is kept, else monoio frees the task.
struct Idle(&'static Wakers);
const _: () = assert!(size_of::<Idle>() == 8);

impl Future for Idle {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }
}

/// Bytes of the heap per waiting future, its own 8 included. A runtime may have made room for its
/// tasks from the start, so it is built by the run.
fn idle(name: &str, unit: &'static str) -> Row {
    Row::new(name, unit, 10_000, 1).counted().by(By::Work)
}

/// The items of a batch, which are all of one type.
fn idle_items() -> Row {
    use crate::batches::{ForEachBuffered, ForEachConcurrent, JoinSet, Ours};
    let row = idle("idle-bytes-item", "bytes/waiting item");
    let row = idles(row, "limit", |n, wakers| idle_by_hand(n, || Idle(wakers)));
    let row = idles(row, "gondola", idle_batch::<Gondola, Ours>);
    let row = idles(row, "JoinSet", idle_batch::<Tokio, JoinSet>);
    let row = idles(row, "for_each_concurrent", idle_batch::<BlockOn, ForEachConcurrent>);
    idles(row, "futures-buffered", idle_batch::<BlockOn, ForEachBuffered>)
}

/// Tasks that are spawned, so that their type is forgotten.
fn idle_tasks() -> Row {
    let row = idle("idle-bytes-task", "bytes/waiting task");
    let row = idles(row, "limit", |n, wakers| {
        idle_by_hand(n, || -> Pin<Box<dyn Future<Output = ()>>> { Box::pin(Idle(wakers)) })
    });
    let row = idles(row, "gondola", idle_spawned::<Gondola>);
    let row = idles(row, "tokio", idle_spawned::<Tokio>);
    let row = idles(row, "tokio LocalSet", idle_spawned::<TokioLocalSet>);
    let row = idles(row, "smol", idle_spawned::<Smol>);
    let row = idles(row, "LocalPool", idle_spawned::<Pool>);
    #[cfg(target_os = "linux")]
    let row = idles(row, "monoio", idle_spawned::<Monoio>);
    #[cfg(target_os = "linux")]
    let row = idles(row, "compio", idle_spawned::<Compio>);
    row
}

/// `live` returns the bytes while all wait.
fn idles(row: Row, name: &str, live: fn(u64, &'static Wakers) -> u64) -> Row {
    row.entry(name, move |n| {
        let wakers: &Wakers = leak(RefCell::new(Vec::with_capacity(n as usize)));
        move || {
            let before = live_bytes();
            let measured = live(n, wakers).saturating_sub(before);
            let waiting = wakers.borrow_mut().drain(..).count();
            Done { sum: waiting as u64, measured, but: None }
        }
    })
}

fn idle_by_hand<F: Future<Output = ()> + Unpin>(n: u64, make: impl Fn() -> F) -> u64 {
    let mut slots: Vec<_> = (0..n).map(|_| Some(make())).collect();
    let mut cx = Context::from_waker(Waker::noop());
    for future in slots.iter_mut().flatten() {
        assert!(Pin::new(future).poll(&mut cx).is_pending());
    }
    live_bytes()
}

fn idle_spawned<P: Spawn>(n: u64, wakers: &'static Wakers) -> u64 {
    let peer = <P as Peer>::new(n as usize + 1); // and who waits for them
    peer.run(async {
        (0..n).for_each(|_| peer.detach(Idle(wakers)));
        while wakers.borrow().len() < n as usize {
            peer.spawn(async {}).await;
        }
        live_bytes()
    })
}

fn idle_batch<P: Peer, S: Style>(n: u64, wakers: &'static Wakers) -> u64 {
    let peer = P::new(n as usize);
    let mut batch = pin!(S::drive(n, n as usize, |_| Idle(wakers)));
    peer.run(poll_fn(|cx| {
        assert!(batch.as_mut().poll(cx).is_pending());
        if wakers.borrow().len() == n as usize {
            return Poll::Ready(live_bytes());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}
