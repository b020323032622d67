//! A runtime as a guest in the loop of somebody else.
#![cfg(unix)]

mod support {
    pub mod net;
}

use gondola::net::UdpSocket;
use gondola::time::sleep;
use gondola::{Runtime, metrics, reserve, try_spawn, yield_now};
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};
use support::net::{LONG, loopback};

/// What the loop of a host does while `busy`. Returns how often it went round.
fn host(runtime: &mut Runtime, mut busy: impl FnMut() -> bool) -> usize {
    let start = Instant::now();
    for round in 0.. {
        assert!(start.elapsed() < LONG, "it waits for ever");
        runtime.turn().unwrap();
        if !busy() {
            return round;
        }
        let Some(wait) = runtime.prepare_sleep() else { continue };
        let fd = runtime.as_fd().as_raw_fd();
        let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let millis = wait.min(LONG).as_millis() as i32 + 1;
        // SAFETY: one pollfd, alive for the call.
        assert!(unsafe { libc::poll(&mut polled, 1, millis) } >= 0);
    }
    unreachable!("usize is enough")
}

#[test]
fn a_host_sleeps_until_the_deadline() {
    let mut runtime = Runtime::new().unwrap();
    assert_eq!(runtime.next_deadline(), None);
    assert_eq!(runtime.prepare_sleep(), Some(Duration::MAX));
    let task = runtime.block_on(async {
        try_spawn(async {
            for _ in 0..5 {
                sleep(Duration::from_millis(10)).await;
            }
        })
    });
    let task = task.unwrap();
    assert_eq!(runtime.prepare_sleep(), None, "it has not been polled yet");
    let start = Instant::now();
    let rounds = host(&mut runtime, || !task.is_finished());
    assert!(start.elapsed() >= Duration::from_millis(50));
    // A few for each sleep, not thousands.
    assert!(rounds <= 25, "{rounds} rounds");
}

/// With nothing watched, the bell is all that the descriptor tells of.
#[test]
fn a_wake_from_another_thread_ends_the_sleep_of_the_host() {
    let mut runtime = Runtime::new().unwrap();
    let (send, mut receive) = futures::channel::mpsc::channel(1);
    let received = Rc::new(Cell::new(0));
    let count = received.clone();
    runtime.block_on(async move {
        let task = async move {
            use futures::StreamExt;
            while receive.next().await.is_some() {
                count.set(count.get() + 1);
            }
        };
        try_spawn(task).unwrap().detach();
    });
    let sends = thread::spawn(move || {
        let mut send = send;
        for n in 0..50 {
            thread::sleep(Duration::from_micros(n * 37 % 1_000));
            while send.try_send(n).is_err() {
                thread::yield_now();
            }
        }
    });
    let rounds = host(&mut runtime, || received.get() < 50);
    sends.join().unwrap();
    // The bell was taken in: nothing to be seen any more, and the host sleeps.
    assert!(rounds <= 400, "{rounds} rounds");
    while runtime.turn().unwrap().busy {}
    let wait = runtime.prepare_sleep();
    assert!(wait.is_some());
    let fd = runtime.as_fd().as_raw_fd();
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, alive for the call.
    assert_eq!(unsafe { libc::poll(&mut polled, 1, 0) }, 0, "it is readable for nothing");
}

#[test]
fn a_datagram_ends_the_sleep_of_the_host() {
    let mut runtime = Runtime::new().unwrap();
    let (task, address) = runtime.block_on(async {
        let socket = UdpSocket::bind(loopback()).unwrap();
        let address = socket.local_addr().unwrap();
        let task = try_spawn(async move {
            let mut buffer = [0; 8];
            for _ in 0..10 {
                socket.recv(&mut buffer).await.unwrap();
            }
        });
        (task.unwrap(), address)
    });
    let sends = thread::spawn(move || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(2));
            socket.send_to(b"hi", address).unwrap();
        }
    });
    let rounds = host(&mut runtime, || !task.is_finished());
    sends.join().unwrap();
    assert!(rounds <= 40, "{rounds} rounds");
}

#[test]
fn who_is_ready_keeps_the_host_awake() {
    let mut runtime = Runtime::new().unwrap();
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    runtime.block_on(async move {
        let task = poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        try_spawn(task).unwrap().detach();
    });
    for round in 1..10 {
        assert_eq!(runtime.prepare_sleep(), None);
        runtime.turn().unwrap();
        assert_eq!(polls.get(), round);
    }
}

/// Between the two runs on its own: it does not take the host's sleep for its own.
#[test]
fn a_guest_may_block_on_as_well() {
    let mut runtime = Runtime::new().unwrap();
    assert!(runtime.prepare_sleep().is_some());
    runtime.block_on(sleep(Duration::from_millis(1)));
    assert!(runtime.prepare_sleep().is_some());
    let waker = runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    assert!(runtime.prepare_sleep().is_some());
    thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!(runtime.prepare_sleep(), None, "it was woken since");
    assert_eq!(runtime.block_on(async { yield_now().await }), ());
}

#[test]
#[should_panic = "virtual time"]
fn virtual_time_has_no_guests() {
    let _ = Runtime::builder().virtual_time().build().unwrap().prepare_sleep();
}

#[test]
fn figures_tell_what_there_is() {
    assert!(metrics().is_none());
    let mut runtime = Runtime::builder().slots(3).build().unwrap();
    runtime.block_on(async {
        let socket = UdpSocket::bind(loopback()).unwrap();
        let slot = reserve().await;
        for _ in 0..2 {
            try_spawn(async {
                sleep(LONG).await;
                pending::<()>().await;
            })
            .unwrap()
            .detach();
        }
        let mut waiting = Box::pin(reserve());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        yield_now().await;
        let now = metrics().unwrap();
        assert_eq!((now.slots, now.taken, now.queued), (3, 3, 1));
        assert_eq!((now.timers, now.watches), (2, 1));
        drop((socket, slot, waiting));
    });
    let now = runtime.metrics();
    assert_eq!((now.taken, now.queued, now.watches), (2, 0, 0));
}
