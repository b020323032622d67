//! What the reactor knows of a socket, and what it does not owe to any of them: edges, ends of
//! streams, and the budget.

#[path = "support/net.rs"]
mod support;

use futures::future::poll_fn;
use futures::{FutureExt, poll};
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{now, sleep, timeout};
use gondola::{Runtime, batch, try_spawn, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;
use support::{MS, arrived, fill, loopback, on_a_thread, pair_with_std, run, within};

/// Reads once more than the data needs: a short read that hid an edge would wait for ever.
async fn assert_reads(stream: &mut TcpStream, parts: &[&[u8]]) {
    let mut buffer = [0; 64];
    for part in parts {
        let count = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], *part);
    }
}

#[test]
fn g1_data_and_end_in_one_edge() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        assert!(poll!(pin!(near.read(&mut [0; 64]))).is_pending());
        far.write_all(b"last").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        // Shorter than the buffer, with the end behind it.
        assert_reads(&mut near, &[b"last", b"", b""]).await;
    });
}

#[test]
fn g1_the_end_in_an_edge_of_its_own() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        assert!(poll!(pin!(near.read(&mut [0; 64]))).is_pending());
        far.write_all(b"last").unwrap();
        assert_reads(&mut near, &[b"last"]).await;
        far.shutdown(Shutdown::Write).unwrap();
        assert_reads(&mut near, &[b"", b""]).await;
    });
}

#[test]
fn g1_the_end_between_an_edge_and_its_read() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        {
            let mut buffer = [0; 64];
            let mut read = pin!(near.read(&mut buffer));
            assert!(poll!(read.as_mut()).is_pending());
            far.write_all(b"last").unwrap();
            // The reactor hears of the data, and not yet of the end.
            sleep(MS).await;
        }
        far.shutdown(Shutdown::Write).unwrap();
        assert_reads(&mut near, &[b"last", b"", b""]).await;
    });
}

#[test]
fn g1_data_in_two_edges_before_a_reset() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        near.write_all(b"never read").await.unwrap();
        assert!(poll!(pin!(near.read(&mut [0; 64]))).is_pending());
        far.write_all(b"one").unwrap();
        assert_reads(&mut near, &[b"one"]).await;
        far.write_all(b"two").unwrap();
        drop(far);
        let mut buffer = [0; 64];
        // What a reset leaves of the data is the system's business; that it is told is ours.
        while near.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        assert!(near.read(&mut buffer).await.is_ok_and(|count| count == 0));
    });
}

/// What is left by a read into a small buffer is there without a new edge.
#[test]
fn g1_a_full_buffer_is_not_the_end_of_the_data() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        for size in [1, 3, 7] {
            assert!(poll!(pin!(near.read(&mut [0; 64]))).is_pending());
            far.write_all(&[1; 21]).unwrap();
            // Exactly so much: the last read fills its buffer too.
            for _ in 0..21 / size {
                near.read_exact(&mut vec![0; size]).await.unwrap();
            }
        }
    });
}

/// Half-closed by its peer, a socket that waits for room to write is asleep.
#[test]
fn g7_a_half_closed_socket_does_not_spin() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let filled = fill(&mut near).await;
        far.shutdown(Shutdown::Write).unwrap();
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let writer = try_spawn(async move {
            let mut write = pin!(near.write(b"more"));
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                write.as_mut().poll(cx)
            })
            .await
        })
        .unwrap();
        sleep(MS * 20).await;
        assert!(polls.get() <= 3, "{} polls", polls.get());
        far.read_exact(&mut vec![0; filled]).unwrap();
        assert_eq!(writer.await.unwrap().unwrap(), 4);
    });
}

/// An idle socket costs no poll, whatever happens to the others.
#[test]
fn events_wake_only_whom_they_concern() {
    run(async {
        let (mut idle, _idle_far) = pair_with_std().await;
        let (mut near, mut far) = pair_with_std().await;
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let task = try_spawn(async move {
            let mut buffer = [0; 4];
            let mut read = pin!(idle.read(&mut buffer));
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                read.as_mut().poll(cx)
            })
            .await
        })
        .unwrap();
        for _ in 0..100 {
            assert!(poll!(pin!(near.read(&mut [0; 4]))).is_pending());
            far.write_all(b"ping").unwrap();
            near.read_exact(&mut [0; 4]).await.unwrap();
            near.write_all(b"pong").await.unwrap();
            far.read_exact(&mut [0; 4]).unwrap();
        }
        assert_eq!(polls.get(), 1);
        task.abort();
    });
}

