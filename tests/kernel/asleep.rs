//! Asleep means asleep: who waits for nothing but a deadline or an event makes no call until then.

use crate::simulated::{Event, Kernel, Kind, fd_of, kernel, real_sleeps, simulate};
use crate::support::waker_fn;
use futures::FutureExt;
use futures::future::poll_fn;
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{now, sleep, timeout};
use gondola::{Runtime, batch};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_timer_costs_at_most_two_waits_however_long() {
    let micros = [1, 999, 9_999, 10_000, 10_001, 500_400, 3_600_000_001, 20 * 86_400_000_000];
    for duration in micros.map(Duration::from_micros) {
        let ((), kernel) = simulate(Kernel::new(), || {
            let before = kernel(|kernel| kernel.now());
            gondola::block_on(sleep(duration));
            let slept = Duration::from_nanos(kernel(|kernel| kernel.now()) - before);
            assert!(slept >= duration && slept < duration + Duration::from_millis(1));
        });
        assert!(kernel.waits <= 2, "{} waits for {duration:?}", kernel.waits);
        assert!(kernel.looks <= 2, "{} looks for {duration:?}", kernel.looks);
    }
}

/// A sandbox that allows no ppoll: whole milliseconds, never early, and it is asked for but once.
#[test]
fn where_precision_is_refused_sleeps_last_whole_milliseconds() {
    for code in [libc::EPERM, libc::ENOSYS] {
        let mut world = Kernel::new();
        world.refuses_precision = Some(code);
        let ((), kernel) = simulate(world, || {
            let mut runtime = Runtime::new().unwrap();
            for micros in [1, 999, 5_000, 9_999, 30_500, 3_600_000_001] {
                let duration = Duration::from_micros(micros);
                let before = kernel(|kernel| kernel.now());
                runtime.block_on(sleep(duration));
                let slept = Duration::from_nanos(kernel(|kernel| kernel.now()) - before);
                let most = duration + Duration::from_millis(2);
                assert!((duration..most).contains(&slept), "{slept:?} for {duration:?}");
            }
        });
        assert_eq!((kernel.precise_waits, kernel.waits), (1, 6));
    }
}

/// Before a timer fires, sockets are asked for events that have come meanwhile.
#[test]
fn a_timer_beside_a_socket_costs_one_look_more() {
    let mut world = Kernel::new();
    let socket = world.add(Kind::Connected, 64, 0);
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            // SAFETY: the simulated kernel gave out this descriptor.
            let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(socket)) };
            let mut stream = TcpStream::from_std(stream).unwrap();
            // A new registration tells that writing is possible.
            sleep(Duration::from_millis(1)).await;
            let before = kernel(|kernel| (kernel.waits, kernel.looks));
            assert!(timeout(HOUR, stream.read(&mut [0; 64])).await.is_err());
            let after = kernel(|kernel| (kernel.waits, kernel.looks));
            assert_eq!((after.0 - before.0, after.1 - before.1), (2, 1));
        });
    });
    assert_eq!(kernel.faults, [""; 0]);
}

#[test]
fn a_deadline_is_counted_from_now_and_not_from_the_last_look() {
    let ((), _) = simulate(Kernel::new(), || {
        gondola::block_on(async {
            kernel(|kernel| kernel.compute(50_000_000));
            let before = kernel(|kernel| kernel.now());
            sleep(Duration::from_millis(20)).await;
            assert!(kernel(|kernel| kernel.now()) - before >= 20_000_000, "it fired early");
        });
    });
}

