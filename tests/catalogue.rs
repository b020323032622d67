//! Failures that other runtimes had: one test for each row of `CATALOGUE.md` that no other test
//! shows, named after its row.

#[path = "support/net.rs"]
mod sockets;
mod support;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::poll_fn;
use gondola::time::{Sleep, interval, now, sleep, sleep_until, timeout};
use gondola::{
    CancellationToken, ErrorKind, JoinHandle, OnError, Runtime, TrySpawnErrorKind, batch, block_on,
    reserve, try_spawn, yield_now,
};
use sockets::{on_a_thread, pair_with_std, run, within};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::Write;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::thread;
use std::time::Duration;
use support::cases::quietly;
use support::{CountWakes, OnDrop, Trace, probe, waker_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn runtime(slots: usize) -> Runtime {
    Runtime::builder().slots(slots).build().unwrap()
}

fn simulated(slots: usize) -> Runtime {
    Runtime::builder().slots(slots).virtual_time().build().unwrap()
}

/// What a panic says.
#[track_caller]
fn panics<T>(f: impl FnOnce() -> T) -> String {
    let payload = quietly(f).err().expect("a panic");
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn poll_with<F: Future + Unpin + ?Sized>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

fn poll_once<F: Future + Unpin + ?Sized>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

// Foreign wakers.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Clone,
    Wake,
    Drop,
}

type Act = Rc<dyn Fn(Way)>;

/// A waker that acts whenever anything is done to it. No two clones look equal. One thread only.
fn foreign(act: impl Fn(Way) + 'static) -> Waker {
    fn raw(act: Act) -> RawWaker {
        RawWaker::new(Box::into_raw(Box::new(act)).cast(), &VTABLE)
    }
    fn act_of(data: *const ()) -> Act {
        // SAFETY: the data of these wakers is a box of theirs, alive until `drop`.
        unsafe { &*data.cast::<Act>() }.clone()
    }
    unsafe fn clone(data: *const ()) -> RawWaker {
        act_of(data)(Way::Clone);
        raw(act_of(data))
    }
    unsafe fn wake(data: *const ()) {
        // SAFETY: one use of the data, and one end, as the caller promises.
        unsafe {
            wake_by_ref(data);
            drop(data);
        }
    }
    unsafe fn wake_by_ref(data: *const ()) {
        act_of(data)(Way::Wake);
    }
    unsafe fn drop(data: *const ()) {
        // SAFETY: who drops a waker uses its data no more.
        let act = unsafe { Box::from_raw(data.cast_mut().cast::<Act>()) };
        act(Way::Drop);
    }
    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);
    let home = thread::current().id();
    let at_home = move |way| {
        assert_eq!(thread::current().id(), home);
        act(way);
    };
    // SAFETY: the functions keep the contract of wakers, on one thread, which is asserted.
    unsafe { Waker::from_raw(raw(Rc::new(at_home))) }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// A future that waits, and one that ends its wait.
type Wait = (Boxed, Boxed);

type Place = (&'static str, fn() -> Wait);

/// Every place in which a waker can wait, made inside a runtime of three slots.
const PLACES: [Place; 6] = [
    ("sleep", || (Box::pin(sleep(MS)), Box::pin(sleep(MS * 2)))),
    ("reserve", || {
        let slot = poll_once(&mut reserve());
        while try_spawn(pending::<()>()).map(JoinHandle::detach).is_ok() {}
        (Box::pin(reserve().map(drop)), Box::pin(async { drop(slot) }))
    }),
    ("join", || {
        let (end, ended) = oneshot::channel();
        let task = try_spawn(ended).unwrap();
        let end = async {
            let _ = end.send(());
            yield_now().await;
        };
        (Box::pin(task.map(|output| output.unwrap().unwrap())), Box::pin(end))
    }),
    ("token", || {
        let token = CancellationToken::new();
        let waiting: &CancellationToken = Box::leak(Box::new(token.child_token()));
        // In sight of those who look for leaks.
        LEAKED.lock().unwrap().push(waiting);
        (Box::pin(waiting.cancelled()), Box::pin(async move { token.cancel() }))
    }),
    ("batch", || {
        let (end, ended) = oneshot::channel();
        let run = batch([ended]).limit(1).for_each(|ended| ended.map(Result::unwrap));
        (Box::pin(run.map(Result::unwrap)), Box::pin(async { end.send(()).unwrap_or_default() }))
    }),
    ("socket", || {
        let (mut near, mut far) = pair_at_once();
        let wait = async move { assert_eq!(near.read(&mut [0; 4]).await.unwrap(), 4) };
        let end = async move {
            far.write_all(b"data").unwrap();
            sleep(MS * 2).await;
        };
        (Box::pin(wait), Box::pin(end))
    }),
];

static LEAKED: Mutex<Vec<&CancellationToken>> = Mutex::new(Vec::new());

/// A pair that is made without waiting.
fn pair_at_once() -> (gondola::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(sockets::loopback()).unwrap();
    let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (gondola::net::TcpStream::from_std(listener.accept().unwrap().0).unwrap(), far)
}

/// Runs `test` for each place, in a runtime of its own.
fn in_every_place(test: impl Fn(&str, &mut Runtime, Wait)) {
    for (name, make) in PLACES {
        // Virtual time, where that is possible: deadlines wait for the test.
        let mut runtime = if name == "socket" { runtime(3) } else { simulated(3) };
        let wait = runtime.block_on(async { make() });
        test(name, &mut runtime, wait);
    }
}

/// Polls once, inside the runtime.
fn poll_in(runtime: &mut Runtime, wait: &mut Boxed, waker: &Waker) -> Poll<()> {
    runtime.block_on(async { poll_with(wait, waker) })
}

/// Whatever the library has to offer, from inside a callback. False: no runtime was entered.
fn use_everything() -> bool {
    let token = CancellationToken::new();
    let child = token.child_token();
    assert!(poll_once(&mut child.cancelled()).is_pending());
    token.cancel();
    let mut run = batch(0..9).limit(3).for_each(|_| pending());
    assert!(poll_once(&mut run).is_pending());
    drop(run);
    match try_spawn(pending::<()>()) {
        Ok(mut task) => {
            assert!(poll_once(&mut task).is_pending());
            task.abort();
        }
        Err(refused) if refused.kind() == TrySpawnErrorKind::NoRuntime => return false,
        Err(full) => drop(full.into_future()),
    }
    assert!(poll_once(&mut sleep(SECOND)).is_pending());
    drop(poll_once(&mut reserve()));
    let listener = std::net::TcpListener::bind(sockets::loopback()).unwrap();
    if let Ok(listener) = gondola::net::TcpListener::from_std(listener) {
        assert!(poll_once(&mut Box::pin(listener.accept())).is_pending());
    }
    drop(runtime(1));
    true
}

// A. Wakers, parking.

#[test]
fn a1_n3_wakes_from_abroad_race_with_the_end_of_what_they_wake() {
    for _ in 0..200 {
        let parent = Arc::new(CountWakes::default());
        let mut runtime = runtime(1);
        let (in_task, task) = probe();
        let (in_batch, item) = probe();
        runtime.block_on(async {
            try_spawn(in_task).unwrap().detach();
            yield_now().await;
        });
        let mut run = Box::pin(batch([in_batch]).limit(1).for_each(|probe| probe));
        assert!(poll_with(&mut run, &parent.clone().into()).is_pending());
        let start = Arc::new(Barrier::new(3));
        let threads = [&task, &item].map(|counts| {
            let (waker, start) = (counts.waker.take().unwrap(), start.clone());
            thread::spawn(move || {
                start.wait();
                for _ in 0..50 {
                    let twin = waker.clone();
                    twin.wake();
                }
                waker.wake();
            })
        });
        start.wait();
        drop((runtime, run));
        assert_eq!((task.seen(), item.seen()), ((1, 1), (1, 1)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(Arc::strong_count(&parent), 1, "nothing keeps the parent's waker");
    }
}

#[test]
fn a2_eight_threads_share_one_waker() {
    on_a_thread(|| {
        let (in_task, task) = probe();
        let (in_batch, item) = probe();
        block_on(async {
            let in_batch = batch([in_batch]).limit(1).for_each(|probe| probe);
            let tasks = [
                try_spawn(in_task).unwrap(),
                try_spawn(async { in_batch.await.unwrap() }).unwrap(),
            ];
            yield_now().await;
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let waker = [&task, &item][n % 2].waker.borrow().clone().unwrap();
                    thread::spawn(move || {
                        for _ in 0..2_000 {
                            let twin = waker.clone();
                            waker.wake_by_ref();
                            twin.wake();
                        }
                    })
                })
                .collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                yield_now().await;
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            for (counts, task) in [task, item].into_iter().zip(tasks) {
                counts.open();
                counts.wake();
                task.await.unwrap();
                assert_eq!(counts.drops.get(), 1);
            }
        });
    });
}

/// Asks another thread to wake it, and waits for that, nothing else.
async fn woken_by(thread: &mpsc::Sender<(Waker, Arc<AtomicBool>)>) {
    let flag = Arc::new(AtomicBool::new(false));
    let mut asked = false;
    poll_fn(|cx| {
        if flag.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut asked, true) {
            thread.send((cx.waker().clone(), flag.clone())).unwrap();
        }
        Poll::Pending
    })
    .await
}

#[test]
fn a4_no_wake_is_lost_on_the_way_to_sleep() {
    const ROUNDS: usize = 2_000;
    on_a_thread(|| {
        let (ask, asked) = mpsc::channel::<(Waker, Arc<AtomicBool>)>();
        let waking = thread::spawn(move || {
            for (waker, flag) in asked {
                flag.store(true, Ordering::Release);
                waker.wake();
            }
        });
        // No timer and no socket: only the wake can end the sleep.
        let as_root = async {
            for _ in 0..ROUNDS {
                woken_by(&ask).await;
            }
        };
        block_on(as_root);
        let in_task = ask.clone();
        let task = async move {
            for _ in 0..ROUNDS {
                woken_by(&in_task).await;
            }
        };
        block_on(async { try_spawn(task).unwrap().await.unwrap() });
        block_on(batch(0..ROUNDS).limit(1).for_each(|_| woken_by(&ask))).unwrap();
        block_on(batch(0..ROUNDS).limit(3).for_each(|_| woken_by(&ask))).unwrap();
        drop(ask);
        waking.join().unwrap();
    });
}

/// Whoever wakes a task that is woken already still brings what he wrote before.
#[test]
fn a5_each_of_many_wakes_brings_its_payload() {
    const EACH: usize = 5_000;
    on_a_thread(|| {
        let written = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        let all_seen = poll_fn(|cx| {
            while threads.len() < 4 {
                let (waker, written) = (cx.waker().clone(), written.clone());
                threads.push(thread::spawn(move || {
                    for _ in 0..EACH {
                        written.fetch_add(1, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                }));
            }
            match written.load(Ordering::Relaxed) {
                seen if seen == 4 * EACH => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        block_on(all_seen);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a7_a_task_that_parks_its_thread_eats_no_wake() {
    on_a_thread(|| {
        block_on(async {
            let mut polls = 0;
            let parks = try_spawn(poll_fn(move |cx| {
                polls += 1;
                if polls > 50 {
                    return Poll::Ready(());
                }
                let (waker, us) = (cx.waker().clone(), thread::current());
                thread::spawn(move || {
                    waker.wake();
                    us.unpark();
                });
                // Waits for the second, with the first under way.
                thread::park();
                Poll::Pending
            }));
            parks.unwrap().await.unwrap();
            // The same by an executor that parks, with a batch of ours in it.
            let nested = try_spawn(async {
                let run = batch(0..50).limit(5).map(|n: usize| async move {
                    let (end, ended) = oneshot::channel();
                    thread::spawn(move || end.send(n).unwrap());
                    ended.await.unwrap()
                });
                futures::executor::block_on(run).unwrap().len()
            });
            assert_eq!(nested.unwrap().await.unwrap(), 50);
        });
    });
}

#[test]
fn a8_a_wake_under_the_lock_of_its_task_polls_nothing() {
    let lock = Rc::new(Mutex::new(0));
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let locks = || {
        let (lock, wakers) = (lock.clone(), wakers.clone());
        poll_fn(move |cx| {
            *lock.try_lock().expect("polled inside the wake") += 1;
            wakers.borrow_mut().push(cx.waker().clone());
            Poll::<()>::Pending
        })
    };
    let item = locks();
    block_on(async {
        try_spawn(locks()).unwrap().detach();
        try_spawn(async { batch([item]).limit(1).for_each(|item| item).await.unwrap() })
            .unwrap()
            .detach();
        yield_now().await;
        {
            let held = lock.lock().unwrap();
            for waker in wakers.take() {
                waker.wake_by_ref();
                waker.wake();
            }
            assert_eq!(*held, 2);
        }
        yield_now().await;
        assert_eq!(*lock.lock().unwrap(), 4);
    });
}

#[test]
fn a9_e2_a_waker_may_use_everything_whatever_is_done_to_it() {
    in_every_place(|name, runtime, (mut wait, end)| {
        for way in [Way::Clone, Way::Wake, Way::Drop] {
            let used = Rc::new(Cell::new(0));
            let (count, inside) = (used.clone(), Cell::new(false));
            let waker = foreign(move |now| {
                if now == way && !inside.replace(true) {
                    count.set(count.get() + usize::from(use_everything()));
                    inside.set(false);
                }
            });
            // Clones, and drops in exchange.
            for _ in 0..2 {
                assert!(poll_in(runtime, &mut wait, &waker).is_pending(), "{name}, {way:?}");
            }
            assert!(used.get() > 0 || way == Way::Wake, "{name}, {way:?}");
        }
        let woken = Rc::new(Cell::new(false));
        let flag = woken.clone();
        let waker =
            foreign(move |way| flag.set(flag.get() | (way == Way::Wake && use_everything())));
        assert!(poll_in(runtime, &mut wait, &waker).is_pending());
        runtime.block_on(within(async {
            end.await;
            while !woken.get() {
                sleep(MS).await;
            }
            wait.await;
        }));
    });
}

#[test]
fn a10_wakers_that_panic_hurt_nobody_else() {
    for way in [Way::Clone, Way::Wake, Way::Drop] {
        in_every_place(|name, runtime, (mut wait, end)| {
            let armed = Rc::new(Cell::new(true));
            let fuse = armed.clone();
            let hostile = foreign(move |now| {
                assert!(now != way || !fuse.replace(false), "hostile waker");
            });
            let first = quietly(|| poll_in(runtime, &mut wait, &hostile));
            assert_eq!(first.is_err(), way == Way::Clone, "{name}, {way:?}");
            if way != Way::Wake {
                let second = quietly(|| poll_in(runtime, &mut wait, &foreign(|_| ())));
                // A batch, like a body of an async fn, is ended by a panic in its poll.
                if matches!(name, "batch" | "socket") {
                    assert!(second.is_err(), "{name}, {way:?}");
                    drop(wait);
                    return runtime.block_on(yield_now());
                }
                assert_eq!(second.is_err(), way == Way::Drop, "{name}, {way:?}");
            }
            let ended = quietly(|| runtime.block_on(within(end)));
            assert_eq!(ended.is_err(), way == Way::Wake, "{name}, {way:?}");
            assert!(!armed.get());
            runtime.block_on(within(wait));
        });
    }
}

/// However often it is polled, each place keeps one waker; and none, once the wait is over.
#[test]
fn a11_c4_c6_l4_a_waiter_is_registered_once_and_forgotten_in_time() {
    for leaves in [false, true] {
        in_every_place(|name, runtime, (mut wait, end)| {
            let count = Arc::new(CountWakes::default());
            let waker = Waker::from(count.clone());
            runtime.block_on(async {
                for _ in 0..10_000 {
                    assert!(poll_with(&mut wait, &waker).is_pending(), "{name}");
                }
            });
            drop(waker);
            // A batch has two: for wakes from here, and from other threads.
            let most = if name == "batch" { 2 } else { 1 };
            assert_eq!(Arc::strong_count(&count) - 1, most, "{name}");
            if leaves {
                drop(wait);
                runtime.block_on(end);
                assert_eq!(count.count(), 0, "{name}");
            } else {
                runtime.block_on(within(async {
                    end.await;
                    while count.count() == 0 {
                        sleep(MS).await;
                    }
                    wait.await;
                }));
                assert_eq!(count.count(), 1, "{name}");
            }
            assert_eq!(Arc::strong_count(&count), 1, "{name}");
        });
    }
}

#[test]
fn a12_wakers_that_never_look_equal_are_as_good() {
    in_every_place(|name, runtime, (mut wait, end)| {
        let (alive, woken) = (Rc::new(Cell::new(1)), Rc::new(Cell::new(0)));
        let (count, wakes) = (alive.clone(), woken.clone());
        let waker = foreign(move |way| match way {
            Way::Clone => count.set(count.get() + 1),
            Way::Wake => wakes.set(wakes.get() + 1),
            Way::Drop => count.set(count.get() - 1),
        });
        for _ in 0..100 {
            assert!(poll_in(runtime, &mut wait, &waker).is_pending());
            assert!(alive.get() <= 3, "{name}: {} wakers", alive.get());
        }
        runtime.block_on(within(async {
            end.await;
            while woken.get() == 0 {
                sleep(MS).await;
            }
            wait.await;
        }));
        assert_eq!((alive.get(), woken.get()), (1, 1), "{name}");
    });
}

#[test]
fn a13_wakers_outlive_their_runtime_their_batch_and_their_thread() {
    for forgotten in [false, true] {
        let parent = Arc::new(CountWakes::default());
        let waker = Waker::from(parent.clone());
        let made = thread::spawn(move || {
            let mut runtime = runtime(1);
            let ((in_task, task), (in_batch, item)) = (probe(), probe());
            runtime.block_on(async {
                try_spawn(in_task).unwrap().detach();
                yield_now().await;
            });
            let mut run = Box::pin(batch([in_batch]).limit(1).for_each(|probe| probe));
            assert!(poll_with(&mut run, &waker).is_pending());
            if forgotten {
                #[expect(clippy::mem_forget, reason = "owned by a thread that is gone")]
                std::mem::forget((runtime, run));
            }
            [task, item].map(|counts| counts.waker.take().unwrap())
        });
        let wakers = made.join().unwrap();
        // None of these threads may pass for the owner.
        for _ in 0..20 {
            let wakers = wakers.clone();
            thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
        }
        wakers.into_iter().for_each(Waker::wake);
        assert_eq!(parent.count(), usize::from(forgotten));
    }
}

#[test]
fn a14_a_yield_is_heard_on_every_way_in() {
    async fn yields() -> usize {
        for _ in 0..3 {
            yield_now().await;
            // Of a runtime that defers such wakes, where it is entered.
            tokio::task::yield_now().await;
        }
        1
    }
    async fn in_a_batch() -> usize {
        batch(0..5).limit(2).map(|_| yields()).await.unwrap().len()
    }
    on_a_thread(|| {
        assert_eq!(block_on(yields()), 1);
        assert_eq!(block_on(in_a_batch()), 5);
        assert_eq!(block_on(async { try_spawn(in_a_batch()).unwrap().await.unwrap() }), 5);
        assert_eq!(futures::executor::block_on(in_a_batch()), 5);
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(tokio.block_on(in_a_batch()), 5);
        let local = tokio::task::LocalSet::new();
        let nested = batch(0..2).limit(2).map(|_| in_a_batch());
        assert_eq!(local.block_on(&tokio, nested).unwrap(), [5, 5]);
        let mut runtime = runtime(1);
        let task = runtime.block_on(async { try_spawn(yields()).unwrap() });
        let turns = (1..20).find(|_| !runtime.turn().unwrap().busy);
        assert_eq!((turns, task.is_finished()), (Some(7), true));
    });
}

// B. Ring, slots.

#[test]
fn b1_a_stale_waker_costs_the_next_item_of_a_batch_one_poll() {
    for abroad in [false, true] {
        let ((first, stale), (second, counts)) = (probe(), probe());
        let mut run = Box::pin(batch([first, second]).limit(1).for_each(|probe| probe));
        stale.open();
        assert!(poll_once(&mut run).is_pending());
        assert_eq!((stale.seen(), counts.seen()), ((1, 1), (1, 0)));
        let wake = || match abroad {
            false => stale.wake(),
            true => {
                let waker = stale.waker.borrow().clone().unwrap();
                thread::spawn(move || waker.wake()).join().unwrap();
            }
        };
        for polls in 2..5 {
            wake();
            assert!(poll_once(&mut run).is_pending());
            assert_eq!(counts.seen(), (polls, 0));
        }
        counts.open();
        wake();
        assert!(poll_once(&mut run).is_ready());
        wake();
        drop(run);
        wake();
        assert_eq!((stale.seen(), counts.seen()), ((1, 1), (5, 1)));
    }
}

#[test]
fn b4_wakes_from_abroad_while_slots_change_hands() {
    on_a_thread(|| {
        let mut runtime = runtime(1);
        runtime.block_on(async {
            let (first, counts) = probe();
            let task = try_spawn(first).unwrap();
            yield_now().await;
            let waker = counts.waker.borrow().clone().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let until = stop.clone();
            let storm = thread::spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    waker.wake_by_ref();
                }
            });
            task.abort();
            drop(task.await);
            // Each probe insists on one drop, its thread, and no poll after its end.
            for n in 0..2_000 {
                let (next, counts) = probe();
                let task = try_spawn(next).unwrap();
                yield_now().await;
                counts.open();
                match n % 2 {
                    0 => counts.wake(),
                    _ => task.abort(),
                }
                drop(task.await);
                assert_eq!(counts.drops.get(), 1);
            }
            stop.store(true, Ordering::Relaxed);
            storm.join().unwrap();
        });
    });
}

#[test]
fn b5_a_panic_while_the_future_is_made_gives_the_slot_back() {
    fn unlucky() -> std::future::Ready<()> {
        panic!("no future")
    }
    let mut runtime = runtime(1);
    for _ in 0..3 {
        let text =
            panics(|| runtime.block_on(within(async { reserve().await.spawn(unlucky()).await })));
        assert_eq!(text, "no future");
    }
    runtime.block_on(async { try_spawn(async {}).unwrap().await.unwrap() });
}

/// By its end, an abort, a panic of its own, the end of its runtime: always once.
#[test]
fn b7_a_destructor_that_panics_costs_neither_its_slot_nor_a_stale_waker() {
    for way in 0..4 {
        let mut runtime = runtime(1);
        let mut stale: Vec<Waker> = Vec::new();
        let dropped = Rc::new(Cell::new(0));
        for round in 1..=3 {
            let kept = Rc::new(RefCell::new(None));
            let (count, waker) = (dropped.clone(), kept.clone());
            let bomb = OnDrop(move || {
                count.set(count.get() + 1);
                waker.borrow().as_ref().map(Waker::wake_by_ref);
                panic!("in drop");
            });
            let waker = kept.clone();
            let task = poll_fn(move |cx| {
                let _held = &bomb;
                if waker.replace(Some(cx.waker().clone())).is_none() || way >= 2 {
                    return Poll::Pending;
                }
                assert!(way == 0, "in poll");
                Poll::Ready(())
            });
            quietly(|| {
                runtime.block_on(async {
                    let task = try_spawn(task).unwrap();
                    yield_now().await;
                    stale.iter().for_each(Waker::wake_by_ref);
                    kept.borrow().as_ref().unwrap().wake_by_ref();
                    if way == 2 {
                        task.abort();
                    }
                    if way < 3 {
                        drop(task.await);
                        assert_eq!(dropped.get(), round);
                    }
                })
            })
            .unwrap();
            stale.extend(kept.take());
            if way == 3 {
                quietly(|| drop(std::mem::replace(&mut runtime, self::runtime(1)))).unwrap();
            }
            assert_eq!(dropped.get(), round, "way {way}");
        }
        stale.into_iter().for_each(Waker::wake);
        runtime.block_on(async { try_spawn(async {}).unwrap().await.unwrap() });
    }
}

#[test]
fn b11_wakers_held_for_ever_pin_no_slot_and_no_future() {
    let held = Rc::new(RefCell::new(Vec::new()));
    let holds = || {
        let (probe, counts) = probe();
        counts.open();
        let held = held.clone();
        let mut probe = Box::pin(probe);
        let future = poll_fn(move |cx| {
            held.borrow_mut().push(cx.waker().clone());
            probe.as_mut().poll(cx)
        });
        (future, counts)
    };
    let mut runtime = runtime(1);
    runtime.block_on(async {
        for _ in 0..1_000 {
            let (future, counts) = holds();
            try_spawn(future).unwrap().await.unwrap();
            assert_eq!(counts.seen(), (1, 1));
        }
        let all = RefCell::new(Vec::new());
        let run = batch(0..1_000).limit(1).for_each(|_| {
            assert!(
                all.borrow().iter().all(|counts: &Rc<support::Counts>| counts.drops.get() == 1)
            );
            let (future, counts) = holds();
            all.borrow_mut().push(counts);
            future
        });
        run.await.unwrap();
    });
    assert_eq!(held.borrow().len(), 2_000);
}

// C. Spawn, join, abort.

#[test]
fn c1_c2_who_is_aborted_or_cancelled_is_dropped_at_home_one_turn_later() {
    let mut runtime = runtime(4);
    let token = CancellationToken::new();
    let [(never_polled, a), (asleep, b), (awake, c), (cancelled, d)] = [(); 4].map(|()| probe());
    let tasks = runtime.block_on(async {
        let spinning = async move {
            let mut awake = pin!(awake);
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                awake.as_mut().poll(cx)
            })
            .await
        };
        let child = token.child_token();
        let cancelled = async move { child.run_until_cancelled(cancelled).await };
        let cancelled = try_spawn(cancelled).unwrap();
        let tasks = [try_spawn(asleep).unwrap(), try_spawn(spinning).unwrap()];
        yield_now().await;
        cancelled.detach();
        let [asleep, awake] = tasks;
        [try_spawn(never_polled).unwrap(), asleep, awake]
    });
    // Probes insist on their thread.
    thread::spawn(move || token.cancel()).join().unwrap();
    tasks.iter().for_each(JoinHandle::abort);
    let all = [a, b, c, d];
    assert_eq!(all.each_ref().map(|counts| counts.drops.get()), [0; 4]);
    assert_eq!(runtime.turn().unwrap().completed, 4);
    assert_eq!(all.each_ref().map(|counts| counts.drops.get()), [1; 4]);
    assert_eq!(all[0].polls.get(), 0);
}

/// Nobody is awake when the timers fire, in the last look before the sleep.
#[test]
fn c7_f9_what_a_waker_spawns_or_arms_on_the_way_to_sleep_counts() {
    simulated(4).block_on(async {
        let start = now();
        let (done, spawned) = oneshot::channel();
        let done = Cell::new(Some(done));
        let spawns = waker_fn(move || {
            let done = done.take().unwrap();
            try_spawn(async move { done.send(now()).unwrap() }).unwrap().detach();
        });
        let mut due = sleep(Duration::ZERO);
        assert!(poll_with(&mut due, &spawns).is_pending());
        let later = sleep(SECOND);
        assert_eq!(futures::join!(spawned, later).0.unwrap(), start);

        let mut due = sleep(Duration::ZERO);
        let armed = Rc::new(RefCell::new(sleep(SECOND)));
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            let (armed, root) = (armed.clone(), cx.waker().clone());
            let arms = waker_fn(move || {
                assert!(poll_with(&mut *armed.borrow_mut(), &root).is_pending());
            });
            assert!(polls > 1 || poll_with(&mut due, &arms).is_pending());
            if polls > 1 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(now() - start, SECOND * 2);
    });
}

#[test]
fn c8_a_megabyte_of_future_goes_into_its_slot_of_a_batch() {
    let work = || {
        let run = batch(0..3_u8).limit(2).map(|n| async move {
            let mut big = [n; 1 << 20];
            yield_now().await;
            big[0] += 1;
            big.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        });
        block_on(run).unwrap()
    };
    let thread = thread::Builder::new().stack_size(6 << 20).spawn(work).unwrap();
    assert_eq!(thread.join().unwrap(), [1, (1 << 20) + 1, (2 << 20) + 1]);
}

// D. Panics, drop order.

#[test]
fn d3_whoever_is_dropped_wakes_aborts_and_forgets_the_others() {
    for (slots, at_shutdown) in [(2, false), (65, false), (2, true), (65, true)] {
        let dropped = Rc::new(Cell::new(0));
        let wakers = Rc::new(RefCell::new(Vec::<Waker>::new()));
        let tasks = Rc::new(RefCell::new(Vec::<JoinHandle<()>>::new()));
        let mortal = || {
            let (dropped, tasks) = (dropped.clone(), tasks.clone());
            let (woken, known) = (wakers.clone(), wakers.clone());
            let guard = OnDrop(move || {
                dropped.set(dropped.get() + 1);
                woken.borrow().iter().for_each(Waker::wake_by_ref);
                let last = tasks.borrow_mut().pop();
                for task in tasks.borrow_mut().iter_mut() {
                    task.abort();
                    let _ = !task.is_finished() && poll_once(task).is_ready();
                }
                drop(last);
            });
            poll_fn(move |cx| {
                let _held = &guard;
                known.borrow_mut().push(cx.waker().clone());
                Poll::<()>::Pending
            })
        };
        let mut runtime = runtime(slots);
        runtime.block_on(async {
            let all: Vec<_> = (0..slots).map(|_| try_spawn(mortal()).unwrap()).collect();
            tasks.replace(all);
            yield_now().await;
        });
        if at_shutdown {
            drop(runtime);
        } else {
            tasks.borrow()[0].abort();
            // The last handle is dropped, its task detached, before it can be aborted.
            while runtime.turn().unwrap().completed > 0 {}
            assert!(dropped.get() >= slots / 2, "{} of {slots}", dropped.get());
            drop(runtime);
        }
        assert_eq!(dropped.get(), slots);

        dropped.set(0);
        let mut run = Box::pin(batch(0..slots).limit(slots).for_each(|_| mortal()));
        assert!(poll_once(&mut run).is_pending());
        drop(run);
        assert_eq!(dropped.get(), slots);
    }
}

/// Each destructor submits twice, in vain.
#[test]
fn d4_n1_whatever_is_submitted_during_shutdown_is_dropped_once() {
    let counted = Rc::new(Cell::new(0));
    let counts = || {
        let counted = counted.clone();
        let guard = OnDrop(move || counted.set(counted.get() + 1));
        poll_fn(move |_| -> Poll<()> {
            let _held = &guard;
            unreachable!("nothing runs any more")
        })
    };
    // What the destructors see: a panic in one would be contained, and go unnoticed.
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut runtime = runtime(6);
    runtime.block_on(async {
        for _ in 0..3 {
            let mut work = Some((reserve().await, counts(), counts()));
            let seen = seen.clone();
            let guard = OnDrop(move || {
                let (slot, first, second) = work.take().unwrap();
                let refused = try_spawn(first).unwrap_err();
                let kind = refused.kind();
                drop(refused.into_future());
                let mut task = slot.spawn(second);
                let joined = poll_once(&mut task);
                let cancelled = matches!(joined, Poll::Ready(Err(error)) if error.is_cancelled());
                seen.borrow_mut().push((kind, cancelled));
            });
            let submits = async move {
                let _guard = guard;
                pending::<()>().await;
            };
            try_spawn(submits).unwrap().detach();
        }
        yield_now().await;
    });
    drop(runtime);
    assert_eq!(counted.get(), 6);
    assert_eq!(seen.take(), [(TrySpawnErrorKind::NoRuntime, true); 3]);
}

/// Were one of these panics to meet the other, the process would abort.
#[test]
fn d6_what_panics_while_its_thread_unwinds_is_contained() {
    let dropped = Rc::new(Cell::new(0));
    let bomb = || {
        let dropped = dropped.clone();
        OnDrop(move || {
            dropped.set(dropped.get() + 1);
            panic!("in drop");
        })
    };
    let waits = || {
        let bomb = bomb();
        poll_fn(move |_| {
            let _held = &bomb;
            Poll::<()>::Pending
        })
    };
    let outer = panics(|| {
        let mut runtime = runtime(2);
        let mut run = batch(0..3).limit(3).for_each(|_| waits());
        assert!(poll_once(&mut run).is_pending());
        let hostile = waker_fn(|| panic!("hostile waker"));
        let mut tasks = runtime.block_on(async {
            let tasks = [try_spawn(waits()).unwrap(), try_spawn(waits()).unwrap()];
            yield_now().await;
            tasks
        });
        assert!(poll_with(&mut tasks[0], &hostile).is_pending());
        let (_first, _second) = (run, runtime);
        panic!("outer");
    });
    assert_eq!((outer.as_str(), dropped.get()), ("outer", 5));
}

// E. Re-entrancy.

/// Wherever a future can be dropped, nothing is borrowed.
#[test]
fn e2_a_destructor_may_use_everything_wherever_it_runs() {
    let (used, refused) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mortal = |waits: usize| {
        let (used, refused) = (used.clone(), refused.clone());
        async move {
            let _guard = OnDrop(move || {
                let count = if use_everything() { &used } else { &refused };
                count.set(count.get() + 1);
            });
            for _ in 0..waits {
                yield_now().await;
            }
            if waits == 0 {
                pending::<()>().await;
            }
        }
    };
    let mut runtime = runtime(20);
    runtime.block_on(async {
        try_spawn(mortal(1)).unwrap().await.unwrap();
        let task = try_spawn(mortal(0)).unwrap();
        yield_now().await;
        task.abort();
        drop(task.await);
        assert!(timeout(MS, mortal(0)).await.is_err());
        let token = CancellationToken::new();
        let cancel = async { token.cancel() };
        futures::join!(token.run_until_cancelled(mortal(0)), cancel);
        batch(0..3).limit(2).for_each(|_| mortal(2)).await.unwrap();
        let run = batch(0..3).limit(3).try_for_each(|item| {
            let mortal = mortal(if item == 2 { 1 } else { 0 });
            async move {
                mortal.await;
                Err::<(), ()>(())
            }
        });
        assert_eq!(run.await.unwrap_err().cut_off.len(), 2);
        assert_eq!((used.get(), refused.get()), (10, 0));
        try_spawn(mortal(0)).unwrap().detach();
        yield_now().await;
    });
    drop(runtime);
    assert_eq!((used.get(), refused.get()), (10, 1));
}

// F. Time.

#[test]
fn f1_deadlines_around_every_power_of_two_come_in_order_and_on_time() {
    let mut nanos: Vec<u64> =
        (0..63_u32).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]).collect();
    let trace = Trace::default();
    simulated(1).block_on(async {
        let start = now();
        let sleeps = nanos.iter().rev().map(|&nanos| {
            let trace = &trace;
            async move {
                sleep_until(start + Duration::from_nanos(nanos)).await;
                assert_eq!(now() - start, Duration::from_nanos(nanos));
                trace.add(nanos.to_string());
            }
        });
        futures::future::join_all(sleeps).await;
    });
    nanos.sort_unstable();
    let expected: Vec<_> = nanos.iter().map(u64::to_string).collect();
    assert_eq!(trace.take(), expected.join(" "));
}

#[test]
fn f2_a_deadline_brought_forward_comes_first() {
    simulated(2).block_on(async {
        let start = now();
        let later = try_spawn(sleep(SECOND * 30)).unwrap();
        yield_now().await;
        let mut nap: Pin<Box<Sleep>> = Box::pin(sleep(SECOND * 20));
        assert!(poll_once(&mut nap).is_pending());
        nap.set(sleep(SECOND * 10));
        nap.await;
        assert_eq!((now() - start, later.is_finished()), (SECOND * 10, false));
    });
    // While the thread sleeps until the later one already.
    on_a_thread(|| {
        let (wake, woken) = oneshot::channel();
        block_on(async {
            let later = try_spawn(sleep(SECOND * 3600)).unwrap();
            yield_now().await;
            thread::spawn(move || wake.send(()).unwrap());
            woken.await.unwrap();
            sleep(MS).await;
            assert!(!later.is_finished());
        });
    });
}

/// Waits that no system call takes, and such as mio would round to nothing.
#[cfg(target_os = "linux")]
#[test]
fn f5_the_system_is_asked_to_wait_for_ages_and_for_less_than_a_millisecond() {
    on_a_thread(|| {
        let days = Duration::from_secs(86_400);
        for long in [days * 24, days * 25, days * 50, days * 365 * 500, Duration::MAX] {
            let (wake, woken) = oneshot::channel();
            block_on(async {
                let long = try_spawn(sleep(long)).unwrap();
                yield_now().await;
                thread::spawn(move || wake.send(()).unwrap());
                woken.await.unwrap();
                assert!(!long.is_finished());
            });
        }
        // Who blocks gives the processor up; who spins does not.
        let given_up = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt")).unwrap();
            line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()
        };
        let before = given_up();
        block_on(async {
            for _ in 0..100 {
                sleep(MS * 3 / 10).await;
            }
        });
        assert!(given_up() - before >= 50, "{} of 100 sleeps blocked", given_up() - before);
    });
}

#[test]
fn f6_a_zero_sleep_in_a_loop_holds_up_no_socket() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let read = try_spawn(async move { near.read_exact(&mut [0; 4]).await }).unwrap();
        yield_now().await;
        far.write_all(b"data").unwrap();
        let mut naps = 0;
        while !read.is_finished() {
            sleep(Duration::ZERO).await;
            naps += 1;
            assert!(naps < 100_000, "the socket is never looked at");
        }
        // A waker that arms the next one, from inside the look that fires it.
        let armed = Rc::new(RefCell::new(Vec::new()));
        fn rearm(armed: &Rc<RefCell<Vec<Sleep>>>) {
            let again = armed.clone();
            let waker = waker_fn(move || rearm(&again));
            let mut nap = sleep(Duration::ZERO);
            assert!(poll_with(&mut nap, &waker).is_pending());
            armed.borrow_mut().push(nap);
        }
        rearm(&armed);
        for _ in 0..10 {
            sleep(Duration::ZERO).await;
        }
        // Out of the timers first, then dropped: a waker of theirs might want to be there.
        drop(armed.take());
    });
}

