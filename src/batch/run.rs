//! The run of a batch: its turn and its law.
#![forbid(unsafe_code)]

use super::error::{BatchError, ErrorKind, ItemError, Parts};
use super::verbs::Verb;
use super::{Batch, OnError, Stop};
use crate::bell::ParentBell;
use crate::cancel::{CancellationToken, Wait};
use crate::context;
use crate::error::{MAX_SLOTS, dispose};
use crate::slots::Slots;
use crate::wake::Wakes;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Item polls after which one poll of the batch gives the thread back, unless K is larger.
const POLLS_PER_POLL: usize = 64;

/// A batch with its verb: await it.
///
/// It is `!Send`, and nothing happens before the first poll. It is `Unpin`, even if its items'
/// futures are not. One poll gives the thread back after about 64 polls of items, or as many as
/// the limit, if that is more.
///
/// ```
/// let run = gondola::batch([1, 2]).limit(2).map(|n| async move { n * 10 });
/// assert_eq!(gondola::block_on(run).unwrap(), [10, 20]);
/// ```
#[must_use = "a batch does nothing until it is awaited"]
pub struct Run<I, F, Fut: Future, V: Verb<Fut::Output>> {
    stage: Stage<I, F, Fut, V>,
}

// The futures are pinned in the slots' own allocation, not in the run.
impl<I, F, Fut: Future, V: Verb<Fut::Output>> Unpin for Run<I, F, Fut, V> {}

enum Stage<I, F, Fut: Future, V: Verb<Fut::Output>> {
    Ready(Batch<I>, F, V),
    Turning(Turning<I, F, Fut, V>),
    Done,
}

struct Turning<I, F, Fut: Future, V: Verb<Fut::Output>> {
    wheel: Wheel<Fut>,
    items: I,
    f: F,
    verb: V,
    on_error: OnError,
    cancel: Option<Cancel>,
    pulled: usize,
    exhausted: bool,
    errors: Vec<ItemError<V::Error>>,
    cut_off: Vec<usize>,
    /// Set by a failure or by the token: no item is started any more.
    stopped: Option<ErrorKind>,
}

struct Wheel<Fut> {
    slots: Slots<Fut>,
    wakes: Wakes<ParentBell>,
}

struct Cancel {
    token: CancellationToken,
    wait: Wait,
}

impl<I, F, Fut, V> Run<I, F, Fut, V>
where
    I: Iterator,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    pub(super) fn new(batch: Batch<I>, f: F, verb: V) -> Self {
        Self { stage: Stage::Ready(batch, f, verb) }
    }
}

impl<I, F, Fut, V> Future for Run<I, F, Fut, V>
where
    I: Iterator,
    F: FnMut(I::Item) -> Fut,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    type Output = Result<V::Whole, BatchError<I, V::Error, V::Partial>>;

    /// # Panics
    /// With a panic of the source, the closure or an item; and if polled after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stage = &mut self.get_mut().stage;
        if matches!(stage, Stage::Ready(..)) {
            if let Stage::Ready(batch, f, verb) = mem::replace(stage, Stage::Done) {
                *stage = Stage::Turning(Turning::start(batch, f, verb)?);
            }
        }
        let Stage::Turning(turning) = stage else {
            panic!("a batch was polled after it was ready");
        };
        match catch_unwind(AssertUnwindSafe(|| turning.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                // The others go first; what their destructors throw is the lesser news.
                let others = mem::replace(stage, Stage::Done);
                catch_unwind(AssertUnwindSafe(|| drop(others))).unwrap_or_else(dispose);
                resume_unwind(payload);
            }
        }
        match mem::replace(stage, Stage::Done) {
            Stage::Turning(turning) => Poll::Ready(turning.finish()),
            Stage::Ready(..) | Stage::Done => unreachable!("it was turning just now"),
        }
    }
}

