//! TCP over loopback: what users of streams, halves and listeners rely on.

#[path = "support/net.rs"]
mod support;

use futures::{join, poll};
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use gondola::{Runtime, try_spawn, yield_now};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddrV4};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use support::{
    LONG, MS, arrived, fill, loopback, on_a_thread, pair, pair_with_std, pattern, run, within,
};

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

// Making connections.

#[test]
fn connects_accepts_and_echoes() {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        run(async {
            let listener = match TcpListener::bind((address, 0)) {
                Ok(listener) => listener,
                // A machine without IPv6.
                Err(_) if address.is_ipv6() => return,
                Err(error) => panic!("{error}"),
            };
            let server = async {
                let (mut stream, peer) = listener.accept().await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), peer);
                assert_eq!(stream.local_addr().unwrap(), listener.local_addr().unwrap());
                let mut buffer = [0; 64];
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => return peer,
                        count => stream.write_all(&buffer[..count]).await.unwrap(),
                    }
                }
            };
            let client = async {
                let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
                for text in ["one", "two"] {
                    stream.write_all(text.as_bytes()).await.unwrap();
                    let mut echo = [0; 3];
                    stream.read_exact(&mut echo).await.unwrap();
                    assert_eq!(echo, text.as_bytes());
                }
                stream.local_addr().unwrap()
            };
            let (peer, address) = join!(server, client);
            assert_eq!(peer, address);
        });
    }
}

#[test]
fn addresses_come_in_all_forms_that_std_converts() {
    run(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        for stream in [
            TcpStream::connect(([127, 0, 0, 1], port)).await,
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await,
            TcpStream::connect(address).await,
            TcpStream::connect(listener.local_addr().unwrap()).await,
        ] {
            assert_eq!(stream.unwrap().peer_addr().unwrap(), address.into());
        }
        // The address is converted before, and the future does not hold it twice.
        let size = size_of_val(&TcpStream::connect(address));
        assert_eq!(size, size_of_val(&TcpStream::connect(([127_u8, 0, 0, 1], port))));
        assert!(size <= 160, "{size} bytes");
    });
}

#[test]
fn nodelay_is_off_until_it_is_set() {
    run(async {
        let (near, far) = pair().await;
        for stream in [near, far] {
            assert!(!stream.nodelay().unwrap());
            stream.set_nodelay(true).unwrap();
            assert!(stream.nodelay().unwrap());
            stream.set_nodelay(false).unwrap();
            assert!(!stream.nodelay().unwrap());
        }
    });
}

#[test]
fn h3_a_refused_connection_is_an_error() {
    run(async {
        let vacant = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
        assert_eq!(kind(TcpStream::connect(vacant).await), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn binding_a_taken_port_is_an_error_that_leaves_nothing_behind() {
    let mut runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        let taken = TcpListener::bind(listener.local_addr().unwrap());
        assert_eq!(kind(taken), ErrorKind::AddrInUse);
    });
    assert!(format!("{runtime:?}").contains("watches: 0"), "{runtime:?}");
}

#[test]
fn many_connections_at_a_time_each_get_their_own_bytes() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        try_spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let echo = async move {
                    let mut word = [0; 4];
                    stream.read_exact(&mut word).await.unwrap();
                    stream.write_all(&word).await.unwrap();
                };
                try_spawn(echo).unwrap().detach();
            }
        })
        .unwrap()
        .detach();
        let clients = (0..100_u32).map(|number| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            u32::from_be_bytes(word)
        });
        let echoed = futures::future::join_all(clients).await;
        assert!(echoed.into_iter().eq(0..100));
    });
}

/// Lets a call return that should not have blocked: does `rescue` once it is dropped, or too late.
fn rescue_later(rescue: impl FnOnce() + Send + 'static) -> impl Drop {
    struct Rescue(Option<mpsc::Sender<()>>, Option<thread::JoinHandle<()>>);
    impl Drop for Rescue {
        fn drop(&mut self) {
            drop(self.0.take());
            self.1.take().unwrap().join().unwrap();
        }
    }
    let (now, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _ = wait.recv_timeout(LONG / 4);
        rescue();
    });
    Rescue(Some(now), Some(thread))
}

