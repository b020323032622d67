//! The command line.

use crate::http_client::{Target, UrlError};
use gondola_sweep::Sweep;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
Finds out by experiment how many items a batch should have in flight.

Usage: sweep [OPTIONS]

An item is a few HTTP requests, one after the other, and a little work for the processor. Items are
processed with one K after the other; a table says what each K was good for, and a verdict which
one to use, and why.

The experiment:
  --k LIST                 the Ks to try, and `waits + 1` in any case
                           [1,2,3,4,5,8,16,25,50,100, then some just below the best of them]
  --seconds-per-point S    how long each K is measured each time [0.8]
  --repetitions N          how many times each K is measured, in shuffled order [3]
  --beta B                 a higher K is worth it while 1 % more K brings B % more items/s:
                           0.5 is polite to others, 0.05 is greedy [0.15]
An item:
  --requests W             requests per item, one after the other: its waits [2]
  --cpu US                 microseconds of processor time per item, beside the I/O [20]
The server, one of its own unless there is a URL:
  --delay MS               milliseconds of service per request [5]
  --capacity S             places: requests in service at once; others queue [32]
  --slows PERCENT          a request takes so much longer for each one that queues [0]
  --url URL                GET this instead, http:// only; start no server

  --check                  then lets the limit find itself (`batch::Auto`), and says how near it came;
                           without --url on three servers: 8 places, roomy, and slower under load
  --csv FILE, --json FILE  also writes what was measured into FILE
  --svg FILE               draws it into FILE
  -h, --help               this text

The progress goes to stderr, the table and the verdict to stdout. The exit status is 0, or 1 if
nothing works, or 2 if the command line is wrong.
";

pub(crate) struct Options {
    pub(crate) sweep: Sweep,
    pub(crate) beta: f64,
    pub(crate) time: Duration,
    pub(crate) requests: usize,
    pub(crate) cpu: Duration,
    pub(crate) peer: Peer,
    pub(crate) check: bool,
    /// What else to write, and where.
    pub(crate) files: Vec<(Format, PathBuf)>,
}

impl Options {
    /// What was asked for.
    pub(crate) fn intro(&self) -> String {
        let peer = match &self.peer {
            Peer::Url(url) => url.clone(),
            Peer::Own { delay, places, slows } => {
                let slows = match slows {
                    0.0 => String::new(),
                    slows => format!(", slower by {:.0} % per request that queues", slows * 100.0),
                };
                let delay = delay.as_secs_f64() * 1e3;
                format!("its own, L = {delay} ms per request, S = {places} places{slows}")
            }
        };
        format!(
            "An item: W = {} requests, one after the other, then {} µs of work.\nThe server: {peer}.\n",
            self.requests,
            self.cpu.as_secs_f64() * 1e6
        )
    }
}

pub(crate) enum Format {
    Csv,
    Json,
    Svg,
}

/// Who is asked.
pub(crate) enum Peer {
    Own { delay: Duration, places: usize, slows: f64 },
    Url(String),
}

/// `None`: help was asked for.
pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
    let (mut ks, mut files) = (None, Vec::new());
    let (mut time, mut repetitions, mut beta) = (0.8, 3, 0.15);
    let (mut requests, mut cpu) = (2, 20.0);
    let (mut delay, mut places, mut slows, mut url) = (None, None, None, None);
    let mut check = false;

    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("k") => ks = Some(parser.value()?.parse_with(list)?),
            Long("csv") => files.push((Format::Csv, parser.value()?.into())),
            Long("json") => files.push((Format::Json, parser.value()?.into())),
            Long("svg") => files.push((Format::Svg, parser.value()?.into())),
            Long("seconds-per-point") => time = parser.value()?.parse_with(positive)?,
            Long("repetitions") => repetitions = parser.value()?.parse_with(count)?,
            Long("beta") => beta = parser.value()?.parse_with(share)?,
            Long("requests") => requests = parser.value()?.parse_with(count)?,
            Long("cpu") => cpu = parser.value()?.parse_with(not_negative)?,
            Long("delay") => delay = Some(parser.value()?.parse_with(not_negative)?),
            Long("capacity") => places = Some(parser.value()?.parse_with(count)?),
            Long("slows") => slows = Some(parser.value()?.parse_with(not_negative)?),
            Long("check") => check = true,
            Long("url") => url = Some(parser.value()?.parse_with(url_of_http)?),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let peer = match url {
        Some(_) if delay.is_some() || places.is_some() || slows.is_some() => {
            return Err(
                "--delay, --capacity and --slows are for the sweep's own server, not for a --url"
                    .into(),
            );
        }
        Some(url) => Peer::Url(url),
        None => Peer::Own {
            delay: Duration::from_secs_f64(delay.unwrap_or(5.0) / 1e3),
            places: places.unwrap_or(32),
            slows: slows.unwrap_or(0.0) / 100.0,
        },
    };
    let (time, cpu) = (Duration::from_secs_f64(time), Duration::from_secs_f64(cpu / 1e6));
    let mut sweep = Sweep::new().time(time).repetitions(repetitions).beta(beta).waits(requests);
    if let Some(ks) = ks {
        sweep = sweep.limits(ks);
    }
    Ok(Some(Options { sweep, beta, time, requests, cpu, peer, check, files }))
}

/// Whether it is one is a matter of usage, so it is asked here.
fn url_of_http(text: &str) -> Result<String, UrlError> {
    text.parse::<Target>().map(|_| text.to_string())
}

fn list(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(count).collect()
}

/// More than a million of anything is a slip of the finger; and a batch takes no more.
fn count(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("a whole number from 1 to 1000000 is needed".into()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1e6).contains(&number) => Ok(number),
        _ => Err("a number from 0 to 1000000 is needed".into()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| match number {
        0.0 => Err("0 is not enough".into()),
        _ => Ok(number),
    })
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if 0.0 < number && number < 1.0 => Ok(number),
        _ => Err("a number between 0 and 1 is needed".into()),
    }
}
