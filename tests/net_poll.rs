//! Sockets polled by hand, tried without waiting, and waited for by many.

mod support {
    pub mod net;
}

use futures::poll;
use gondola::net::{TcpListener, TcpStream};
use gondola::{Runtime, batch, try_spawn, yield_now};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use support::net::{arrived, fill, loopback, pair, pair_with_std, pattern, run, within};

/// What everybody writes first: a poll method out of an async one, made anew in each poll.
#[test]
fn a_poll_method_keeps_its_waiter_between_two_polls() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let reader = try_spawn(async move {
            let mut buffer = [0; 8];
            let count = poll_fn(|cx| near.poll_read(cx, &mut buffer)).await.unwrap();
            let head = [IoSlice::new(b"<"), IoSlice::new(&buffer[..count])];
            poll_fn(|cx| near.poll_write_vectored(cx, &head)).await.unwrap();
            poll_fn(|cx| near.poll_write(cx, b">")).await.unwrap();
        });
        yield_now().await;
        far.write_all(b"data").unwrap();
        reader.unwrap().await.unwrap();
        let mut all = String::new();
        far.read_to_string(&mut all).unwrap();
        assert_eq!(all, "<data>");
    });
}

/// Both keep each other awake, but none of them hangs.
#[test]
fn of_two_pollers_the_displaced_one_is_woken() {
    run(async {
        let listener = Rc::new(TcpListener::bind(loopback()).unwrap());
        let accepted = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let (listener, accepted) = (listener.clone(), accepted.clone());
            let task = async move {
                poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
                accepted.set(accepted.get() + 1);
            };
            try_spawn(task).unwrap().detach();
        }
        yield_now().await;
        for count in 1..=2 {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            while accepted.get() < count {
                yield_now().await;
            }
        }
    });
}

#[test]
fn a_poller_and_any_number_of_operations_wait_at_one_socket() {
    run(async {
        let listener = Rc::new(TcpListener::bind(loopback()).unwrap());
        // Polled, then forgotten, is harmless.
        assert!(poll!(poll_fn(|cx| listener.poll_accept(cx))).is_pending());
        let mut forgotten = Box::pin(listener.accept());
        assert!(poll!(forgotten.as_mut()).is_pending());
        let _forgotten = std::mem::ManuallyDrop::new(forgotten);
        let tasks = [(); 9].map(|()| {
            let listener = listener.clone();
            try_spawn(async move { listener.accept().await.unwrap().1 }).unwrap()
        });
        yield_now().await;
        let mut clients = Vec::new();
        for _ in &tasks {
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            clients.push(client.local_addr().unwrap());
        }
        let mut peers = Vec::new();
        for task in tasks {
            peers.push(task.await.unwrap());
        }
        peers.sort();
        clients.sort();
        assert_eq!(peers, clients);
    });
}

#[test]
fn an_operation_that_is_given_up_leaves_the_others_waiting_and_nothing_behind() {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let tasks = [(); 4].map(|()| Arc::new(Task));
        let mut waits: Vec<_> = tasks
            .iter()
            .map(|task| {
                let mut wait = Box::pin(listener.accept());
                let waker = Waker::from(task.clone());
                assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                wait
            })
            .collect();
        // The first, which stands in front, and the last.
        drop((waits.remove(0), waits.pop()));
        assert_eq!(tasks.each_ref().map(Arc::strong_count), [1, 2, 2, 1]);
        // The others are still there for whoever polls them now.
        let connect = || TcpStream::connect(listener.local_addr().unwrap());
        let clients = (connect().await.unwrap(), connect().await.unwrap());
        for wait in waits {
            wait.await.unwrap();
        }
        drop(clients);
        assert_eq!(tasks.each_ref().map(Arc::strong_count), [1; 4]);
    });
}