#[test]
fn f7_after_a_stall_one_look_fires_all_that_is_due() {
    let mut runtime = runtime(100);
    runtime.block_on(async {
        for n in 1..=100 {
            try_spawn(sleep(MS / 100 * n)).unwrap().detach();
        }
    });
    let mut fired = 0;
    loop {
        let turn = runtime.turn().unwrap();
        fired += turn.fired;
        if !turn.busy {
            break;
        }
    }
    thread::sleep(MS * 2);
    assert_eq!(fired + runtime.turn().unwrap().fired, 100);
}

#[test]
fn f8_a_timer_may_leave_in_the_look_that_fires_it() {
    simulated(1).block_on(async {
        let deadline = now() + SECOND;
        let others = Rc::new(RefCell::new(Vec::<Sleep>::new()));
        let count = Arc::new(CountWakes::default());
        let leaving = others.clone();
        let replaces = waker_fn(move || {
            // All that is due now goes; as many new ones, due at once, wait for the next look.
            let gone = leaving.take();
            let fresh = gone.iter().map(|_| sleep_until(deadline)).collect();
            drop(leaving.replace(fresh));
            for fresh in leaving.borrow_mut().iter_mut() {
                assert!(poll_with(fresh, &Waker::from(count.clone())).is_pending());
            }
            assert_eq!(count.count(), 0);
        });
        let mut first = sleep_until(deadline);
        assert!(poll_with(&mut first, &replaces).is_pending());
        for _ in 0..20 {
            let mut other = sleep_until(deadline);
            assert!(poll_with(&mut other, &waker_fn(|| panic!("it has left"))).is_pending());
            others.borrow_mut().push(other);
        }
        sleep_until(deadline).await;
        yield_now().await;
        assert!(others.borrow_mut().iter_mut().all(|other| poll_once(other).is_ready()));
        assert_eq!(now(), deadline);
    });
}

