//! Cancellation tokens beside an array of parents and flags.
//!
//! Nodes are never removed from the model: a token that is gone can no longer be cancelled, and
//! that its children belong to its parent is what climbing through it says. Wakers are hostile:
//! woken or dropped, they do to the tree whatever a script can do, or panic.

use crate::support::cases::{Choices, digest, run};
use gondola::{CancellationToken, DropGuard};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

#[derive(Clone, Copy)]
enum Act {
    Nothing,
    Root(usize),
    /// Of the first, in the place of the second.
    Child(usize, usize),
    Clone(usize, usize),
    Drop(usize),
    Cancel(usize),
    /// On a thread of its own.
    CancelAbroad(usize),
    /// A token becomes a guard, a guard a token.
    Guard(usize),
    Wait(usize, usize),
    /// `run_until_cancelled`.
    Run(usize, usize),
    /// In every place from this one on: waits for the token, or for a new child of it.
    Crowd(usize, usize),
    /// Polls once, or again with the same waker.
    Poll(usize, bool),
    /// The future that runs until it is cancelled is ready from now on.
    Finish(usize),
    Leave(usize),
    Panic,
}

impl Act {
    /// So that the wakers of a crowd do not all do the same.
    fn beside(self, place: usize, places: usize) -> Self {
        match self {
            Act::Leave(by) => Act::Leave((place + by) % places),
            Act::Poll(by, twice) => Act::Poll((place + by) % places, twice),
            act => act,
        }
    }
}

/// What a waker does when it is woken, and when it is dropped.
type Alarms = [Act; 2];
const HARMLESS: Alarms = [Act::Nothing; 2];

struct Scripted;

enum Real {
    /// Shared while it is cancelled: a waker may drop it meanwhile.
    Token(Rc<CancellationToken>),
    Guard(DropGuard),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Pending,
    Cancelled,
    Finished,
}

/// What a waiting future and its script tell each other.
#[derive(Default)]
struct Told {
    seen: Cell<Seen>,
    finish: Cell<bool>,
    dropped: Cell<bool>,
}

struct Inner(Rc<Told>);

impl Future for Inner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.finish.get() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.0.dropped.set(true);
    }
}

struct Waiter {
    /// Taken out while it is polled. It keeps its token, and goes on after it was ready.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    told: Rc<Told>,
    runs: bool,
    node: usize,
    /// Whether it stands in the list of its node, with the waker of this generation.
    waiting: bool,
    generation: u64,
}

struct Node {
    parent: Option<usize>,
    cancelled: bool,
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    tokens: Vec<Option<(Real, usize)>>,
    waiters: Vec<Option<Waiter>>,
    generation: u64,
    /// How many cancels are under way, one inside the other.
    depth: usize,
    /// Who has left since, but may be woken all the same.
    stale: Vec<u64>,
    /// Wakers that panicked in the innermost cancel.
    panics: usize,
    sum: u64,
}

struct World(RefCell<State>);

/// In its waker.
struct Alarm {
    world: Rc<World>,
    generation: u64,
    acts: Alarms,
}

// SAFETY: a script's other thread runs only while the script waits for its end: all that is here
// is used by one thread at a time.
unsafe impl Send for Alarm {}
// SAFETY: as above.
unsafe impl Sync for Alarm {}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.world.woken(self.generation);
        match self.acts[0] {
            Act::Panic => {
                self.world.0.borrow_mut().panics += 1;
                resume_unwind(Box::new(Scripted))
            }
            act => self.world.act(act, HARMLESS),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.world.act(self.acts[1], HARMLESS);
        }
    }
}

impl State {
    fn add_node(&mut self, parent: Option<usize>) -> usize {
        let cancelled = parent.is_some_and(|parent| self.nodes[parent].cancelled);
        self.nodes.push(Node { parent, cancelled });
        self.nodes.len() - 1
    }

    fn token(&self, place: usize) -> Option<(&Rc<CancellationToken>, usize)> {
        match &self.tokens[place] {
            Some((Real::Token(token), node)) => Some((token, *node)),
            _ => None,
        }
    }

    /// A waiter is no longer in the list of its node.
    fn leave(&mut self, place: usize) {
        let waiter = self.waiters[place].as_mut().expect("there is a waiter");
        if std::mem::take(&mut waiter.waiting) && self.nodes[waiter.node].cancelled {
            // Its waker may be in the hands of a cancel already.
            assert!(self.depth > 0, "not woken by the cancel");
            self.stale.push(waiter.generation);
        }
    }
}