#[test]
fn g11_a_blocking_listener_of_std_becomes_non_blocking() {
    run(async {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        let rescue = rescue_later(move || drop(std::net::TcpStream::connect(address)));
        let mut accept = pin!(listener.accept());
        assert!(poll!(accept.as_mut()).is_pending());
        drop(rescue);
        accept.await.unwrap();
    });
}

#[test]
fn g11_a_blocking_stream_of_std_becomes_non_blocking() {
    run(async {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        let rescue = rescue_later(move || far.write_all(b"late").unwrap());
        let mut buffer = [0; 4];
        let mut read = pin!(stream.read(&mut buffer));
        assert!(poll!(read.as_mut()).is_pending());
        drop(rescue);
        assert_eq!(read.await.unwrap(), 4);
    });
}

#[test]
fn a_stream_of_std_brings_what_had_arrived_before() {
    run(async {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(b"early").unwrap();
        drop(far);
        let mut stream = TcpStream::from_std(stream).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 5);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    });
}

#[cfg(unix)]
#[test]
fn sockets_lend_their_descriptors() {
    use std::os::fd::AsFd;
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let copy = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(copy.local_addr().unwrap(), address);
        let stream = TcpStream::connect(address).await.unwrap();
        let copy = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(copy.local_addr().unwrap(), stream.local_addr().unwrap());
    });
}

// Reading and writing.

#[test]
fn read_exact_fills_its_buffer_from_several_reads() {
    run(async {
        let (mut near, mut far) = pair().await;
        let reader = async {
            let mut buffer = [0; 6];
            near.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"abcdef");
            let mut buffer = [0; 6];
            assert_eq!(kind(near.read_exact(&mut buffer).await), ErrorKind::UnexpectedEof);
            assert_eq!(&buffer, b"gh\0\0\0\0");
        };
        let writer = async {
            for part in ["ab", "c", "def", "g", "h"] {
                far.write_all(part.as_bytes()).await.unwrap();
                sleep(MS).await;
            }
            drop(far);
        };
        join!(reader, writer);
    });
}

#[test]
fn vectored_calls_fill_and_empty_one_buffer_after_the_other() {
    run(async {
        let (mut near, mut far) = pair().await;
        let parts = [&b"ab"[..], b"", b"cde", b"f"].map(IoSlice::new);
        assert_eq!(near.write_vectored(&parts).await.unwrap(), 6);
        arrived(&mut far, 6).await;
        let (mut first, mut second, mut third) = ([0; 1], [0; 3], [b'-'; 4]);
        let parts = &mut [&mut first[..], &mut [], &mut second, &mut third].map(IoSliceMut::new);
        assert_eq!(far.read_vectored(parts).await.unwrap(), 6);
        assert_eq!((&first, &second, &third), (b"a", b"bcd", b"ef--"));
    });
}

/// One system call takes 1024 buffers: the others are left for the next.
#[test]
fn g1_more_buffers_than_a_system_call_takes_are_not_a_short_transfer() {
    run(async {
        let (mut near, mut far) = pair().await;
        let bytes = pattern(3000);
        let parts: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
        let count = near.write_vectored(&parts).await.unwrap();
        near.write_all(&bytes[count..]).await.unwrap();

        // A wait first, so that the data comes as one edge.
        arrived(&mut far, 3000).await;
        let mut seen = vec![0; 3000];
        let mut parts: Vec<_> = seen.chunks_mut(1).map(IoSliceMut::new).collect();
        let count = far.read_vectored(&mut parts).await.unwrap();
        far.read_exact(&mut seen[count..]).await.unwrap();
        assert!(seen == bytes);
    });
}

#[test]
fn h5_many_empty_buffers_before_a_full_one_are_not_the_end() {
    run(async {
        let (mut near, mut far) = pair().await;
        let mut parts = vec![IoSlice::new(b""); 2000];
        parts.push(IoSlice::new(b"end"));
        let (mut end, mut none) = ([0; 3], vec![[0_u8; 0]; 2000]);
        assert_eq!(near.write_vectored(&parts).await.unwrap(), 3);
        let mut parts: Vec<_> = none.iter_mut().map(|none| IoSliceMut::new(none)).collect();
        parts.push(IoSliceMut::new(&mut end));
        assert_eq!(far.read_vectored(&mut parts).await.unwrap(), 3);
        assert_eq!(&end, b"end");
    });
}

