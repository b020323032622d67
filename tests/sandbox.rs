//! System calls that a sandbox forbids. Each test forbids them to a thread of its own.
#![cfg(target_os = "linux")]

#[cfg(not(target_arch = "x86"))]
#[path = "support/example.rs"]
mod example;

use futures::poll;
use gondola::net::TcpListener;
use gondola::time::{now, sleep, timeout};
use gondola::{Runtime, try_spawn, yield_now};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

/// From now on the kernel answers these calls of this thread with `error`, and those of the
/// processes that it starts.
fn forbid(calls: &[libc::c_long], error: libc::c_int) {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt| libc::sock_filter { code, jt, jf: 0, k };
    // The number of the call is the first word of `seccomp_data`.
    let mut program = vec![step(load, 0, 0)];
    for (at, &call) in calls.iter().enumerate() {
        // To the last step.
        program.push(step(jump_if_equal, call as u32, (calls.len() - at) as u8));
    }
    program.push(step(give, libc::SECCOMP_RET_ALLOW, 0));
    program.push(step(give, libc::SECCOMP_RET_ERRNO | error as u32, 0));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the first call gives up privileges, which hurts nobody. The second one reads the
    // filter and its program, which are alive.
    let result = unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Runs a test on a thread of its own, without these calls.
fn without(calls: &[libc::c_long], error: libc::c_int, test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let sandboxed = scope.spawn(|| {
            forbid(calls, error);
            test();
        });
        sandboxed.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    });
}

#[test]
fn without_ppoll_sleeps_go_on() {
    for error in [libc::EPERM, libc::ENOSYS] {
        without(&[libc::SYS_ppoll], error, || {
            let start = Instant::now();
            gondola::block_on(async {
                for nap in [5_000, 300, 12_300].map(Duration::from_micros) {
                    let start = Instant::now();
                    sleep(nap).await;
                    assert!(start.elapsed() >= nap);
                }
            });
            assert!(start.elapsed() >= Duration::from_micros(17_600));
        });
    }
}

#[test]
fn without_epoll_or_eventfd_there_is_an_error() {
    for call in [libc::SYS_epoll_create1, libc::SYS_eventfd2, libc::SYS_epoll_ctl] {
        without(&[call], libc::EPERM, || {
            let error = Runtime::new().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        });
    }
}

#[test]
fn virtual_time_needs_neither() {
    let calls = [libc::SYS_epoll_create1, libc::SYS_eventfd2];
    without(&calls, libc::EPERM, || {
        let mut runtime = Runtime::builder().slots(4).virtual_time().build().unwrap();
        runtime.block_on(async {
            let start = now();
            let task = try_spawn(async {
                sleep(Duration::from_secs(3600)).await;
                now()
            });
            assert_eq!(task.unwrap().await.unwrap() - start, Duration::from_secs(3600));
            let refused = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
        });
    });
}

/// Nobody tells a bell, yet a wake of another thread is seen.
#[test]
fn virtual_time_hears_other_threads() {
    let mut runtime = Runtime::builder().slots(4).virtual_time().build().unwrap();
    runtime.block_on(async {
        let (send, receive) = futures::channel::oneshot::channel();
        let mut receive = pin!(timeout(Duration::from_secs(60), receive));
        assert!(poll!(receive.as_mut()).is_pending());
        thread::spawn(|| send.send(7).unwrap()).join().unwrap();
        assert_eq!(receive.await.unwrap().unwrap(), 7);
    });
    // While time jumps.
    let (send, mut receive) = futures::channel::mpsc::channel(1);
    let sends = thread::spawn(move || {
        for n in 0..1_000 {
            while send.clone().try_send(n).is_err() {
                thread::yield_now();
            }
        }
    });
    runtime.block_on(async {
        let jumps = try_spawn(async {
            loop {
                sleep(Duration::from_secs(1)).await;
            }
        });
        for n in 0..1_000 {
            use futures::StreamExt;
            assert_eq!(receive.next().await, Some(n));
            yield_now().await;
        }
        jumps.unwrap().abort();
    });
    sends.join().unwrap();
}

/// `accept` is refused for good: the example does not go on for ever. It inherits the sandbox. (On
/// i686 libc accepts by `socketcall`, which is all that sockets have there.)
#[cfg(not(target_arch = "x86"))]
#[test]
fn a_server_that_cannot_accept_says_why_and_ends() {
    use std::io::Read;
    use std::process::{Command, Stdio};

    without(&[libc::SYS_accept4], libc::EPERM, || {
        let mut server = Command::new(example::example("echo"));
        let server = server.arg("127.0.0.1:0").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut said = String::new();
        let mut stderr = server.stderr.take().unwrap();
        let end = thread::spawn(move || {
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        let start = Instant::now();
        while server.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = server.kill();
        assert_eq!(server.wait().unwrap().code(), Some(1));
        let said = end.join().unwrap();
        assert_eq!(said, "echo: accept: Operation not permitted (os error 1)\n");
    });
}