impl<I, F, Fut, V> Turning<I, F, Fut, V>
where
    I: Iterator,
    F: FnMut(I::Item) -> Fut,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    fn start(batch: Batch<I>, f: F, verb: V) -> Result<Self, BatchError<I, V::Error, V::Partial>> {
        let Batch { items, limit, on_error, token } = batch;
        // The hint is trusted for memory only: with too few slots the batch still finishes.
        let slots = items.size_hint().1.map_or(limit, |upper| limit.min(upper.max(1)));
        let refused = match slots {
            0 => Some(ErrorKind::ZeroLimit),
            _ if slots > MAX_SLOTS => Some(ErrorKind::LimitTooLarge { max: MAX_SLOTS }),
            _ => None,
        };
        if let Some(kind) = refused {
            let (errors, cut_off, partial) = (Vec::new(), Vec::new(), verb.partial());
            let parts = Parts { kind, pulled: 0, errors, cut_off, partial, rest: items };
            return Err(BatchError::new(parts));
        }
        let wakes = Wakes::new(slots, ParentBell::new());
        Ok(Self {
            wheel: Wheel { slots: Slots::new(slots), wakes },
            items,
            f,
            verb,
            on_error,
            cancel: token.map(|token| Cancel { token, wait: Wait::default() }),
            pulled: 0,
            exhausted: false,
            errors: Vec::new(),
            cut_off: Vec::new(),
            stopped: None,
        })
    }

    /// Turns until there is nothing to do at present, or the poll has lasted long enough.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wheel.wakes.bell().disarm();
        if let Some(Cancel { token, wait }) = &mut self.cancel {
            // Whether it is cancelled is asked below; this is for being woken by it.
            let _ = wait.poll(token, cx);
        }
        let most = POLLS_PER_POLL.max(self.wheel.slots.len());
        let mut polls = 0;
        let poll = loop {
            polls += self.turn();
            let Wheel { slots, wakes } = &self.wheel;
            if slots.taken() == 0 && (self.exhausted || self.stopped.is_some()) {
                break Poll::Ready(());
            }
            if wakes.any_ready() && polls + slots.taken() <= most {
                continue;
            }
            if !wakes.any_ready() {
                wakes.bell().arm(cx.waker());
                // Arming calls foreign code, which may wake an item.
                if !wakes.any_ready() && wakes.park() {
                    break Poll::Pending;
                }
                wakes.bell().disarm();
            }
            cx.waker().wake_by_ref();
            break Poll::Pending;
        };
        context::charge(polls);
        poll
    }

    /// The turn and its law: poll the woken, take in what they return, and only if nothing
    /// failed start others. Returns the number of polls.
    fn turn(&mut self) -> usize {
        let Wheel { slots, wakes } = &mut self.wheel;
        wakes.drain();
        let mut polls = 0;
        for (slot, waker) in wakes.turn() {
            let Some(poll) = slots.poll(slot, &mut Context::from_waker(&waker)) else { continue };
            polls += 1;
            if let Poll::Ready((index, output)) = poll {
                if let Err(error) = self.verb.take_in(index, output) {
                    self.errors.push(ItemError { index, error });
                    if let OnError::Stop(_) = self.on_error {
                        self.stopped.get_or_insert(ErrorKind::Item);
                    }
                }
            }
        }

        while self.may_admit() {
            let Some(item) = self.items.next() else {
                self.exhausted = true;
                break;
            };
            let Wheel { slots, wakes } = &mut self.wheel;
            let slot = slots.place(self.pulled, (self.f)(item));
            self.pulled += 1;
            wakes.mark(slot);
        }

        if self.stopped.is_some() && self.on_error != OnError::Stop(Stop::Drain) {
            let cut_off = &mut self.cut_off;
            self.wheel.slots.clear(|item| cut_off.push(item));
        }
        polls
    }

    /// Whether one more item may be pulled; asked before each, as the source and the closure may
    /// cancel the token.
    fn may_admit(&mut self) -> bool {
        if let Some(cancel) = &self.cancel {
            let work_left = self.wheel.slots.taken() > 0 || !self.exhausted;
            if work_left && cancel.token.is_cancelled() {
                self.stopped.get_or_insert(ErrorKind::Cancelled);
            }
        }
        let slots = &self.wheel.slots;
        self.stopped.is_none() && !self.exhausted && slots.taken() < slots.len()
    }

    fn finish(self) -> Result<V::Whole, BatchError<I, V::Error, V::Partial>> {
        let kind = match self.stopped {
            None if self.errors.is_empty() => return Ok(self.verb.whole()),
            None => ErrorKind::Item,
            Some(kind) => kind,
        };
        Err(BatchError::new(Parts {
            kind,
            pulled: self.pulled,
            errors: self.errors,
            cut_off: self.cut_off,
            partial: self.verb.partial(),
            rest: self.items,
        }))
    }
}

impl<Fut> Drop for Wheel<Fut> {
    fn drop(&mut self) {
        // The futures are dropped after this, so nothing of it may be armed any more.
        self.wakes.bell().close();
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.wait.leave(&self.token);
    }
}

impl<I, F, Fut: Future, V: Verb<Fut::Output>> fmt::Debug for Run<I, F, Fut, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Run");
        if let Stage::Turning(turning) = &self.stage {
            debug.field("pulled", &turning.pulled);
            debug.field("in_flight", &turning.wheel.slots.taken());
        }
        debug.finish_non_exhaustive()
    }
}
