//! UDP over loopback.

mod support {
    pub mod net;
}

use futures::poll;
use gondola::net::UdpSocket;
use gondola::time::timeout;
use gondola::{batch, try_spawn, yield_now};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use support::net::{LONG, MS, loopback, run};

async fn pair() -> (UdpSocket, UdpSocket) {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind(loopback()).unwrap());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    (near, far)
}

#[test]
fn datagrams_keep_their_bounds() {
    run(async {
        let (near, far) = pair().await;
        let lengths = [3, 0, 1, 9_000, 2];
        for length in lengths {
            assert_eq!(near.send(&vec![7; length]).await.unwrap(), length);
        }
        let mut buffer = vec![0; 10_000];
        for length in lengths {
            assert_eq!(far.peek(&mut buffer).await.unwrap(), length);
            let (received, from) = far.recv_from(&mut buffer).await.unwrap();
            assert_eq!((received, from), (length, near.local_addr().unwrap()));
        }
        // What is too long for the buffer is cut off, and the next one is whole.
        near.send(b"hello").await.unwrap();
        near.send(b"again").await.unwrap();
        assert_eq!(far.recv(&mut buffer[..2]).await.unwrap(), 2);
        assert_eq!(far.recv(&mut buffer).await.unwrap(), 5);
        assert_eq!(&buffer[..5], b"again");
    });
}

/// A datagram that is shorter than the buffer says nothing about the next one: both are there, and
/// nobody waits between them.
#[test]
fn what_has_come_is_received_without_waiting() {
    run(async {
        let (near, far) = pair().await;
        for _ in 0..5 {
            near.send(b"hi").await.unwrap();
        }
        far.readable().await.unwrap();
        for _ in 0..5 {
            let mut buffer = [0; 64];
            let received = poll!(pin!(far.recv(&mut buffer))).map(Result::unwrap);
            assert_eq!(received, Poll::Ready(2));
        }
        let mut buffer = [0; 64];
        assert!(poll!(pin!(far.recv(&mut buffer))).is_pending());
    });
}

#[test]
fn a_peer_that_is_not_there_is_told_and_survived() {
    run(async {
        let (near, far) = pair().await;
        let address = far.local_addr().unwrap();
        drop(far);
        near.send(b"hi").await.unwrap();
        let refused = near.recv(&mut [0; 8]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // Somebody comes.
        let far = UdpSocket::bind(address).unwrap();
        near.send(b"hi").await.unwrap();
        assert_eq!(far.recv(&mut [0; 8]).await.unwrap(), 2);
    });
}

#[test]
fn what_cannot_be_sent_is_an_error() {
    run(async {
        let (near, far) = pair().await;
        let error = near.send(&vec![0; 70_000]).await.unwrap_err();
        #[cfg(unix)]
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        let _ = error;
        let alone = UdpSocket::bind(loopback()).unwrap();
        assert!(alone.send(b"hi").await.is_err());
        assert_eq!(alone.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        // Not allowed until it is.
        let everybody = ([255, 255, 255, 255], far.local_addr().unwrap().port());
        let error = alone.send_to(b"hi", everybody).await.unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::NetworkUnreachable
        ));
        alone.set_broadcast(true).unwrap();
        assert!(alone.broadcast().unwrap());
    });
    let outside = UdpSocket::bind(loopback()).unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::NotConnected);
}

#[test]
fn any_number_of_tasks_receive_each_datagram_once() {
    run(async {
        let server = Rc::new(UdpSocket::bind(loopback()).unwrap());
        let tasks = [(); 5].map(|()| {
            let server = server.clone();
            let task = async move {
                let mut buffer = [0; 8];
                server.recv(&mut buffer).await.map(|_| buffer[0])
            };
            try_spawn(task).unwrap()
        });
        yield_now().await;
        let client = UdpSocket::bind(loopback()).unwrap();
        for n in 0..5 {
            client.send_to(&[n], server.local_addr().unwrap()).await.unwrap();
        }
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap().unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn polled_and_tried() {
    run(async {
        let (near, far) = pair().await;
        let mut buffer = [0; 8];
        let none = far.try_recv_from(&mut buffer).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        let (from, to) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        let received = try_spawn(async move {
            let received = poll_fn(|cx| far.poll_recv_from(cx, &mut buffer)).await;
            (far, received.unwrap())
        });
        yield_now().await;
        assert_eq!(poll_fn(|cx| near.poll_send_to(cx, b"hi", to)).await.unwrap(), 2);
        let (far, received) = received.unwrap().await.unwrap();
        assert_eq!(received, (2, from));
        assert_eq!(near.try_send_to(b"again", to).unwrap(), 5);
        far.readable().await.unwrap();
        assert_eq!(far.try_recv_from(&mut buffer).unwrap(), (5, from));

        near.connect(to).unwrap();
        far.connect(from).unwrap();
        assert_eq!(poll_fn(|cx| near.poll_send(cx, b"one")).await.unwrap(), 3);
        assert_eq!(poll_fn(|cx| far.poll_recv(cx, &mut buffer)).await.unwrap(), 3);
        assert_eq!(near.try_send(b"two!").unwrap(), 4);
        far.readable().await.unwrap();
        assert_eq!((far.try_recv(&mut buffer).unwrap(), &buffer[..4]), (4, &b"two!"[..]));
        assert_eq!(far.try_recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// Questions and answers, some of which get lost, as a batch.
#[test]
fn a_batch_of_questions_over_a_network_that_loses_some() {
    run(async {
        let server = UdpSocket::bind(loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let answers = try_spawn(async move {
            let mut buffer = [0; 8];
            for count in 0.. {
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                if count % 7 != 3 {
                    server.send_to(&buffer[..length], from).await.unwrap();
                }
            }
        });
        let asked = batch(0..200_u32).limit(20).try_map(async |n| {
            let socket = UdpSocket::bind(loopback())?;
            socket.connect(address)?;
            loop {
                socket.send(&n.to_be_bytes()).await?;
                let mut answer = [0; 4];
                if let Ok(received) = timeout(20 * MS, socket.recv(&mut answer)).await {
                    received?;
                    return std::io::Result::Ok(u32::from_be_bytes(answer));
                }
            }
        });
        let answered = timeout(LONG / 2, asked).await.unwrap().unwrap();
        assert!(answered.into_iter().eq(0..200));
        answers.unwrap().abort();
    });
}
