//! Servers that are simulated, and what is known of their knees.
#![allow(dead_code, unreachable_pub, reason = "`benches/limiters` uses all of it")]

// It was set aside before there was a limiter, and is not even formatted since.
#[rustfmt::skip]
pub mod aside;
pub mod oracle;
pub mod ours;
pub mod simulate;