#[test]
fn those_behind_one_that_was_given_up_are_woken() {
    run(async {
        let listener = Rc::new(TcpListener::bind(loopback()).unwrap());
        let [first, second, third, last] = [(); 4].map(|()| {
            let listener = listener.clone();
            try_spawn(async move { listener.accept().await.unwrap() }).unwrap()
        });
        yield_now().await;
        for task in [first, third] {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        let address = listener.local_addr().unwrap();
        let _clients = [(); 2].map(|()| std::net::TcpStream::connect(address).unwrap());
        second.await.unwrap();
        last.await.unwrap();
    });
}

#[test]
fn trying_never_waits() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let mut buffer = [0; 8];
        let none = |result: io::Result<usize>| result.unwrap_err().kind() == ErrorKind::WouldBlock;
        assert!(none(near.try_read(&mut buffer)));
        assert_eq!(near.try_read(&mut []).unwrap(), 0);
        far.write_all(b"data").unwrap();
        near.readable().await.unwrap();
        assert_eq!(near.try_read(&mut buffer).unwrap(), 4);
        assert!(none(near.try_read(&mut buffer)));

        let full = fill(&mut near).await;
        assert!(none(near.try_write(b"more")));
        far.read_exact(&mut vec![0; full]).unwrap();
        near.writable().await.unwrap();
        assert_eq!(near.try_write(b"more").unwrap(), 4);

        // The end is something to read.
        drop(far);
        near.readable().await.unwrap();
        let mut end = near.try_read(&mut buffer);
        if matches!(&end, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            near.readable().await.unwrap();
            end = near.try_read(&mut buffer);
        }
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    });
}

/// Another user of the descriptor takes the bytes. What the runtime knew is stale then.
#[test]
fn readable_asks_the_kernel_and_does_not_spin() {
    run(async {
        let (near, mut far) = pair_with_std().await;
        let mut other = std::net::TcpStream::from(near.as_fd().try_clone_to_owned().unwrap());
        far.write_all(b"data").unwrap();
        near.readable().await.unwrap();
        other.read_exact(&mut [0; 4]).unwrap();
        let mut readable = pin!(near.readable());
        assert!(poll!(readable.as_mut()).is_pending());
        far.write_all(b"more").unwrap();
        readable.await.unwrap();
    });
}

#[test]
fn poll_methods_are_part_of_the_budget() {
    let mut runtime = Runtime::builder().slots(1).build().unwrap();
    let reads = Rc::new(Cell::new(0));
    let counted = reads.clone();
    runtime.block_on(async move {
        let (mut near, mut far) = pair().await;
        far.write_all(&pattern(4_000)).await.unwrap();
        arrived(&mut near, 4_000).await;
        let task = async move {
            let _far = far;
            loop {
                poll_fn(|cx| near.poll_read(cx, &mut [0])).await.unwrap();
                counted.set(counted.get() + 1);
            }
        };
        try_spawn(task).unwrap().detach();
    });
    reads.set(0);
    runtime.turn().unwrap();
    assert!((1..=128).contains(&reads.get()), "{} reads", reads.get());
    // Refused once, it goes on in the next poll.
    let before = reads.get();
    runtime.turn().unwrap();
    assert!(reads.get() > before);
}

#[test]
fn polled_reads_in_a_batch_get_on_beside_each_other() {
    run(async {
        let run = batch(0..20).limit(20).map(async |n| {
            let (mut near, mut far) = pair().await;
            let bytes = pattern(1_000 + n);
            far.write_all(&bytes).await.unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            let mut all: Vec<u8> = Vec::new();
            loop {
                let mut buffer = [0; 7];
                match poll_fn(|cx| near.poll_read(cx, &mut buffer)).await.unwrap() {
                    0 => return all == bytes,
                    count => all.extend_from_slice(&buffer[..count]),
                }
            }
        });
        assert!(within(run).await.unwrap().into_iter().all(|same| same));
    });
}

#[test]
fn halves_know_their_addresses_and_become_one_again() {
    run(async {
        let (near, mut far) = pair().await;
        let (other, _) = pair().await;
        let address = near.local_addr().unwrap();
        let (reader, writer) = near.into_split();
        assert_eq!(
            (reader.local_addr().unwrap(), writer.local_addr().unwrap()),
            (address, address)
        );
        assert_eq!(reader.peer_addr().unwrap(), far.local_addr().unwrap());

        // With the half of another stream, both come back.
        let (strange, _other) = other.into_split();
        let (_, writer) = strange.reunite(writer).unwrap_err();
        let mut near = reader.reunite(writer).unwrap();
        near.write_all(b"hi").await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(far.read(&mut buffer).await.unwrap(), 2);
        let mut more = pin!(far.read(&mut buffer));
        assert_eq!(
            poll!(more.as_mut()).map(Result::unwrap),
            Poll::Pending,
            "nothing was shut down"
        );

        let (_reader, writer) = near.into_split();
        writer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(more.await.unwrap(), 0);
    });
}
