//! TCP on mio: every operation is tried first, and waits only if it would block.
//!
//! Sockets belong to the runtime in which they were made. Elsewhere (in another runtime, or under
//! another executor) an operation that would have to wait returns an error of kind
//! `NotConnected` instead of waiting for ever.
//!
//! One operation per direction may wait at a time; a second one gets `ResourceBusy`.
//!
//! A poll of a task completes at most 128 operations, those of a batch's items included; then it
//! yields, so that a peer that never pauses cannot keep the thread.
#![forbid(unsafe_code)]

mod io;
mod tcp_listener;
mod tcp_split;
mod tcp_stream;

pub use tcp_listener::TcpListener;
pub use tcp_split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
pub use tcp_stream::TcpStream;
