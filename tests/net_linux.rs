//! Sockets where the system is unkind: no descriptors left, signals, resets, tiny buffers.
//!
//! Tests that change the whole process run themselves once more as a child.
#![cfg(target_os = "linux")]

#[path = "support/net.rs"]
mod support;

use futures::poll;
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use gondola::{Runtime, try_spawn};
use std::env;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{LONG, MS, fill, loopback, pair_with_std, pattern, run};

const CHILD: &str = "GONDOLA_TEST_CHILD";
const PEER: &str = "GONDOLA_TEST_PEER";

/// Whether this process is the child of [`run_child`].
fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Runs the test `name` once more, in a process of its own, behind a line of shell.
#[track_caller]
fn run_child(name: &str, shell: &str) {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{shell} exec \"$@\""))
        .arg("sh")
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn set_option<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) {
    let size = size_of::<T>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is alive for the call, and the size is its own.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Closes with a reset instead of an end.
fn reset(socket: impl AsFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

fn send(socket: &impl AsFd, bytes: &[u8], flags: i32) {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the bytes are alive for the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    assert_eq!(usize::try_from(sent).unwrap(), bytes.len());
}

/// Opens files until there is no descriptor left.
fn use_up_descriptors() -> Vec<File> {
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                return files;
            }
        }
    }
}

#[test]
fn h1_a_listener_survives_running_out_of_descriptors() {
    if !is_child() {
        return run_child("h1_a_listener_survives_running_out_of_descriptors", "ulimit -n 64;");
    }
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let files = use_up_descriptors();

        let (start, mut errors) = (Instant::now(), 0);
        let merely_reports = async {
            loop {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                errors += 1;
            }
        };
        assert!(timeout(MS * 300, merely_reports).await.is_err());
        // At once, and then each 50 ms.
        let most = start.elapsed().as_millis() / 50 + 1;
        assert!((2..=most).contains(&errors), "{errors} errors, at most {most} expected");

        // The connection has waited, and needs no new edge. Nor does the next.
        drop(files);
        let (_, peer) = timeout(MS * 1000, listener.accept()).await.unwrap().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(timeout(MS, listener.accept()).await.is_err());
        // The pause is over: twenty more take no second.
        let start = Instant::now();
        for _ in 0..20 {
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
        assert!(start.elapsed() < MS * 900, "{:?}", start.elapsed());
    });
}

#[test]
fn h1_two_who_accept_share_the_pause() {
    if !is_child() {
        return run_child("h1_two_who_accept_share_the_pause", "ulimit -n 64;");
    }
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _files = use_up_descriptors();
        let merely_reports = async || {
            for errors in 0.. {
                if timeout(MS * 300, listener.accept()).await.is_err() || errors > 20 {
                    return errors;
                }
            }
            unreachable!()
        };
        let both = async { futures::join!(merely_reports(), merely_reports()) };
        assert!(timeout(MS * 300, both).await.is_err(), "more than 20 errors in 300 ms");
    });
}

#[test]
fn h1_the_pause_under_another_executor_is_an_error() {
    if !is_child() {
        return run_child("h1_the_pause_under_another_executor_is_an_error", "ulimit -n 64;");
    }
    let mut runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(async { TcpListener::bind(loopback()).unwrap() });
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let files = use_up_descriptors();
    let error = runtime.block_on(listener.accept()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    let error = futures::executor::block_on(listener.accept()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    // Begun at home, it does not go on elsewhere either.
    let mut accept = pin!(listener.accept());
    runtime.block_on(async { assert!(poll!(accept.as_mut()).is_pending()) });
    let error = futures::executor::block_on(accept).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    drop(files);
    let (_, peer) = runtime.block_on(timeout(LONG, listener.accept())).unwrap().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
}

#[test]
fn h1_connecting_without_descriptors_is_an_error() {
    if !is_child() {
        return run_child("h1_connecting_without_descriptors_is_an_error", "ulimit -n 64;");
    }
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let files = use_up_descriptors();
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        let error = TcpListener::bind(loopback()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        drop(files);
        TcpStream::connect(address).await.unwrap();
    });
}

/// Linux hands out a connection that was reset in the queue; its first use tells.
#[test]
fn h2_a_connection_reset_in_the_queue_ends_no_listener() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..3 {
            reset(std::net::TcpStream::connect(address).unwrap());
            let client = std::net::TcpStream::connect(address).unwrap();
            loop {
                let (mut stream, peer) = listener.accept().await.unwrap();
                if peer == client.local_addr().unwrap() {
                    break;
                }
                let error = stream.read(&mut [0; 4]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        }
    });
}