/// Every call with an empty buffer, whatever the stream's state.
async fn assert_empty_calls(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut []).await.unwrap(), 0);
    assert_eq!(stream.peek(&mut []).await.unwrap(), 0);
    assert_eq!(stream.read_vectored(&mut []).await.unwrap(), 0);
    assert_eq!(stream.read_vectored(&mut [IoSliceMut::new(&mut [])]).await.unwrap(), 0);
    stream.read_exact(&mut []).await.unwrap();
    assert_eq!(stream.write(&[]).await.unwrap(), 0);
    assert_eq!(stream.write_vectored(&[]).await.unwrap(), 0);
    assert_eq!(stream.write_vectored(&[IoSlice::new(&[])]).await.unwrap(), 0);
    stream.write_all(&[]).await.unwrap();
}

#[test]
fn h5_an_empty_buffer_is_done_at_once_and_is_not_the_end() {
    run(async {
        let (mut near, mut far) = pair().await;
        // With nothing to read yet; not known to be so, then known.
        assert_empty_calls(&mut near).await;
        assert!(poll!(pin!(near.read(&mut [0]))).is_pending());
        assert_empty_calls(&mut near).await;
        // With something to read: it stays.
        far.write_all(b"data").await.unwrap();
        arrived(&mut near, 4).await;
        assert_empty_calls(&mut near).await;
        let mut buffer = [0; 64];
        assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
        // With no room to write.
        fill(&mut near).await;
        assert_empty_calls(&mut near).await;
        // At the end.
        drop(far);
        assert_empty_calls(&mut near).await;
    });
}

#[test]
fn g3_peek_leaves_the_bytes_and_the_stream_wakes_again_after_it() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        for round in 0..3 {
            let mut buffer = [0; 8];
            {
                let mut peek = pin!(near.peek(&mut buffer));
                assert!(poll!(peek.as_mut()).is_pending(), "round {round}");
                far.write_all(b"peek").unwrap();
                assert_eq!(peek.await.unwrap(), 4);
            }
            assert_eq!(&buffer[..4], b"peek");
            assert_eq!(near.peek(&mut buffer[..2]).await.unwrap(), 2);
            assert_eq!(near.peek(&mut buffer).await.unwrap(), 4);
            assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
            assert_eq!(&buffer[..4], b"peek");
        }
    });
}

/// Each waits for data, is woken by it, and finds the stream able to wait again.
#[test]
fn g3_every_way_of_reading_waits_and_is_woken_again_and_again() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        macro_rules! round {
            ($read:expr) => {{
                {
                    let mut read = pin!(async { $read.await.map(drop) });
                    assert!(poll!(read.as_mut()).is_pending(), stringify!($read));
                    far.write_all(b"1234").unwrap();
                    read.await.unwrap();
                }
                // Whatever it left behind.
                while let Poll::Ready(rest) = poll!(pin!(near.read(&mut [0; 64]))) {
                    assert!(rest.unwrap() > 0);
                }
            }};
        }
        for _ in 0..3 {
            let mut buffer = [0; 4];
            round!(near.read(&mut [0; 4]));
            round!(near.read(&mut [0; 3]));
            round!(near.read(&mut [0; 64]));
            round!(near.read_exact(&mut buffer));
            round!(near.peek(&mut [0; 4]));
            round!(near.peek(&mut [0; 64]));
            round!(near.read_vectored(&mut [IoSliceMut::new(&mut [0; 4])]));
            round!(near.read_vectored(&mut [IoSliceMut::new(&mut [0; 64])]));
        }
    });
}

#[test]
fn g3_every_way_of_writing_waits_and_is_woken_again_and_again() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        for round in 0..3 {
            for vectored in [false, true] {
                let filled = fill(&mut near).await;
                let chunk = vec![b'.'; 1 << 20];
                let written = {
                    let mut write = pin!(async {
                        match vectored {
                            false => near.write(&chunk).await,
                            true => near.write_vectored(&[IoSlice::new(&chunk)]).await,
                        }
                    });
                    assert!(poll!(write.as_mut()).is_pending(), "round {round} {vectored}");
                    far.read_exact(&mut vec![0; filled]).unwrap();
                    write.await.unwrap()
                };
                far.read_exact(&mut vec![0; written]).unwrap();
            }
        }
    });
}