/// To timers that come from a runtime far ahead, the clock steps back by a century.
#[test]
fn f10_a_clock_that_steps_back_fires_nothing_early() {
    let century = SECOND * 86_400 * 36_525;
    let mut ahead = simulated(1);
    let (mut ticks, mut nap, due) = ahead.block_on(async {
        sleep(century).await;
        let mut ticks = interval(SECOND);
        let start = ticks.tick().await;
        let mut nap = sleep(SECOND);
        assert!(poll_once(&mut nap).is_pending());
        (ticks, nap, start + SECOND)
    });
    let mut behind = simulated(1);
    behind.block_on(async {
        assert!(now() < due - century / 2);
        assert!(poll_once(&mut nap).is_pending());
        assert_eq!(ticks.tick().await, due);
        assert_eq!((now(), poll_once(&mut nap)), (due, Poll::Ready(())));
        assert_eq!(ticks.tick().await, due + SECOND);
    });
    // And back again, where all of it is long past.
    ahead.block_on(sleep(century));
    ahead.block_on(async {
        assert_eq!(ticks.tick().await, due + SECOND * 2);
        nap.await;
    });
}

// G. Reactor.

/// Reads that leave room in their buffer call the socket empty, while more is coming in.
#[test]
fn g2_data_that_races_with_a_short_read_is_not_forgotten() {
    const WORDS: u32 = 20_000;
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        far.set_nodelay(true).unwrap();
        let (answer, answered) = mpsc::channel();
        let writer = thread::spawn(move || {
            for word in 0..WORDS {
                far.write_all(&word.to_le_bytes()).unwrap();
                if word % 100 == 99 {
                    // Until it was read: no later edge makes up for a lost one.
                    answered.recv().unwrap();
                }
            }
            far
        });
        let (mut seen, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while seen.len() < WORDS as usize * 4 {
            let before = seen.len() / 400;
            let count = near.read(&mut buffer).await.unwrap();
            seen.extend_from_slice(&buffer[..count]);
            (before..seen.len() / 400).for_each(|_| answer.send(()).unwrap());
            if seen.len() % 400 < 100 {
                // Let the reactor look while nobody waits.
                for _ in 0..100 {
                    yield_now().await;
                }
            }
        }
        drop(writer.join().unwrap());
        let words = seen.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        assert!(words.eq(0..WORDS));
    });
}

