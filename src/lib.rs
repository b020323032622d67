#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

// In the order of their floors, from the ground up: each uses only what stands above it here. The
// table is in DESIGN.md, and `.ci/floors` reads it.
mod assert_local; // 0
mod bits;
mod budget;
mod clock;
mod panic;
mod pin;
mod room;
mod sync;
mod sys;
mod window;

mod coop; // 1
mod error;
mod list;
mod outputs;
mod slots;
mod timer;
mod wake;

mod bell; // 2
mod cancel;
mod line;
mod reactor;
mod task_box;

mod ring; // 3

mod sched; // 4

mod context; // 5

pub mod batch; // 6
mod join;
mod metrics;
pub mod time;

pub mod meter; // 7
pub mod net;
mod runtime;
mod task;

mod features; // 8

pub use assert_local::AssertLocal;
pub use batch::{BatchError, ErrorKind, OnError, Stop, batch};
pub use cancel::{CancellationToken, Cancelled, DropGuard, RunUntilCancelled};
pub use coop::{ConsumeBudget, YieldNow, consume_budget, yield_now};
pub use error::{JoinError, SlotsOutOfRange, TrySpawnError, TrySpawnErrorKind};
#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use features::hyper;
#[cfg(feature = "resolve")]
#[cfg_attr(docsrs, doc(cfg(feature = "resolve")))]
pub use features::resolve;
pub use join::{AbortHandle, JoinHandle};
pub use metrics::{Metrics, metrics};
pub use runtime::{Builder, Runtime, block_on};
pub use sched::Turn;
pub use task::{Reserve, Slot, TasksDone, reserve, tasks_done, try_spawn};

#[doc = include_str!("cookbook.md")]
#[doc = include_str!("cookbook-batch.md")]
// With crates of which nobody needs to build any for a test of the library: `examples/recipes`.
#[cfg_attr(not(doctest), doc = include_str!("cookbook-crates.md"))]
pub mod cookbook {}

/// Misuse that must not compile.
///
/// Tasks, handles, slots, sockets and batches stay on their thread:
/// ```compile_fail,E0277
/// let task = gondola::block_on(async { gondola::try_spawn(async {}).unwrap() });
/// std::thread::spawn(move || drop(task));
/// ```
/// ```compile_fail,E0277
/// let slot = gondola::block_on(gondola::reserve());
/// std::thread::spawn(move || drop(slot));
/// ```
/// ```compile_fail,E0277
/// fn send(stream: gondola::net::TcpStream) {
///     std::thread::spawn(move || drop(stream));
/// }
/// ```
/// ```compile_fail,E0277
/// let run = gondola::batch(0..3).limit(2).for_each(|_| async {});
/// std::thread::spawn(move || gondola::block_on(run));
/// ```
/// ```compile_fail,E0277
/// let runtime = gondola::Runtime::new().unwrap();
/// std::thread::spawn(move || drop(runtime));
/// ```
/// A task outlives the scope that spawns it, so it cannot borrow from it; a batch can:
/// ```compile_fail
/// gondola::block_on(async {
///     let local = String::from("local");
///     gondola::try_spawn(async { local.len() }).unwrap().detach();
/// });
/// ```
/// One read at a time, by the type:
/// ```compile_fail,E0499
/// async fn twice(stream: &mut gondola::net::TcpStream) {
///     let (mut one, mut two) = ([0; 1], [0; 1]);
///     let _ = futures::join!(stream.read(&mut one), stream.read(&mut two));
/// }
/// ```
/// A fallible verb wants fallible futures:
/// ```compile_fail,E0271
/// gondola::batch(0..3).limit(2).try_for_each(|_| async { 1 });
/// ```
/// A reservation and a slot are used up:
/// ```compile_fail,E0382
/// gondola::block_on(async {
///     let slot = gondola::reserve().await;
///     let _a = slot.spawn(async {});
///     let _b = slot.spawn(async {});
/// });
/// ```
#[cfg(doctest)]
mod must_not_compile {}