/// Counts the polls of a task that always yields, while `work` goes on.
async fn neighbours_polls(work: impl Future<Output = ()>) -> usize {
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    let neighbour = try_spawn(async move {
        loop {
            counted.set(counted.get() + 1);
            yield_now().await;
        }
    })
    .unwrap();
    work.await;
    neighbour.abort();
    polls.get()
}

const STUFFED: usize = 40_000;

/// A stream with so many bytes at hand that reading them one by one never waits.
async fn stuffed() -> (TcpStream, std::net::TcpStream) {
    let (mut near, mut far) = pair_with_std().await;
    far.write_all(&vec![1; STUFFED]).unwrap();
    arrived(&mut near, STUFFED).await;
    (near, far)
}

#[test]
fn h11_reading_without_a_pause_lets_others_run() {
    run(async {
        let (mut near, _far) = stuffed().await;
        let polls = neighbours_polls(async move {
            for _ in 0..STUFFED {
                near.read(&mut [0]).await.unwrap();
            }
        })
        .await;
        assert!(polls >= STUFFED / 128, "{polls} polls");
        // And not a system call's worth of yielding for each byte.
        assert!(polls <= STUFFED / 16, "{polls} polls");
    });
}

#[test]
fn h11_writing_without_a_pause_lets_others_run() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let reader = thread::spawn(move || far.read_to_end(&mut Vec::new()).unwrap());
        let polls = neighbours_polls(async move {
            for _ in 0..STUFFED {
                near.write(&[1]).await.unwrap();
            }
        })
        .await;
        assert!(polls >= STUFFED / 128, "{polls} polls");
        assert_eq!(reader.join().unwrap(), STUFFED);
    });
}

#[test]
fn h11_accepting_without_a_pause_lets_others_run() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        // Fewer than the queue holds, more in all than the budget.
        let polls = neighbours_polls(async move {
            for _ in 0..4 {
                let clients: Vec<_> =
                    (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
                for _ in &clients {
                    listener.accept().await.unwrap();
                }
            }
        })
        .await;
        assert!(polls >= 400 / 128, "{polls} polls");
    });
}

#[test]
fn h11_the_items_of_a_batch_share_one_budget() {
    run(async {
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(stuffed().await);
        }
        let polls = neighbours_polls(async move {
            batch(streams)
                .limit(4)
                .for_each(async |(mut near, _far)| {
                    for _ in 0..STUFFED {
                        near.read(&mut [0]).await.unwrap();
                    }
                })
                .await
                .unwrap();
        })
        .await;
        assert!(polls >= 4 * STUFFED / 128, "{polls} polls");
    });
}

#[test]
fn h11_reading_without_a_pause_holds_up_no_timer_and_no_socket() {
    run(async {
        let (mut near, _far) = stuffed().await;
        let (mut other, mut other_far) = pair_with_std().await;
        other_far.write_all(b"data").unwrap();
        let (timer, socket) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let done = Rc::new(Cell::new(0));
        let (fired, seen) = (timer.clone(), done.clone());
        try_spawn(async move {
            sleep(MS).await;
            fired.set(seen.get());
        })
        .unwrap()
        .detach();
        let (read, seen) = (socket.clone(), done.clone());
        try_spawn(async move {
            other.read_exact(&mut [0; 4]).await.unwrap();
            // The second wait is sure to need an edge.
            let word = other.read_exact(&mut [0; 4]).await.map(|()| seen.get());
            read.set(word.unwrap());
        })
        .unwrap()
        .detach();
        for count in 0..STUFFED {
            near.read(&mut [0]).await.unwrap();
            done.set(count);
            if count == 1000 {
                other_far.write_all(b"more").unwrap();
                thread::sleep(MS);
            }
        }
        assert!((1..STUFFED / 2).contains(&timer.get()), "after {} reads", timer.get());
        // Operations count, not only polls: 64 polls of 128 operations each would be 8192.
        assert!((1000..3000).contains(&socket.get()), "after {} reads", socket.get());
    });
}

// Waking from the sleep in the poll.

