//! What libc does beyond std and mio: a wait shorter than mio's whole milliseconds, a vectored send
//! that raises no SIGPIPE, and questions about a descriptor. Also mio's poll with its descriptor.

use std::cell::{Ref, RefCell};
use std::io;
#[cfg(unix)]
use std::io::IoSlice;
use std::time::Duration;

/// Waits until `epoll` has events, at most for `timeout`: mio's own wait knows only whole
/// milliseconds, and rounds up. Returns whether there are any.
///
/// # Errors
/// The system's. A sandbox may forbid this call.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn wait_for_events(
    epoll: &impl std::os::fd::AsRawFd,
    timeout: Duration,
) -> io::Result<bool> {
    let mut polled = libc::pollfd { fd: epoll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut wait: libc::timespec = unsafe { std::mem::zeroed() };
    wait.tv_sec = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
    wait.tv_nsec = timeout.subsec_nanos() as _;
    // SAFETY: one pollfd and a timespec, both alive for the call; a null mask leaves signals be.
    match unsafe { libc::ppoll(&mut polled, 1, &wait, std::ptr::null()) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}

/// Other systems have no such call, or mio's own wait is precise.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn wait_for_events(_poll: &Poll, _timeout: Duration) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `writev` for a socket, without the SIGPIPE that `writev` raises once the peer has gone.
#[cfg(unix)]
pub(crate) fn send_vectored(
    socket: &impl std::os::fd::AsRawFd,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize> {
    // On Apple's systems mio and std set an option of the socket instead.
    #[cfg(target_vendor = "apple")]
    const FLAGS: libc::c_int = 0;
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

    // SAFETY: all of its fields are integers or pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is guaranteed to have the layout of `iovec`.
    message.msg_iov = buffers.as_ptr().cast_mut().cast();
    message.msg_iovlen = buffers.len() as _;
    // SAFETY: `message` names `buffers`, alive for the call; sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, FLAGS) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether the kernel would let a read, or a write, go on now, if only to an error or the end.
#[cfg(unix)]
pub(crate) fn is_ready(socket: &impl std::os::fd::AsRawFd, writing: bool) -> io::Result<bool> {
    let events = if writing { libc::POLLOUT } else { libc::POLLIN };
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: one pollfd, alive for the call, which does not wait.
    match unsafe { libc::poll(&mut polled, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        ready => Ok(ready > 0),
    }
}

/// The flags of an open descriptor.
#[cfg(unix)]
fn flags(descriptor: &impl std::os::fd::AsRawFd) -> io::Result<libc::c_int> {
    // SAFETY: it takes no pointer.
    match unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

#[cfg(unix)]
pub(crate) fn is_nonblocking(descriptor: &impl std::os::fd::AsRawFd) -> io::Result<bool> {
    Ok(flags(descriptor)? & libc::O_NONBLOCK != 0)
}

#[cfg(unix)]
pub(crate) fn set_nonblocking(descriptor: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    let flags = flags(descriptor)? | libc::O_NONBLOCK;
    // SAFETY: it takes no pointer.
    match unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// mio's poll, of which many have a part. It is in here as long as this is alive, and no other.
pub(crate) struct Poll(RefCell<mio::Poll>);

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(RefCell::new(mio::Poll::new()?)))
    }

    pub(crate) fn registry(&self) -> Ref<'_, mio::Registry> {
        Ref::map(self.0.borrow(), mio::Poll::registry)
    }

    /// mio's own wait: in whole milliseconds, rounded up.
    pub(crate) fn poll(&self, events: &mut mio::Events, wait: Option<Duration>) -> io::Result<()> {
        self.0.borrow_mut().poll(events, wait)
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Poll {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.borrow().as_raw_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Poll {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(self);
        // SAFETY: the poll that owns it is not replaced, and dropped no sooner than `self`.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) }
    }
}
