//! How much a task may do in one poll, and every number of the scheduling policy.
//!
//! A *step* is the poll of a batch's item, or one I/O operation. One poll of a task has a budget of
//! [`STEPS`] steps. A batch lends it to its items, a share for each, and an item that is a batch
//! again lends its share on. So the bound holds at any depth.
//!
//! ```text
//!   a task: 128 ──▶ batch of 4: 32 each ──▶ batch of 3: 10 each ──▶ an item that reads: 10 reads
//! ```
//!
//! Lending is one store into `left`. Nothing is ever handed back: the odometer counts all steps of
//! the thread, and whoever lent something reads there how much was used.
//!
//! # Invariants
//!
//! 1. `left` is what the code that runs now may still do, or [`UNCOUNTED`] outside of any task and
//!    any batch.
//! 2. Whoever changes `left` for code that it calls restores it afterwards, also while unwinding:
//!    [`Account`] and [`Outer`] do so when they are dropped.
//! 3. Each step is on the odometer before the poll of the task that it belongs to has ended.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

/// Steps of one poll of a task; and steps, polls of tasks included, between two looks at I/O and
/// timers while there is work. A look costs a system call of 100 ns and a reading of the clock, a
/// poll 5 ns: so a thread that does nothing but poll spends a fifth of its time looking, and one
/// that works spends nothing to speak of. Twice as many steps would gain little and make all the
/// others wait twice as long: at sockets, 128 steps are half a millisecond of system calls.
pub(crate) const STEPS: u32 = 128;

/// Events that one answer of the kernel holds: 3 kB of buffer. After a full one, a look asks again.
pub(crate) const EVENTS_PER_ANSWER: usize = 256;

/// Waits shorter than this are precise to some microseconds, by a second system call. Of longer
/// ones only the end is: most of them are time-outs, which an event ends earlier.
pub(crate) const PRECISE_BELOW: Duration = Duration::from_millis(10);

/// How long `accept` leaves the queue alone after an error that trying again would only repeat: 20
/// errors a second are a log that one can read.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The pauses of what can only be tried again, such as a connect to a Unix socket whose queue is full:
/// they double from one to the other, from a wait that nobody notices to 20 calls a second.
#[cfg(unix)]
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(1);
#[cfg(unix)]
pub(crate) const LONGEST_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The slots of a runtime, unless told otherwise: 17 kB.
pub(crate) const DEFAULT_SLOTS: usize = 1024;

/// The most slots, of a runtime or of a batch: so many that the whole of the words, a million bits,
/// is still small beside the futures.
pub(crate) const MAX_SLOTS: usize = 1 << 20;

/// Wakers that a cancelled token takes out of its list under one locking: 512 bytes of stack.
pub(crate) const WAKES_PER_LOCK: usize = 32;

/// What `left` says where nobody counts.
const UNCOUNTED: u32 = u32::MAX;

struct Budget {
    left: Cell<u32>,
    odometer: Cell<u32>,
    /// The runtime that is entered, by its number; 0 for none.
    runtime: Cell<u32>,
    /// The last number that was given to a runtime.
    numbered: Cell<u32>,
}

thread_local! {
    static BUDGET: Budget = const {
        Budget {
            left: Cell::new(UNCOUNTED),
            odometer: Cell::new(0),
            runtime: Cell::new(0),
            numbered: Cell::new(0),
        }
    };
}

/// Fills the budget up, for the next poll of a task.
#[inline(always)]
pub(crate) fn refill() {
    BUDGET.with(|budget| budget.left.set(STEPS));
}

/// Takes one step, or refuses it because none is left. `refused` remembers, for one operation, that
/// it was refused last time: never twice in a row, so it gets on whatever its neighbours do.
#[inline(always)]
pub(crate) fn take_step(refused: &mut bool) -> bool {
    BUDGET.with(|budget| {
        let left = budget.left.get();
        if left == 0 && !*refused {
            *refused = true;
            return false;
        }
        *refused = false;
        if left != UNCOUNTED {
            budget.left.set(left.saturating_sub(1));
        }
        budget.odometer.set(budget.odometer.get().wrapping_add(1));
        true
    })
}

