//! Model-based tests: a case is decided by a stream of choices, which comes from a seed, from a
//! fuzzer's bytes, or from a failure that is being made smaller.
//!
//! A model is a function `case(&mut Choices) -> u64`. It runs the real code beside a naive model
//! and panics where they differ. What it returns sums up what happened: the same choices must
//! give the same sum.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its share")]

use std::any::Any;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{Duration, Instant};

/// Where a case's decisions come from.
pub struct Choices<'a> {
    source: Source<'a>,
    made: Vec<u64>,
}

enum Source<'a> {
    Seed(u64),
    Bytes(&'a [u8]),
    List(std::slice::Iter<'a, u64>),
}

impl<'a> Choices<'a> {
    pub fn seed(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike.
        Self::from(Source::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// Zeros once the bytes have run out: a model must come to its end on zeros.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self::from(Source::Bytes(bytes))
    }

    fn from(source: Source<'a>) -> Self {
        Self { source, made: Vec::new() }
    }

    pub fn next(&mut self) -> u64 {
        self.below(u64::MAX)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let choice = match &mut self.source {
            Source::Seed(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
            }
            Source::Bytes(bytes) => {
                let wanted = (u64::BITS - (bound - 1).leading_zeros()).div_ceil(8) as usize;
                let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
                *bytes = rest;
                now.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)) % bound
            }
            Source::List(list) => list.next().copied().unwrap_or(0) % bound,
        };
        self.made.push(choice);
        choice
    }

    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        // 0, which is what a stream that has run out says, means no.
        self.below(100) >= 100 - percent.min(100)
    }

    /// One of the weighted kinds, by its place. Weights that a case draws first make swarms:
    /// cases full of one thing, and without another.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut dice = self.below(weights.iter().sum::<u64>().max(1));
        weights
            .iter()
            .position(|&weight| match dice.checked_sub(weight) {
                Some(rest) => {
                    dice = rest;
                    false
                }
                None => true,
            })
            .unwrap_or(0)
    }
}

/// Adds an event to a case's sum.
pub fn digest(sum: &mut u64, event: impl Hash) {
    let mut hasher = DefaultHasher::new();
    (*sum, event).hash(&mut hasher);
    *sum = hasher.finish();
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panics are part of the script: none of them is printed.
pub fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                usual(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(outer);
    result
}

/// Runs `usual` cases, or `GONDOLA_CASES`, from seed 1, or `GONDOLA_SEED`. Every hundredth runs
/// twice, and must do the same. A failure is made smaller and named by its seed.
pub fn run(usual: u64, case: impl Fn(&mut Choices<'_>) -> u64) {
    let number = |name: &str, usual| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let first = number("GONDOLA_SEED", 1);
    for seed in first..first + number("GONDOLA_CASES", usual) {
        let mut choices = Choices::seed(seed);
        match quietly(|| case(&mut choices)) {
            Ok(sum) if seed % 100 == 0 => {
                let again = case(&mut Choices::seed(seed));
                assert_eq!(sum, again, "seed {seed} does not do the same twice");
            }
            Ok(_) => {}
            Err(_) => {
                let smallest = shrink(choices.made, &case);
                eprintln!("GONDOLA_SEED={seed} GONDOLA_CASES=1 fails, and so do these choices:");
                eprintln!("{smallest:?}");
                case(&mut Choices::from(Source::List(smallest.iter())));
                panic!("seed {seed} failed, and then did not");
            }
        }
    }
}

/// How long a failure is made smaller.
const PATIENCE: Duration = Duration::from_secs(20);

/// Leaves out, and makes zero, as many choices as it can while the case still fails.
fn shrink(mut choices: Vec<u64>, case: &impl Fn(&mut Choices<'_>) -> u64) -> Vec<u64> {
    let fails =
        |list: &[u64]| quietly(|| case(&mut Choices::from(Source::List(list.iter())))).is_err();
    let mut size = choices.len();
    let begin = Instant::now();
    while size > 0 {
        let mut at = 0;
        while at < choices.len() && begin.elapsed() < PATIENCE {
            let end = choices.len().min(at + size);
            let mut without = choices.clone();
            without.drain(at..end);
            let mut zeroed = choices.clone();
            zeroed[at..end].fill(0);
            if fails(&without) {
                choices = without;
            } else if zeroed != choices && fails(&zeroed) {
                choices = zeroed;
                at = end;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
    choices
}