// I. Signals, fork. O4 is at home here, too.

#[cfg(target_os = "linux")]
const CHILD: &str = "GONDOLA_TEST_CHILD";

/// Runs the test `name` once more, in a process of its own; true in there.
#[cfg(target_os = "linux")]
#[track_caller]
fn in_a_process_of_its_own(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "{}\n{out}\n{err}", output.status);
    false
}

/// What a process has once: signals, threads, limits, and so on; and how many descriptors.
#[cfg(target_os = "linux")]
fn process() -> (String, usize) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let once = ["SigBlk", "SigIgn", "SigCgt", "Threads", "Umask", "NoNewPrivs", "Seccomp"];
    let status = status.lines().filter(|line| once.iter().any(|name| line.starts_with(name)));
    let mut text = status.collect::<Vec<_>>().join("\n");
    text += &std::fs::read_to_string("/proc/self/limits").unwrap();
    text += &format!("{:?} {:?}", std::env::current_dir(), std::env::vars_os());
    (text, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

#[cfg(target_os = "linux")]
#[test]
fn o4_i1_i2_i5_the_process_is_left_as_it_was() {
    if !in_a_process_of_its_own("o4_i1_i2_i5_the_process_is_left_as_it_was") {
        return;
    }
    let before = process();
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(within(async {
        assert!(use_everything());
        let (mut near, mut far) = pair_with_std().await;
        far.write_all(b"data").unwrap();
        near.read_exact(&mut [0; 4]).await.unwrap();
        drop(far);
        while near.write(b"data").await.is_ok() {}
        let dies = try_spawn(async { std::panic::resume_unwind(Box::new("contained")) });
        assert!(dies.unwrap().await.map(|(): ()| ()).unwrap_err().is_panic());
        batch(0..9).limit(3).for_each(|_| sleep(MS)).await.unwrap();
        assert_eq!(process().0, before.0);
    }));
    drop(runtime);
    assert_eq!(process(), before);
}

/// The child shares what the parent waits with, until it is another program or none at all.
#[cfg(target_os = "linux")]
#[test]
fn i3_i4_a_process_started_meanwhile_disturbs_no_runtime() {
    use std::os::unix::process::CommandExt;
    if !in_a_process_of_its_own("i3_i4_a_process_started_meanwhile_disturbs_no_runtime") {
        return;
    }
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let (_other, _other_far) = pair_with_std().await;
        for _ in 0..3 {
            let mut buffer = [0; 4];
            let mut read = pin!(near.read(&mut buffer));
            assert!(futures::poll!(read.as_mut()).is_pending());
            let mut command = std::process::Command::new("true");
            // SAFETY: it does nothing, in either process; but it makes this a fork and an exec.
            unsafe { command.pre_exec(|| Ok(())) };
            assert!(command.status().unwrap().success());
            // SAFETY: the child calls nothing but `_exit`.
            let child = unsafe {
                match libc::fork() {
                    0 => libc::_exit(0),
                    child => child,
                }
            };
            let mut status = 1;
            // SAFETY: the status is written while it is alive.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
            far.write_all(b"data").unwrap();
            assert_eq!(read.await.unwrap(), 4);
            let (wake, woken) = oneshot::channel();
            thread::spawn(move || wake.send(()).unwrap());
            woken.await.unwrap();
        }
    });
}

