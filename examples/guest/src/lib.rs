//! A runtime inside somebody else's loop. The host waits for the runtime's descriptor, beside all
//! that is its own, and no longer than [`Runtime::prepare_sleep`] says.

use gondola::Runtime;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A loop over epoll: `own` is a descriptor of the host, `on_own` what it does when that is
/// readable, and `ends` is asked in each round. Returns how many rounds it went.
///
/// # Errors
/// The system's.
pub fn in_epoll(
    runtime: &mut Runtime,
    own: impl AsFd,
    mut on_own: impl FnMut() -> io::Result<()>,
    mut ends: impl FnMut() -> bool,
) -> io::Result<usize> {
    const GUEST: EventData = EventData::new_u64(0);
    const OWN: EventData = EventData::new_u64(1);
    let epoll: OwnedFd = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &*runtime, GUEST, EventFlags::IN)?;
    epoll::add(&epoll, own, OWN, EventFlags::IN)?;
    for round in 1.. {
        runtime.turn()?;
        if ends() {
            return Ok(round);
        }
        // Last of all before it sleeps. `None`: there is work, so it only looks at its own. The
        // longest of waits has no end.
        let wait = runtime.prepare_sleep().unwrap_or(Duration::ZERO).try_into().ok();
        let mut events = [MaybeUninit::uninit(); 8];
        let (events, _) = epoll::wait(&epoll, &mut events, wait.as_ref())?;
        if events.iter().any(|event| event.data.u64() == OWN.u64()) {
            on_own()?;
        }
    }
    unreachable!("usize is enough")
}

/// A task of tokio that drives the runtime until `ends`. Returns how many rounds it went.
///
/// # Errors
/// The system's.
pub async fn in_tokio(runtime: &mut Runtime, mut ends: impl FnMut() -> bool) -> io::Result<usize> {
    // A descriptor of its own for the same epoll: the runtime itself is needed for its turns.
    let guest = runtime.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open, and the same descriptor, until it is dropped.
    let guest = unsafe { AsyncFd::register_with_interest(guest, Interest::READABLE) }?;
    for round in 1.. {
        runtime.turn()?;
        if ends() {
            return Ok(round);
        }
        match runtime.prepare_sleep() {
            None => tokio::task::yield_now().await,
            Some(wait) => {
                if let Ok(ready) = tokio::time::timeout(wait, guest.readable()).await {
                    let mut ready = ready?;
                    // tokio hears of changes only. What is there already, the next turn takes in.
                    let mut polled = [PollFd::new(runtime, PollFlags::IN)];
                    if poll(&mut polled, Some(&Timespec::default()))? == 0 {
                        ready.clear_ready();
                    }
                }
            }
        }
    }
    unreachable!("usize is enough")
}
