//! Descriptors: each is closed, and each leaves the kernel's interest list before that.
//!
//! One test, in a process of its own: it counts what the whole process has open.
#![cfg(target_os = "linux")]

#[path = "support/net.rs"]
mod support;

use futures::future::poll_fn;
use futures::poll;
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use gondola::{Runtime, try_spawn, yield_now};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use support::{MS, loopback, pair, pair_with_std, run, within};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The descriptors on the interest lists of this process.
fn watched_descriptors() -> usize {
    let info = fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| {
        // The directory's own descriptor is gone by the time that it is opened.
        fs::read_to_string(entry.unwrap().path()).ok()
    });
    info.map(|text| text.lines().filter(|line| line.starts_with("tfd:")).count()).sum()
}

#[track_caller]
fn assert_balanced(what: &str, check: impl FnOnce()) {
    let before = (open_descriptors(), watched_descriptors());
    check();
    assert_eq!((open_descriptors(), watched_descriptors()), before, "{what}");
}

fn watches(runtime: &Runtime) -> String {
    let text = format!("{runtime:?}");
    text[text.find("watches").unwrap()..].to_string()
}

#[test]
fn every_descriptor_is_closed() {
    // What the first use of the system keeps for good.
    run(pair());
    assert_balanced("nothing", || ());
    assert_balanced("connections", || drop(run(pair())));
    assert_balanced("h15: cancelled connections", cancelled_connections);
    assert_balanced("g6: refused registrations", refused_registrations);
    assert_balanced("g5: a shared description", shared_description);
    assert_balanced("g4: a stale registration", stale_registration);
    assert_balanced("failed connections", failed_connections);
    assert_balanced("10,000 cycles", ten_thousand_cycles);
    assert_balanced("more events than a look takes", more_events_than_a_look_takes);
    assert_balanced("l5: 1000 runtimes", thousand_runtimes);
    assert_balanced("tasks with sockets", || drop(runtime_with_busy_tasks()));
    assert_balanced("sockets that outlive their runtime", || {
        let mut runtime = Runtime::new().unwrap();
        let (near, _far) = runtime.block_on(pair());
        drop(runtime);
        drop(near);
    });
}

/// A listener that does not accept and whose queue is full: whoever connects waits.
fn full_listener() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    // SAFETY: it is a listening socket already; this shortens its queue.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let first = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, vec![first])
}

fn cancelled_connections() {
    let (listener, _queued) = full_listener();
    let address = listener.local_addr().unwrap();
    let mut runtime = Runtime::new().unwrap();
    let open = open_descriptors();
    runtime.block_on(async {
        for _ in 0..10 {
            let mut connect = pin!(TcpStream::connect(address));
            assert!(poll!(connect.as_mut()).is_pending());
            assert_eq!(open_descriptors(), open + 1);
        }
        assert!(timeout(MS, TcpStream::connect(address)).await.is_err());
        let task = try_spawn(TcpStream::connect(address)).unwrap();
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(open_descriptors(), open);
    });
    assert_eq!(watches(&runtime), "watches: 0, .. }");
}

/// epoll takes no plain files.
fn refused_registrations() {
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for _ in 0..10 {
            let file = OwnedFd::from(File::open("/proc/self/exe").unwrap());
            let error = TcpStream::from_std(file.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        }
        // The slots of the table are as good as before.
        let (mut near, mut far) = pair().await;
        near.write_all(b"data").await.unwrap();
        far.read_exact(&mut [0; 4]).await.unwrap();
    });
    assert_eq!(watches(&runtime), "watches: 0, .. }");
}

/// With a copy of its descriptor around, closing a socket does not end its registration.
fn shared_description() {
    run(async {
        let watched = watched_descriptors();
        let (near, far, copy) = shared().await;
        assert_eq!(watched_descriptors(), watched + 1);
        drop(near);
        assert_eq!(watched_descriptors(), watched);
        assert_silent((far, copy)).await;
    });
}

/// A registration that could not be undone, for the descriptor was exchanged behind our back.
fn stale_registration() {
    run(async {
        let watched = watched_descriptors();
        let (near, far, copy) = shared().await;
        let other = File::open("/dev/null").unwrap();
        // SAFETY: both descriptors are open, and nobody else uses the socket's.
        unsafe { libc::dup2(other.as_raw_fd(), near.as_fd().as_raw_fd()) };
        drop(near);
        assert_eq!(watched_descriptors(), watched + 1, "the test tests nothing");
        assert_silent((far, copy)).await;
    });
}

/// A socket that waited once, its far end, and a copy of its descriptor.
async fn shared() -> (TcpStream, std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let copy = stream.try_clone().unwrap();
    let mut near = TcpStream::from_std(stream).unwrap();
    assert!(poll!(pin!(near.read(&mut [0; 4]))).is_pending());
    (near, far, copy)
}

/// The next socket takes the old one's place in the table; what comes for that is not for it.
async fn assert_silent((mut far, mut copy): (std::net::TcpStream, std::net::TcpStream)) {
    let (mut next, _next_far) = pair_with_std().await;
    let polls = Rc::new(Cell::new(0));
    let counted = polls.clone();
    let task = try_spawn(async move {
        let mut buffer = [0; 4];
        let mut read = pin!(next.read(&mut buffer));
        poll_fn(|cx| {
            counted.set(counted.get() + 1);
            read.as_mut().poll(cx)
        })
        .await
    })
    .unwrap();
    yield_now().await;
    far.write_all(b"data").unwrap();
    sleep(MS * 2).await;
    assert_eq!(polls.get(), 1);
    task.abort();
    yield_now().await;
    copy.read_exact(&mut [0; 4]).unwrap();
}

fn failed_connections() {
    let vacant = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    run(async {
        for _ in 0..100 {
            let error = TcpStream::connect(vacant).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

fn ten_thousand_cycles() {
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(within(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        for cycle in 0..10_000_u32 {
            let (near, far) = futures::join!(TcpStream::connect(address), listener.accept());
            let (mut near, (mut far, _)) = (near.unwrap(), far.unwrap());
            // Some are used, some wait when they are closed.
            if cycle % 10 == 0 {
                assert!(poll!(pin!(far.read(&mut [0; 4]))).is_pending());
                near.write_all(b"data").await.unwrap();
                far.read_exact(&mut [0; 4]).await.unwrap();
                drop(near);
                assert_eq!(far.read(&mut [0; 4]).await.unwrap(), 0);
            }
        }
    }));
    assert_eq!(watches(&runtime), "watches: 0, .. }");
}

fn more_events_than_a_look_takes() {
    const CONNECTIONS: usize = 300;
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(within(async {
        let (mut far, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let (mut near, end) = pair_with_std().await;
            far.push(end);
            tasks.push(try_spawn(async move { near.read_exact(&mut [0; 1]).await }).unwrap());
        }
        yield_now().await;
        for end in &mut far {
            end.write_all(b"!").unwrap();
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }));
}

fn thousand_runtimes() {
    for _ in 0..1000 {
        let mut runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(loopback()).unwrap();
            try_spawn(async move { listener.accept().await }).unwrap().detach();
            yield_now().await;
        });
    }
}

fn runtime_with_busy_tasks() -> Runtime {
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        for _ in 0..10 {
            let (mut near, mut far) = pair().await;
            try_spawn(async move { near.read(&mut [0; 4]).await }).unwrap().detach();
            try_spawn(async move {
                let chunk = vec![0; 1 << 20];
                while far.write(&chunk).await.is_ok() {}
            })
            .unwrap()
            .detach();
        }
        yield_now().await;
    });
    runtime
}