/// Swallowed, it would be a task that sleeps for ever.
#[cfg(target_os = "linux")]
#[test]
fn a6_a_wake_that_the_system_refuses_is_told() {
    use std::os::fd::AsRawFd;
    if !in_a_process_of_its_own("a6_a_wake_that_the_system_refuses_is_told") {
        return;
    }
    let mut runtime = runtime(1);
    let is_eventfd = |fd: &i32| {
        std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|target| target.to_string_lossy().contains("eventfd"))
    };
    let eventfd = (0..64).find(is_eventfd).unwrap();
    let unwritable = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: both are open; the runtime's own is exchanged behind its back, not closed.
    assert_eq!(unsafe { libc::dup2(unwritable.as_raw_fd(), eventfd) }, eventfd);
    runtime.block_on(within(async {
        let (future, counts) = probe();
        try_spawn(future).unwrap().detach();
        yield_now().await;
        let waker = counts.waker.borrow().clone().unwrap();
        let waking = thread::spawn(move || {
            // Until one finds the runtime asleep.
            panics::<()>(|| {
                loop {
                    waker.wake_by_ref();
                    thread::yield_now();
                }
            })
        });
        while !waking.is_finished() {
            sleep(MS).await;
        }
        let told = waking.join().unwrap();
        assert!(told.starts_with("a sleeping runtime could not be woken: "), "{told}");
    }));
}