/// Counts steps that were taken already, and reads the odometer.
#[inline(always)]
pub(crate) fn count(steps: u32) -> u32 {
    BUDGET.with(|budget| {
        let now = budget.odometer.get().wrapping_add(steps);
        budget.odometer.set(now);
        now
    })
}

/// Numbers a new runtime of this thread, which it never leaves.
pub(crate) fn number_runtime() -> u32 {
    BUDGET.with(|budget| {
        budget
            .numbered
            .set(budget.numbered.get().checked_add(1).expect("fewer than 2^32 runtimes"));
        budget.numbered.get()
    })
}

/// The number of the runtime that is entered on this thread; 0 for none.
#[inline(always)]
pub(crate) fn entered_runtime() -> u32 {
    BUDGET.with(|budget| budget.runtime.get())
}

/// Enters the runtime `runtime`; what was there before comes back when the result is dropped. So
/// another runtime inside a task leaves the task's budget as it was.
pub(crate) fn enter(runtime: u32) -> Outer {
    BUDGET.with(|budget| Outer {
        left: budget.left.replace(STEPS),
        runtime: budget.runtime.replace(runtime),
    })
}

pub(crate) struct Outer {
    left: u32,
    runtime: u32,
}

impl Drop for Outer {
    fn drop(&mut self) {
        BUDGET.with(|budget| {
            budget.left.set(self.left);
            budget.runtime.set(self.runtime);
        });
    }
}

/// The budget of one poll of a batch, to be lent to its items.
pub(crate) struct Account {
    left: u32,
    /// The odometer when `left` was right.
    read_at: u32,
    /// Polls of items that are not on the odometer yet.
    polls: u32,
    /// Whether somebody counts beside it.
    counted: bool,
}

impl Account {
    /// Takes over what is left here. Where nobody counts, a batch has as much as a task.
    #[inline(always)]
    pub(crate) fn open() -> Self {
        BUDGET.with(|budget| {
            let left = budget.left.get();
            let (left, counted) = (left.min(STEPS), left != UNCOUNTED);
            Self { left, read_at: budget.odometer.get(), polls: 0, counted }
        })
    }

    /// Whether items have done steps inside since the last settlement.
    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        BUDGET.with(|budget| budget.odometer.get()) != self.read_at
    }

    /// Takes in `polls` of items that did no step inside.
    #[inline(always)]
    pub(crate) fn spend(&mut self, polls: u32) {
        self.polls += polls;
        self.left = self.left.saturating_sub(polls);
    }

    /// Takes in what `polls` of items came to, and returns how many steps that was: those that they
    /// did inside, or their number if that is more.
    #[inline(always)]
    pub(crate) fn settle(&mut self, polls: u32) -> u32 {
        let now = count(0);
        let inside = now.wrapping_sub(self.read_at);
        let steps = polls.max(inside);
        self.read_at = now;
        self.polls += steps - inside;
        self.left = self.left.saturating_sub(steps);
        steps
    }

    /// What is left, as it was settled last.
    #[inline(always)]
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// What each of `items` may do in its next poll: an equal share of what is left, and always a
    /// step.
    #[inline(always)]
    pub(crate) fn share(&self, items: u32) -> u32 {
        (self.left / items.max(1)).max(1)
    }

    /// Lends a share to the item that is polled next.
    #[inline(always)]
    pub(crate) fn lend(share: u32) {
        BUDGET.with(|budget| budget.left.set(share));
    }
}

impl Drop for Account {
    #[inline(always)]
    fn drop(&mut self) {
        self.settle(0);
        count(self.polls);
        BUDGET.with(|budget| budget.left.set(if self.counted { self.left } else { UNCOUNTED }));
    }
}
