//! The run of a batch: its turn and its law.
#![forbid(unsafe_code)]

use super::books::{Books, Outcome};
use super::error::{ErrorKind, ItemError};
use super::feed::Feed;
use super::on_error::{OnError, Stop};
use super::source::{Control as _, Pulled, Source};
use super::stop_when::{StopWhen, Stoppable};
use super::verbs::Verb;
use crate::bell::ParentBell;
use crate::budget::{self, Account, MAX_SLOTS};
use crate::cancel::{CancellationToken, Waiting};
use crate::panic::Contained;
use crate::slots::Slots;
use crate::wake::Wakes;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A batch with its verb: await it.
///
/// It is `!Send`, and nothing happens before the first poll. It is `Unpin`, even if its items'
/// futures are not. One poll gives the thread back after about 128 steps (polls of items, and I/O
/// operations), or one poll of each item in flight, if that is more. Items that are batches share
/// in this.
///
/// ```
/// let run = gondola::batch([1, 2]).limit(2).map(async |n| n * 10);
/// assert_eq!(gondola::block_on(run).unwrap(), [10, 20]);
/// ```
#[must_use = "a batch does nothing until it is awaited"]
pub struct Run<I, F, Fut: Future, V: Verb<Fut::Output>> {
    stage: Stage<I, F, Fut, V>,
    /// A stop that was asked for, and that the next turn is to heed.
    asked: Option<Stop>,
}

// The futures are pinned in the slots' own allocation, not in the run.
impl<I, F, Fut: Future, V: Verb<Fut::Output>> Unpin for Run<I, F, Fut, V> {}

/// What it is to do.
pub(super) struct Plan<I> {
    pub(super) items: I,
    pub(super) limit: usize,
    pub(super) on_error: OnError,
    pub(super) token: Option<CancellationToken>,
}

enum Stage<I, F, Fut: Future, V: Verb<Fut::Output>> {
    Ready(Plan<I>, F, V),
    Turning(Turning<I, F, Fut, V>),
    Done,
}

struct Turning<I, F, Fut: Future, V: Verb<Fut::Output>> {
    wheel: Wheel<Fut>,
    feed: Feed<I, F>,
    books: Books<V, V::Error>,
    /// The most steps that a turn has taken in which items did steps of their own; at least 1.
    dearest: u32,
    /// The runtime in which it was polled last, by its number.
    runtime: u32,
}

struct Wheel<Fut> {
    slots: Slots<Fut>,
    wakes: Wakes<ParentBell>,
}

impl<I, F, Fut, V> Run<I, F, Fut, V>
where
    I: Source,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    pub(super) fn new(plan: Plan<I>, f: F, verb: V) -> Self {
        Self { stage: Stage::Ready(plan, f, verb), asked: None }
    }

    /// Begins nothing more, as of the next poll: what was woken before that is taken in first. The
    /// run has to be polled again; then it ends with a record of the kind
    /// [`Stopped`](ErrorKind::Stopped), or is `Ok` if nothing was left undone. What is in flight is
    /// run to its end ([`Stop::Drain`]) or dropped ([`Stop::Cancel`]). Of two stops, the harder one
    /// counts.
    ///
    /// [`stop_when`](Self::stop_when) does that when a future says so.
    ///
    /// ```
    /// use gondola::{ErrorKind, Stop, batch, block_on};
    ///
    /// let mut run = batch(0..9).limit(2).for_each(async |_| {});
    /// run.stop(Stop::Drain);
    /// let record = block_on(run).unwrap_err();
    /// assert_eq!((record.kind, record.pulled, record.rest), (ErrorKind::Stopped, 0, 0..9));
    /// ```
    pub fn stop(&mut self, how: Stop) {
        self.asked = Some(self.asked.map_or(how, |before| before.or(how)));
    }

    /// Stops the run once `future` is ready: a sleep for a deadline, a token, a signal. It is polled
    /// before the run, and no more once it is ready. If it is ready at once, nothing is pulled.
    /// May be chained: first to drain, and later to cut off.
    ///
    /// Unlike [`timeout`](crate::time::timeout) around a run, it keeps the record.
    ///
    /// ```
    /// use gondola::{Runtime, Stop, batch, time::sleep};
    /// use std::time::Duration;
    ///
    /// let mut runtime = Runtime::builder().virtual_time().build()?;
    /// let seconds = |n| sleep(Duration::from_secs(n));
    /// let record = runtime.block_on(async {
    ///     let run = batch(0..100).limit(4).for_each(|n| seconds(1 + n));
    ///     run.stop_when(seconds(5), Stop::Drain).stop_when(seconds(8), Stop::Cancel).await
    /// });
    /// let record = record.unwrap_err();
    /// assert_eq!((record.completed(), record.cut_off, record.rest), (6, vec![6, 7], 8..100));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn stop_when<S: Future>(self, future: S, how: Stop) -> StopWhen<S, Self>
    where
        F: FnMut(I::Item) -> Fut,
    {
        StopWhen::new(self, future, how)
    }
}