impl World {
    fn act(self: &Rc<Self>, act: Act, alarms: Alarms) {
        let mut state = self.0.borrow_mut();
        match act {
            Act::Nothing | Act::Panic => {}
            Act::Root(place) => {
                let node = state.add_node(None);
                drop(state);
                self.put(place, Rc::new(CancellationToken::new()), node);
            }
            Act::Child(above, place) => {
                let Some((token, parent)) = state.token(above) else { return };
                let child = Rc::new(token.child_token());
                let node = state.add_node(Some(parent));
                drop(state);
                self.put(place, child, node);
            }
            Act::Clone(from, place) => {
                let Some((token, node)) = state.token(from) else { return };
                let twin = Rc::new(CancellationToken::clone(token));
                drop(state);
                self.put(place, twin, node);
            }
            Act::Drop(place) => {
                let gone = state.tokens[place].take();
                drop(state);
                self.discard(gone);
            }
            Act::Cancel(place) | Act::CancelAbroad(place) => {
                let Some((token, node)) = state.token(place) else { return };
                let token = token.clone();
                drop(state);
                self.cancel(node, || {
                    if matches!(act, Act::Cancel(_)) {
                        return token.cancel();
                    }
                    let token = &*token;
                    let end = thread::scope(|scope| scope.spawn(|| token.cancel()).join());
                    end.unwrap_or_else(|payload| resume_unwind(payload));
                });
            }
            Act::Guard(place) => {
                let Some((real, node)) = state.tokens[place].take() else { return };
                let real = match real {
                    Real::Guard(guard) => Real::Token(Rc::new(guard.disarm())),
                    Real::Token(token) => match Rc::try_unwrap(token) {
                        Ok(token) => Real::Guard(token.drop_guard()),
                        Err(shared) => Real::Token(shared),
                    },
                };
                state.tokens[place] = Some((real, node));
            }
            Act::Wait(of, place) | Act::Run(of, place) => {
                let Some((token, node)) = state.token(of) else { return };
                let token = CancellationToken::clone(token);
                drop(state);
                self.wait(place, token, node, matches!(act, Act::Run(..)), alarms);
            }
            Act::Crowd(above, from) => {
                let places = state.waiters.len();
                drop(state);
                for place in from..places {
                    let mut state = self.0.borrow_mut();
                    let Some((token, mut node)) = state.token(above) else { return };
                    let mut token = CancellationToken::clone(token);
                    if place % 2 == 1 {
                        token = token.child_token();
                        node = state.add_node(Some(node));
                    }
                    drop(state);
                    let alarms = alarms.map(|act| act.beside(place, places));
                    self.wait(place, token, node, false, alarms);
                }
            }
            Act::Poll(place, twice) => {
                drop(state);
                self.poll(place, twice, alarms);
            }
            Act::Finish(place) => {
                if let Some(Waiter { future: Some(_), told, .. }) = &state.waiters[place] {
                    told.finish.set(true);
                }
            }
            Act::Leave(place) => {
                if state.waiters[place].as_ref().is_some_and(|waiter| waiter.future.is_some()) {
                    state.leave(place);
                    let gone = state.waiters[place].take();
                    drop(state);
                    drop(gone);
                }
            }
        }
    }

    fn put(self: &Rc<Self>, place: usize, token: Rc<CancellationToken>, node: usize) {
        let old = self.0.borrow_mut().tokens[place].replace((Real::Token(token), node));
        self.discard(old);
    }

    fn discard(self: &Rc<Self>, token: Option<(Real, usize)>) {
        match token {
            Some((Real::Guard(guard), node)) => self.cancel(node, || drop(guard)),
            token => drop(token),
        }
    }

