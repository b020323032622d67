//! The batch against a naive model of its turn: the same events in the same order. Its items wait by
//! waking themselves; wakes from elsewhere are the matter of `tests/batch.rs` and of loom.
//!
//! Every case with at most 4 items, K at most 3, and every combination of outcomes, policies and
//! points of cancellation; then larger ones at random.

use crate::support::cases::{Choices, digest, quietly, run};
use gondola::batch::{Limit, Run, Source, Verb};
use gondola::{CancellationToken, ErrorKind, OnError, Stop, batch};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
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
    /// Items do not wake themselves: they are woken all together, before the next poll.
    outside: bool,
    /// Stops that are asked for before the polls of these numbers.
    stops: Vec<(usize, Stop)>,
    /// Of a growing source: each item is there once items have been polled so often.
    grows: Option<Vec<usize>>,
    /// Outputs are delivered in order, through a window.
    window: Option<usize>,
    /// The limit changes before the polls of these numbers. It ends above 0.
    limits: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Pull(usize),
    /// The source has nothing: any more, or as yet.
    End,
    Start(usize),
    Deliver(usize),
    Poll(usize),
    Drop(usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(Vec<usize>),
    Partial {
        kind: ErrorKind,
        errors: Vec<usize>,
        cut_off: Vec<usize>,
        outputs: Vec<Option<usize>>,
        pulled: usize,
    },
    Panicked,
}