/// What a checkpoint is made of. All of it is exact between two polls of the run, and gone once the
/// run is over: then the record has it.
///
/// ```
/// use gondola::{OnError, Runtime, batch, time::{sleep, timeout}};
/// use std::time::Duration;
///
/// let mut runtime = Runtime::builder().virtual_time().build()?;
/// let mut run = batch(0..100).limit(3).on_error(OnError::Collect).try_for_each(async |n| {
///     sleep(Duration::from_millis(10)).await; // stands for some I/O
///     if n == 1 { Err("bad") } else { Ok(()) }
/// });
/// runtime.block_on(async {
///     // Such a loop with a write in it saves the state once in 25 ms.
///     assert!(timeout(Duration::from_millis(25), &mut run).await.is_err());
/// });
/// assert_eq!((run.pulled(), run.errors()[0].index), (9, 1));
/// assert!(run.in_flight().all(|item| [6, 7, 8].contains(&item)));
/// # Ok::<_, std::io::Error>(())
/// ```
impl<I, F, Fut: Future, V: Verb<Fut::Output>> Run<I, F, Fut, V> {
    /// How many items have been pulled from the source, and so begun: those below this index.
    #[must_use]
    pub fn pulled(&self) -> usize {
        self.turning().map_or(0, |turning| turning.feed.pulled)
    }

    /// The items in flight, in no particular order. Costs a look at each slot.
    pub fn in_flight(&self) -> impl Iterator<Item = usize> {
        self.turning().into_iter().flat_map(|turning| turning.wheel.slots.items())
    }

    /// The items that have failed so far.
    #[must_use]
    pub fn errors(&self) -> &[ItemError<V::Error>] {
        self.turning().map_or(&[], |turning| &turning.books.errors)
    }

    fn turning(&self) -> Option<&Turning<I, F, Fut, V>> {
        if let Stage::Turning(turning) = &self.stage { Some(turning) } else { None }
    }
}

impl<I, F, Fut, V> Future for Run<I, F, Fut, V>
where
    I: Source,
    F: FnMut(I::Item) -> Fut,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    type Output = Outcome<I, V, Fut::Output>;

    /// # Panics
    /// With a panic of the source, the closure or an item, or of a destructor of theirs; and if
    /// polled after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { stage, asked } = self.get_mut();
        if matches!(stage, Stage::Ready(..)) {
            if let Stage::Ready(plan, f, verb) = mem::replace(stage, Stage::Done) {
                match verb.fault().map_or_else(|| plan.slots(), Err) {
                    Ok(slots) => *stage = Stage::Turning(Turning::new(slots, plan, f, verb)),
                    Err(kind) => {
                        let (mut feed, books) = plan.open(f, verb);
                        feed.stop(kind, Stop::Cancel);
                        return Poll::Ready(books.close(feed));
                    }
                }
            }
        }
        let Stage::Turning(turning) = stage else {
            panic!("a batch was polled after it was ready");
        };
        match catch_unwind(AssertUnwindSafe(|| turning.poll(asked, cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                // All the rest goes first; what its destructors throw is the lesser news.
                mem::replace(stage, Stage::Done).scrap().forget();
                resume_unwind(payload);
            }
        }
        match mem::replace(stage, Stage::Done) {
            Stage::Turning(Turning { wheel, feed, books, .. }) => {
                drop(wheel);
                Poll::Ready(books.close(feed))
            }
            Stage::Ready(..) | Stage::Done => unreachable!("it was turning just now"),
        }
    }
}

