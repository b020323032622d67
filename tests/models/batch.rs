//! The batch against a naive model of its turn: the same events in the same order. Its items wait by
//! waking themselves; wakes from elsewhere are the matter of `tests/batch.rs` and of loom.
//!
//! Every case with at most 4 items, K at most 3, and every combination of outcomes, policies and
//! points of cancellation; then larger ones at random.

use crate::support::cases::{Choices, digest, quietly, run};
use gondola::{CancellationToken, ErrorKind, OnError, Stop, batch};
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Good,
    Bad,
    Panic,
}

/// Polls of items in one poll of a batch.
const STEPS: usize = 128;

/// What an item does: so many waits, then its end.
#[derive(Clone, Copy, Debug)]
struct Script {
    waits: usize,
    end: End,
}

/// Who cancels the token, if anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canceller {
    Nobody,
    Beforehand,
    Source(usize),
    Closure(usize),
    /// An item, in its poll of this number.
    Poll(usize, usize),
}

#[derive(Clone, Debug)]
struct Case {
    items: Vec<Script>,
    k: usize,
    on_error: OnError,
    canceller: Canceller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Pull(usize),
    End,
    Start(usize),
    Poll(usize),
    Drop(usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(Vec<usize>),
    Partial {
        cancelled: bool,
        errors: Vec<usize>,
        cut_off: Vec<usize>,
        outputs: Vec<Option<usize>>,
        pulled: usize,
    },
    Panicked,
}

/// The model: turn by turn, with nothing but vectors.
fn model(case: &Case) -> (Vec<Event>, Outcome) {
    let Case { items, k, on_error, canceller } = case;
    let mut events = Vec::new();
    let mut slots: Vec<Option<(usize, usize)>> = vec![None; *k.min(&items.len().max(1))];
    let mut vacant: Vec<usize> = (0..slots.len()).rev().collect();
    let mut ready: Vec<usize> = Vec::new();
    let mut cancelled = *canceller == Canceller::Beforehand;
    let (mut pulled, mut exhausted) = (0, false);
    let (mut errors, mut cut_off) = (Vec::new(), Vec::new());
    let mut outputs: Vec<Option<usize>> = Vec::new();
    let mut stopped: Option<ErrorKind> = None;
    let mut left = STEPS;
    loop {
        ready.sort_unstable();
        let mut woken = std::mem::take(&mut ready).into_iter();
        let mut polls = 0;
        // How many polls this turn may come to; known once the woken have been polled.
        let mut most = None;
        loop {
            // The woken first; then others, each polled before the next one is pulled.
            let slot = match woken.next() {
                Some(slot) => slot,
                None => {
                    let idle = slots.iter().all(Option::is_none);
                    if cancelled && !(idle && exhausted) {
                        stopped.get_or_insert(ErrorKind::Cancelled);
                    }
                    let scarce = left.max(slots.len());
                    let all = polls + slots.len();
                    let most = *most.get_or_insert(if all > left { scarce } else { all });
                    if stopped.is_some() || exhausted || polls == most {
                        break;
                    }
                    let Some(&slot) = vacant.last() else { break };
                    if pulled == items.len() {
                        events.push(Event::End);
                        exhausted = true;
                        break;
                    }
                    vacant.pop();
                    events.push(Event::Pull(pulled));
                    cancelled |= *canceller == Canceller::Source(pulled);
                    events.push(Event::Start(pulled));
                    cancelled |= *canceller == Canceller::Closure(pulled);
                    slots[slot] = Some((pulled, 0));
                    pulled += 1;
                    slot
                }
            };
            let (item, count) = slots[slot].unwrap();
            events.push(Event::Poll(item));
            polls += 1;
            cancelled |= *canceller == Canceller::Poll(item, count);
            if count < items[item].waits {
                slots[slot] = Some((item, count + 1));
                ready.push(slot);
                continue;
            }
            if items[item].end == End::Panic {
                let alive = slots.iter().flatten().map(|&(item, _)| Event::Drop(item));
                events.extend(alive);
                return (events, Outcome::Panicked);
            }
            events.push(Event::Drop(item));
            slots[slot] = None;
            vacant.push(slot);
            if polls >= left {
                most = most.map(|_| polls);
            }
            if items[item].end == End::Good {
                outputs.resize(outputs.len().max(item + 1), None);
                outputs[item] = Some(item);
            } else {
                errors.push(item);
                if *on_error != OnError::Collect {
                    stopped.get_or_insert(ErrorKind::Item);
                }
            }
        }
        if stopped.is_some() && *on_error != OnError::Stop(Stop::Drain) {
            for slot in &mut slots {
                if let Some((item, _)) = slot.take() {
                    events.push(Event::Drop(item));
                    cut_off.push(item);
                }
            }
            ready.clear();
        }
        if slots.iter().all(Option::is_none) && (exhausted || stopped.is_some()) {
            cut_off.sort_unstable();
            let outcome = match stopped {
                None if errors.is_empty() => {
                    Outcome::Whole(outputs.into_iter().flatten().collect())
                }
                kind => {
                    let cancelled = kind == Some(ErrorKind::Cancelled);
                    Outcome::Partial { cancelled, errors, cut_off, outputs, pulled }
                }
            };
            return (events, outcome);
        }
        // One more turn in this poll, if it can be paid for; else a new one.
        left = left.saturating_sub(polls);
        if left < slots.iter().flatten().count().max(1) {
            left = STEPS;
        }
    }
}

struct Item<'a> {
    index: usize,
    script: Script,
    polls: usize,
    case: &'a Case,
    token: &'a CancellationToken,
    events: &'a RefCell<Vec<Event>>,
}