/// The model: turn by turn, with nothing but vectors.
fn model(case: &Case) -> (Vec<Event>, Outcome) {
    let Case { items, k, on_error, canceller, outside, stops, grows, window, limits } = case;
    let mut events = Vec::new();
    // A growing source has no length.
    let slot_count = if grows.is_some() { *k } else { *k.min(&items.len().max(1)) };
    let mut slots: Vec<Option<(usize, usize)>> = vec![None; slot_count];
    let mut vacant: Vec<usize> = (0..slots.len()).rev().collect();
    let mut ready: Vec<usize> = Vec::new();
    let mut cancelled = *canceller == Canceller::Beforehand;
    let (mut pulled, mut exhausted) = (0, false);
    let (mut errors, mut cut_off) = (Vec::new(), Vec::new());
    let mut outputs: Vec<Option<usize>> = Vec::new();
    // What has come, in a window: an output, or a failure that is skipped. And what was delivered.
    let (mut came, mut delivered) = (vec![None; items.len()], 0);
    let horizon = |delivered: usize| window.map_or(usize::MAX, |window| delivered + window);
    let mut stopped: Option<ErrorKind> = None;
    let mut cuts = false;
    let mut left = STEPS;
    let (mut poll, mut polled, mut asked) = (0, 0, None);
    let (mut limit, mut begins_poll) = (*k, true);
    loop {
        if std::mem::take(&mut begins_poll) {
            for &(_, now) in limits.iter().filter(|(at, _)| *at == poll) {
                limit = now.min(*k);
            }
            for &(_, how) in stops.iter().filter(|(at, _)| *at == poll) {
                asked = Some(if asked == Some(Stop::Cancel) { Stop::Cancel } else { how });
            }
            poll += 1;
        }
        ready.sort_unstable();
        let mut woken = std::mem::take(&mut ready).into_iter();
        let mut polls = 0;
        // How many polls this turn may come to; known once the woken have been polled.
        let mut most = None;
        let mut dry = false;
        loop {
            // The woken first; then others, each polled before the next one is pulled.
            let slot = match woken.next() {
                Some(slot) => slot,
                None => {
                    let idle = slots.iter().all(Option::is_none);
                    let none_to_come =
                        exhausted || stopped.is_some() || grows.is_none() && items.is_empty();
                    if let Some(how) = asked.take() {
                        let undone = !none_to_come || how == Stop::Cancel && !idle;
                        if stopped.is_some() || undone {
                            cuts |= how == Stop::Cancel;
                            stopped.get_or_insert(ErrorKind::Stopped);
                        } else {
                            exhausted = true;
                        }
                    }
                    let closed = exhausted || stopped.is_some();
                    if cancelled && !(idle && closed) {
                        cuts = true;
                        stopped.get_or_insert(ErrorKind::Cancelled);
                    }
                    let scarce = left.max(slots.len());
                    let all = polls + slots.len();
                    let taken = slots.iter().flatten().count();
                    let paid = if all > left { scarce } else { all };
                    let room = polls + limit.saturating_sub(taken);
                    let most = *most.get_or_insert(match limits[..] {
                        [] => paid,
                        _ => paid.min(room),
                    });
                    if stopped.is_some() || exhausted || polls == most {
                        break;
                    }
                    if pulled >= horizon(delivered) {
                        break;
                    }
                    let Some(&slot) = vacant.last() else { break };
                    let is_there = match grows {
                        Some(grows) => grows.get(pulled).is_some_and(|&when| polled >= when),
                        None => pulled < items.len(),
                    };
                    if !is_there {
                        events.push(Event::End);
                        dry = grows.is_some() && !idle;
                        exhausted = !dry;
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
            polled += 1;
            cancelled |= *canceller == Canceller::Poll(item, count);
            if count < items[item].waits {
                slots[slot] = Some((item, count + 1));
                if !outside {
                    ready.push(slot);
                }
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
                came[item] = Some(true);
            } else {
                errors.push(item);
                if let OnError::Stop(how) = *on_error {
                    cuts |= how == Stop::Cancel;
                    stopped.get_or_insert(ErrorKind::Item);
                } else {
                    came[item] = Some(false);
                }
            }
            while let Some(&Some(is_output)) = came.get(delivered).filter(|_| window.is_some()) {
                if is_output {
                    events.push(Event::Deliver(delivered));
                    outputs[delivered] = None;
                }
                delivered += 1;
            }
        }
        if cuts {
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
                None if errors.is_empty() && window.is_some() => Outcome::Whole(vec![]),
                None if errors.is_empty() => {
                    Outcome::Whole(outputs.into_iter().flatten().collect())
                }
                kind => {
                    let kind = kind.unwrap_or(ErrorKind::Item);
                    if window.is_some() {
                        // With their indices, not by them.
                        outputs.retain(Option::is_some);
                    }
                    Outcome::Partial { kind, errors, cut_off, outputs, pulled }
                }
            };
            return (events, outcome);
        }
        // One more turn in this poll, if there is somebody to poll and it can be paid for; else a new
        // poll.
        left = left.saturating_sub(polls);
        let open = !(exhausted || stopped.is_some() || dry || vacant.is_empty());
        let is_held_back = !limits.is_empty() && limit <= slots.iter().flatten().count();
        let may_begin = open && pulled < horizon(delivered) && !is_held_back;
        let rests = ready.is_empty() && !may_begin;
        if rests || left < slots.iter().flatten().count().max(1) {
            left = STEPS;
            begins_poll = true;
            if *outside {
                ready = (0..slots.len()).filter(|&slot| slots[slot].is_some()).collect();
            }
        }
    }
}

struct Item<'a> {
    index: usize,
    script: Script,
    polls: usize,
    case: &'a Case,
    token: &'a CancellationToken,
    world: &'a World,
}

/// What all share.
struct World {
    events: RefCell<Vec<Event>>,
    polled: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
    limit: Limit,
}

impl World {
    fn log(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}

impl Future for Item<'_> {
    type Output = Result<usize, usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let index = self.index;
        self.world.log(Event::Poll(index));
        self.world.polled.set(self.world.polled.get() + 1);
        if self.case.canceller == Canceller::Poll(index, self.polls) {
            self.token.cancel();
        }
        if self.polls < self.script.waits {
            self.polls += 1;
            match self.case.outside {
                true => self.world.waiting.borrow_mut().push(cx.waker().clone()),
                false => cx.waker().wake_by_ref(),
            }
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
        self.world.log(Event::Drop(self.index));
    }
}

fn real(case: &Case) -> (Vec<Event>, Outcome) {
    let world = World {
        events: RefCell::default(),
        polled: Cell::new(0),
        waiting: RefCell::default(),
        limit: Limit::new(case.k, case.k),
    };
    let token = CancellationToken::new();
    if case.canceller == Canceller::Beforehand {
        token.cancel();
    }
    let mut next = 0;
    let source = std::iter::from_fn(|| {
        let index = next;
        let is_there = match &case.grows {
            Some(grows) => grows.get(index).is_some_and(|&when| world.polled.get() >= when),
            None => index < case.items.len(),
        };
        if !is_there {
            world.log(Event::End);
            return None;
        }
        next += 1;
        world.log(Event::Pull(index));
        if case.canceller == Canceller::Source(index) {
            token.cancel();
        }
        Some(index)
    });
    // With the length known to the memory only, as for any iterator of std.
    let source = Known(source, case.items.len());
    let make = |index| {
        world.log(Event::Start(index));
        if case.canceller == Canceller::Closure(index) {
            token.cancel();
        }
        let script = case.items[index];
        Item { index, script, polls: 0, case, token: &token, world: &world }
    };
    let outcome = quietly(|| {
        let deliver = |index| world.log(Event::Deliver(index));
        if !case.limits.is_empty() {
            let run = batch(source).limit(&world.limit).on_error(case.on_error).cancel_on(&token);
            return match case.window {
                None => drive(case, &world, run.growing().try_map(make), |all| all),
                Some(window) => {
                    drive(case, &world, run.growing().try_in_order(window, make, deliver), held)
                }
            };
        }
        let run = batch(source).limit(case.k).on_error(case.on_error).cancel_on(&token);
        match (&case.grows, case.window) {
            (Some(_), None) => drive(case, &world, run.growing().try_map(make), |all| all),
            (None, None) => drive(case, &world, run.try_map(make), |all| all),
            (Some(_), Some(window)) => {
                drive(case, &world, run.growing().try_in_order(window, make, deliver), held)
            }
            (None, Some(window)) => {
                drive(case, &world, run.try_in_order(window, make, deliver), held)
            }
        }
    });
    (world.events.into_inner(), outcome.unwrap_or(Outcome::Panicked))
}

fn held(held: Vec<(usize, usize)>) -> Vec<Option<usize>> {
    assert!(held.iter().all(|(index, output)| index == output));
    held.into_iter().map(|(index, _)| Some(index)).collect()
}

/// Polls a run to its end.
fn drive<'a, I, F, V>(
    case: &Case,
    world: &World,
    mut run: Run<I, F, Item<'a>, V>,
    partial: impl Fn(V::Partial) -> Vec<Option<usize>>,
) -> Outcome
where
    I: Source,
    F: FnMut(I::Item) -> Item<'a>,
    V: Verb<Result<usize, usize>, Error = usize, Whole: Outputs>,
{
    for poll in 0.. {
        for &(_, how) in case.stops.iter().filter(|(at, _)| *at == poll) {
            run.stop(how);
        }
        for &(_, limit) in case.limits.iter().filter(|(at, _)| *at == poll) {
            world.limit.set(limit);
        }
        for waker in world.waiting.take() {
            waker.wake();
        }
        match Pin::new(&mut run).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => checkpoint(case, &world.events.borrow(), &run),
            Poll::Ready(Ok(whole)) => return Outcome::Whole(whole.outputs()),
            Poll::Ready(Err(record)) => {
                return Outcome::Partial {
                    kind: record.kind,
                    errors: record.errors.iter().map(|error| error.index).collect(),
                    cut_off: record.cut_off,
                    outputs: partial(record.partial),
                    pulled: record.pulled,
                };
            }
        }
    }
    unreachable!("it ends")
}