/// Writes to a peer that has gone, in a process that SIGPIPE would end.
fn assert_no_sigpipe(name: &str, write: impl AsyncFn(&mut TcpStream) -> std::io::Result<usize>) {
    if !is_child() {
        return run_child(name, "");
    }
    // Rust's own start-up code ignores the signal; not every host of a library does.
    // SAFETY: it installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    run(async {
        let (mut near, far) = pair_with_std().await;
        reset(far);
        while write(&mut near).await.is_ok() {}
        for _ in 0..3 {
            let error = write(&mut near).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        }
        // Dropping its write half shuts it down.
        drop(near.into_split());
    });
}

#[test]
fn h9_writing_to_a_closed_peer_raises_no_signal() {
    let name = "h9_writing_to_a_closed_peer_raises_no_signal";
    assert_no_sigpipe(name, async |stream| stream.write(b"data").await);
}

#[test]
fn h9_vectored_writing_to_a_closed_peer_raises_no_signal() {
    let name = "h9_vectored_writing_to_a_closed_peer_raises_no_signal";
    let parts = [IoSlice::new(b"da"), IoSlice::new(b"ta")];
    assert_no_sigpipe(name, async |stream| stream.write_vectored(&parts).await);
}

/// Not set, not cleared: what SIGPIPE does is the host's business.
#[test]
fn o4_the_disposition_of_sigpipe_is_left_alone() {
    let ignored = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("SigIgn")).unwrap();
        line.to_string()
    };
    let before = ignored();
    run(async {
        let (mut near, far) = pair_with_std().await;
        reset(far);
        while near.write(b"data").await.is_ok() {}
        while near.write_vectored(&[IoSlice::new(b"data")]).await.is_ok() {}
    });
    assert_eq!(ignored(), before);
}

static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn interrupt(_signal: libc::c_int) {
    INTERRUPTIONS.fetch_add(1, Ordering::Relaxed);
}

/// Signals interrupt every call; none of it shows.
#[test]
fn g9_a_storm_of_signals_goes_unnoticed() {
    if !is_child() {
        return run_child("g9_a_storm_of_signals_goes_unnoticed", "");
    }
    // SAFETY: the handler only counts, which is safe at any time. Without SA_RESTART, every
    // system call is interrupted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    // SAFETY: it only asks who this is.
    let target = unsafe { libc::pthread_self() };
    let stop = Arc::new(AtomicBool::new(false));
    let until = stop.clone();
    let storm = thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            // SAFETY: the target waits for this thread to end, so it is alive.
            unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
            thread::sleep(MS / 20);
        }
    });
    run(async {
        let (mut near, far) = pair_with_std().await;
        let echo = thread::spawn(move || {
            let mut word = [0; 4];
            for _ in 0..20 {
                (&far).read_exact(&mut word).unwrap();
                thread::sleep(MS);
                (&far).write_all(&word).unwrap();
            }
        });
        for round in 0..20_u32 {
            near.write_all(&round.to_le_bytes()).await.unwrap();
            let mut word = [0; 4];
            near.read_exact(&mut word).await.unwrap();
            assert_eq!(u32::from_le_bytes(word), round);
        }
        echo.join().unwrap();
        // Long, and short enough for the precise wait.
        while INTERRUPTIONS.load(Ordering::Relaxed) < 100 {
            for nap in [MS * 30, MS * 3, MS / 2] {
                let start = Instant::now();
                sleep(nap).await;
                assert!(start.elapsed() >= nap);
            }
        }
    });
    stop.store(true, Ordering::Relaxed);
    storm.join().unwrap();
}