#[test]
fn h14_megabytes_to_a_slow_reader_arrive_byte_for_byte() {
    const SIZE: usize = 12 << 20;
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let reader = thread::spawn(move || {
            // By little and little: a system call for each kilobyte is slower than the writer.
            let (mut seen, mut buffer) = (Vec::with_capacity(SIZE), [0; 1024]);
            loop {
                match far.read(&mut buffer).unwrap() {
                    0 => return seen,
                    count => seen.extend_from_slice(&buffer[..count]),
                }
            }
        });
        let bytes = pattern(SIZE);
        near.write_all(&bytes[..SIZE / 2]).await.unwrap();
        // And by hand, so that the short writes are seen.
        let (mut rest, mut short) = (&bytes[SIZE / 2..], 0);
        while !rest.is_empty() {
            let count = near.write_vectored(&[IoSlice::new(rest)]).await.unwrap();
            short += usize::from(count < rest.len());
            rest = &rest[count..];
        }
        assert!(short > 0, "the kernel took 6 MiB at once: the test tests nothing");
        drop(near);
        assert!(reader.join().unwrap() == bytes);
    });
}

#[test]
fn h14_megabytes_both_ways_at_once() {
    const SIZE: usize = 4 << 20;
    run(async {
        let (mut near, mut far) = pair().await;
        let bytes = pattern(SIZE);
        let both_ways = async |stream: &mut TcpStream| {
            let (mut reader, mut writer) = stream.split();
            let mut seen = vec![0; SIZE];
            let (read, written) = join!(reader.read_exact(&mut seen), writer.write_all(&bytes));
            read.and(written).unwrap();
            assert!(seen == bytes);
        };
        join!(both_ways(&mut near), both_ways(&mut far));
    });
}

#[test]
fn ten_thousand_small_messages_there_and_back() {
    run(async {
        let (mut near, mut far) = pair().await;
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let echo = try_spawn(async move {
            let mut word = [0; 4];
            while far.read_exact(&mut word).await.is_ok() {
                far.write_all(&word).await.unwrap();
            }
        })
        .unwrap();
        for number in 0..10_000_u32 {
            near.write_all(&number.to_le_bytes()).await.unwrap();
            let mut word = [0; 4];
            near.read_exact(&mut word).await.unwrap();
            assert_eq!(u32::from_le_bytes(word), number);
        }
        drop(near);
        echo.await.unwrap();
    });
}

// Halves.

#[test]
fn borrowed_halves_wait_at_the_same_time() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let filled = fill(&mut near).await;
        let (mut reader, mut writer) = near.split();
        let mut read = pin!(async {
            let mut word = [0; 4];
            reader.read_exact(&mut word).await.unwrap();
            word
        });
        let mut write = pin!(writer.write_all(b"more"));
        assert!(poll!(read.as_mut()).is_pending());
        assert!(poll!(write.as_mut()).is_pending());
        // What wakes the one does not complete the other.
        far.write_all(b"ping").unwrap();
        assert_eq!(&read.await, b"ping");
        assert!(poll!(write.as_mut()).is_pending());
        far.read_exact(&mut vec![0; filled]).unwrap();
        write.await.unwrap();
        let mut word = [0; 4];
        far.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"more");
    });
}

#[test]
fn owned_halves_work_in_two_tasks() {
    run(async {
        let (near, far) = pair().await;
        let bytes = pattern(1 << 20);
        let (mut reader, mut writer) = far.into_split();
        let (hand_over, mut taken) = futures::channel::mpsc::channel::<Vec<u8>>(1);
        try_spawn(async move {
            let mut hand_over = hand_over;
            loop {
                let mut buffer = vec![0; 1000];
                let count = reader.read(&mut buffer).await.unwrap();
                if count == 0 {
                    return;
                }
                buffer.truncate(count);
                futures::SinkExt::send(&mut hand_over, buffer).await.unwrap();
            }
        })
        .unwrap()
        .detach();
        try_spawn(async move {
            while let Some(buffer) = futures::StreamExt::next(&mut taken).await {
                writer.write_all(&buffer).await.unwrap();
            }
        })
        .unwrap()
        .detach();
        let (mut reader, mut writer) = near.into_split();
        let mut seen = Vec::new();
        let send = async {
            writer.write_all(&bytes).await.unwrap();
            drop(writer);
        };
        let receive = async {
            let mut buffer = [0; 5000];
            loop {
                match reader.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => seen.extend_from_slice(&buffer[..count]),
                }
            }
        };
        join!(send, receive);
        assert!(seen == bytes);
    });
}