/// Between two polls, the run knows which items are in flight, and which have failed.
fn checkpoint<'a, I, F, V>(case: &Case, events: &[Event], run: &Run<I, F, Item<'a>, V>)
where
    V: Verb<Result<usize, usize>, Error = usize>,
{
    let (mut pulled, mut in_flight, mut failed) = (0, vec![], vec![]);
    for event in events {
        match *event {
            Event::Start(item) => {
                pulled += 1;
                in_flight.push(item);
            }
            Event::Drop(item) => {
                in_flight.retain(|&other| other != item);
                failed.extend((case.items[item].end == End::Bad).then_some(item));
            }
            _ => {}
        }
    }
    let mut items: Vec<usize> = run.in_flight().collect();
    items.sort_unstable();
    let errors: Vec<usize> = run.errors().iter().map(|error| error.index).collect();
    assert_eq!((run.pulled(), items, errors), (pulled, in_flight, failed), "{case:?}");
}

/// What a whole batch returns.
trait Outputs {
    fn outputs(self) -> Vec<usize>;
}

impl Outputs for Vec<usize> {
    fn outputs(self) -> Vec<usize> {
        self
    }
}

impl Outputs for () {
    fn outputs(self) -> Vec<usize> {
        vec![]
    }
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
                        let (items, stops, grows) = (items.clone(), Vec::new(), None);
                        let (outside, window, limits) = (false, None, Vec::new());
                        let case = Case {
                            items,
                            k,
                            on_error,
                            canceller,
                            outside,
                            stops,
                            grows,
                            window,
                            limits,
                        };
                        check(&case);
                    }
                }
            }
        }
    }
    println!("{cases} cases");
}

