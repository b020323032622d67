//! Sleeps, time-outs and intervals beside a sorted set of deadlines, in virtual time.
//!
//! The model does not foretell who fires when. Each waker, as it is woken, checks that its timer
//! is the model's first and that the clock shows its deadline; who should have fired by then and
//! did not is found after each step. Wakers are hostile: woken or dropped, they put, poll and drop
//! timers, or panic. Sleeps wander between two runtimes whose clocks differ.

use crate::support::cases::{Choices, digest, run};
use crate::support::waker_fn;
use gondola::time::{
    Interval, Sleep, Timeout, interval, now, sleep, sleep_until, timeout, timeout_at,
};
use gondola::{Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Every runtime starts within this time before a case's zero: so cases do not depend on when.
const LEAD: Duration = Duration::from_secs(60);
/// The last deadline that comes. A runtime counts 2^64 ns from its own start, so nothing is put
/// just behind this.
const END: u64 = u64::MAX - 2 * LEAD.as_nanos() as u64;

#[derive(Clone, Copy)]
enum When {
    After(Duration),
    At(u64),
}

#[derive(Clone, Copy)]
enum What {
    Sleep,
    Timeout,
    /// Of this period. Its first tick waits for nothing.
    Interval(Duration),
}

#[derive(Clone, Copy)]
enum Act {
    Nothing,
    Put(usize, What, When),
    /// Polls once, or again with the same waker.
    Poll(usize, bool),
    Drop(usize),
    /// The future in a time-out is ready from now on.
    Finish(usize),
    Panic,
}

/// What a waker does when it is woken, and when it is dropped.
type Alarms = [Act; 2];
const HARMLESS: Alarms = [Act::Nothing; 2];

struct Scripted;

enum Real {
    Sleep(Sleep),
    Interval { ticks: Interval, start: u64, period: Duration, ticked: bool },
    Timeout { timeout: Pin<Box<Timeout<Inner>>>, inner: Rc<Cell<Progress>>, over: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Pending,
    Ready,
    Dropped,
}

struct Inner(Rc<Cell<Progress>>);

impl Future for Inner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.get() == Progress::Ready { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.0.set(Progress::Dropped);
    }
}

#[derive(Default)]
struct Slot {
    real: Option<Real>,
    /// Taken out, while it is polled.
    busy: bool,
    /// `None`: never.
    deadline: Option<u64>,
    /// Where its timer is, and whether it has fired.
    timer: Option<(usize, bool)>,
    /// Of the waker that it has to wake.
    generation: u64,
}

/// A runtime's clock and timers.
#[derive(Default)]
struct Side {
    now: u64,
    /// Up to where time may run.
    until: u64,
    armed: BTreeSet<(u64, usize)>,
}

struct State {
    slots: Vec<Slot>,
    sides: Vec<Side>,
    /// The runtime that is entered.
    here: Option<usize>,
    generation: u64,
    fired: usize,
    /// A waker armed a timer that is due at the end of this step: that may take another look.
    crowded: bool,
    sum: u64,
}

struct World {
    zero: Instant,
    state: RefCell<State>,
}

/// In its waker.
struct Alarm {
    world: Rc<World>,
    slot: usize,
    generation: u64,
    acts: Alarms,
}

impl Alarm {
    fn wake(&self) {
        self.world.fire(self.slot, self.generation);
        match self.acts[0] {
            Act::Panic => resume_unwind(Box::new(Scripted)),
            act => self.world.act(act, HARMLESS),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.world.act(self.acts[1], HARMLESS);
        }
    }
}

impl State {
    fn disarm(&mut self, slot: usize) {
        let Slot { timer, deadline, .. } = &mut self.slots[slot];
        if let (Some((side, false)), Some(deadline)) = (timer.take(), *deadline) {
            assert!(self.sides[side].armed.remove(&(deadline, slot)));
        }
    }

    /// What polling a sleep does: whether it is ready.
    fn sleep(&mut self, slot: usize, here: usize) -> bool {
        let Some(deadline) = self.slots[slot].deadline else { return false };
        match self.slots[slot].timer {
            Some((side, true)) if side == here => return true,
            Some((side, false)) if side == here => {}
            _ => {
                self.disarm(slot);
                let side = &mut self.sides[here];
                if deadline < side.now {
                    return true;
                }
                side.armed.insert((deadline, slot));
                self.crowded |= deadline <= side.until;
                self.slots[slot].timer = Some((here, false));
            }
        }
        self.slots[slot].generation = self.generation;
        false
    }
}

impl World {
    fn at(&self, nanos: u64) -> Instant {
        self.zero + Duration::from_nanos(nanos)
    }

    fn sum(&self) -> u64 {
        self.state.borrow().sum
    }

    fn act(self: &Rc<Self>, act: Act, alarms: Alarms) {
        match act {
            Act::Nothing | Act::Panic => {}
            Act::Put(slot, what, when) => self.put(slot, what, when, alarms),
            Act::Poll(slot, twice) => self.poll(slot, twice, alarms),
            Act::Drop(slot) => {
                let mut state = self.state.borrow_mut();
                if !state.slots[slot].busy {
                    state.disarm(slot);
                }
                let gone = state.slots[slot].real.take();
                drop(state);
                drop(gone);
            }
            Act::Finish(slot) => {
                if let Some(Real::Timeout { inner, over: false, .. }) =
                    &self.state.borrow().slots[slot].real
                {
                    inner.set(Progress::Ready);
                }
            }
        }
    }

    /// In the place of what is there: a reset, if something is.
    fn put(self: &Rc<Self>, slot: usize, what: What, when: When, alarms: Alarms) {
        let mut state = self.state.borrow_mut();
        let Some(here) = state.here.filter(|_| !state.slots[slot].busy) else { return };
        let present = state.sides[here].now;
        let deadline = match when {
            When::After(after) => later(present, after),
            When::At(at) => Some(at),
        };
        let inner = Rc::new(Cell::new(Progress::Pending));
        let limited = |timeout| Real::Timeout {
            timeout: Box::pin(timeout),
            inner: inner.clone(),
            over: false,
        };
        let real = match (what, when) {
            (What::Sleep, When::After(after)) => Real::Sleep(sleep(after)),
            (What::Sleep, When::At(at)) => Real::Sleep(sleep_until(self.at(at))),
            (What::Timeout, When::After(after)) => limited(timeout(after, Inner(inner.clone()))),
            (What::Timeout, When::At(at)) => limited(timeout_at(self.at(at), Inner(inner.clone()))),
            (What::Interval(period), _) => {
                Real::Interval { ticks: interval(period), start: present, period, ticked: false }
            }
        };
        if let (Real::Sleep(sleep), Some(deadline)) = (&real, deadline) {
            assert_eq!(sleep.deadline(), Some(self.at(deadline)));
        }
        state.disarm(slot);
        let old = state.slots[slot].real.replace(real);
        state.slots[slot].deadline = deadline;
        drop(state);
        drop(old);
        self.poll(slot, false, alarms);
    }

    fn poll(self: &Rc<Self>, slot: usize, twice: bool, acts: Alarms) {
        let mut state = self.state.borrow_mut();
        let Some(here) = state.here else { return };
        let Some(mut real) = state.slots[slot].real.take() else { return };
        state.slots[slot].busy = true;
        state.generation += 1;
        let generation = state.generation;
        let over = matches!(real, Real::Timeout { over: true, .. });
        let finished =
            matches!(&real, Real::Timeout { inner, .. } if inner.get() == Progress::Ready);
        let at_once = finished || matches!(real, Real::Interval { ticked: false, .. });
        let ready = !over && (at_once || state.sleep(slot, here));
        let (due, present) = (state.slots[slot].deadline, state.sides[here].now);
        digest(&mut state.sum, (slot, ready));
        drop(state);

        let waker = waker_fn({
            let alarm = Alarm { world: self.clone(), slot, generation, acts };
            move || alarm.wake()
        });
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..1 + usize::from(twice && !ready) {
            match &mut real {
                Real::Sleep(sleep) => assert_eq!(Pin::new(sleep).poll(cx).is_ready(), ready),
                Real::Interval { ticks, .. } => {
                    let poll = pin!(ticks.tick()).poll(cx).map(Some);
                    let tick = Poll::Ready(due.map(|due| self.at(due)));
                    assert_eq!(poll, if ready { tick } else { Poll::Pending });
                }
                Real::Timeout { over: true, .. } => {}
                Real::Timeout { timeout, inner, over } => {
                    let poll = timeout.as_mut().poll(cx).map(|result| result.is_ok());
                    assert_eq!(poll, if ready { Poll::Ready(finished) } else { Poll::Pending });
                    assert_eq!(inner.get() == Progress::Dropped, ready);
                    *over = ready;
                }
            }
        }

        let mut state = self.state.borrow_mut();
        if let (Real::Interval { start, period, ticked, .. }, true) = (&mut real, ready) {
            *ticked = true;
            let next = match u64::try_from(period.as_nanos()) {
                Ok(0) => Some(present),
                // The first on the grid that is not over.
                Ok(period) => {
                    later(present - (present - *start) % period, Duration::from_nanos(period))
                }
                Err(_) => None,
            };
            state.slots[slot].deadline = next;
            state.slots[slot].timer = None;
        }
        state.slots[slot].real = Some(real);
        state.slots[slot].busy = false;
    }

    fn fire(&self, slot: usize, generation: u64) {
        let State { slots, sides, here, fired, sum, .. } = &mut *self.state.borrow_mut();
        let (here, slot_state) = (here.expect("a runtime is entered"), &mut slots[slot]);
        assert_eq!(slot_state.generation, generation, "an old waker");
        assert_eq!(slot_state.timer, Some((here, false)));
        slot_state.timer = Some((here, true));
        let (side, due) = (&mut sides[here], slot_state.deadline.expect("it comes"));
        assert_eq!(side.armed.first().map(|first| first.0), Some(due), "out of order");
        assert!(side.armed.remove(&(due, slot)));
        assert!(due <= side.until, "time ran on");
        assert_eq!(now(), self.at(due));
        side.now = due;
        *fired += 1;
        digest(sum, (slot, due));
    }

    fn check(self: &Rc<Self>) {
        let state = self.state.borrow();
        let armed: usize = state.sides.iter().map(|side| side.armed.len()).sum();
        assert_eq!(Rc::strong_count(self), 1 + armed, "wakers are kept, or lost");
        if let Some(here) = state.here {
            assert_eq!(now(), self.at(state.sides[here].now));
        }
    }

    /// Enters a runtime, or leaves it.
    fn enter(&self, here: Option<usize>) {
        let state = &mut *self.state.borrow_mut();
        state.here = here;
        for side in &mut state.sides {
            side.until = side.now;
        }
    }

    async fn advance(&self, here: usize, to: u64, absolute: bool) {
        let present = {
            let state = &mut *self.state.borrow_mut();
            state.sides[here].until = to;
            state.crowded = false;
            state.sides[here].now
        };
        match absolute {
            true => sleep_until(self.at(to)).await,
            false => sleep(Duration::from_nanos(to - present)).await,
        }
        self.state.borrow_mut().sides[here].now = to;
        let late = || {
            let state = self.state.borrow();
            let late = state.sides[here].armed.first().is_some_and(|first| first.0 <= to);
            assert!(!late || state.crowded, "a timer has been lost");
            late
        };
        let mut looks = 0;
        while late() {
            looks += 1;
            assert!(looks < 1000, "a timer does not fire");
            sleep(Duration::ZERO).await;
        }
    }
}

/// The deadline so long after an instant, if it comes.
fn later(present: u64, after: Duration) -> Option<u64> {
    let deadline = u64::try_from(u128::from(present) + after.as_nanos()).ok();
    deadline.filter(|&deadline| deadline <= END)
}

struct Script<'a, 'b> {
    choices: &'a mut Choices<'b>,
    left: u64,
    /// Durations stay below 2 to the power of this; but for a few.
    bits: u64,
    hostile: u64,
    panics: u64,
    steps: [u64; 4],
    acts: [u64; 6],
    slots: usize,
}

impl Script<'_, '_> {
    fn when(&mut self, world: &World) -> When {
        let choices = &mut *self.choices;
        let state = world.state.borrow();
        let present = state.here.map_or(0, |here| state.sides[here].now);
        let some = state.slots[choices.index(self.slots)].deadline.unwrap_or(present);
        let nudge = |nanos: u64, by: u64| (nanos + by).saturating_sub(1);
        let nanos = match choices.below(8) {
            0..3 => {
                let bits = choices.below(self.bits);
                choices.below(1 << bits)
            }
            3 => {
                let round = [1, 1_000, 1_000_000, 1_000_000_000, 1 << choices.below(63)];
                nudge(round[choices.index(5)], choices.below(3))
            }
            // On, or next to, another one's deadline; it may have passed.
            4 => return When::At(some),
            5 => return When::At(nudge(some, choices.below(3)).min(END)),
            6 => some.saturating_sub(present),
            _ => {
                let below = choices.below(3);
                return When::After(match choices.below(4) {
                    0 => Duration::from_nanos(below),
                    1 => Duration::MAX - Duration::from_nanos(below),
                    2 => Duration::from_secs((1 << 63) - below),
                    _ => Duration::from_secs(u64::MAX >> choices.below(29)),
                });
            }
        };
        match later(present, Duration::from_nanos(nanos)) {
            Some(_) => When::After(Duration::from_nanos(nanos)),
            None => When::After(Duration::MAX),
        }
    }

    fn act(&mut self, world: &World) -> Act {
        let slot = self.choices.index(self.slots);
        match self.choices.weighted(&self.acts) {
            0 => Act::Put(slot, What::Sleep, self.when(world)),
            1 => Act::Put(slot, What::Timeout, self.when(world)),
            2 => {
                let period = match self.when(world) {
                    When::After(period) => period,
                    When::At(_) => Duration::ZERO,
                };
                Act::Put(slot, What::Interval(period), When::After(Duration::ZERO))
            }
            3 => Act::Poll(slot, self.choices.percent(30)),
            4 => Act::Drop(slot),
            _ => Act::Finish(slot),
        }
    }

    fn alarms(&mut self, world: &World) -> Alarms {
        let mut alarms = HARMLESS;
        for alarm in &mut alarms {
            if self.choices.percent(self.hostile) {
                *alarm = self.act(world);
            }
        }
        if self.choices.percent(self.panics) {
            alarms[0] = Act::Panic;
        }
        alarms
    }

    /// Until the script leaves the runtime.
    async fn session(&mut self, world: &Rc<World>, here: usize) {
        while self.left > 0 {
            self.left -= 1;
            match self.choices.weighted(&self.steps) {
                0 => {
                    let act = self.act(world);
                    let alarms = self.alarms(world);
                    world.act(act, alarms);
                }
                1 => {
                    let when = self.when(world);
                    let present = world.state.borrow().sides[here].now;
                    let (to, absolute) = match when {
                        When::After(after) => (later(present, after).unwrap_or(present), false),
                        When::At(at) => (at.max(present), true),
                    };
                    world.advance(here, to, absolute).await;
                }
                2 => yield_now().await,
                _ => return,
            }
            world.check();
        }
    }
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let left = choices.below(100);
    let steps = [10 + choices.below(30), choices.below(20), choices.below(4), choices.below(4)];
    let acts = std::array::from_fn(|_| choices.below(4) * choices.below(4));
    let slots = 1 << choices.below(7);
    let bits = 1 + choices.below(62);
    let (hostile, panics) = ([0, 0, 10, 50][choices.index(4)], [0, 0, 0, 3][choices.index(4)]);
    let mut script = Script { choices, left, bits, hostile, panics, steps, acts, slots };

    let state = State {
        slots: (0..slots).map(|_| Slot::default()).collect(),
        sides: Vec::new(),
        here: None,
        generation: 0,
        fired: 0,
        crowded: false,
        sum: 0,
    };
    let zero = Instant::now() + LEAD;
    let world = Rc::new(World { zero, state: RefCell::new(state) });
    let start = || {
        let mut runtime = Runtime::builder().slots(1).virtual_time().build().unwrap();
        runtime.block_on(sleep_until(zero));
        let sides = &mut world.state.borrow_mut().sides;
        sides.push(Side::default());
        (runtime, sides.len() - 1)
    };
    let mut runtimes = vec![start()];
    let mut at = 0;
    while script.left > 0 {
        let (runtime, here) = &mut runtimes[at];
        world.enter(Some(*here));
        let fired = world.state.borrow().fired;
        let due = || world.state.borrow().fired + world.state.borrow().sides[*here].armed.len();
        let mut most = due();
        let turn = script.choices.percent(20);
        script.left -= u64::from(turn);
        let result = catch_unwind(AssertUnwindSafe(|| {
            if turn {
                let turn = runtime.turn().unwrap();
                assert_eq!(turn.fired, world.state.borrow().fired - fired);
            } else {
                runtime.block_on(async {
                    script.session(&world, *here).await;
                    most = due();
                });
            }
            // One look fires no more than were there when it began.
            assert!(world.state.borrow().fired <= most);
        }));
        match result {
            Err(payload) if !payload.is::<Scripted>() => resume_unwind(payload),
            _ => {}
        }
        world.enter(None);
        let armed = world.state.borrow().sides[*here].armed.len();
        assert!(format!("{runtime:?}").contains(&format!("timers: {armed},")), "{runtime:?}");
        match script.choices.below(8) {
            // Its sleeps outlive it.
            1 => runtimes[at] = start(),
            2 if runtimes.len() == 1 => runtimes.push(start()),
            3 => at = script.choices.index(runtimes.len()),
            4 => world.act(Act::Drop(script.choices.index(slots)), HARMLESS),
            _ => {}
        }
        world.check();
    }
    for slot in 0..slots {
        world.act(Act::Drop(slot), HARMLESS);
        world.check();
    }
    for (runtime, _) in runtimes {
        assert!(format!("{runtime:?}").contains("timers: 0,"), "{runtime:?}");
    }
    world.sum()
}

#[test]
fn timers_fire_as_in_a_sorted_set() {
    run(100_000, case);
}