    /// Cancels a node, and checks that all who wait in its subtree have been woken at the end.
    fn cancel(self: &Rc<Self>, top: usize, real: impl FnOnce()) {
        let mut state = self.0.borrow_mut();
        let mut fresh: Vec<bool> = Vec::new();
        let mut below: Vec<bool> = Vec::new();
        for (index, node) in state.nodes.iter_mut().enumerate() {
            below.push(index == top || node.parent.is_some_and(|parent| below[parent]));
            fresh.push(below[index] && !node.cancelled);
            node.cancelled |= below[index];
        }
        let outer = std::mem::take(&mut state.panics);
        state.depth += 1;
        digest(&mut state.sum, (top, &fresh));
        drop(state);

        let result = catch_unwind(AssertUnwindSafe(real));

        let panicked = match result {
            Err(payload) if !payload.is::<Scripted>() => resume_unwind(payload),
            result => result.is_err(),
        };
        let mut state = self.0.borrow_mut();
        let panics = std::mem::replace(&mut state.panics, outer);
        assert_eq!(panicked, panics > 0);
        for waiter in state.waiters.iter().flatten() {
            let asleep = waiter.waiting && fresh.get(waiter.node) == Some(&true);
            assert!(!asleep, "node {} was cancelled without a wake", waiter.node);
        }
        state.depth -= 1;
        if state.depth == 0 {
            state.stale.clear();
        }
    }

    fn woken(&self, generation: u64) {
        let State { nodes, waiters, stale, sum, .. } = &mut *self.0.borrow_mut();
        digest(sum, generation);
        if let Some(at) = stale.iter().position(|&gone| gone == generation) {
            stale.swap_remove(at);
            return;
        }
        let mut waiters = waiters.iter_mut().flatten();
        let waiter = waiters.find(|waiter| waiter.waiting && waiter.generation == generation);
        let waiter = waiter.expect("woken without a reason");
        assert!(nodes[waiter.node].cancelled, "woken without a cancel");
        waiter.waiting = false;
    }

    fn wait(
        self: &Rc<Self>,
        place: usize,
        token: CancellationToken,
        node: usize,
        runs: bool,
        alarms: Alarms,
    ) {
        let told = Rc::new(Told::default());
        let tell = told.clone();
        let future: Pin<Box<dyn Future<Output = ()>>> = match runs {
            true => Box::pin(async move {
                let mut run = pin!(token.run_until_cancelled(Inner(tell.clone())));
                poll_fn(|cx| {
                    if tell.seen.get() == Seen::Pending {
                        let seen = |result: Option<()>| {
                            result.map_or(Seen::Cancelled, |()| Seen::Finished)
                        };
                        tell.seen.set(match run.as_mut().poll(cx) {
                            Poll::Ready(result) => seen(result),
                            Poll::Pending => Seen::Pending,
                        });
                    }
                    Poll::Pending
                })
                .await
            }),
            false => Box::pin(async move {
                let mut wait = pin!(token.cancelled());
                poll_fn(|cx| {
                    let ready = wait.as_mut().poll(cx).is_ready();
                    tell.seen.set(if ready { Seen::Cancelled } else { Seen::Pending });
                    Poll::Pending
                })
                .await
            }),
        };
        let mut state = self.0.borrow_mut();
        match &state.waiters[place] {
            // Its wakers must not find the place empty.
            Some(Waiter { future: None, .. }) => return drop(state),
            Some(_) => state.leave(place),
            None => {}
        }
        let generation = 0;
        let waiter = Waiter { future: Some(future), told, runs, node, waiting: false, generation };
        let old = state.waiters[place].replace(waiter);
        drop(state);
        drop(old);
        self.poll(place, false, alarms);
    }

    fn poll(self: &Rc<Self>, place: usize, twice: bool, acts: Alarms) {
        let mut state = self.0.borrow_mut();
        state.generation += 1;
        let generation = state.generation;
        let Some(waiter) = &mut state.waiters[place] else { return };
        let Some(mut future) = waiter.future.take() else { return };
        let (told, runs, node) = (waiter.told.clone(), waiter.runs, waiter.node);
        let expected = match told.seen.get() {
            Seen::Pending if state.nodes[node].cancelled => {
                state.leave(place);
                Seen::Cancelled
            }
            Seen::Pending if runs && told.finish.get() => Seen::Finished,
            Seen::Pending => {
                let waiter = state.waiters[place].as_mut().expect("as above");
                (waiter.waiting, waiter.generation) = (true, generation);
                Seen::Pending
            }
            ready => ready,
        };
        digest(&mut state.sum, (place, expected != Seen::Pending));
        drop(state);

        let waker = Waker::from(Arc::new(Alarm { world: self.clone(), generation, acts }));
        let cx = &mut Context::from_waker(&waker);
        assert!(future.as_mut().poll(cx).is_pending());
        assert_eq!(told.seen.get(), expected);
        if twice && self.0.borrow().waiters[place].as_ref().is_some_and(|waiter| waiter.waiting) {
            assert!(future.as_mut().poll(cx).is_pending());
            assert_eq!(told.seen.get(), expected);
        }
        assert_eq!(told.dropped.get(), runs && expected != Seen::Pending);

        self.0.borrow_mut().waiters[place].as_mut().expect("as above").future = Some(future);
    }

