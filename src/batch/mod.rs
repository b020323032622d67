//! The bounded batch: N items, each waiting on I/O, at most K in flight, on one thread.
//!
//! A batch is a plain future with a ring of its own: it runs as a root future, in a task, in
//! another batch, and under any other executor. It borrows freely: items, the closure and its
//! futures need be neither `'static` nor `Send`.
//!
//! ```
//! use gondola::{batch, block_on, yield_now};
//!
//! let squares = block_on(batch(1..=4).limit(2).map(async |n| {
//!     yield_now().await; // stands for some I/O
//!     n * n
//! }));
//! assert_eq!(squares.unwrap(), [1, 4, 9, 16]);
//! ```
//!
//! # The law
//!
//! A batch works in turns. One turn polls each woken item once, and takes in what it returns. Then,
//! if no item has failed, it fills the vacant slots: it pulls one item from the source, calls the
//! closure, and polls the future at once, before it pulls the next one. *To pull is to begin*, and
//! items begin in their order.
//!
//! Once a failure has been taken in, nothing more is pulled, and no closure is called. So a batch
//! begins nothing after a failure that it could have seen. It can see the failure of an item that
//! was woken before the turn began; if the item was woken from another thread, then before the pull.
//!
//! ```text
//!   limit(3), item 1 fails                                         time ──▶
//!
//!            turn 1            │ turn 2                │ turn 3
//!   slot 0   begins 0          │ polls 0: done         │
//!            │                 │            begins 3   │ polls 3
//!   slot 1   │  begins 1       │    polls 1: waits     │   polls 1: it fails
//!   slot 2   │  │  begins 2    │      polls 2: waits   │     polls 2: done
//!                              │                       │ nothing is pulled any more: 4.. is the rest
//! ```
//!
//! # Cost
//!
//! Two allocations per batch, at its first poll; none per item. `map` and `try_map` need one more
//! for the outputs, if the source knows its length. Beside its slots a batch keeps no more than
//! the errors, and what a verb collects.
#![deny(unsafe_code)]

#[cfg(feature = "anyhow")]
mod anyhow;
mod auto;
mod books;
mod builder;
mod error;
mod feed;
mod limit;
mod limited;
mod on_error;
mod run;
mod seeker;
mod source;
mod stop_when;
#[cfg(feature = "stream")]
mod stream;
mod verbs;

pub use auto::Auto;
pub use builder::{Batch, batch};
pub use error::{BatchError, ErrorKind, ItemError};
pub use limit::Limit;
pub use on_error::{OnError, Stop};
pub use run::Run;
pub use source::{Growing, Source};
pub use stop_when::StopWhen;
#[cfg(feature = "stream")]
pub use stream::{Streamed, stream};
pub use verbs::{ForEach, InOrder, Map, Verb};