#[test]
fn a_thread_wakes_a_runtime_that_sleeps_with_sockets() {
    run(async {
        let (mut idle, _far) = pair_with_std().await;
        let task = try_spawn(async move { idle.read(&mut [0; 4]).await }).unwrap();
        let (ask, asked) = mpsc::channel::<futures::channel::oneshot::Sender<usize>>();
        let answerer = thread::spawn(move || {
            for (number, answer) in asked.into_iter().enumerate() {
                if number % 2 == 0 {
                    // Most likely asleep by now; every other time, most likely not yet.
                    thread::sleep(MS / 10);
                }
                answer.send(number).unwrap();
            }
        });
        for number in 0..300 {
            let (answer, answered) = futures::channel::oneshot::channel();
            ask.send(answer).unwrap();
            assert_eq!(answered.await.unwrap(), number);
        }
        drop(ask);
        answerer.join().unwrap();
        task.abort();
    });
}

/// A deadline within some milliseconds makes for another kind of sleep.
#[test]
fn data_and_wakes_end_a_sleep_of_any_length() {
    run(async {
        for nap in [MS * 9, MS * 12, MS * 1000] {
            let (mut near, mut far) = pair_with_std().await;
            let echo = thread::spawn(move || {
                let mut word = [0; 4];
                while far.read_exact(&mut word).is_ok() {
                    thread::sleep(MS / 5);
                    far.write_all(&word).unwrap();
                }
            });
            let start = Instant::now();
            let mut late = 0;
            for _ in 0..50 {
                near.write_all(b"ping").await.unwrap();
                let mut word = [0; 4];
                match timeout(nap, near.read_exact(&mut word)).await {
                    Ok(read) => read.unwrap(),
                    // On a busy machine.
                    Err(_) => {
                        late += 1;
                        near.read_exact(&mut word).await.unwrap();
                    }
                }
            }
            assert!(late <= 10 && start.elapsed() < nap * 30 + MS * 500, "{nap:?}: {late} late");
            drop(near);
            echo.join().unwrap();
        }
    });
}

/// Virtual time knows this thread only, but what has been woken runs before time moves.
#[test]
fn a_wake_by_another_thread_holds_virtual_time_back() {
    /// Is woken by another thread, at the latest when its first poll returns.
    async fn woken_from_a_thread() -> Instant {
        let mut first = true;
        poll_fn(|cx| match std::mem::take(&mut first) {
            true => {
                let waker = cx.waker().clone();
                thread::spawn(move || waker.wake()).join().unwrap();
                Poll::Pending
            }
            false => Poll::Ready(now()),
        })
        .await
    }
    let mut runtime = Runtime::builder().virtual_time().build().unwrap();
    runtime.block_on(async {
        let start = now();
        // With no timer that time could move to, and with one.
        assert_eq!(woken_from_a_thread().await, start);
        let (at, ()) = futures::join!(woken_from_a_thread(), sleep(MS));
        assert_eq!((at, now()), (start, start + MS));
    });
}

// Wakers that are somebody else's code.

thread_local! {
    static ACTION: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A waker that does [`ACTION`] when it is woken or dropped.
struct Act;

impl Act {
    fn act() {
        let action = ACTION.with(|action| action.borrow_mut().take());
        if let Some(action) = action {
            action();
        }
    }
}

impl Wake for Act {
    fn wake(self: Arc<Self>) {
        Self::act();
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        Self::act();
    }
}

fn do_when_woken_or_dropped(action: impl FnOnce() + 'static) -> Waker {
    ACTION.with(|place| *place.borrow_mut() = Some(Box::new(action)));
    Arc::new(Act).into()
}

/// Everything that touches the reactor's tables.
fn use_the_reactor(mut other: TcpStream) {
    let cx = &mut Context::from_waker(Waker::noop());
    {
        let mut buffer = [0; 4];
        assert!(pin!(other.read(&mut buffer)).poll(cx).is_pending());
        let mut write = pin!(other.write(b"data"));
        while write.as_mut().poll(cx).is_pending() {}
    }
    let listener = TcpListener::bind(loopback()).unwrap();
    assert!(pin!(listener.accept()).poll(cx).is_pending());
    drop((other, listener));
    try_spawn(async {}).unwrap().detach();
}

#[test]
fn a9_e2_a_waker_may_use_the_reactor_when_it_is_woken() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let (other, mut other_far) = pair_with_std().await;
        let woken = Rc::new(Cell::new(false));
        let seen = woken.clone();
        let waker = do_when_woken_or_dropped(move || {
            use_the_reactor(other);
            seen.set(true);
        });
        let mut buffer = [0; 4];
        let mut read = pin!(near.read(&mut buffer));
        assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        far.write_all(b"data").unwrap();
        while !woken.get() {
            sleep(MS).await;
        }
        assert_eq!(read.await.unwrap(), 4);
        other_far.read_exact(&mut [0; 4]).unwrap();
    });
}

