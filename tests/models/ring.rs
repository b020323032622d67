//! The ring, its wakers and its handles against a naive model: the same events in the same order,
//! compared after every operation.
//!
//! Tasks, destructors and foreign wakers follow scripts. Each action of a script may end up in
//! user code again, and may unwind from there. Actions name their objects by number, modulo what
//! there is when they run.

use crate::support::cases::{Choices, digest, quietly, run};
use crate::support::{OnDrop, waker_fn};
use gondola::{
    AbortHandle, JoinHandle, Reserve, Runtime, Slot, TrySpawnErrorKind, reserve, try_spawn,
};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::panic::{panic_any, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;

#[derive(Clone, Copy, Debug)]
enum Verb {
    KeepWaker,
    WakeSelf,
    Wake,
    TakeWaker,
    Spawn,
    Abort,
    /// Makes an abort handle, beside the handle.
    KeepAborter,
    /// Aborts by it, and with `BY_VALUE` drops it.
    UseAborter,
    Join,
    DropHandle,
    Reserve,
    PollWaiter,
    DropWaiter,
    UseSlot,
    DropSlot,
    Reenter,
}
use Verb::*;

const VERBS: [(Verb, u64); 16] = [
    (KeepWaker, 4),
    (WakeSelf, 4),
    (Wake, 6),
    (TakeWaker, 3),
    (Spawn, 9),
    (Abort, 4),
    (KeepAborter, 3),
    (UseAborter, 4),
    (Join, 6),
    (DropHandle, 3),
    (Reserve, 5),
    (PollWaiter, 5),
    (DropWaiter, 3),
    (UseSlot, 4),
    (DropSlot, 4),
    (Reenter, 1),
];

/// What is done, to which object, and how: one of the ways below, or whether to wait with the
/// task's own waker. Without one, it is a foreign waker, which follows a script itself.
type Action = (Verb, usize, usize);

const BY_REF: usize = 0;
const BY_VALUE: usize = 1;
const ABROAD: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Then {
    Pending,
    Ready,
    Panic,
}

/// The last step goes for all later polls. A root future ends there; until then it wakes itself.
#[derive(Debug, Default)]
struct Script {
    steps: Vec<(Vec<Action>, Then)>,
    on_drop: Vec<Action>,
    drop_panics: bool,
    large: bool,
    wake_root: usize,
}

#[derive(Debug, Default)]
struct Plan {
    slots: usize,
    scripts: Vec<Rc<Script>>,
    /// What foreign wakers do, and whether they panic in the end.
    reactions: Vec<(Vec<Action>, bool)>,
}

impl Plan {
    /// How many actions an operation may take: scripts call each other.
    fn fuel(&self) -> usize {
        self.slots + 60
    }

    fn script(&self, n: usize) -> &Rc<Script> {
        &self.scripts[n % self.scripts.len()]
    }

    fn reaction(&self, n: usize) -> &(Vec<Action>, bool) {
        &self.reactions[n % self.reactions.len()]
    }
}

#[derive(Debug)]
enum Op {
    Turn,
    Outside(Action),
    BlockOn(Rc<Script>),
    Shutdown,
}

/// An output or a panic's payload: where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token {
    Output(usize),
    Poll(usize),
    Drop(usize),
    Waker(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Joined {
    Pending,
    Output(Token),
    Panic(Token),
    Cancelled,
    Again,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Event {
    Placed(usize),
    /// All of so many slots are taken, or there is no runtime.
    Refused(usize, Option<usize>),
    Poll(usize),
    Drop(usize),
    Gone(Token),
    Told(usize),
    Joined(usize, Joined),
    NoReserve(usize),
    Waiting(usize),
    Reserved(usize, String),
    Reentered(bool),
    Turn {
        polled: usize,
        completed: usize,
        woken_outside: usize,
        other: usize,
        busy: bool,
    },
    Returned(Token),
    Unwound(Token),
    /// After each operation: which handles and abort handles are finished, as a sum.
    Finished(usize),
    Runtime(String),
}

/// Takes one out of a list. No list is borrowed while what came out of it is used.
fn take<T>(list: &mut Vec<T>, n: usize) -> Option<T> {
    n.checked_rem(list.len()).map(|at| list.remove(at))
}

fn sum_up(flags: impl Iterator<Item = bool>) -> usize {
    flags.fold(1, |sum, flag| sum.rotate_left(1) ^ usize::from(flag))
}

/// Whether a handle is kept after it was polled: some that are used up, to be polled again.
fn kept(joined: Joined, n: usize) -> bool {
    match joined {
        Joined::Pending => true,
        Joined::Again => false,
        _ => n % 4 == 1,
    }
}

// The model. Scripted panics are errors here; while one goes through, no other starts.

#[derive(Clone, Copy)]
enum Whom {
    Slot(usize),
    Foreign(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Aborting,
    Closing,
    Done(Joined),
    Empty,
}

struct ModelTask {
    script: Rc<Script>,
    polls: usize,
    root: bool,
    slot: usize,
    state: State,
    has_handle: bool,
    joiner: Option<Whom>,
}

#[derive(Clone, Copy)]
enum Place {
    Queued(Whom),
    Promised(usize),
}

#[derive(Default)]
struct Model {
    plan: Rc<Plan>,
    events: Vec<Event>,
    fuel: usize,
    tasks: Vec<ModelTask>,
    slots: Vec<Option<usize>>,
    free: BTreeSet<usize>,
    queue: VecDeque<usize>,
    ready: BTreeSet<usize>,
    abroad: BTreeSet<usize>,
    entered: bool,
    closed: bool,
    unwinding: bool,
    foreign: usize,
    reserves: usize,
    wakers: Vec<usize>,
    handles: Vec<usize>,
    aborters: Vec<usize>,
    waiters: Vec<(usize, Place)>,
    reserved: Vec<usize>,
}

impl Model {
    fn log(&mut self, event: Event) {
        self.events.push(event);
    }

    fn gone(&mut self, joined: Joined) {
        if let Joined::Output(token) | Joined::Panic(token) = joined {
            self.log(Event::Gone(token));
        }
    }

    fn wake(&mut self, slot: usize, how: usize) {
        let set = if how == ABROAD { &mut self.abroad } else { &mut self.ready };
        set.insert(slot);
    }

    fn whom(&mut self, own: Option<usize>, how: usize) -> Whom {
        let number = self.foreign;
        match own {
            Some(slot) if how & 1 != 0 => return Whom::Slot(slot),
            _ => self.foreign += 1,
        }
        Whom::Foreign(number)
    }

    fn tell(&mut self, whom: Whom) -> Result<(), Token> {
        let number = match whom {
            Whom::Foreign(number) => number,
            Whom::Slot(slot) => {
                self.ready.insert(slot);
                return Ok(());
            }
        };
        self.log(Event::Told(number));
        if self.unwinding {
            return Ok(());
        }
        let plan = self.plan.clone();
        let (actions, panics) = plan.reaction(number);
        self.act(None, actions)?;
        if *panics { Err(Token::Waker(number)) } else { Ok(()) }
    }

    fn create(&mut self, script: &Rc<Script>, root: bool) -> usize {
        let (script, state) = (script.clone(), State::Running);
        let (polls, slot, has_handle, joiner) = (0, 0, !root, None);
        self.tasks.push(ModelTask { script, polls, root, slot, state, has_handle, joiner });
        self.tasks.len() - 1
    }

    fn spawn(&mut self, script: usize, slot: Option<usize>) -> Result<(), Token> {
        let id = self.create(&self.plan.script(script).clone(), false);
        let here = self.entered && !self.closed;
        let Some(slot) = slot.or_else(|| here.then(|| self.free.pop_first()).flatten()) else {
            self.log(Event::Refused(id, here.then_some(self.plan.slots)));
            return self.drop_future(id);
        };
        self.tasks[id].slot = slot;
        if self.closed {
            self.cancel(id);
        } else {
            self.slots[slot] = Some(id);
            self.ready.insert(slot);
        }
        self.handles.push(id);
        self.log(Event::Placed(id));
        Ok(())
    }

    fn promise(&mut self, slot: usize) -> Option<Whom> {
        let first = self.queue.pop_front()?;
        let (_, place) = self.waiters.iter_mut().find(|(id, _)| *id == first)?;
        match std::mem::replace(place, Place::Promised(slot)) {
            Place::Queued(whom) => Some(whom),
            Place::Promised(_) => unreachable!(),
        }
    }

    fn give_up(&mut self, slot: usize) -> Result<(), Token> {
        if self.closed {
            return Ok(());
        }
        match self.promise(slot) {
            Some(whom) => self.tell(whom),
            None => {
                self.free.insert(slot);
                Ok(())
            }
        }
    }

    fn poll_waiter(&mut self, id: usize, place: Option<Place>, whom: Whom) {
        let slot = match place {
            None if !self.entered => return self.log(Event::NoReserve(id)),
            None if self.closed => Some(0),
            None => self.free.pop_first(),
            Some(Place::Promised(slot)) => Some(slot),
            Some(Place::Queued(_)) => None,
        };
        if let Some(slot) = slot {
            self.reserved.push(slot);
            return self.log(Event::Reserved(id, format!("Slot {{ index: {slot}, .. }}")));
        }
        if place.is_none() {
            self.queue.push_back(id);
        }
        self.waiters.push((id, Place::Queued(whom)));
        self.log(Event::Waiting(id));
    }

    fn act(&mut self, own: Option<usize>, actions: &[Action]) -> Result<(), Token> {
        for &(verb, n, how) in actions {
            let Some(fuel) = self.fuel.checked_sub(1) else { return Ok(()) };
            self.fuel = fuel;
            let whom = |model: &mut Self| model.whom(own, how);
            match verb {
                KeepWaker => self.wakers.extend(own),
                WakeSelf => own.into_iter().for_each(|slot| self.wake(slot, how)),
                Wake => {
                    if let Some(at) = n.checked_rem(self.wakers.len()) {
                        self.wake(self.wakers[at], how);
                    }
                }
                TakeWaker => {
                    let slot = take(&mut self.wakers, n);
                    self.ready.extend(slot.filter(|_| how == BY_VALUE));
                }
                Spawn => self.spawn(n, None)?,
                Abort => {
                    if let Some(at) = n.checked_rem(self.handles.len()) {
                        self.abort(self.handles[at]);
                    }
                }
                KeepAborter => {
                    if let Some(at) = n.checked_rem(self.handles.len()) {
                        self.aborters.push(self.handles[at]);
                    }
                }
                UseAborter => {
                    if let Some(at) = n.checked_rem(self.aborters.len()) {
                        self.abort(self.aborters[at]);
                        if how == BY_VALUE {
                            self.aborters.remove(at);
                        }
                    }
                }
                Join => {
                    let Some(id) = take(&mut self.handles, n) else { continue };
                    let (whom, task) = (whom(self), &mut self.tasks[id]);
                    let joined = match task.state {
                        State::Empty => Joined::Again,
                        State::Done(joined) => {
                            task.state = State::Empty;
                            joined
                        }
                        _ => {
                            task.joiner = Some(whom);
                            Joined::Pending
                        }
                    };
                    self.handles.extend(kept(joined, n).then_some(id));
                    self.log(Event::Joined(id, joined));
                    self.gone(joined);
                }
                DropHandle => {
                    let Some(id) = take(&mut self.handles, n) else { continue };
                    let task = &mut self.tasks[id];
                    (task.has_handle, task.joiner) = (false, None);
                    if let State::Done(joined) = task.state {
                        task.state = State::Empty;
                        self.gone(joined);
                    }
                }
                Reserve => {
                    let (id, whom) = (self.reserves, whom(self));
                    self.reserves += 1;
                    self.poll_waiter(id, None, whom);
                }
                PollWaiter => {
                    let Some((id, place)) = take(&mut self.waiters, n) else { continue };
                    let whom = whom(self);
                    self.poll_waiter(id, Some(place), whom);
                }
                DropWaiter => {
                    let Some((id, place)) = take(&mut self.waiters, n) else { continue };
                    self.queue.retain(|&other| other != id);
                    if let Place::Promised(slot) = place {
                        self.give_up(slot)?;
                    }
                }
                UseSlot => {
                    let Some(slot) = take(&mut self.reserved, n) else { continue };
                    self.spawn(n, Some(slot))?;
                }
                DropSlot => {
                    let Some(slot) = take(&mut self.reserved, n) else { continue };
                    self.give_up(slot)?;
                }
                Reenter => self.log(Event::Reentered(!self.entered)),
            }
        }
        Ok(())
    }

    fn poll_future(&mut self, id: usize, own: usize) -> Result<Poll<Token>, Token> {
        self.log(Event::Poll(id));
        let ModelTask { script, polls, root, .. } = &mut self.tasks[id];
        *polls += 1;
        let (script, polls, root) = (script.clone(), *polls, *root);
        let (actions, then) = &script.steps[polls.min(script.steps.len()) - 1];
        self.act(Some(own), actions)?;
        match then {
            Then::Panic => Err(Token::Poll(id)),
            Then::Pending if !root => Ok(Poll::Pending),
            Then::Pending if polls < script.steps.len() => {
                self.wake(own, script.wake_root);
                Ok(Poll::Pending)
            }
            Then::Pending | Then::Ready => Ok(Poll::Ready(Token::Output(id))),
        }
    }

    fn drop_future(&mut self, id: usize) -> Result<(), Token> {
        self.log(Event::Drop(id));
        if self.unwinding {
            return Ok(());
        }
        let (script, root) = (self.tasks[id].script.clone(), self.tasks[id].root);
        match self.act(None, &script.on_drop) {
            Ok(()) if script.drop_panics && !root => Err(Token::Drop(id)),
            Err(token) if root => {
                self.log(Event::Gone(token));
                Ok(())
            }
            acted => acted,
        }
    }

    fn abort(&mut self, id: usize) {
        let task = &mut self.tasks[id];
        if matches!(task.state, State::Running | State::Aborting) {
            task.state = State::Aborting;
            self.ready.insert(task.slot);
        }
    }

    fn cancel(&mut self, id: usize) {
        self.tasks[id].state = State::Closing;
        if let Err(token) = self.drop_future(id) {
            self.log(Event::Gone(token));
        }
        let task = &mut self.tasks[id];
        task.state = if task.has_handle { State::Done(Joined::Cancelled) } else { State::Empty };
    }

    /// Whether the task in this slot is done now. `None`: there is none.
    fn poll_slot(&mut self, slot: usize) -> Result<Option<bool>, Token> {
        let Some(id) = self.slots[slot] else { return Ok(None) };
        if self.tasks[id].state == State::Aborting {
            self.cancel(id);
        } else {
            let output = match self.poll_future(id, slot) {
                Ok(Poll::Pending) => return Ok(Some(false)),
                Ok(Poll::Ready(token)) => Ok(token),
                Err(token) => Err(token),
            };
            self.tasks[id].state = State::Closing;
            let joined = match (output, self.drop_future(id)) {
                (Ok(output), Ok(())) => Joined::Output(output),
                (Err(panic), Ok(())) => Joined::Panic(panic),
                (Ok(lost), Err(panic)) | (Err(panic), Err(lost)) => {
                    self.log(Event::Gone(lost));
                    Joined::Panic(panic)
                }
            };
            if self.tasks[id].has_handle {
                self.tasks[id].state = State::Done(joined);
            } else {
                self.tasks[id].state = State::Empty;
                self.gone(joined);
            }
        }
        self.slots[slot] = None;
        let joiner = self.tasks[id].joiner.take();
        let given = self.give_up(slot);
        // The joiner hears of it even if the waiter's waker panicked.
        self.unwinding = given.is_err();
        let told = joiner.map_or(Ok(()), |joiner| self.tell(joiner));
        self.unwinding = false;
        given.and(told).and(Ok(Some(true)))
    }

    /// One turn, and the root future's output.
    fn turn(&mut self, root: Option<usize>) -> Result<(Event, Option<Token>), Token> {
        let (mut polled, mut completed, mut output) = (0, 0, None);
        let woken_outside = self.abroad.len();
        self.ready.append(&mut self.abroad);
        let mut snapshot = std::mem::take(&mut self.ready);
        while let Some(slot) = snapshot.pop_first() {
            let poll = match root {
                _ if slot < self.plan.slots => self.poll_slot(slot),
                None => Ok(None),
                Some(root) => self.poll_future(root, slot).map(|poll| match poll {
                    Poll::Pending => Some(false),
                    Poll::Ready(token) => Some(output.replace(token).is_none()),
                }),
            };
            if poll.is_err() {
                // Who has not had his turn keeps it.
                self.ready.append(&mut snapshot);
            }
            let done = poll?;
            polled += usize::from(done.is_some());
            completed += usize::from(done == Some(true));
        }
        let busy = !self.ready.is_empty();
        Ok((Event::Turn { polled, completed, woken_outside, other: 0, busy }, output))
    }

    fn block_on(&mut self, script: &Rc<Script>) -> Result<(), Token> {
        let root = self.create(script, true);
        self.ready.insert(self.plan.slots);
        let result = loop {
            match self.turn(Some(root)) {
                Ok((_, None)) => {}
                Ok((_, Some(output))) => break Ok(output),
                Err(token) => break Err(token),
            }
        };
        self.unwinding = result.is_err();
        let dropped = self.drop_future(root);
        self.unwinding = false;
        dropped.and(result).map(|output| {
            self.log(Event::Returned(output));
            self.log(Event::Gone(output));
        })
    }

    fn shutdown(&mut self) -> Result<(), Token> {
        let (slots, taken) = (self.plan.slots, self.plan.slots - self.free.len());
        let text =
            format!("Runtime {{ slots: {slots}, taken: {taken}, timers: 0, watches: 0, .. }}");
        self.log(Event::Runtime(text));
        self.closed = true;
        let mut result = Ok(());
        let mut keep_first = |model: &mut Self, whom| match (result, model.tell(whom)) {
            (Err(_), Err(other)) => model.log(Event::Gone(other)),
            (_, told) => result = result.and(told),
        };
        for slot in 0..slots {
            let Some(id) = self.slots[slot].take() else { continue };
            self.cancel(id);
            if let Some(joiner) = self.tasks[id].joiner.take() {
                keep_first(self, joiner);
            }
        }
        while let Some(waiter) = self.promise(0) {
            keep_first(self, waiter);
        }
        result
    }

    fn apply(&mut self, op: &Op) {
        self.fuel = self.plan.fuel();
        self.entered = !matches!(op, Op::Outside(_));
        let result = match op {
            Op::Outside(action) => self.act(None, &[*action]),
            _ if self.closed => Ok(()),
            Op::Turn => self.turn(None).map(|(turn, _)| self.log(turn)),
            Op::BlockOn(script) => self.block_on(script),
            Op::Shutdown => self.shutdown(),
        };
        if let Err(token) = result {
            self.log(Event::Unwound(token));
            self.log(Event::Gone(token));
        }
        let state = |&id: &usize| matches!(self.tasks[id].state, State::Done(_) | State::Empty);
        let handles = self.handles.iter().chain(&self.aborters);
        self.log(Event::Finished(sum_up(handles.map(state))));
    }
}

// The real thing.

thread_local! {
    /// What happens on another thread would be missing here.
    static LOG: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    static VALUES: Cell<usize> = const { Cell::new(0) };
}

fn log(event: Event) {
    LOG.with_borrow_mut(|log| log.push(event));
}

struct Value(Token);

impl Value {
    fn new(token: Token) -> Self {
        VALUES.set(VALUES.get() + 1);
        Self(token)
    }

    fn of(payload: Box<dyn Any + Send>) -> Self {
        // Anything else is an assertion that failed.
        *payload.downcast().unwrap_or_else(|other| resume_unwind(other))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        VALUES.set(VALUES.get() - 1);
        log(Event::Gone(self.0));
    }
}

#[derive(Default)]
struct World {
    plan: Rc<Plan>,
    fuel: Cell<usize>,
    /// Of each future.
    drops: RefCell<Vec<usize>>,
    foreign: Cell<usize>,
    reserves: Cell<usize>,
    /// Another runtime, to be refused while this one is entered.
    guest: RefCell<Option<Runtime>>,
    wakers: RefCell<Vec<Waker>>,
    handles: RefCell<Vec<(usize, JoinHandle<Value>)>>,
    aborters: RefCell<Vec<AbortHandle>>,
    waiters: RefCell<Vec<(usize, Pin<Box<Reserve>>)>>,
    reserved: RefCell<Vec<Slot>>,
}

fn wake(waker: &Waker, how: usize) {
    let copy = waker.clone();
    match how {
        BY_REF => waker.wake_by_ref(),
        BY_VALUE => copy.wake(),
        ABROAD => thread::spawn(move || copy.wake()).join().unwrap(),
        _ => {
            let pause = pin!(gondola::yield_now());
            assert!(pause.poll(&mut Context::from_waker(waker)).is_pending());
        }
    }
}

impl World {
    fn waker(self: &Rc<Self>, own: Option<&Waker>, how: usize) -> Waker {
        if let Some(own) = own.filter(|_| how & 1 != 0) {
            return own.clone();
        }
        let (world, number) = (self.clone(), self.foreign.get());
        self.foreign.set(number + 1);
        waker_fn(move || {
            log(Event::Told(number));
            if !thread::panicking() {
                let (actions, panics) = world.plan.reaction(number);
                world.act(None, actions);
                if *panics {
                    panic_any(Value::new(Token::Waker(number)));
                }
            }
        })
    }

    fn task<const PAD: usize>(self: &Rc<Self>, script: &Rc<Script>, root: bool) -> Task<PAD> {
        let (world, script, mut drops) = (self.clone(), script.clone(), self.drops.borrow_mut());
        drops.push(0);
        let id = drops.len() - 1;
        Task { world, id, script, root, polls: 0, done: false, address: 0, pad: [id; PAD] }
    }

    fn spawn(self: &Rc<Self>, n: usize, slot: Option<Slot>) {
        let script = self.plan.script(n);
        // Not each box fits each task.
        match script.large {
            false => self.place(self.task::<0>(script, false), slot),
            true => self.place(self.task::<20>(script, false), slot),
        }
    }

    fn place<const PAD: usize>(&self, task: Task<PAD>, slot: Option<Slot>) {
        let id = task.id;
        let handle = match slot {
            Some(slot) => slot.spawn(task),
            None => match try_spawn(task) {
                Ok(handle) => handle,
                Err(error) => {
                    let full = match error.kind() {
                        TrySpawnErrorKind::Full { slots } => Some(slots),
                        _ => None,
                    };
                    log(Event::Refused(id, full));
                    return drop(error.into_future());
                }
            },
        };
        self.handles.borrow_mut().push((id, handle));
        log(Event::Placed(id));
    }

    fn poll_waiter(&self, id: usize, mut waiter: Pin<Box<Reserve>>, waker: &Waker) {
        match quietly(|| waiter.as_mut().poll(&mut Context::from_waker(waker))) {
            Err(_) => log(Event::NoReserve(id)),
            Ok(Poll::Pending) => {
                self.waiters.borrow_mut().push((id, waiter));
                log(Event::Waiting(id));
            }
            Ok(Poll::Ready(slot)) => {
                log(Event::Reserved(id, format!("{slot:?}")));
                self.reserved.borrow_mut().push(slot);
            }
        }
    }

    fn join(&self, n: usize, id: usize, mut handle: JoinHandle<Value>, waker: &Waker) {
        let poll = quietly(|| Pin::new(&mut handle).poll(&mut Context::from_waker(waker)));
        let (joined, value) = match poll.map(|poll| poll.map_err(gondola::JoinError::into_panic)) {
            Err(_) => (Joined::Again, None),
            Ok(Poll::Pending) => (Joined::Pending, None),
            Ok(Poll::Ready(Ok(value))) => (Joined::Output(value.0), Some(value)),
            Ok(Poll::Ready(Err(Err(_)))) => (Joined::Cancelled, None),
            Ok(Poll::Ready(Err(Ok(payload)))) => {
                let value = Value::of(payload);
                (Joined::Panic(value.0), Some(value))
            }
        };
        // Whoever has joined knows that the future is gone.
        assert_eq!(self.drops.borrow()[id], usize::from(joined != Joined::Pending), "{joined:?}");
        self.handles.borrow_mut().extend(kept(joined, n).then_some((id, handle)));
        log(Event::Joined(id, joined));
        drop(value);
    }

    fn act(self: &Rc<Self>, own: Option<&Waker>, actions: &[Action]) {
        for &(verb, n, how) in actions {
            let Some(fuel) = self.fuel.get().checked_sub(1) else { return };
            self.fuel.set(fuel);
            match verb {
                KeepWaker => self.wakers.borrow_mut().extend(own.cloned()),
                WakeSelf => own.into_iter().for_each(|own| wake(own, how)),
                Wake => {
                    let wakers = self.wakers.borrow();
                    if let Some(at) = n.checked_rem(wakers.len()) {
                        wake(&wakers[at], how);
                    }
                }
                TakeWaker => match take(&mut self.wakers.borrow_mut(), n) {
                    Some(waker) if how == BY_VALUE => waker.wake(),
                    waker => drop(waker),
                },
                Spawn => self.spawn(n, None),
                Abort => {
                    let handles = self.handles.borrow();
                    if let Some(at) = n.checked_rem(handles.len()) {
                        handles[at].1.abort();
                    }
                }
                KeepAborter => {
                    let handles = self.handles.borrow();
                    if let Some(at) = n.checked_rem(handles.len()) {
                        self.aborters.borrow_mut().push(handles[at].1.abort_handle());
                    }
                }
                UseAborter => {
                    let mut aborters = self.aborters.borrow_mut();
                    if let Some(at) = n.checked_rem(aborters.len()) {
                        aborters[at].abort();
                        if how == BY_VALUE {
                            drop(aborters.remove(at));
                        }
                    }
                }
                Join => {
                    let handle = take(&mut self.handles.borrow_mut(), n);
                    let Some((id, handle)) = handle else { continue };
                    self.join(n, id, handle, &self.waker(own, how));
                }
                DropHandle => {
                    let handle = take(&mut self.handles.borrow_mut(), n);
                    handle.into_iter().for_each(|(_, handle)| handle.detach());
                }
                Reserve => {
                    let id = self.reserves.replace(self.reserves.get() + 1);
                    self.poll_waiter(id, Box::pin(reserve()), &self.waker(own, how));
                }
                PollWaiter => {
                    let waiter = take(&mut self.waiters.borrow_mut(), n);
                    let Some((id, waiter)) = waiter else { continue };
                    self.poll_waiter(id, waiter, &self.waker(own, how));
                }
                DropWaiter => {
                    let waiter = take(&mut self.waiters.borrow_mut(), n);
                    drop(waiter);
                }
                UseSlot => {
                    let slot = take(&mut self.reserved.borrow_mut(), n);
                    slot.into_iter().for_each(|slot| self.spawn(n, Some(slot)));
                }
                DropSlot => {
                    let slot = take(&mut self.reserved.borrow_mut(), n);
                    drop(slot);
                }
                Reenter => {
                    let mut guest = self.guest.borrow_mut();
                    let guest = guest.get_or_insert_with(|| runtime(1, true));
                    log(Event::Reentered(quietly(|| guest.turn().unwrap()).is_ok()));
                }
            }
        }
    }

    fn apply(self: &Rc<Self>, op: &Op, runtime: &mut Option<Runtime>) {
        self.fuel.set(self.plan.fuel());
        let result = quietly(|| match (op, runtime.as_mut()) {
            (Op::Outside(action), _) => self.act(None, &[*action]),
            (_, None) => {}
            (Op::Turn, Some(runtime)) => {
                let gondola::Turn { polled, completed, woken_outside, fired, events, busy, .. } =
                    runtime.turn().unwrap();
                let other = fired + events;
                log(Event::Turn { polled, completed, woken_outside, other, busy });
            }
            (Op::BlockOn(script), Some(runtime)) => {
                let value = runtime.block_on(self.task::<0>(script, true));
                log(Event::Returned(value.0));
            }
            (Op::Shutdown, Some(alive)) => {
                log(Event::Runtime(format!("{alive:?}")));
                drop(runtime.take());
            }
        });
        if let Err(payload) = result {
            let value = Value::of(payload);
            log(Event::Unwound(value.0));
        }
        let (handles, aborters) = (self.handles.borrow(), self.aborters.borrow());
        let finished = handles.iter().map(|(_, handle)| handle.is_finished());
        let finished = finished.chain(aborters.iter().map(AbortHandle::is_finished));
        log(Event::Finished(sum_up(finished)));
    }
}

struct Task<const PAD: usize> {
    world: Rc<World>,
    id: usize,
    script: Rc<Script>,
    root: bool,
    polls: usize,
    done: bool,
    address: usize,
    pad: [usize; PAD],
}

impl<const PAD: usize> Future for Task<PAD> {
    type Output = Value;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Value> {
        assert!(!std::mem::replace(&mut self.done, true), "polled after its end");
        log(Event::Poll(self.id));
        let address = std::ptr::from_ref(&*self).addr();
        assert!(self.polls == 0 || self.address == address, "moved");
        (self.polls, self.address) = (self.polls + 1, address);
        let script = self.script.clone();
        let (actions, then) = &script.steps[self.polls.min(script.steps.len()) - 1];
        self.world.act(Some(cx.waker()), actions);
        match then {
            Then::Panic => panic_any(Value::new(Token::Poll(self.id))),
            Then::Pending if !self.root => {}
            Then::Pending if self.polls < script.steps.len() => wake(cx.waker(), script.wake_root),
            Then::Pending | Then::Ready => {
                return Poll::Ready(Value::new(Token::Output(self.id)));
            }
        }
        self.done = false;
        Poll::Pending
    }
}

impl<const PAD: usize> Drop for Task<PAD> {
    fn drop(&mut self) {
        log(Event::Drop(self.id));
        assert!(self.pad.iter().all(|&word| word == self.id), "overwritten");
        // Counted at the very end: whoever joins before that must wait.
        let _dropped = OnDrop(|| self.world.drops.borrow_mut()[self.id] += 1);
        let act = || self.world.act(None, &self.script.on_drop);
        if thread::panicking() {
            // A second panic would be the end.
        } else if self.root {
            // A panic would meet what `block_on` is about to return.
            drop(quietly(act).map_err(Value::of));
        } else {
            act();
            if self.script.drop_panics {
                panic_any(Value::new(Token::Drop(self.id)));
            }
        }
    }
}

fn runtime(slots: usize, virtual_time: bool) -> Runtime {
    let builder = Runtime::builder().slots(slots);
    let builder = if virtual_time { builder.virtual_time() } else { builder };
    builder.build().unwrap()
}

/// What the actions of a case are drawn from.
struct Swarm {
    weights: [u64; VERBS.len()],
    abroad: bool,
}

impl Swarm {
    fn action(&self, choices: &mut Choices<'_>) -> Action {
        let (verb, _) = VERBS[choices.weighted(&self.weights)];
        (verb, choices.index(256), choices.index(3 + usize::from(self.abroad)))
    }

    fn actions(&self, choices: &mut Choices<'_>) -> Vec<Action> {
        (0..choices.below(4)).map(|_| self.action(choices)).collect()
    }

    fn script(&self, choices: &mut Choices<'_>) -> Rc<Script> {
        let step = |choices: &mut Choices<'_>| {
            let then = [Then::Pending, Then::Ready, Then::Panic][choices.weighted(&[6, 3, 1])];
            (self.actions(choices), then)
        };
        Rc::new(Script {
            steps: (0..=choices.below(3)).map(|_| step(choices)).collect(),
            on_drop: if choices.percent(30) { self.actions(choices) } else { Vec::new() },
            drop_panics: choices.percent(8),
            large: choices.percent(30),
            wake_root: if self.abroad { choices.index(4) } else { BY_REF },
        })
    }
}

pub(crate) fn case(choices: &mut Choices<'_>) -> u64 {
    let ops = choices.index(50);
    let slots = [1, 2, 3, 63, 64, 65, 127][choices.weighted(&[40, 40, 40, 3, 3, 3, 3])];
    let kinds = [30, 25, 20, 3, 1].map(|most| choices.below(most));
    // Some things never, and each case its own. Other threads are slow: seldom, but then often.
    let mut swarm = Swarm {
        weights: VERBS.map(|(_, most)| choices.below(most + 1)),
        abroad: choices.below(200) == 199,
    };
    if swarm.abroad {
        swarm.weights[KeepWaker as usize] += 4;
        swarm.weights[Wake as usize] += 8;
    }
    let scripts = (0..=choices.below(5)).map(|_| swarm.script(choices)).collect();
    let reaction = |choices: &mut Choices<'_>| (swarm.actions(choices), choices.percent(15));
    let reactions = (0..=choices.below(3)).map(|_| reaction(choices)).collect();
    let plan = Rc::new(Plan { slots, scripts, reactions });

    LOG.take();
    VALUES.set(0);
    let world = Rc::new(World { plan: plan.clone(), ..World::default() });
    let mut model = Model {
        plan: plan.clone(),
        slots: vec![None; slots],
        free: (0..slots).collect(),
        ..Model::default()
    };
    // Virtual time names the wait for a lost wake a deadlock; but it does not know other threads.
    let mut real = Some(runtime(slots, !swarm.abroad));
    let (mut sum, mut done) = (0, Vec::new());
    let mut step = |op| {
        model.apply(&op);
        world.apply(&op, &mut real);
        done.push(op);
        let (expected, got) = (std::mem::take(&mut model.events), LOG.take());
        assert!(expected == got, "{plan:?}\n{done:?}\nmodel: {expected:?}\nreal:  {got:?}");
        digest(&mut sum, got);
        let handles = model.handles.len() + model.aborters.len();
        handles + model.waiters.len() + model.reserved.len() + model.wakers.len()
    };
    for _ in 0..ops {
        step(match choices.weighted(&kinds) {
            0 => Op::Turn,
            1 => Op::BlockOn(swarm.script(choices)),
            2 => Op::Outside(swarm.action(choices)),
            3 => {
                // Fills the ring, or nearly.
                let spawns = (0..choices.index(slots + 2)).map(|n| (Spawn, n, 0)).collect();
                let steps = vec![(spawns, Then::Ready)];
                Op::BlockOn(Rc::new(Script { steps, ..Script::default() }))
            }
            _ => Op::Shutdown,
        });
    }
    // Then all that outlives the runtime is used.
    step(Op::Shutdown);
    let used_up = [
        (TakeWaker, 0, BY_VALUE),
        (UseSlot, 0, 0),
        (PollWaiter, 0, 0),
        (Join, 0, 0),
        (UseAborter, 0, BY_VALUE),
    ];
    while used_up.iter().fold(0, |_, &action| step(Op::Outside(action))) > 0 {}
    assert!(world.drops.borrow().iter().all(|&drops| drops == 1), "not dropped exactly once");
    assert_eq!((VALUES.get(), Rc::strong_count(&world)), (0, 1), "something leaked");
    sum
}

#[test]
fn the_ring_at_random() {
    run(100_000, case);
}