#[test]
fn a_waker_that_takes_its_time_makes_no_other_timer_late() {
    const MS: Duration = Duration::from_millis(1);
    let compute = |time: Duration| kernel(|kernel| kernel.compute(time.as_nanos() as u64));
    let ((), _) = simulate(Kernel::new(), || {
        gondola::block_on(async {
            let start = now();
            let mut root = None;
            poll_fn(|cx| {
                root = Some(cx.waker().clone());
                std::task::Poll::Ready(())
            })
            .await;
            // The first is due while the thread sleeps. The second is due while the first one's
            // waker computes, so it fires in the look before the next sleep. Its waker computes as
            // well, and then polls a sleep, right there.
            let late = Rc::new(RefCell::new(None));
            let first = waker_fn(move || compute(MS * 5));
            let second = waker_fn({
                let late = late.clone();
                move || {
                    compute(MS * 50);
                    let mut polled = Box::pin(sleep(MS * 10));
                    let cx = &mut Context::from_waker(root.as_ref().expect("it was polled"));
                    assert!(polled.as_mut().poll(cx).is_pending());
                    late.replace(Some(polled));
                }
            });
            let (mut early, mut next, mut own) =
                (pin!(sleep(MS * 10)), pin!(sleep(MS * 12)), pin!(sleep(MS * 70)));
            assert!(early.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
            assert!(next.as_mut().poll(&mut Context::from_waker(&second)).is_pending());

            own.as_mut().await;
            let ended = now() - start;
            assert!((MS * 70..MS * 71).contains(&ended), "it is late: {ended:?}");
            let late = late.take().expect("its waker has run");
            late.await;
            let ended = now() - start;
            assert!((MS * 75..MS * 76).contains(&ended), "it is late: {ended:?}");
        });
    });
}

#[test]
fn a_waker_that_a_panic_left_behind_makes_no_timer_late() {
    const MS: Duration = Duration::from_millis(1);
    let mut world = Kernel::new();
    let sockets = [(); 2].map(|()| world.add(Kind::Connected, 64, 0));
    sockets.iter().for_each(|&socket| world.plan(1_000_000, socket, Event::Data(1)));
    let ((), _) = simulate(world, || {
        let mut runtime = Runtime::new().unwrap();
        // Both are told in one look: the first panics, the second one is left, and computes.
        let panicked = Rc::new(Cell::new(false));
        let waker = waker_fn(move || match panicked.replace(true) {
            false => resume_unwind(Box::new("no hook is called")),
            true => kernel(|kernel| kernel.compute(50_000_000)),
        });
        let mut reads = sockets.map(|socket| {
            Box::pin(async move {
                // SAFETY: the simulated kernel gave out this descriptor.
                let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(socket)) };
                TcpStream::from_std(stream).unwrap().read(&mut [0]).await
            })
        });
        let rest = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                for read in &mut reads {
                    assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                }
                sleep(MS * 5).await;
            });
        }));
        assert!(rest.is_err());
        let before = kernel(|kernel| kernel.now());
        runtime.block_on(sleep(MS * 70));
        let slept = Duration::from_nanos(kernel(|kernel| kernel.now()) - before);
        assert!((MS * 70..MS * 71).contains(&slept), "it is late: {slept:?}");
    });
}

#[test]
fn a_read_that_empties_the_socket_is_not_followed_by_one_for_nothing() {
    let mut world = Kernel::new();
    let socket = world.add(Kind::Connected, 64, 0);
    for message in 1..=10 {
        world.plan(message * 1_000_000, socket, Event::Data(20));
    }
    world.plan(11_000_000, socket, Event::Fin);
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            // SAFETY: the simulated kernel gave out this descriptor.
            let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(socket)) };
            let mut stream = TcpStream::from_std(stream).unwrap();
            while stream.read(&mut [0; 64]).await.unwrap() > 0 {}
        });
    });
    assert_eq!(kernel.faults, [""; 0]);
    assert_eq!(kernel.sockets[socket].would_block, [1, 0], "only the first came too early");
}