#[test]
fn a9_e2_a_waker_may_use_the_reactor_when_it_is_dropped() {
    run(async {
        // By the end of its operation, by another waker in its place, by the end of its socket.
        for way in 0..3 {
            let (mut near, mut far) = pair_with_std().await;
            let (other, mut other_far) = pair_with_std().await;
            let waker = do_when_woken_or_dropped(move || use_the_reactor(other));
            let mut buffer = [0; 4];
            let mut read = Box::pin(near.read(&mut buffer));
            assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            match way {
                0 => drop(read),
                1 => {
                    assert!(poll!(read.as_mut()).is_pending());
                    far.write_all(b"data").unwrap();
                    assert_eq!(read.await.unwrap(), 4);
                }
                _ => {
                    #[expect(clippy::mem_forget, reason = "so that the waker stays behind")]
                    std::mem::forget(read);
                    drop(near);
                }
            }
            assert!(ACTION.with(|action| action.borrow().is_none()), "way {way}");
            other_far.read_exact(&mut [0; 4]).unwrap();
        }
    });
}

/// A waker that panics costs nobody else the event.
#[test]
fn a10_a_waker_that_panics_loses_no_event() {
    on_a_thread(|| {
        let mut runtime = Runtime::new().unwrap();
        let (mut tasks, mut reads, mut far) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..3 {
            runtime.block_on(within(async {
                let (mut near, end) = pair_with_std().await;
                let mut read = Box::pin(async move { near.read(&mut [0; 4]).await });
                match number {
                    1 => {
                        let waker = do_when_woken_or_dropped(|| panic!("a waker's panic"));
                        let mut cx = Context::from_waker(&waker);
                        assert!(read.as_mut().poll(&mut cx).is_pending());
                        reads.push(read);
                    }
                    _ => {
                        tasks.push(try_spawn(read).unwrap());
                        yield_now().await;
                    }
                }
                far.push(end);
            }));
        }
        for end in &mut far {
            end.write_all(b"data").unwrap();
        }
        let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(within(pending::<()>()))));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&"a waker's panic"));
        // No timer is there to end a sleep.
        runtime.block_on(async {
            for task in tasks {
                assert_eq!(task.await.unwrap().unwrap(), 4);
            }
            for read in reads {
                assert_eq!(read.await.unwrap(), 4);
            }
        });
    });
}

/// One poll of each ready task, one look: `turn` says what there was.
#[test]
fn turns_tell_of_events() {
    let mut runtime = Runtime::new().unwrap();
    let (task, mut far) = runtime.block_on(within(async {
        let (mut near, far) = pair_with_std().await;
        let task = try_spawn(async move {
            let mut word = [0; 4];
            near.read_exact(&mut word).await.unwrap();
            word
        });
        yield_now().await;
        (task.unwrap(), far)
    }));
    // The edge of its registration, which woke nobody who had something to read.
    while runtime.turn().unwrap().polled > 0 {}
    let quiet = runtime.turn().unwrap();
    assert_eq!((quiet.events, quiet.polled, quiet.busy), (0, 0, false));
    far.write_all(b"data").unwrap();
    let heard = runtime.turn().unwrap();
    assert_eq!((heard.events, heard.polled, heard.busy), (1, 0, true));
    let done = runtime.turn().unwrap();
    assert_eq!((done.polled, done.completed), (1, 1));
    assert_eq!(&runtime.block_on(task).unwrap(), b"data");
}

/// Waits with `sleep` in `turn`'s stead: between turns nobody waits at the reactor.
#[test]
fn h12_between_turns_an_operation_does_not_wait() {
    let mut runtime = Runtime::new().unwrap();
    let (mut near, _far) = runtime.block_on(pair_with_std());
    runtime.turn().unwrap();
    let mut buffer = [0; 4];
    let mut read: Pin<Box<dyn Future<Output = _>>> = Box::pin(near.read(&mut buffer));
    let error = read.as_mut().now_or_never().expect("it does not wait").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
}