// K. Batch.

/// Counts what is alive.
#[derive(Clone, Default)]
struct Alive(Rc<(Cell<usize>, Cell<usize>)>);

impl Alive {
    fn one(&self) -> impl Drop + use<> {
        let this = self.0.clone();
        this.0.set(this.0.get() + 1);
        this.1.set(this.1.get().max(this.0.get()));
        OnDrop(move || this.0.set(this.0.get() - 1))
    }

    /// At present, and at most so far.
    fn seen(&self) -> (usize, usize) {
        (self.0.0.get(), self.0.1.get())
    }
}

#[test]
fn k1_failures_free_their_slots_and_keep_the_limit() {
    let pause = |item: usize| MS * (item * 5 % 7) as u32;
    for k in [1, 2, 7, 64] {
        let alive = Alive::default();
        let run = batch(0..300).limit(k).on_error(OnError::Collect).try_for_each(|item| {
            let guard = alive.one();
            async move {
                let _guard = guard;
                sleep(pause(item)).await;
                if item % 3 == 0 { Err(item) } else { Ok(()) }
            }
        });
        let (error, took) = simulated(1).block_on(async {
            let start = now();
            (run.await.unwrap_err(), now() - start)
        });
        assert_eq!((error.kind, error.errors.len()), (ErrorKind::Item, 100));
        assert_eq!((error.completed(), error.cut_off.len()), (200, 0));
        assert_eq!(alive.seen(), (0, k));
        // No slot stood empty: as K workers would, each of which takes the next item at once.
        let mut workers = vec![Duration::ZERO; k];
        for item in 0..300 {
            *workers.iter_mut().min().unwrap() += pause(item);
        }
        assert_eq!(took, workers.into_iter().max().unwrap(), "K = {k}");
    }
}