#[test]
fn g7_dropping_the_owned_write_half_ends_the_peers_input_only() {
    run(async {
        let (near, mut far) = pair().await;
        let (mut reader, mut writer) = near.into_split();
        writer.write_all(b"last").await.unwrap();
        drop(writer);
        let mut buffer = [0; 64];
        assert_eq!(far.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(far.read(&mut buffer).await.unwrap(), 0);
        far.write_all(b"answer").await.unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 6);
        assert_eq!(&buffer[..6], b"answer");
    });
}

#[test]
fn the_socket_closes_with_the_later_half() {
    let mut runtime = Runtime::new().unwrap();
    for read_half_first in [false, true] {
        runtime.block_on(within(async {
            let (near, mut far) = pair().await;
            let (reader, mut writer) = near.into_split();
            if read_half_first {
                drop(reader);
                writer.write_all(b"on").await.unwrap();
                drop(writer);
                far.read_exact(&mut [0; 2]).await.unwrap();
            } else {
                drop(writer);
                drop(reader);
            }
            assert_eq!(far.read(&mut [0; 2]).await.unwrap(), 0);
        }));
        assert!(format!("{runtime:?}").contains("watches: 0"), "{runtime:?}");
    }
}

// Endings.

#[test]
fn g7_half_closed_in_each_direction_the_other_goes_on() {
    const SIZE: usize = 2 << 20;
    run(async {
        let bytes = pattern(SIZE);
        // Who shuts down and reads on, and who reads the end and writes on.
        let (mut near, mut far) = pair().await;
        let closer = async |stream: &mut TcpStream| {
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(kind(stream.write(b"more").await), ErrorKind::BrokenPipe);
            let mut seen = vec![0; SIZE];
            stream.read_exact(&mut seen).await.unwrap();
            assert!(seen == bytes);
        };
        let writer = async |stream: &mut TcpStream| {
            let mut word = [0; 3];
            stream.read_exact(&mut word).await.unwrap();
            for _ in 0..3 {
                assert_eq!(stream.read(&mut word).await.unwrap(), 0);
                assert_eq!(stream.peek(&mut word).await.unwrap(), 0);
            }
            stream.write_all(&bytes).await.unwrap();
        };
        join!(closer(&mut near), writer(&mut far));
        drop((near, far));
        let (mut far, mut near) = pair().await;
        join!(closer(&mut near), writer(&mut far));
        near.shutdown(Shutdown::Read).unwrap();
        assert_eq!(near.read(&mut [0; 3]).await.unwrap(), 0);
    });
}

#[test]
fn shutting_down_ends_ones_own_reading() {
    run(async {
        let (near, mut far) = pair().await;
        near.shutdown(Shutdown::Both).unwrap();
        let (mut reader, mut writer) = near.into_split();
        assert_eq!(reader.read(&mut [0; 3]).await.unwrap(), 0);
        assert_eq!(kind(writer.write(b"more").await), ErrorKind::BrokenPipe);
        assert_eq!(far.read(&mut [0; 3]).await.unwrap(), 0);
    });
}

fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[test]
fn g8_h13_a_reset_wakes_a_waiting_reader_with_an_error() {
    run(async {
        let (mut near, far) = pair_with_std().await;
        near.write_all(b"never read").await.unwrap();
        far.peek(&mut [0; 16]).unwrap();
        let mut buffer = [0; 16];
        let mut read = pin!(near.read(&mut buffer));
        assert!(poll!(read.as_mut()).is_pending());
        // Closed with bytes unread: that is a reset.
        drop(far);
        assert_eq!(kind(read.await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn g8_h13_a_reset_wakes_a_waiting_writer_with_an_error() {
    run(async {
        let (mut near, far) = pair_with_std().await;
        fill(&mut near).await;
        let mut write = pin!(near.write(b"more"));
        assert!(poll!(write.as_mut()).is_pending());
        drop(far);
        assert!(is_gone(kind(write.await)));
    });
}

#[test]
fn g8_h13_a_reset_wakes_both_waiters_in_their_tasks() {
    run(async {
        let (mut near, far) = pair_with_std().await;
        fill(&mut near).await;
        let (mut reader, mut writer) = near.into_split();
        let reader = try_spawn(async move { reader.read(&mut [0; 16]).await }).unwrap();
        let writer = try_spawn(async move { writer.write(b"more").await }).unwrap();
        sleep(MS).await;
        assert!(!reader.is_finished() && !writer.is_finished());
        drop(far);
        // The system reports a reset once, to whom it meets first; to the other, the end.
        assert_eq!(kind(reader.await.unwrap()), ErrorKind::ConnectionReset);
        assert!(is_gone(kind(writer.await.unwrap())));
    });
}

#[test]
fn writing_to_a_peer_that_has_gone_is_an_error_in_the_end() {
    run(async {
        let (mut near, far) = pair().await;
        drop(far);
        let error = loop {
            if let Err(error) = near.write(b"is anybody there?").await {
                break error;
            }
            yield_now().await;
        };
        assert!(is_gone(error.kind()), "{error}");
    });
}

// Cancellation.

#[test]
fn h8_a_cancelled_read_loses_no_byte_and_leaves_no_waiter() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let mut buffer = [0; 4];
        for round in 0..3 {
            assert!(timeout(MS, near.read(&mut buffer)).await.is_err());
            assert!(timeout(MS, near.peek(&mut buffer)).await.is_err());
            let mut parts = [IoSliceMut::new(&mut buffer)];
            assert!(timeout(MS, near.read_vectored(&mut parts)).await.is_err());
            {
                // Cancelled with its data at hand and its wake under way.
                let mut read = pin!(near.read(&mut buffer));
                assert!(poll!(read.as_mut()).is_pending(), "round {round}");
                far.write_all(b"data").unwrap();
                sleep(MS).await;
            }
            assert_eq!(near.read(&mut buffer).await.unwrap(), 4);
            assert_eq!(&buffer, b"data");
        }
    });
}

#[test]
fn h8_a_cancelled_write_has_written_nothing_and_leaves_no_waiter() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let filled = fill(&mut near).await;
        for _ in 0..3 {
            assert!(timeout(MS, near.write(b"lost")).await.is_err());
            assert!(timeout(MS, near.write_vectored(&[IoSlice::new(b"lost")])).await.is_err());
        }
        {
            let mut write = pin!(near.write(b"lost"));
            assert!(poll!(write.as_mut()).is_pending());
            far.read_exact(&mut vec![0; filled]).unwrap();
            sleep(MS).await;
        }
        near.write_all(b"kept").await.unwrap();
        drop(near);
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"kept");
    });
}

/// Reads are cancelled at every chance, some before and some after their wake.
#[test]
fn h8_a_stream_read_in_cancelled_pieces_is_whole() {
    run(async {
        let (mut near, mut far) = pair().await;
        let bytes = pattern(200_000);
        let sent = bytes.clone();
        try_spawn(async move {
            for (at, chunk) in sent.chunks(997).enumerate() {
                far.write_all(chunk).await.unwrap();
                match at % 4 {
                    3 => sleep(MS / 20).await,
                    _ => yield_now().await,
                }
            }
        })
        .unwrap()
        .detach();
        let (mut seen, mut cancelled) = (Vec::new(), 0);
        for turn in 0.. {
            let mut buffer = [0; 1500];
            let outcome = poll!(pin!(near.read(&mut buffer)));
            match outcome {
                Poll::Ready(count) => match count.unwrap() {
                    0 => break,
                    count => seen.extend_from_slice(&buffer[..count]),
                },
                Poll::Pending if turn % 3 == 0 => {
                    cancelled += 1;
                    yield_now().await;
                }
                Poll::Pending => {
                    cancelled += 1;
                    let nap = MS / 20;
                    if let Ok(count) = timeout(nap, near.read(&mut buffer)).await {
                        match count.unwrap() {
                            0 => break,
                            count => seen.extend_from_slice(&buffer[..count]),
                        }
                    }
                }
            }
        }
        assert!(seen == bytes && cancelled > 10, "{} bytes, {cancelled} cancelled", seen.len());
    });
}

#[test]
fn an_operation_that_moves_to_another_task_wakes_that_task() {
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        let mut read = Box::pin(async move {
            let mut buffer = [0; 4];
            near.read_exact(&mut buffer).await.unwrap();
            buffer
        });
        // First it waits with the root's waker, then with the task's.
        assert!(poll!(read.as_mut()).is_pending());
        let task = try_spawn(read).unwrap();
        yield_now().await;
        far.write_all(b"data").unwrap();
        assert_eq!(&task.await.unwrap(), b"data");
    });
}

