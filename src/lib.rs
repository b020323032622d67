#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

// The floors of the house: each module uses those above it only.
mod bits; // 0
mod clock;
mod error;
mod list;
mod pin;
mod sync;
mod sys;

mod bell; // 1
mod slots;
mod task_box;
mod wake;

mod reactor; // 2
mod ring;
mod timer;

mod sched; // 3

mod context; // 4

pub mod batch; // 6, on 0, 1 and `cancel` only, but for one number that it tells `context`
mod cancel; // 5
mod join;
pub mod net;
mod runtime;
mod task;
pub mod time;

pub use batch::{BatchError, ErrorKind, OnError, Stop, batch};
pub use cancel::{CancellationToken, Cancelled, DropGuard, RunUntilCancelled};
pub use error::{JoinError, SlotsOutOfRange, TrySpawnError, TrySpawnErrorKind};
pub use join::JoinHandle;
pub use runtime::{Builder, Runtime, block_on};
pub use sched::Turn;
pub use task::{Reserve, Slot, YieldNow, reserve, try_spawn, yield_now};