impl<I, F, Fut, V> Stoppable for Run<I, F, Fut, V>
where
    I: Source,
    F: FnMut(I::Item) -> Fut,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    fn stop(self: Pin<&mut Self>, how: Stop) {
        self.get_mut().stop(how);
    }
}

impl<I, F, Fut, V> Turning<I, F, Fut, V>
where
    I: Source,
    F: FnMut(I::Item) -> Fut,
    Fut: Future,
    V: Verb<Fut::Output>,
{
    fn new(slots: usize, plan: Plan<I>, f: F, mut verb: V) -> Self {
        let (lower, upper) = plan.items.hint();
        if upper == Some(lower) {
            verb.expect(lower);
        }
        let wheel = Wheel {
            slots: Slots::new(slots),
            wakes: Wakes::new(slots + usize::from(I::WAKES), ParentBell::new()),
        };
        let (feed, books) = plan.open(f, verb);
        Self { wheel, feed, books, dearest: 1, runtime: budget::entered_runtime() }
    }

    /// Turns until there is nothing to do at present, or the budget of this poll is used up.
    fn poll(&mut self, asked: &mut Option<Stop>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(limit) = self.feed.items.control() {
            limit.enter();
        }
        let poll = self.poll_turns(asked, cx);
        if let Some(limit) = self.feed.items.control() {
            limit.leave();
        }
        poll
    }

    #[inline(always)]
    fn poll_turns(&mut self, asked: &mut Option<Stop>, cx: &mut Context<'_>) -> Poll<()> {
        self.wheel.wakes.bell().disarm();
        self.follow_the_runtime();
        if let Some(cancel) = &mut self.feed.cancel {
            // Whether it is cancelled is asked before each pull; this is for being woken by it.
            let _ = cancel.poll(cx);
        }
        let mut account = Account::open();
        loop {
            // The first turn of a poll is taken in any case, so that no item stands still.
            self.turn(asked, &mut account);
            let Wheel { slots, wakes } = &self.wheel;
            if self.feed.closed && slots.taken() == 0 {
                return Poll::Ready(());
            }
            let feed = &mut self.feed;
            let is_held_back = feed.is_held_back(slots.taken());
            let waits =
                I::MAY_GROW && feed.dry || is_held_back || !self.books.lets_begin(feed.pulled);
            if wakes.any_ready() || !feed.closed && slots.any_vacant() && !waits {
                // One more turn, if there is a step left for each item in flight, and as many as a
                // turn has ever taken in which items did steps of their own.
                if account.left() >= self.dearest.max(slots.taken() as u32) {
                    continue;
                }
            } else {
                // Nobody can go on. From here on, the first wake tells the parent.
                wakes.bell().arm(cx.waker());
                // Or the first change of the limit, where that is what holds it back.
                let limit = feed.items.control().filter(|_| is_held_back);
                let changed = limit.is_some_and(|limit| limit.wait(cx));
                // Arming calls foreign code, which may wake an item; and another thread may.
                if !changed && !wakes.any_ready() && wakes.fall_asleep() {
                    return Poll::Pending;
                }
                wakes.bell().disarm();
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }

    /// The turn and its law: poll the woken and take in what they return; then, as long as nothing
    /// has failed, begin others. To pull is to begin: each is polled before the next one is pulled.
    #[inline(always)]
    fn turn(&mut self, asked: &mut Option<Stop>, account: &mut Account) {
        let Self { wheel: Wheel { slots, wakes }, feed, books, dearest, .. } = self;
        // An equal share for each slot. That of a vacant one is kept for the item that fills it.
        let slot_count = slots.len() as u32;
        let mut share = account.share(slot_count);
        let mut polls = 0;
        wakes.drain();
        let in_flight = slots.taken();
        for (slot, waker) in wakes.begin_turn() {
            // Behind the slots stands the source's own waker.
            if I::WAKES && slot == slots.len() {
                feed.dry = false;
                continue;
            }
            Account::lend(share);
            let cx = &mut Context::from_waker(&waker);
            let Some((index, poll)) = slots.poll(slot, cx) else { continue };
            polls += 1;
            if let Poll::Ready(output) = poll {
                if let Some(limit) = feed.items.control() {
                    limit.ended(slot, in_flight);
                }
                books.take_in(index, output, feed);
            }
        }
        // As many may begin as there are slots: more would keep the woken waiting, if they are ready
        // at once. Where the budget does not reach so far, only as many as slots were not polled yet.
        let mut most = polls + slot_count;
        if most > account.left() {
            most = account.left().max(slot_count);
        }
        if account.is_used() {
            // The woken did steps inside. So may those that begin: they share what is left.
            *dearest = account.settle(polls).max(*dearest);
            share = account.share(slot_count);
            (most, polls) = (slot_count - polls, 0);
        }
        if let Some(how) = asked.take() {
            feed.heed(how, slots.taken());
        }
        if I::MAY_GROW && !I::WAKES {
            feed.dry = false;
        }
        if let Some(limit) = feed.items.control() {
            let room = limit.look().saturating_sub(slots.taken());
            most = most.min(polls.saturating_add(room.try_into().unwrap_or(u32::MAX)));
        }
        // A failure may become visible meanwhile, by a wake from another thread. Then a new turn looks
        // at it before anything else is pulled.
        while feed.may_begin(slots)
            && polls < most
            && books.lets_begin(feed.pulled)
            && !wakes.any_remote()
        {
            Account::lend(share);
            if I::WAKES && feed.dry {
                break;
            }
            let pulled = match I::WAKES {
                true => {
                    let waker = wakes.waker_of(slots.len());
                    feed.items.poll_pull(&mut Context::from_waker(&waker))
                }
                false => feed.items.pull(slots.taken()),
            };
            let item = match pulled {
                Pulled::Item(item) => item,
                Pulled::Nothing => {
                    // It may have woken itself, again and again: that is a step too.
                    polls += u32::from(I::WAKES);
                    feed.dry = true;
                    break;
                }
                Pulled::End => {
                    feed.closed = true;
                    break;
                }
            };
            let slot = slots.next();
            let waker = wakes.waker_of(slot);
            let cx = &mut Context::from_waker(&waker);
            if let Some(limit) = feed.items.control() {
                limit.began(slot);
            }
            let index = feed.pulled;
            feed.pulled += 1;
            polls += 1;
            if let Poll::Ready(output) = slots.begin(index, (feed.f)(item), cx) {
                if let Some(limit) = feed.items.control() {
                    limit.ended(slot, slots.taken() + 1);
                }
                books.take_in(index, output, feed);
                // Over the budget, slots are filled, but not by one item after the other.
                if polls >= account.left() {
                    most = polls;
                }
            }
        }

        if feed.cuts {
            slots.clear(|index| books.cut_off.push(index));
        }
        match account.is_used() {
            true => *dearest = account.settle(polls).max(*dearest),
            false => account.spend(polls),
        }
    }

    /// Futures that wait at another runtime's timers and sockets would wait for ever. So all are
    /// polled once, and find out where they are.
    fn follow_the_runtime(&mut self) {
        let entered = budget::entered_runtime();
        if entered != self.runtime && entered != 0 {
            self.runtime = entered;
            self.feed.dry = false;
            let Wheel { slots, wakes } = &self.wheel;
            (0..slots.len()).filter(|&slot| slots.is_taken(slot)).for_each(|slot| wakes.mark(slot));
        }
    }
}

impl<I: Source> Plan<I> {
    /// How many slots it needs, or why it can't have them.
    fn slots(&self) -> Result<usize, ErrorKind> {
        // The hint is trusted for memory only: with too few slots the batch still finishes.
        let upper = self.items.hint().1;
        match upper.map_or(self.limit, |upper| self.limit.min(upper.max(1))) {
            0 => Err(ErrorKind::ZeroLimit),
            slots if slots > MAX_SLOTS => Err(ErrorKind::LimitTooLarge { max: MAX_SLOTS }),
            slots => Ok(slots),
        }
    }

    #[inline(always)]
    fn open<F, V, E>(self, f: F, verb: V) -> (Feed<I, F>, Books<V, E>) {
        let Self { items, on_error, token, .. } = self;
        (Feed::new(items, f, token.map(Waiting::new)), Books::new(verb, on_error))
    }
}

impl<I, F, Fut: Future, V: Verb<Fut::Output>> Stage<I, F, Fut, V> {
    /// Drops everything, each thing whatever the destructors of the others do.
    fn scrap(self) -> Contained {
        let mut contained = Contained::default();
        match self {
            Stage::Ready(plan, f, _) => {
                contained.drop(f);
                contained.drop(plan);
            }
            Stage::Turning(Turning { wheel, feed, books, .. }) => {
                contained.drop(wheel);
                contained.drop(feed.f);
                contained.drop(feed.cancel);
                contained.drop(feed.items);
                books.scrap(&mut contained);
            }
            Stage::Done => {}
        }
        contained
    }
}

impl<I, F, Fut: Future, V: Verb<Fut::Output>> Drop for Run<I, F, Fut, V> {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Done) {
            mem::replace(&mut self.stage, Stage::Done).scrap().resume();
        }
    }
}