// Listeners.

#[test]
fn g10_the_acceptors_of_a_listener_have_a_connection_each() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let (mut first, mut second) = (pin!(listener.accept()), pin!(listener.accept()));
        assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
        let clients =
            [(); 2].map(|()| std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (first, second) = join!(first, second);
        let peers = [first, second].map(|accepted| accepted.unwrap().1);
        assert_eq!(peers, clients.map(|client| client.local_addr().unwrap()));
    });
}

#[test]
fn accept_is_cancel_safe() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        // Cancelled before a connection comes.
        assert!(timeout(MS, listener.accept()).await.is_err());
        let client = {
            // Cancelled with the connection at hand and the wake under way.
            let mut accept = pin!(listener.accept());
            assert!(poll!(accept.as_mut()).is_pending());
            let client = std::net::TcpStream::connect(address).unwrap();
            sleep(MS).await;
            client
        };
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn one_edge_may_stand_for_many_connections() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        assert!(poll!(pin!(listener.accept())).is_pending());
        let clients: Vec<_> = (0..50)
            .map(|_| std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap())
            .collect();
        for client in &clients {
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
    });
}

// Away from their runtime.

#[test]
fn h12_no_socket_is_made_outside_a_runtime() {
    on_a_thread(|| {
        let std = std::net::TcpListener::bind(loopback()).unwrap();
        let address = std.local_addr().unwrap();
        let error = TcpListener::bind(loopback()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        // There may well be a runtime, but of another version of this crate.
        let version = format!("no runtime of gondola {} is entered", env!("CARGO_PKG_VERSION"));
        assert!(error.to_string().contains(&version), "{error}");
        let connect = futures::executor::block_on(TcpStream::connect(address));
        assert_eq!(kind(connect), ErrorKind::NotConnected);
        // Refused before anything happens, not after the peer has seen a connection.
        std.set_nonblocking(true).unwrap();
        assert_eq!(kind(std.accept()), ErrorKind::WouldBlock);
        let stream = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(kind(TcpStream::from_std(stream)), ErrorKind::NotConnected);
        assert_eq!(kind(TcpListener::from_std(std)), ErrorKind::NotConnected);
    });
}

#[test]
fn virtual_time_has_no_sockets() {
    let mut runtime = Runtime::builder().virtual_time().build().unwrap();
    runtime.block_on(async {
        let std = std::net::TcpListener::bind(loopback()).unwrap();
        let address = std.local_addr().unwrap();
        assert_eq!(kind(TcpListener::bind(loopback())), ErrorKind::Unsupported);
        assert_eq!(kind(TcpStream::connect(address).await), ErrorKind::Unsupported);
        std.set_nonblocking(true).unwrap();
        assert_eq!(kind(std.accept()), ErrorKind::WouldBlock);
        let stream = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(kind(TcpStream::from_std(stream)), ErrorKind::Unsupported);
        assert_eq!(kind(TcpListener::from_std(std)), ErrorKind::Unsupported);
    });
    assert!(format!("{runtime:?}").contains("watches: 0"), "{runtime:?}");
}

/// Elsewhere, what can be done at once is done, and what would wait is an error.
async fn assert_never_waits(near: &mut TcpStream, listener: &TcpListener) {
    let mut buffer = [0; 4];
    // More operations than one poll may do in a runtime.
    for _ in 0..300 {
        assert_eq!(near.read(&mut buffer[..1]).await.unwrap(), 1);
    }
    for _ in 0..2 {
        assert_eq!(kind(near.read(&mut buffer).await), ErrorKind::NotConnected);
        assert_eq!(kind(near.peek(&mut buffer).await), ErrorKind::NotConnected);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        assert_eq!(kind(near.read_vectored(&mut parts).await), ErrorKind::NotConnected);
        assert_eq!(kind(near.read_exact(&mut buffer).await), ErrorKind::NotConnected);
        let chunk = vec![0; 1 << 20];
        let full = loop {
            if let Err(error) = near.write(&chunk).await {
                break error.kind();
            }
        };
        assert_eq!(full, ErrorKind::NotConnected);
        assert_eq!(kind(near.write_all(&chunk).await), ErrorKind::NotConnected);
        let parts = [IoSlice::new(&chunk)];
        assert_eq!(kind(near.write_vectored(&parts).await), ErrorKind::NotConnected);
        assert_eq!(kind(listener.accept().await), ErrorKind::NotConnected);
    }
}

async fn stuffed() -> (TcpStream, std::net::TcpStream, TcpListener) {
    let (mut near, mut far) = pair_with_std().await;
    far.write_all(&[1; 300]).unwrap();
    arrived(&mut near, 300).await;
    (near, far, TcpListener::bind(loopback()).unwrap())
}

#[test]
fn h12_o3_under_another_executor_what_would_wait_is_an_error() {
    on_a_thread(|| {
        let mut runtime = Runtime::new().unwrap();
        let (mut near, mut far, listener) = runtime.block_on(stuffed());
        futures::executor::block_on(assert_never_waits(&mut near, &listener));
        // Back at home all is well.
        runtime.block_on(within(async {
            far.write_all(b"home").unwrap();
            near.read_exact(&mut [0; 4]).await.unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }));
    });
}

#[test]
fn h12_o3_in_another_runtime_what_would_wait_is_an_error() {
    let mut home = Runtime::new().unwrap();
    let (mut near, _far, listener) = home.block_on(stuffed());
    run(assert_never_waits(&mut near, &listener));
}

#[test]
fn h12_after_the_runtime_what_would_wait_is_an_error_and_dropping_is_fine() {
    on_a_thread(|| {
        let mut runtime = Runtime::new().unwrap();
        let (mut near, _far, listener) = runtime.block_on(stuffed());
        let mut waiting = runtime.block_on(async {
            let (mut other, far) = pair_with_std().await;
            let mut read = Box::pin(async move { other.read(&mut [0; 4]).await });
            assert!(poll!(read.as_mut()).is_pending());
            (read, far)
        });
        drop(runtime);
        futures::executor::block_on(assert_never_waits(&mut near, &listener));
        run(async {
            assert_eq!(kind(near.read(&mut [0; 4]).await), ErrorKind::NotConnected);
            assert_eq!(kind(waiting.0.as_mut().await), ErrorKind::NotConnected);
        });
        drop((near, listener, waiting));
    });
}

/// Elsewhere, `accept` takes no connection that it cannot return.
#[test]
fn h12_an_accept_under_another_executor_loses_no_connection() {
    on_a_thread(|| {
        let mut runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(async { TcpListener::bind(loopback()).unwrap() });
        let address = listener.local_addr().unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let accepted = futures::executor::block_on(listener.accept());
        runtime.block_on(within(async {
            let (mut server, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotConnected);
                    listener.accept().await.unwrap()
                }
            };
            assert_eq!(peer, client.local_addr().unwrap());
            client.write_all(b"here").unwrap();
            server.read_exact(&mut [0; 4]).await.unwrap();
        }));
    });
}