#[test]
fn k3_a_slow_item_holds_up_no_other() {
    simulated(1).block_on(async {
        let start = now();
        let finished = RefCell::new(Vec::new());
        let run = batch(0..100).limit(2).for_each(|item| {
            let finished = &finished;
            async move {
                sleep(if item == 0 { SECOND } else { MS }).await;
                finished.borrow_mut().push((item, now() - start));
            }
        });
        run.await.unwrap();
        let expected = (1..100).map(|item| (item, MS * item)).chain([(0, SECOND)]);
        assert!(finished.take().into_iter().eq(expected));
    });
}

#[test]
fn k6_an_error_of_the_source_ends_the_batch() {
    let source = (0..).map(|n| if n == 5 { Err("source") } else { Ok(n) });
    let run = batch(source).limit(2).try_for_each(|item: Result<u32, _>| async move {
        item?;
        yield_now().await;
        Ok(())
    });
    let error = block_on(run).unwrap_err();
    assert_eq!(
        (error.kind, error.error(), error.index()),
        (ErrorKind::Item, Some(&"source"), Some(5))
    );
}

#[test]
fn k7_a_retry_begins_once_its_timed_out_attempt_is_gone() {
    let alive = Alive::default();
    let attempts = Cell::new(0);
    let run = batch(0..20).limit(4).for_each(|item: u32| {
        let (alive, attempts) = (&alive, &attempts);
        async move {
            for attempt in 0.. {
                attempts.set(attempts.get() + 1);
                let guard = alive.one();
                let attempt = async move {
                    let _guard = guard;
                    sleep(MS * 10 * (item % 4).saturating_sub(attempt)).await;
                };
                if timeout(MS * 5, attempt).await.is_ok() {
                    return;
                }
            }
        }
    });
    simulated(1).block_on(run).unwrap();
    assert_eq!((alive.seen(), attempts.get()), ((0, 4), 5 * (1 + 2 + 3 + 4)));
}

/// What other combinators do inside an item is theirs; a batch adds no polls.
#[test]
fn k11_futures_unordered_and_select_inside_an_item_poll_the_woken_only() {
    use futures::{StreamExt, select, stream::FuturesUnordered};
    let polls = Cell::new(0);
    let counted = |n: u32| {
        let (mut nap, polls) = (sleep(MS * n), &polls);
        poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            Pin::new(&mut nap).poll(cx)
        })
    };
    let run = async {
        let run = batch(0..5).limit(3).map(|item: u32| {
            let counted = &counted;
            async move {
                let mut set: FuturesUnordered<_> =
                    (1..=20).map(|n| counted(n * 10 + item)).collect();
                let mut left = pin!(sleep(MS * 105).fuse());
                let mut done = 0;
                loop {
                    select! {
                        () = set.select_next_some() => done += 1,
                        () = left => return done,
                    }
                }
            }
        });
        run.await.unwrap()
    };
    assert_eq!(simulated(1).block_on(run), [10; 5]);
    // Each once at first, and once when it is woken.
    assert_eq!(polls.get(), 5 * (20 + 10));
}

// L. Fairness.

#[test]
fn l2_two_that_wake_each_other_starve_no_third() {
    for slots in [3, 130] {
        let mut runtime = runtime(slots);
        let polls: [Rc<Cell<usize>>; 3] = Default::default();
        let wakers = Rc::new(RefCell::new([const { None::<Waker> }; 3]));
        runtime.block_on(async {
            for (at, polls) in polls.clone().into_iter().enumerate() {
                for _ in 3..if at == 1 { slots } else { 0 } {
                    try_spawn(pending::<()>()).unwrap().detach();
                }
                let wakers = wakers.clone();
                let task = poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    wakers.borrow_mut()[at] = Some(cx.waker().clone());
                    // The pair plays ball; the third asks for itself.
                    wakers.borrow()[[1, 0, 2][at]].iter().for_each(Waker::wake_by_ref);
                    Poll::<()>::Pending
                });
                try_spawn(task).unwrap().detach();
            }
        });
        for _ in 0..100 {
            runtime.turn().unwrap();
        }
        assert_eq!(polls.map(|polls| polls.get()), [51, 50, 100]);
    }
}

// N. Shutdown, nesting, thread-locals.