/// A process that is stopped (by a signal, a container that is paused, a laptop's lid) finds the
/// deadline over and the answer there: it is in time.
#[test]
fn an_answer_that_came_while_the_process_was_stopped_is_in_time() {
    if let Some(patience) = env::var_os(CHILD) {
        let patience = MS * patience.to_str().unwrap().parse().unwrap();
        return gondola::block_on(waits_for_an_answer(patience));
    }
    // The child must be stopped before its patience ends: twice the patience on a slow machine.
    let stopped_in_time = |patience: Duration| {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        let start = Instant::now();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["an_answer_that_came_while", "--nocapture", "--test-threads=1"])
            .env(CHILD, patience.as_millis().to_string())
            .env(PEER, listener.local_addr().unwrap().to_string())
            .spawn()
            .unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.read_exact(&mut [0; 4]).unwrap();
        let asked = Instant::now();
        let pid = child.id() as libc::pid_t;
        let mut status = 0;
        // SAFETY: it signals our own child, and waits until that has stopped.
        unsafe {
            assert_eq!(libc::kill(pid, libc::SIGSTOP), 0);
            assert_eq!(libc::waitpid(pid, &mut status, libc::WUNTRACED), pid);
        }
        assert!(libc::WIFSTOPPED(status), "{status}");
        let in_time = start.elapsed() < patience;
        peer.write_all(b"data").unwrap();
        thread::sleep((asked + patience + MS * 20).saturating_duration_since(Instant::now()));
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        assert!(child.wait().unwrap().success() || !in_time);
        in_time
    };
    assert!((0..8).any(|doubled| stopped_in_time(MS * 200 * (1 << doubled))));
}

async fn waits_for_an_answer(patience: Duration) {
    let stream = std::net::TcpStream::connect(env::var(PEER).unwrap()).unwrap();
    let mut asks = stream.try_clone().unwrap();
    let mut stream = TcpStream::from_std(stream).unwrap();
    let mut buffer = [0; 4];
    let mut answer = pin!(timeout(patience, stream.read_exact(&mut buffer)));
    assert!(poll!(answer.as_mut()).is_pending());
    asks.write_all(b"what").unwrap();
    answer.await.expect("the answer is there").unwrap();
}

#[test]
fn h14_a_tiny_send_buffer_passes_everything_on() {
    const SIZE: usize = 3_000_000;
    run(async {
        let (mut near, mut far) = pair_with_std().await;
        set_option(&near, libc::SOL_SOCKET, libc::SO_SNDBUF, &1_i32);
        let reader = thread::spawn(move || {
            let mut seen = Vec::new();
            far.read_to_end(&mut seen).unwrap();
            seen
        });
        let bytes = pattern(SIZE);
        let (mut rest, mut writes) = (&bytes[..], 0);
        while !rest.is_empty() {
            // Up to twice what fits: some are short, some are not, some would wait.
            let some = &rest[..rest.len().min(writes * 499 % 5000 + 1)];
            rest = &rest[near.write(some).await.unwrap()..];
            writes += 1;
        }
        drop(near);
        assert!(reader.join().unwrap() == bytes);
    });
}

/// TCP's urgent byte splits a read: what follows it is there without a new edge.
#[test]
fn g1_an_urgent_byte_does_not_hide_what_follows() {
    run(async {
        let (mut near, far) = pair_with_std().await;
        for _ in 0..3 {
            let mut buffer = [0; 64];
            assert!(poll!(pin!(near.read(&mut buffer))).is_pending());
            send(&far, b"abc", 0);
            send(&far, b"!", libc::MSG_OOB);
            send(&far, b"def", 0);
            let mut word = [0; 6];
            near.read_exact(&mut buffer[..2]).await.unwrap();
            word[..2].copy_from_slice(&buffer[..2]);
            let mut seen = 2;
            while seen < 6 {
                let count = near.read(&mut buffer).await.unwrap();
                word[seen..seen + count].copy_from_slice(&buffer[..count]);
                seen += count;
            }
            assert_eq!(&word, b"abcdef");
        }
    });
}

/// No descriptor of ours is inherited by what the program starts.
#[test]
fn i4_descriptors_close_on_exec() {
    let mut runtime = Runtime::new().unwrap();
    let _open = runtime.block_on(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        for fd in [listener.as_fd(), near.as_fd(), far.as_fd()] {
            // SAFETY: it only asks for the flags of a descriptor that is open.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
        (listener, near, far)
    });
    let child = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let text = String::from_utf8(child.stdout).unwrap();
    assert!(!text.contains("eventpoll") && !text.contains("eventfd"), "{text}");
}

/// A write that waits hears that its own end was shut down.
#[test]
fn shutting_down_from_aside_wakes_a_waiting_writer() {
    run(async {
        let (mut near, _far) = pair_with_std().await;
        fill(&mut near).await;
        let copy = near.as_fd().try_clone_to_owned().unwrap();
        let task = try_spawn(async move { near.write(b"more").await }).unwrap();
        sleep(MS).await;
        std::net::TcpStream::from(copy).shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}