/// Says goodbye in its destructor, as some protocols do.
struct Goodbye(TcpStream, mpsc::Sender<io::Result<usize>>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        let Self(stream, result) = self;
        let talk = async {
            // More operations than one poll may do.
            for _ in 0..200 {
                stream.write_all(b"bye").await?;
            }
            stream.read(&mut [0; 4]).await
        };
        result.send(futures::executor::block_on(talk)).unwrap();
    }
}

#[test]
fn h12_a_destructor_at_shutdown_cannot_wait_for_ever() {
    on_a_thread(|| {
        let (result, results) = mpsc::channel();
        let mut runtime = Runtime::new().unwrap();
        let _far = runtime.block_on(async {
            let (near, far) = pair_with_std().await;
            let goodbye = Goodbye(near, result);
            try_spawn(async move {
                let _goodbye = goodbye;
                std::future::pending::<()>().await;
            })
            .unwrap()
            .detach();
            yield_now().await;
            far
        });
        drop(runtime);
        assert_eq!(kind(results.recv().unwrap()), ErrorKind::NotConnected);
    });
}

#[test]
fn a_runtime_drops_tasks_that_wait_for_sockets() {
    let mut runtime = Runtime::new().unwrap();
    let far: Vec<_> = (0..10)
        .map(|_| {
            runtime.block_on(async {
                let (mut near, far) = pair_with_std().await;
                try_spawn(async move { near.read(&mut [0; 4]).await }).unwrap().detach();
                yield_now().await;
                far
            })
        })
        .collect();
    drop(runtime);
    for mut far in far {
        assert_eq!(far.read(&mut [0; 4]).unwrap(), 0);
    }
}