/// Of some of the growing sources, changes of the limit.
fn changes(grows: &Option<Vec<usize>>, which: usize) -> Vec<(usize, usize)> {
    match which % 3 {
        0 if grows.is_some() => vec![(which / 3 % 3, which / 9 % 4), (3, 1 + which / 36 % 3)],
        _ => vec![],
    }
}

/// Up to three items that are woken from outside, with every stop at every poll; and growing sources.
#[test]
fn every_small_case_with_a_stop_or_a_source_that_grows() {
    let scripts: Vec<Script> = [End::Good, End::Bad]
        .into_iter()
        .flat_map(|end| (0..3).map(move |waits| Script { waits, end }))
        .collect();
    let mut stops = vec![vec![]];
    for poll in 0..4 {
        for how in [Stop::Drain, Stop::Cancel] {
            stops.push(vec![(poll, how)]);
            stops.extend((0..4).map(|later| vec![(poll, how), (later, Stop::Cancel)]));
        }
    }
    let mut cases = 0_u64;
    for n in 0..=3 {
        for combination in 0..scripts.len().pow(n as u32) {
            let items: Vec<Script> = (0..n)
                .map(|at| scripts[combination / scripts.len().pow(at as u32) % scripts.len()])
                .collect();
            let grown = (0..4_usize.pow(n as u32))
                .map(|which| (0..n).map(|at| which / 4_usize.pow(at as u32) % 4).collect());
            for grows in std::iter::once(None).chain(grown.map(Some)) {
                for k in 1..=3 {
                    for on_error in POLICIES {
                        // Growing sources are many: one kind of stop for each is enough.
                        let step = if grows.is_some() { 7 } else { 1 };
                        for stops in stops.iter().skip(cases as usize % step).step_by(step) {
                            cases += 1;
                            check(&Case {
                                items: items.clone(),
                                k,
                                on_error,
                                canceller: Canceller::Nobody,
                                outside: true,
                                stops: stops.clone(),
                                grows: grows.clone(),
                                window: [None, Some(1), Some(2), Some(3)][cases as usize % 4],
                                limits: changes(&grows, cases as usize),
                            });
                        }
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
    let outside = choices.percent(40);
    let stop = |choices: &mut Choices<'_>| {
        (choices.index(6), if choices.percent(50) { Stop::Drain } else { Stop::Cancel })
    };
    let stops = (0..choices.below(5).saturating_sub(2)).map(|_| stop(choices)).collect();
    let pace = 1 + choices.below(4);
    let grows = choices.percent(30).then(|| {
        let mut when = 0;
        (0..n)
            .map(|_| {
                when += choices.below(pace);
                when as usize
            })
            .collect()
    });
    let window = choices.percent(30).then(|| 1 + choices.index(2 * most));
    let mut limits: Vec<(usize, usize)> = Vec::new();
    if grows.is_some() && choices.percent(40) {
        limits.extend((0..choices.below(4)).map(|_| (choices.index(8), choices.index(k + 2))));
        limits.push((8, 1 + choices.index(k)));
    }
    check(&Case { items, k, on_error, canceller, outside, stops, grows, window, limits })
}

#[test]
fn larger_cases_at_random() {
    run(100_000, case);
}
