//! Late: the process was stopped, the machine slept, or the thread computed for long. A deadline is
//! over by then, and what was waited for is there as well: it counts.

use crate::simulated::{Event, Kernel, Kind, fd_of, kernel, simulate};
use futures::future::join_all;
use gondola::net::TcpStream;
use gondola::time::{Sleep, sleep, timeout};
use gondola::{Runtime, try_spawn};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::os::fd::FromRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const MS_IN_NS: u64 = 1_000_000;

/// `count` connections to which a byte comes each, `after_ms` from now.
fn answering(count: usize, after_ms: u64) -> Kernel {
    let mut world = Kernel::new();
    for _ in 0..count {
        let socket = world.add(Kind::Connected, 64, 0);
        world.plan(after_ms * MS_IN_NS, socket, Event::Data(1));
    }
    world
}

/// Waits for the byte of a socket for as long as `patience`.
async fn answer(socket: usize, patience: Duration) -> bool {
    // SAFETY: the simulated kernel gave out this descriptor.
    let stream = unsafe { std::net::TcpStream::from_raw_fd(fd_of(socket)) };
    let mut stream = TcpStream::from_std(stream).unwrap();
    timeout(patience, stream.read_exact(&mut [0; 1])).await.is_ok()
}

#[test]
fn an_answer_that_came_while_the_process_was_stopped_is_in_time() {
    // The long wait, cut in two, and the short one, which is precise.
    for patience in [2_000, 8] {
        let mut world = answering(1, patience / 2);
        world.plan(patience / 4 * MS_IN_NS, 0, Event::Stopped(patience * MS_IN_NS));
        let (in_time, kernel) =
            simulate(world, || gondola::block_on(answer(0, MS * patience as u32)));
        assert!(in_time, "within {patience} ms");
        assert_eq!(kernel.faults, [""; 0]);
    }
}

#[test]
fn an_answer_that_came_before_a_late_wait_returned_is_in_time() {
    // Somebody else's timer ends the wait at 3 ms, and the thread goes on at 23 ms.
    let mut world = answering(1, 5);
    world.plan(0, 0, Event::Late(20 * MS_IN_NS));
    let (in_time, kernel) = simulate(world, || {
        gondola::block_on(async { futures::join!(answer(0, MS * 8), sleep(MS * 3)).0 })
    });
    assert!(in_time);
    assert_eq!(kernel.faults, [""; 0]);
}

#[test]
fn an_answer_that_came_while_the_thread_computed_is_in_time() {
    let (in_time, kernel) = simulate(answering(1, 5), || {
        gondola::block_on(async {
            let computes = async {
                sleep(MS).await;
                kernel(|kernel| kernel.compute(20 * MS_IN_NS));
            };
            futures::join!(answer(0, MS * 8), computes).0
        })
    });
    assert!(in_time);
    assert_eq!(kernel.faults, [""; 0]);
}

/// One question to the kernel yields some hundred events. These are more.
#[test]
fn a_thousand_answers_that_came_while_the_process_was_stopped_are_all_in_time() {
    const CONNECTIONS: usize = 1_000;
    let mut world = answering(CONNECTIONS, 50);
    world.plan(20 * MS_IN_NS, 0, Event::Stopped(200 * MS_IN_NS));
    let (in_time, kernel) = simulate(world, || {
        let mut runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let tasks = (0..CONNECTIONS).map(|socket| try_spawn(answer(socket, MS * 100)).unwrap());
            let results = join_all(tasks.collect::<Vec<_>>()).await;
            results.into_iter().filter(|in_time| *in_time.as_ref().unwrap()).count()
        })
    });
    assert_eq!(in_time, CONNECTIONS);
    assert_eq!(kernel.faults, [""; 0]);
}

#[test]
fn a_time_out_without_an_answer_still_fires() {
    let mut world = answering(1, 500);
    world.plan(20 * MS_IN_NS, 0, Event::Stopped(200 * MS_IN_NS));
    let (in_time, kernel) = simulate(world, || gondola::block_on(answer(0, MS * 100)));
    assert!(!in_time);
    assert_eq!(kernel.faults, [""; 0]);
}

thread_local! {
    static SECOND: RefCell<Option<Pin<Box<Sleep>>>> = const { RefCell::new(None) };
}

/// A waker that does its work itself: it computes for 50 ms, and begins a second sleep.
struct Inline(Waker);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        kernel(|kernel| kernel.compute(50 * MS_IN_NS));
        let mut second = Box::pin(sleep(MS * 5));
        assert!(second.as_mut().poll(&mut Context::from_waker(&self.0)).is_pending());
        SECOND.set(Some(second));
    }
}

#[test]
fn a_sleep_that_begins_in_a_waker_is_not_late() {
    let ((), _) = simulate(Kernel::new(), || {
        let before = kernel(|kernel| kernel.now());
        let mut first = Box::pin(sleep(MS * 10));
        gondola::block_on(poll_fn(|cx| match SECOND.take() {
            Some(mut second) => second.as_mut().poll(cx),
            None => {
                let inline = Waker::from(Arc::new(Inline(cx.waker().clone())));
                assert!(first.as_mut().poll(&mut Context::from_waker(&inline)).is_pending());
                kernel(|kernel| kernel.compute(20 * MS_IN_NS));
                Poll::Pending
            }
        }));
        let slept = kernel(|kernel| kernel.now()) - before;
        assert!((75 * MS_IN_NS..77 * MS_IN_NS).contains(&slept), "{slept} ns");
    });
}
