//! The whole library above a simulated kernel, on Linux: every edge, error and short transfer that
//! the model of the kernel can make, and a clock that obeys.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod accept;
mod asleep;
mod datagrams;
mod late;
mod real;
mod simulated;
mod sockets;
