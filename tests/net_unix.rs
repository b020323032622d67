//! Unix sockets.
#![cfg(unix)]

mod support {
    pub mod net;
}

use futures::{join, poll};
use gondola::net::{UnixDatagram, UnixListener, UnixStream};
use gondola::time::timeout;
use gondola::{batch, try_spawn};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::net::{LONG, MS, pattern, run};

/// A path of its own, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("gondola-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn connects_accepts_and_carries_bytes_both_ways() {
    run(async {
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*place.0));
        let sent = pattern(1 << 20);
        let server = async {
            let (stream, peer) = listener.accept().await.unwrap();
            assert!(peer.is_unnamed());
            let (mut reader, mut writer) = stream.into_split();
            let mut buffer = vec![0; 1 << 16];
            loop {
                match reader.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => writer.write_all(&buffer[..count]).await.unwrap(),
                }
            }
            // Two halves that meet again are the stream.
            let stream = reader.reunite(writer).unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        };
        let client = async {
            let mut stream = UnixStream::connect(&place).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().as_pathname(), Some(&*place.0));
            let (mut reader, mut writer) = stream.split();
            let mut received = vec![0; sent.len()];
            let (read, written) = join!(reader.read_exact(&mut received), async {
                writer.write_all(&sent).await?;
                writer.shutdown(Shutdown::Write)
            });
            read.and(written).unwrap();
            assert!(received == sent);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        };
        join!(server, client);
    });
}

#[test]
fn wrong_places_are_errors() {
    run(async {
        let place = Place::new();
        let kind = |result: io::Result<_>| result.map(|_: UnixStream| ()).unwrap_err().kind();
        assert_eq!(kind(UnixStream::connect(&place).await), ErrorKind::NotFound);
        let listener = UnixListener::bind(&place).unwrap();
        assert_eq!(UnixListener::bind(&place).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(UnixDatagram::bind(&place).unwrap_err().kind(), ErrorKind::AddrInUse);
        // The path stays, and nobody is there.
        drop(listener);
        assert_eq!(kind(UnixStream::connect(&place).await), ErrorKind::ConnectionRefused);

        let long = "/tmp/".to_owned() + &"x".repeat(200);
        assert_eq!(kind(UnixStream::connect(&long).await), ErrorKind::InvalidInput);
        assert_eq!(UnixListener::bind(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(UnixDatagram::bind("a\0b").unwrap_err().kind(), ErrorKind::InvalidInput);
    });
    assert_eq!(UnixStream::pair().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(UnixDatagram::unbound().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_leave_nothing_behind() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    run(async {
        let name = format!("gondola-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for _ in 0..2 {
            let listener = UnixListener::bind_addr(&address).unwrap();
            let (client, accepted) = join!(UnixStream::connect_addr(&address), listener.accept());
            let peer = client.unwrap().peer_addr().unwrap();
            assert_eq!(peer.as_abstract_name(), Some(name.as_bytes()));
            accepted.unwrap();
        }
    });
}

/// Sends bytes together with a descriptor.
#[cfg(target_os = "linux")]
fn send_with_descriptor(socket: &impl std::os::fd::AsFd, bytes: &[u8]) {
    use std::os::fd::AsRawFd;

    let fd = socket.as_fd().as_raw_fd();
    let mut bytes =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [0_u64; 8]; // more than it takes, and aligned
    // SAFETY: a message of which all parts are alive for the call; `control` holds the one header
    // and the one descriptor that `msg_controllen` names.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut bytes, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of_val(&fd) as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&fd) as u32) as _;
        libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(fd);
        libc::sendmsg(fd, &message, 0)
    };
    assert_eq!(sent, bytes.iov_len as isize);
}

/// A read ends behind bytes that came with a descriptor, though there are more, of which no event
/// tells any more.
#[cfg(target_os = "linux")]
#[test]
fn a_read_that_a_descriptor_cut_short_does_not_hide_what_follows() {
    run(async {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut buffer = [0; 64];
        assert!(poll!(pin!(near.read(&mut buffer))).is_pending());
        send_with_descriptor(&far, b"first");
        assert_eq!(far.try_write(b"second").unwrap(), 6);
        assert_eq!(near.read(&mut buffer).await.unwrap(), 5);
        assert_eq!(near.read(&mut buffer).await.unwrap(), 6);
        assert_eq!(&buffer[..6], b"second");
    });
}

/// The system refuses at once, and tells nobody when there is room.
#[test]
fn connects_wait_while_the_queue_is_full() {
    run(async {
        let place = Place::new();
        let listener = UnixListener::bind(&place).unwrap();
        socket2::SockRef::from(&listener).listen(1).unwrap();
        let server = try_spawn(async move {
            for _ in 0..12 {
                gondola::time::sleep(MS).await;
                listener.accept().await.unwrap();
            }
        });
        let connects = batch(0..12)
            .limit(12)
            .try_for_each(|_| async { UnixStream::connect(&place).await.map(drop) });
        timeout(LONG / 2, connects).await.unwrap().unwrap();
        server.unwrap().await.unwrap();
    });
}

#[test]
fn datagrams_keep_their_bounds_and_a_full_queue_makes_wait() {
    run(async {
        let (one, other) = UnixDatagram::pair().unwrap();
        for length in [3, 0, 1] {
            assert_eq!(one.send(&vec![7; length]).await.unwrap(), length);
        }
        let mut buffer = [0; 64];
        for length in [3, 0, 1] {
            assert_eq!(other.recv(&mut buffer).await.unwrap(), length);
        }
        // Connected, the kernel tells when there is room.
        let mut sent = 0_u32;
        let full = loop {
            match one.try_send(&sent.to_be_bytes()) {
                Ok(_) => sent += 1,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(full, ErrorKind::WouldBlock);
        let mut send = pin!(one.send(b"last"));
        assert!(poll!(send.as_mut()).is_pending());
        for n in 0..sent {
            assert_eq!(other.recv(&mut buffer).await.unwrap(), 4);
            assert_eq!(buffer[..4], n.to_be_bytes());
        }
        send.await.unwrap();
        assert_eq!(other.recv(&mut buffer).await.unwrap(), 4);
        drop(other);
        let gone = one.send(b"hi").await.unwrap_err().kind();
        assert!(
            matches!(gone, ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset),
            "{gone}"
        );
    });
}

/// Not connected, the kernel tells nobody: it is tried again.
#[test]
fn sending_to_a_full_queue_by_its_path_waits() {
    run(async {
        let place = Place::new();
        let receiver = UnixDatagram::bind(&place).unwrap();
        let receiving = try_spawn(async move {
            let mut buffer = [0; 8];
            let mut all = Vec::new();
            while all.len() < 200 {
                if all.len() % 50 == 0 {
                    gondola::time::sleep(MS).await;
                }
                receiver.recv(&mut buffer).await.unwrap();
                all.push(buffer[0]);
            }
            all
        });
        let sender = UnixDatagram::unbound().unwrap();
        for n in 0..200_u8 {
            sender.send_to(&[n], &place).await.unwrap();
        }
        assert!(receiving.unwrap().await.unwrap().into_iter().eq(0..200));
        let nobody = sender.send_to(b"hi", Place::new()).await.unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::NotFound);
    });
}
