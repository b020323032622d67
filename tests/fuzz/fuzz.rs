//! libFuzzer makes the choices of one model: `GONDOLA_MODEL=ring`. See `.ci/fuzz`.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the models without their tests")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../models/batch.rs"]
mod batch;
#[path = "../models/budget.rs"]
mod budget;
#[path = "../kernel/datagrams.rs"]
mod datagrams;
#[path = "../models/ring.rs"]
mod ring;
#[path = "../kernel/simulated.rs"]
mod simulated;
#[path = "../kernel/sockets.rs"]
mod sockets;
#[path = "../models/timers.rs"]
mod timers;
#[path = "../models/token.rs"]
mod token;

use std::sync::LazyLock;
use support::cases::{Choices, quietly};

type Model = fn(&mut Choices<'_>) -> u64;

static MODEL: LazyLock<Model> = LazyLock::new(|| match std::env::var("GONDOLA_MODEL").as_deref() {
    Ok("batch") => batch::case,
    Ok("budget") => budget::case,
    Ok("datagrams") => datagrams::case,
    Ok("ring") => ring::case,
    Ok("sockets") => sockets::case,
    Ok("timers") => timers::case,
    Ok("token") => token::case,
    other => panic!("no such model: {other:?}"),
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Some panics are part of a case; what comes out of it is not.
    if let Err(payload) = quietly(|| MODEL(&mut Choices::bytes(bytes))) {
        let literal = payload.downcast_ref::<&str>().copied();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(literal);
        eprintln!("{}", text.unwrap_or("not a text"));
        std::process::abort();
    }
});
