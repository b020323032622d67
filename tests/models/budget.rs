//! The budget over nests of batches, drawn at random: what one poll of the outermost may come to,
//! that nobody who can go on stands still, that nobody is polled for nothing, and that the budget
//! of the code around it is as it was.
//!
//! A leaf spins, waits for another leaf or for the executor, does operations, runs an executor of
//! its own inside its poll, and ends well or by a panic, which the next guarded batch catches.

use crate::support::cases::{Choices, digest, run};
use futures::FutureExt;
use gondola::{ConsumeBudget, Runtime, batch, consume_budget, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// What one poll of a task may do.
const STEPS: usize = 128;

type Local = Pin<Box<dyn Future<Output = ()>>>;

enum Tree {
    Leaf(Vec<Act>),
    Batch { limit: usize, guarded: bool, items: Vec<Rc<Tree>> },
}

#[derive(Clone, Copy)]
enum Act {
    /// Gives way, once.
    Spin,
    /// Waits to be woken.
    Wait,
    /// Wakes whoever has waited longest.
    Kick,
    /// So many operations in each of two branches, side by side.
    Operations([usize; 2]),
    /// Another executor inside of a poll.
    Inside,
    Panic,
}

fn tree(choices: &mut Choices<'_>, depth: u32, leaves: &mut usize) -> Tree {
    if depth == 0 || choices.percent(30) {
        *leaves = leaves.saturating_sub(1);
        let acts = (0..choices.below(4)).map(|_| match choices.weighted(&[30, 20, 10, 30, 3, 4]) {
            0 => Act::Spin,
            1 => Act::Wait,
            2 => Act::Kick,
            3 => Act::Operations([1 + choices.index(200), choices.index(2) * choices.index(200)]),
            4 => Act::Inside,
            _ => Act::Panic,
        });
        return Tree::Leaf(acts.collect());
    }
    let widest = if choices.percent(5) { 64 } else { 6 };
    let limit = 1 + choices.index(widest);
    let count = choices.index(2 * limit + 1);
    let mut items = Vec::new();
    while items.len() < count && *leaves > 0 {
        items.push(Rc::new(tree(choices, depth - 1, leaves)));
    }
    Tree::Batch { limit, guarded: choices.percent(50), items }
}

impl Tree {
    /// How many leaves can be in flight at once.
    fn live(&self) -> usize {
        let Tree::Batch { limit, items, .. } = self else { return 1 };
        let mut live: Vec<usize> = items.iter().map(|item| item.live()).collect();
        live.sort_unstable();
        live.iter().rev().take(*limit).sum()
    }

    fn grow(self: &Rc<Self>, world: &Rc<World>) -> Local {
        let (limit, guarded, items) = match &**self {
            Tree::Leaf(acts) => return Box::pin(Leaf::new(acts, world)),
            Tree::Batch { limit, guarded, items } => (*limit, *guarded, items.clone()),
        };
        let world = world.clone();
        let run = batch(items).limit(limit).for_each(move |item| item.grow(&world));
        if guarded {
            Box::pin(AssertUnwindSafe(run).catch_unwind().map(drop))
        } else {
            Box::pin(run.map(|result| result.expect("no item returns an error")))
        }
    }
}

/// What is known of all leaves, by their numbers.
#[derive(Default)]
struct World {
    leaves: RefCell<Vec<State>>,
    /// In which poll of the outermost each was polled last.
    polled: RefCell<Vec<usize>>,
    round: Cell<usize>,
    waiting: RefCell<VecDeque<(usize, Waker)>>,
    polls: Cell<usize>,
    operations: Cell<usize>,
    panicked: Cell<bool>,
    /// A guard would swallow a failed assertion.
    fault: Cell<Option<&'static str>>,
    sum: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    CanGoOn,
    Waits,
    Gone,
}

impl World {
    fn set(&self, leaf: usize, state: State) {
        self.leaves.borrow_mut()[leaf] = state;
    }

    fn kick(&self) -> bool {
        let Some((leaf, waker)) = self.waiting.borrow_mut().pop_front() else { return false };
        if self.leaves.borrow()[leaf] == State::Waits {
            self.set(leaf, State::CanGoOn);
        }
        waker.wake();
        true
    }

    fn check(&self, holds: bool, fault: &'static str) {
        if !holds {
            self.fault.set(Some(fault));
        }
    }
}

struct Leaf {
    number: usize,
    acts: VecDeque<Act>,
    branches: [Branch; 2],
    world: Rc<World>,
}

struct Branch {
    operations: usize,
    operation: ConsumeBudget,
    refused: bool,
}

impl Branch {
    fn new(operations: usize) -> Self {
        Self { operations, operation: consume_budget(), refused: false }
    }

    fn poll(&mut self, world: &World, cx: &mut Context<'_>) -> Poll<()> {
        while self.operations > 0 {
            if Pin::new(&mut self.operation).poll(cx).is_pending() {
                world.check(!self.refused, "refused twice in a row");
                self.refused = true;
                return Poll::Pending;
            }
            *self = Self::new(self.operations - 1);
            world.operations.set(world.operations.get() + 1);
        }
        Poll::Ready(())
    }
}

impl Leaf {
    fn new(acts: &[Act], world: &Rc<World>) -> Self {
        let mut leaves = world.leaves.borrow_mut();
        leaves.push(State::CanGoOn);
        world.polled.borrow_mut().push(world.round.get());
        Self {
            number: leaves.len() - 1,
            acts: acts.iter().copied().collect(),
            branches: [0; 2].map(Branch::new),
            world: world.clone(),
        }
    }
}

impl Future for Leaf {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut sum = world.sum.get();
        digest(&mut sum, self.number);
        world.sum.set(sum);
        world.polls.set(world.polls.get() + 1);
        let state = world.leaves.borrow()[self.number];
        world.check(state == State::CanGoOn, "polled for nothing");
        world.set(self.number, State::Waits);
        world.polled.borrow_mut()[self.number] = world.round.get();
        loop {
            let branches = self.branches.each_mut().map(|branch| branch.poll(&world, cx));
            if branches.contains(&Poll::Pending) {
                world.set(self.number, State::CanGoOn);
                return Poll::Pending;
            }
            match self.acts.pop_front() {
                None => return Poll::Ready(()),
                Some(Act::Spin) => {
                    cx.waker().wake_by_ref();
                    world.set(self.number, State::CanGoOn);
                    return Poll::Pending;
                }
                Some(Act::Wait) => {
                    world.waiting.borrow_mut().push_back((self.number, cx.waker().clone()));
                    return Poll::Pending;
                }
                Some(Act::Kick) => drop(world.kick()),
                Some(Act::Operations(counts)) => self.branches = counts.map(Branch::new),
                Some(Act::Inside) => {
                    let inner = batch(0..3).limit(2).for_each(|_| yield_now());
                    futures::executor::block_on(inner).unwrap();
                }
                Some(Act::Panic) => {
                    world.panicked.set(true);
                    resume_unwind(Box::new("no hook is called"));
                }
            }
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.world.set(self.number, State::Gone);
        self.world.waiting.borrow_mut().retain(|(number, _)| *number != self.number);
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many operations are granted in a row, up to a few more than one poll has.
fn granted() -> usize {
    let cx = &mut Context::from_waker(Waker::noop());
    (0..=STEPS).take_while(|_| Pin::new(&mut consume_budget()).poll(cx).is_ready()).count()
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let (depth, mut leaves) = (1 + choices.below(4) as u32, 1 + choices.index(300));
    let items = (0..1 + choices.index(8)).map(|_| Rc::new(tree(choices, depth - 1, &mut leaves)));
    let items = items.collect();
    let root = Rc::new(Tree::Batch { limit: 1 + choices.index(8), guarded: true, items });
    let world = Rc::new(World::default());
    let mut run = root.grow(&world);
    // In a turn, each in flight is polled once, and at most as many begin.
    let most = STEPS + 2 * root.live();

    // Half of them under an executor by hand, where nobody counts.
    let mut runtime = choices.percent(50).then(|| Runtime::builder().slots(1).build().unwrap());
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    loop {
        woken.0.store(false, Ordering::Relaxed);
        world.polls.set(0);
        world.operations.set(0);
        world.round.set(world.round.get() + 1);
        let before = world.leaves.borrow().clone();
        let mut polled = || {
            let cx = &mut Context::from_waker(&waker);
            (run.as_mut().poll(cx).is_ready(), granted())
        };
        let (done, left) = match &mut runtime {
            Some(runtime) => runtime.block_on(poll_fn(|_| Poll::Ready(polled()))),
            None => polled(),
        };
        if let Some(fault) = world.fault.get() {
            panic!("{fault}");
        }
        let (polls, operations) = (world.polls.get(), world.operations.get());
        assert!(polls <= most && operations <= most, "{polls} polls, {operations} operations");
        match runtime {
            // A turn counts its polls, or the steps inside if these are more: so polls at each depth
            // are counted beside those at another. Those of a turn that unwinds are not counted.
            Some(_) if world.panicked.take() => {}
            Some(_) => {
                let taken = operations.max(polls / depth as usize);
                assert!(left <= STEPS.saturating_sub(taken), "{left} left, {taken} taken");
            }
            None => assert_eq!(left, STEPS + 1, "nobody counts out here"),
        }
        for (leaf, state) in before.into_iter().enumerate() {
            let gone = world.leaves.borrow()[leaf] == State::Gone;
            let polled = world.polled.borrow()[leaf] == world.round.get();
            assert!(state != State::CanGoOn || polled || gone, "leaf {leaf} stands still");
        }
        if done {
            return world.sum.get();
        }
        if !woken.0.load(Ordering::Relaxed) {
            assert!(world.kick(), "it waits for nothing");
            assert!(woken.0.load(Ordering::Relaxed), "a wake was lost");
        }
    }
}

#[test]
fn nests_at_random() {
    run(100_000, case);
}