impl<Fut> Drop for Wheel<Fut> {
    fn drop(&mut self) {
        // The futures are dropped after this, so nothing of it may be armed any more.
        self.wakes.bell().close();
    }
}

impl<I, F, Fut: Future, V: Verb<Fut::Output>> fmt::Debug for Run<I, F, Fut, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pulled, in_flight) = (self.pulled(), self.in_flight().count());
        let mut debug = f.debug_struct("Run");
        debug.field("pulled", &pulled).field("in_flight", &in_flight).finish_non_exhaustive()
    }
}

#[cfg(all(test, target_pointer_width = "32"))]
mod tests {
    use super::*;
    use crate::batch;
    use crate::slots::MAX_ITEMS;
    use std::task::Waker;

    #[test]
    fn when_there_are_no_more_indices_the_record_says_so() {
        let mut run = batch(0_u64..).limit(3).for_each(async |_| crate::yield_now().await);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut run).poll(cx).is_pending());
        // Counting up to here would take minutes.
        let Stage::Turning(turning) = &mut run.stage else { panic!("it is turning") };
        let pulled = std::mem::replace(&mut turning.feed.pulled, MAX_ITEMS - 2);
        let record = loop {
            if let Poll::Ready(result) = Pin::new(&mut run).poll(cx) {
                break result.unwrap_err();
            }
        };
        assert_eq!(record.kind, ErrorKind::TooManyItems { max: MAX_ITEMS });
        assert_eq!((record.pulled, record.completed()), (MAX_ITEMS, MAX_ITEMS));
        assert_eq!(record.rest, pulled as u64 + 2..);
    }
}