#[test]
fn an_echoed_request_costs_a_wait_a_read_and_a_write() {
    const REQUESTS: usize = 100;
    let mut world = Kernel::new();
    let socket = world.add(Kind::Connected, 20 * REQUESTS, 0);
    for request in 1..=REQUESTS {
        world.plan(request as u64 * 1_000_000, socket, Event::Data(20));
    }
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            // SAFETY: the simulated kernel gave out this descriptor.
            let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(socket)) };
            let mut stream = TcpStream::from_std(stream).unwrap();
            let mut buffer = [0; 64];
            for _ in 0..REQUESTS {
                let count = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..count]).await.unwrap();
            }
        });
    });
    let more = kernel.sockets[socket].would_block[0];
    assert_eq!(kernel.sockets[socket].calls, [REQUESTS + more, REQUESTS]);
    assert!(more <= 1, "only the first read comes too early");
    // One more: a new registration tells that writing is possible.
    assert!(kernel.waits <= REQUESTS + 1, "{} waits", kernel.waits);
    assert!(kernel.looks <= REQUESTS / 32, "{} looks", kernel.looks);
}

#[test]
fn a_thousand_timers_of_one_deadline_cost_what_one_does() {
    let ((), kernel) = simulate(Kernel::new(), || {
        gondola::block_on(async {
            let deadline = gondola::time::now() + HOUR;
            let wait = |_| gondola::time::sleep_until(deadline);
            batch(0..1000).limit(1000).for_each(wait).await.unwrap();
        });
    });
    assert!(kernel.waits <= 2, "{} waits", kernel.waits);
}

#[test]
fn an_idle_server_makes_no_call_until_somebody_comes() {
    let mut world = Kernel::new();
    let listener = world.add(Kind::Listener, 1, 0);
    let arriving = world.add(Kind::Arriving, 1, 0);
    world.plan(1_000 * HOUR.as_nanos() as u64, arriving, Event::Arrival);
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            // SAFETY: the simulated kernel gave out this descriptor.
            let listener = unsafe { std::net::TcpListener::from_raw_fd(fd_of(listener)) };
            let listener = TcpListener::from_std(listener).unwrap();
            assert!(listener.accept().now_or_never().is_none(), "nobody is there yet");
            // A time-out that has left wakes nobody.
            assert!(sleep(HOUR).now_or_never().is_none());
            let before = kernel(|kernel| (kernel.waits, kernel.looks));
            listener.accept().await.unwrap();
            let after = kernel(|kernel| (kernel.waits, kernel.looks));
            assert_eq!(
                (after.0 - before.0, after.1 - before.1),
                (1, 0),
                "one wait, a thousand hours"
            );
        });
    });
    assert_eq!(kernel.faults, [""; 0]);
}

#[test]
fn on_the_real_kernel_too() {
    let before = real_sleeps();
    gondola::block_on(sleep(Duration::from_millis(30)));
    assert!(real_sleeps() - before <= 2);

    // Woken from outside, with a time-out armed that never comes to anything.
    let (send, receive) = futures::channel::oneshot::channel();
    let mut runtime = Runtime::new().unwrap();
    let before = real_sleeps();
    let waiting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        send.send(()).unwrap();
    });
    runtime.block_on(timeout(HOUR, receive)).unwrap().unwrap();
    waiting.join().unwrap();
    assert!(real_sleeps() - before <= 2);
}

#[test]
fn f10_a_clock_that_steps_back_delays_but_neither_fires_early_nor_spins() {
    let ((), kernel) = simulate(Kernel::new(), || {
        gondola::block_on(async {
            sleep(HOUR).await;
            let before = kernel(|kernel| kernel.now());
            let mut due = std::pin::pin!(sleep(Duration::from_millis(10)));
            assert!(due.as_mut().now_or_never().is_none());
            kernel(|kernel| kernel.step_back(1_000_000_000));
            due.await;
            let late = kernel(|kernel| kernel.now()) - before;
            assert!((10_000_000..12_000_000).contains(&late), "{late} ns by the clock's own count");
        });
    });
    // One second has to pass again, ten milliseconds at a time.
    assert!(kernel.waits <= 2 + 2 * 101, "{} waits", kernel.waits);
}