impl Future for Item<'_> {
    type Output = Result<usize, usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        self.events.borrow_mut().push(Event::Poll(index));
        if self.case.canceller == Canceller::Poll(index, self.polls) {
            self.token.cancel();
        }
        if self.polls < self.script.waits {
            self.polls += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.script.end {
            End::Good => Poll::Ready(Ok(index)),
            End::Bad => Poll::Ready(Err(index)),
            End::Panic => panic!("scripted"),
        }
    }
}

impl Drop for Item<'_> {
    fn drop(&mut self) {
        self.events.borrow_mut().push(Event::Drop(self.index));
    }
}

fn real(case: &Case) -> (Vec<Event>, Outcome) {
    let events = RefCell::new(Vec::new());
    let token = CancellationToken::new();
    if case.canceller == Canceller::Beforehand {
        token.cancel();
    }
    let mut next = 0;
    let source = std::iter::from_fn(|| {
        let index = next;
        next += 1;
        if index == case.items.len() {
            events.borrow_mut().push(Event::End);
            return None;
        }
        events.borrow_mut().push(Event::Pull(index));
        if case.canceller == Canceller::Source(index) {
            token.cancel();
        }
        Some(index)
    });
    // With the length known to the memory only, as for any iterator of std.
    let source = Known(source, case.items.len());
    let outcome = quietly(|| {
        let run = batch(source).limit(case.k).on_error(case.on_error).cancel_on(&token);
        let mut run = pin!(run.try_map(|index| {
            events.borrow_mut().push(Event::Start(index));
            if case.canceller == Canceller::Closure(index) {
                token.cancel();
            }
            let script = case.items[index];
            Item { index, script, polls: 0, case, token: &token, events: &events }
        }));
        loop {
            let poll = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(result) = poll {
                return result.map_err(|parts| {
                    let errors = parts.errors.iter().map(|error| error.index).collect();
                    Outcome::Partial {
                        cancelled: parts.kind == ErrorKind::Cancelled,
                        errors,
                        cut_off: parts.cut_off,
                        outputs: parts.partial,
                        pulled: parts.pulled,
                    }
                });
            }
        }
    });
    let outcome = match outcome {
        Ok(Ok(outputs)) => Outcome::Whole(outputs),
        Ok(Err(partial)) => partial,
        Err(_) => Outcome::Panicked,
    };
    (events.into_inner(), outcome)
}

struct Known<I>(I, usize);

impl<I: Iterator> Iterator for Known<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.1))
    }
}

fn check(case: &Case) -> u64 {
    let (expected, got) = (model(case), real(case));
    assert!(expected == got, "{case:?}\nmodel: {expected:?}\nreal:  {got:?}");
    let mut sum = 0;
    digest(&mut sum, got.0);
    sum
}

const POLICIES: [OnError; 3] =
    [OnError::Stop(Stop::Cancel), OnError::Stop(Stop::Drain), OnError::Collect];

#[test]
fn every_small_case() {
    let scripts: Vec<Script> = [End::Good, End::Bad]
        .into_iter()
        .flat_map(|end| (0..3).map(move |waits| Script { waits, end }))
        .chain([0, 1].map(|waits| Script { waits, end: End::Panic }))
        .collect();
    let mut cases = 0_u64;
    for n in 0..=4 {
        let mut cancellers = vec![Canceller::Nobody, Canceller::Beforehand];
        for item in 0..n {
            cancellers.extend([Canceller::Source(item), Canceller::Closure(item)]);
            cancellers.extend((0..3).map(|poll| Canceller::Poll(item, poll)));
        }
        for combination in 0..scripts.len().pow(n as u32) {
            let mut rest = combination;
            let items: Vec<Script> = (0..n)
                .map(|_| {
                    let script = scripts[rest % scripts.len()];
                    rest /= scripts.len();
                    script
                })
                .collect();
            for k in 1..=3 {
                for on_error in POLICIES {
                    for &canceller in &cancellers {
                        cases += 1;
                        let case = Case { items: items.clone(), k, on_error, canceller };
                        check(&case);
                    }
                }
            }
        }
    }
    println!("{cases} cases");
}

/// A larger case.
pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let bound = 2 << choices.below(8);
    let n = choices.below(bound);
    let (bad, panic) = (choices.below(30), choices.below(60));
    let items: Vec<Script> = (0..n)
        .map(|_| {
            let end = match choices.below(100) {
                dice if dice < bad => End::Bad,
                dice if dice < bad + panic / 20 => End::Panic,
                _ => End::Good,
            };
            Script { waits: choices.index(3), end }
        })
        .collect();
    let item = choices.below(n + 1) as usize;
    let canceller = match choices.below(8) {
        1 => Canceller::Source(item),
        2 => Canceller::Closure(item),
        3 => Canceller::Poll(item, choices.index(3)),
        4 => Canceller::Beforehand,
        _ => Canceller::Nobody,
    };
    let most = 1 << choices.below(9);
    let (k, on_error) = (1 + choices.index(most), POLICIES[choices.index(3)]);
    check(&Case { items, k, on_error, canceller })
}

#[test]
fn larger_cases_at_random() {
    run(100_000, case);
}
