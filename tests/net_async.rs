//! Descriptors of any kind.
#![cfg(unix)]

mod support {
    pub mod net;
}

use futures::poll;
use gondola::net::Async;
use gondola::{Runtime, yield_now};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use support::net::{run, within};

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let [near, far] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    (near, far)
}

/// Of a stream, a short read says that there is no more. Of datagrams it says nothing.
#[test]
fn a_short_datagram_does_not_hide_the_next_one() {
    run(async {
        let (near, far) = udp_pair();
        let near = Async::new(near).unwrap();
        for _ in 0..3 {
            let mut buffer = [0; 64];
            // One after the other, then many at once.
            for count in [1, 1, 5] {
                for n in 0..count {
                    far.send(&[n; 3]).unwrap();
                }
                for n in 0..count {
                    let received = near.read_with(|near| near.recv(&mut buffer)).await.unwrap();
                    assert_eq!(buffer[..received], [n; 3]);
                }
            }
            let mut none = pin!(near.read_with(|near| near.recv(&mut buffer)));
            assert!(poll!(none.as_mut()).is_pending());
        }
    });
}

#[test]
fn both_directions_wait_and_are_woken() {
    run(async {
        let (near, mut far) = UnixStream::pair().unwrap();
        let near = Async::new(near).unwrap();
        let chunk = vec![b'.'; 1 << 16];
        let mut full = 0;
        while let std::task::Poll::Ready(written) =
            poll!(poll_fn(|cx| near.poll_write_with(cx, |mut near| near.write(&chunk))))
        {
            full += written.unwrap();
            yield_now().await;
        }
        let mut buffer = [0; 8];
        let read = near.read_with(|mut near| near.read(&mut buffer));
        let write = near.write_with(|mut near| near.write(b"more"));
        let mut both = pin!(futures::future::join(read, write));
        assert!(poll!(both.as_mut()).is_pending());
        far.read_exact(&mut vec![0; full]).unwrap();
        far.write_all(b"data").unwrap();
        let (read, written) = within(both).await;
        assert_eq!((read.unwrap(), written.unwrap()), (4, 4));

        far.read_exact(&mut [0; 4]).unwrap();
        drop(far);
        near.readable().await.unwrap();
        assert_eq!(near.read_with(|mut near| near.read(&mut [0; 8])).await.unwrap(), 0);
        let error = near.write_with(|mut near| near.write(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn what_cannot_be_watched_is_an_error_that_says_so() {
    run(async {
        let error = Async::new(File::open("Cargo.toml").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("file"), "{error}");

        let (near, _far) = udp_pair();
        let first = Async::new(&near).unwrap();
        assert_eq!(Async::new(&near).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(first);
        Async::new(&near).unwrap();
    });
    let (near, _far) = udp_pair();
    assert_eq!(Async::new(&near).unwrap_err().kind(), ErrorKind::NotConnected);
    let mut runtime = Runtime::builder().virtual_time().build().unwrap();
    let refused = runtime.block_on(async { Async::new(&near).unwrap_err().kind() });
    assert_eq!(refused, ErrorKind::Unsupported);
}

#[test]
fn a_descriptor_that_was_made_blocking_blocks_nobody() {
    run(async {
        let (near, _far) = udp_pair();
        let near = Async::new(near).unwrap();
        near.get_ref().set_nonblocking(false).unwrap();
        let error = near.read_with(|near| near.recv(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        near.get_ref().set_nonblocking(true).unwrap();
        let mut read = pin!(near.read_with(|near| near.recv(&mut [0; 8])));
        assert!(poll!(read.as_mut()).is_pending());
    });
}

#[test]
fn a_descriptor_that_was_closed_behind_our_back_is_an_error() {
    struct Closed(OwnedFd);
    impl AsFd for Closed {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    run(async {
        // A number that nobody else takes meanwhile.
        let far_up = {
            let (near, _far) = udp_pair();
            // SAFETY: duplicates a descriptor that is open, to a number of ours.
            let fd = unsafe { libc::fcntl(near.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) };
            assert!(fd >= 900);
            // SAFETY: nobody else owns it.
            Closed(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
        };
        let near = Async::new(&far_up).unwrap();
        // SAFETY: what is wrong with it is the test.
        assert_eq!(unsafe { libc::close(far_up.0.as_raw_fd()) }, 0);
        let error = near.read_with(|_| io::Result::Ok(())).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        drop(near);
        let _closed = std::mem::ManuallyDrop::new(far_up);
    });
}

#[test]
fn it_can_be_had_back_and_watched_again() {
    run(async {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut far = Async::new(far).unwrap();
        for round in 0..3 {
            let watched = Async::new(near).unwrap();
            let mut readable = Box::pin(watched.readable());
            assert!(poll!(readable.as_mut()).is_pending());
            far.get_mut().write_all(&[round]).unwrap();
            readable.await.unwrap();
            near = watched.into_inner();
            let mut byte = [9];
            near.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    });
}