    /// What holds after each step.
    fn check(self: &Rc<Self>) {
        let state = self.0.borrow();
        for (token, node) in (0..state.tokens.len()).filter_map(|place| state.token(place)) {
            assert_eq!(token.is_cancelled(), state.nodes[node].cancelled, "node {node}");
        }
        let waiting = state.waiters.iter().flatten().filter(|waiter| waiter.waiting);
        assert_eq!(Rc::strong_count(self), 1 + waiting.count(), "wakers are kept, or lost");
    }
}

struct Script<'a, 'b> {
    choices: &'a mut Choices<'b>,
    acts: [u64; 13],
    hostile: u64,
    panics: u64,
    tokens: usize,
    waiters: usize,
}

impl Script<'_, '_> {
    fn act(&mut self) -> Act {
        let choices = &mut *self.choices;
        let (token, place) = (choices.index(self.tokens), choices.index(self.waiters));
        match choices.weighted(&self.acts) {
            0 => Act::Child(token, choices.index(self.tokens)),
            1 => Act::Clone(token, choices.index(self.tokens)),
            2 => Act::Root(token),
            3 => Act::Drop(token),
            4 => Act::Cancel(token),
            5 => Act::CancelAbroad(token),
            6 => Act::Guard(token),
            7 => Act::Wait(token, place),
            8 => Act::Run(token, place),
            9 => Act::Crowd(token, place),
            10 => Act::Poll(place, choices.percent(30)),
            11 => Act::Finish(place),
            _ => Act::Leave(place),
        }
    }

    fn alarms(&mut self) -> Alarms {
        let mut alarms = HARMLESS;
        for alarm in &mut alarms {
            if self.choices.percent(self.hostile) {
                *alarm = self.act();
            }
        }
        if self.choices.percent(self.panics) {
            alarms[0] = Act::Panic;
        }
        alarms
    }
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let steps = choices.below(80);
    let mut acts: [u64; 13] = std::array::from_fn(|_| choices.below(4) * choices.below(4));
    // These are dear: cancels and crowds make a case poor, threads make it slow.
    acts[4] = acts[4].min(2);
    acts[5] = u64::from(choices.percent(2));
    acts[9] = [0, 0, 1, 3][choices.index(4)];
    let (tokens, waiters) = (1 << choices.below(6), 1 << choices.below(7));
    let (hostile, panics) = ([0, 0, 10, 50][choices.index(4)], [0, 0, 0, 5][choices.index(4)]);
    let mut script = Script { choices, acts, hostile, panics, tokens, waiters };

    let state = State {
        tokens: (0..tokens).map(|_| None).collect(),
        waiters: (0..waiters).map(|_| None).collect(),
        ..State::default()
    };
    let world = Rc::new(World(RefCell::new(state)));
    world.act(Act::Root(0), HARMLESS);
    for _ in 0..steps {
        let act = script.act();
        let alarms = script.alarms();
        world.act(act, alarms);
        world.check();
    }
    let waiters_first = script.choices.percent(50);
    // Twice: the wakers of those that leave may put others in their places.
    for tokens_now in [!waiters_first, waiters_first, !waiters_first, waiters_first] {
        match tokens_now {
            true => (0..tokens).for_each(|place| world.act(Act::Drop(place), HARMLESS)),
            false => (0..waiters).for_each(|place| world.act(Act::Leave(place), HARMLESS)),
        }
        world.check();
    }
    let State { tokens, waiters, sum, .. } = world.0.take();
    assert!(tokens.iter().all(Option::is_none) && waiters.iter().all(Option::is_none));
    sum
}

#[test]
fn tokens_are_cancelled_with_their_subtrees_only() {
    run(100_000, case);
}
