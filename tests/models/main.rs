//! The real thing beside naive models of it, over random streams of operations.
//!
//! `cargo test --test models` runs 100,000 cases of each; `GONDOLA_CASES=10000000 cargo test
//! --release --test models` as many as wanted. A failure prints its seed, and the fewest choices
//! that still fail. `.ci/fuzz` lets a coverage-guided fuzzer make the choices.

#[path = "../support/mod.rs"]
mod support;

mod batch;
mod budget;
mod ring;
mod timers;
mod token;
