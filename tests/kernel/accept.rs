//! Errors of `accept`, in the usual loop that merely reports them: it neither spins nor waits longer
//! than it has to.

use crate::simulated::{Event, Kernel, Kind, fd_of, kernel, simulate};
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use std::os::fd::FromRawFd;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const MS_IN_NS: u64 = 1_000_000;

fn listener(socket: usize) -> TcpListener {
    // SAFETY: the simulated kernel gave out this descriptor.
    let listener = unsafe { std::net::TcpListener::from_raw_fd(fd_of(socket)) };
    TcpListener::from_std(listener).unwrap()
}

fn stream(socket: usize) -> TcpStream {
    // SAFETY: as above.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(socket)) };
    TcpStream::from_std(stream).unwrap()
}

/// Accepts `wanted` connections; returns the codes of the errors on the way.
async fn accept(listener: &TcpListener, wanted: usize) -> Vec<i32> {
    let (mut accepted, mut errors) = (Vec::new(), Vec::new());
    while accepted.len() < wanted {
        match listener.accept().await {
            Ok(connection) => accepted.push(connection),
            Err(error) => errors.push(error.raw_os_error().unwrap()),
        }
    }
    errors
}

#[test]
fn a_descriptor_that_comes_free_ends_the_pause() {
    let mut world = Kernel::new();
    let (socket, open) = (world.add(Kind::Listener, 1, 0), world.add(Kind::Connected, 1, 0));
    let arriving = world.add(Kind::Arriving, 1, 0);
    world.plan(0, arriving, Event::Arrival);
    world.limit = Some(2);
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            let (listener, stream) = (listener(socket), stream(open));
            let start = kernel(|kernel| kernel.now());
            let leaves = async {
                sleep(MS * 3).await;
                drop(stream);
            };
            let (errors, ()) = futures::join!(accept(&listener, 1), leaves);
            assert_eq!(errors, [libc::EMFILE]);
            let waited = kernel(|kernel| kernel.now()) - start;
            assert!(waited < 4 * MS_IN_NS, "{waited} ns");
        });
    });
    assert_eq!(kernel.faults, [""; 0]);
}

/// As many connections as there are descriptors to be had, one after the other: each takes what the
/// last one gives back.
#[test]
fn a_server_without_descriptors_accepts_as_they_come_free() {
    const CONNECTIONS: usize = 100;
    let mut world = Kernel::new();
    let socket = world.add(Kind::Listener, 1, 0);
    for _ in 0..CONNECTIONS {
        let arriving = world.add(Kind::Arriving, 1, 0);
        world.plan(0, arriving, Event::Arrival);
    }
    world.limit = Some(1 + 5);
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            let listener = listener(socket);
            let start = kernel(|kernel| kernel.now());
            let mut errors = 0;
            for _ in 0..CONNECTIONS {
                let connection = loop {
                    match listener.accept().await {
                        Ok((connection, _)) => break connection,
                        Err(_) => errors += 1,
                    }
                };
                let served = async move {
                    sleep(MS).await;
                    drop(connection);
                };
                gondola::try_spawn(served).unwrap().detach();
            }
            let waited = kernel(|kernel| kernel.now()) - start;
            assert!(waited < CONNECTIONS as u64 / 5 * 2 * MS_IN_NS, "{waited} ns");
            // It is told once in 50 ms, not once for each connection.
            assert_eq!(errors, 1);
        });
    });
    assert_eq!(kernel.faults, [""; 0]);
}

#[test]
fn a_descriptor_that_somebody_else_takes_is_tried_once() {
    let mut world = Kernel::new();
    let socket = world.add(Kind::Listener, 1, 0);
    let open = [(); 100].map(|()| world.add(Kind::Connected, 1, 0));
    let arriving = world.add(Kind::Arriving, 1, 0);
    world.plan(0, arriving, Event::Arrival);
    world.plan(0, socket, Event::Exhausted);
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            let (listener, streams) = (listener(socket), open.map(stream));
            let leave = async {
                for stream in streams {
                    sleep(MS).await;
                    drop(stream);
                }
            };
            // At once, and then each 50 ms.
            let (errors, ()) = futures::join!(accept(&listener, 1), leave);
            assert_eq!(errors, [libc::EMFILE; 3]);
        });
    });
    assert_eq!(kernel.faults, [""; 0]);
}

#[test]
fn a_listener_that_somebody_shut_down_reports_and_does_not_spin() {
    let mut world = Kernel::new();
    let (socket, open) = (world.add(Kind::Listener, 1, 0), world.add(Kind::Connected, 1, 0));
    world.plan(0, socket, Event::Reset { alone: true });
    let ((), kernel) = simulate(world, || {
        gondola::block_on(async {
            let (listener, stream) = (listener(socket), stream(open));
            let mut errors = 0;
            let merely_reports = async {
                loop {
                    let error = listener.accept().await.unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
                    errors += 1;
                }
            };
            // That a descriptor comes free is no help here.
            let leaves = async {
                sleep(MS * 3).await;
                drop(stream);
            };
            let both = async { futures::join!(merely_reports, leaves) };
            assert!(timeout(MS * 990, both).await.is_err());
            assert_eq!(errors, 20);
        });
    });
    assert_eq!(kernel.sockets[socket].calls, [20, 0]);
    assert_eq!(kernel.faults, [""; 0]);
}