/// Other threads submit through a channel: what they sent runs, comes back, or is dropped.
#[test]
fn n1_what_threads_send_while_the_runtime_ends_is_accounted_for() {
    struct Item(Arc<AtomicUsize>);
    impl Drop for Item {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    on_a_thread(|| {
        for round in 0..50 {
            let (sender, receiver) = async_channel::bounded::<Item>(4);
            let (dropped, made) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let threads = [(); 2].map(|()| {
                let (sender, dropped, made) = (sender.clone(), dropped.clone(), made.clone());
                thread::spawn(move || {
                    loop {
                        made.fetch_add(1, Ordering::SeqCst);
                        if sender.send_blocking(Item(dropped.clone())).is_err() {
                            return;
                        }
                    }
                })
            });
            drop(sender);
            let mut runtime = runtime(2);
            runtime.block_on(async {
                try_spawn(async move {
                    while let Ok(item) = receiver.recv().await {
                        reserve().await.spawn(async move { drop(item) }).detach();
                    }
                })
                .unwrap()
                .detach();
                for _ in 0..round {
                    yield_now().await;
                }
            });
            drop(runtime);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(dropped.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn n4_a_runtime_with_tasks_is_dropped_inside_anothers_task() {
    let refusals = Rc::new(RefCell::new(Vec::new()));
    let log = refusals.clone();
    let mut inner = runtime(3);
    inner.block_on(async {
        let guard = OnDrop(move || {
            // Here the one that goes is entered, not the outer one.
            log.borrow_mut().push(try_spawn(async {}).unwrap_err().kind());
        });
        let (mut near, far) = pair_at_once();
        try_spawn(async move {
            let _kept = (guard, far);
            let mut buffer = [0; 4];
            let _ = futures::join!(sleep(SECOND), near.read(&mut buffer));
        })
        .unwrap()
        .detach();
        yield_now().await;
    });
    runtime(2).block_on(within(async {
        let task = try_spawn(async move {
            assert!(panics(|| inner.turn()).contains("already entered"));
            drop(inner);
            sleep(MS).await;
            let (mut near, mut far) = pair_with_std().await;
            far.write_all(b"data").unwrap();
            near.read_exact(&mut [0; 4]).await.unwrap();
            try_spawn(async {}).unwrap().await.unwrap();
        });
        task.unwrap().await.unwrap();
    }));
    assert_eq!(refusals.take(), [TrySpawnErrorKind::NoRuntime]);
}

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// One of everything, each to be used once more in its destructor; that is counted.
fn keepsakes(count: &Arc<AtomicUsize>) -> Vec<Box<dyn Any>> {
    fn last_use(count: &Arc<AtomicUsize>, mut last: impl FnMut() + 'static) -> Box<dyn Any> {
        let count = count.clone();
        Box::new(OnDrop(move || {
            last();
            count.fetch_add(1, Ordering::SeqCst);
        }))
    }
    let mut runtime = runtime(3);
    let (in_batch, item) = probe();
    let mut run = Box::pin(batch([in_batch]).limit(1).for_each(|probe| probe));
    let token = CancellationToken::new();
    let mut kept = runtime.block_on(async {
        let (in_task, counts) = probe();
        let guard = last_use(count, || assert!(!use_everything()));
        let mut task = try_spawn(async move {
            let _guard = guard;
            in_task.await;
        })
        .unwrap();
        yield_now().await;
        assert!(poll_once(&mut run).is_pending());
        let waker = counts.waker.take().unwrap();
        let mut nap = sleep(SECOND);
        assert!(poll_once(&mut nap).is_pending());
        let mut slot = Some(reserve().await);
        let (mut near, far) = pair_at_once();
        let mut read = Box::pin(async move { near.read(&mut [0; 4]).await });
        assert!(poll_once(&mut read).is_pending());
        vec![
            Box::new((nap, reserve(), far)) as Box<dyn Any>,
            last_use(count, move || {
                task.abort();
                let _ = poll_once(&mut task);
            }),
            last_use(count, move || {
                let twin = waker.clone();
                twin.wake();
            }),
            last_use(count, move || drop(slot.take().unwrap().spawn(async {}))),
            last_use(count, move || {
                let Poll::Ready(Err(error)) = poll_once(&mut read) else { panic!("it waits") };
                assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
            }),
        ]
    });
    kept.extend([
        Box::new(runtime) as Box<dyn Any>,
        last_use(count, move || {
            item.wake();
            assert!(poll_once(&mut run).is_pending());
        }),
        last_use(count, move || {
            token.cancel();
            assert!(token.child_token().is_cancelled());
        }),
        last_use(count, || assert_eq!(block_on(async { yield_now().await }), ())),
    ]);
    kept
}

/// Thread-locals go in the reverse order of their first use, so ours before or after the test's.
#[test]
fn n6_everything_may_be_dropped_by_the_locals_of_its_thread() {
    let count = Arc::new(AtomicUsize::new(0));
    for case in 0..36 {
        let count = count.clone();
        let thread = thread::spawn(move || {
            let (ours_first, backwards, turn) = (case % 2 == 0, case / 2 % 2 == 0, case / 4);
            if ours_first {
                KEPT.with(|_| ());
            }
            let mut kept = keepsakes(&count);
            kept.rotate_left(turn);
            if backwards {
                kept.reverse();
            }
            KEPT.set(kept);
        });
        thread.join().unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 36 * 8);
}

/// Who calls `exit` loses the locals of his thread, too, if glibc is there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn n6_everything_may_be_dropped_as_the_process_exits() {
    static COUNT: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
    extern "C" fn check() {
        if COUNT.get().is_none_or(|count| count.load(Ordering::SeqCst) != 8) {
            // SAFETY: it ends the process, and nothing else.
            unsafe { libc::_exit(9) };
        }
    }
    if in_a_process_of_its_own("n6_everything_may_be_dropped_as_the_process_exits") {
        // SAFETY: the function unwinds nowhere, and is called after the locals are gone.
        assert_eq!(unsafe { libc::atexit(check) }, 0);
        KEPT.set(keepsakes(COUNT.get_or_init(Arc::default)));
        println!("1 passed, if it gets through the exit");
        std::process::exit(0);
    }
}

// O. Misuse.

#[test]
fn o2_what_is_polled_after_its_end_panics_or_stays_as_it_is() {
    simulated(2).block_on(async {
        let mut task = try_spawn(async {}).unwrap();
        (&mut task).await.unwrap();
        assert_eq!(
            panics(|| poll_once(&mut task)),
            "a JoinHandle was polled after it had completed"
        );
        let mut run = batch(0..3).limit(2).map(|n| async move { n });
        assert_eq!((&mut run).await.unwrap(), [0, 1, 2]);
        assert_eq!(panics(|| poll_once(&mut run)), "a batch was polled after it was ready");
        let mut late = Box::pin(timeout(MS, pending::<()>()));
        assert!((&mut late).await.is_err());
        assert!(panics(|| poll_once(&mut late)).contains("polled after it was ready"));
        let token = CancellationToken::new();
        let mut run = Box::pin(token.run_until_cancelled(async {}));
        assert_eq!((&mut run).await, Some(()));
        assert!(panics(|| poll_once(&mut run)).contains("polled after it was ready"));

        token.cancel();
        let (mut cancelled, mut pause, mut nap) = (token.cancelled(), yield_now(), sleep(MS));
        futures::join!(&mut cancelled, &mut pause, &mut nap);
        for _ in 0..3 {
            assert!(poll_once(&mut cancelled).is_ready());
            assert!(poll_once(&mut pause).is_ready());
            assert!(poll_once(&mut nap).is_ready());
        }
        // A reservation is for the next slot, each time.
        let mut slots = reserve();
        let (first, second) = ((&mut slots).await, (&mut slots).await);
        assert!(poll_once(&mut slots).is_pending());
        drop((first, second));
        assert!(poll_once(&mut slots).is_ready());
    });
}

#[test]
fn o3_a_slot_belongs_to_its_runtime_wherever_it_is_used() {
    let (mut home, mut away) = (runtime(1), runtime(1));
    // It belongs to the runtime in which it was first polled.
    let mut waiting = reserve();
    home.block_on(async {
        let slot = reserve().await;
        assert!(poll_once(&mut waiting).is_pending());
        drop(slot);
    });
    let slot = away.block_on(waiting);
    let task = away.block_on(async {
        let task = slot.spawn(async { 7 });
        // Its own is still free.
        try_spawn(async {}).unwrap().await.unwrap();
        task
    });
    assert!(!task.is_finished());
    assert_eq!(home.turn().unwrap().completed, 1);
    assert_eq!(away.block_on(task).unwrap(), 7);
}
