//! Cancellation: a tree of tokens, on plain std wakers, so it works under any executor.
//!
//! # Invariants
//!
//! 1. One mutex per tree. It is never held while a waker is cloned, woken or dropped, nor any
//!    other user code runs; so there is no lock order, and no poisoning that matters.
//! 2. A node is kept by the tokens that name it. When the last one goes, its children move up to
//!    its parent, and it leaves: nothing stays of a dropped child. (Cancelled, a node's children
//!    are cancelled too, and need no parent.)
//! 3. Cancelling a node marks its subtree, and gathers the waiters of all that was not marked yet
//!    in the list of that node: under the lock, in one walk along the links, without recursion.
//!    Then it wakes them in chunks, outside the lock. So each cancel itself wakes whom it reached
//!    first, before it returns. What others have reached it leaves to them: to wait for them
//!    could be for ever, as their wakers may cancel as well.
//! 4. A waiter is in the list of its node; or, once a cancel has reached that, in the list of the
//!    node that was cancelled; or in none, woken. Its own future removes it. A list that waiters
//!    were gathered in is there until it is empty: `cancel` borrows a token of its node.
//! 5. `touched` is set, before anything else, by the first cancel in the tree: while it is not,
//!    nobody needs the lock to know that a token is not cancelled. It orders nothing: whoever finds
//!    it set goes through the lock.
#![deny(unsafe_code)]

use crate::budget::WAKES_PER_LOCK;
use crate::list::{List, Nodes};
use crate::panic::Contained;
use crate::pin::with_pinned_future;
use crate::room::Room;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

/// Says, to whoever asks or waits, that something shall end.
///
/// Clones name the same token. A child is cancelled with its parent, never the other way round. A
/// token works under any executor. Making, cloning and dropping one takes the lock of its tree.
/// Any thread may cancel; a sleeping runtime wakes. A token that is cancelled stays so, for ever.
/// The memory that many children or waiters took is given back when they are gone; room for about
/// a thousand is kept.
///
/// ```
/// use gondola::CancellationToken;
///
/// gondola::block_on(async {
///     let token = CancellationToken::new();
///     let child = token.child_token();
///     let canceller = std::thread::spawn({
///         let token = token.clone();
///         move || token.cancel()
///     });
///     child.cancelled().await;
///     assert!(token.is_cancelled());
///     canceller.join().unwrap();
/// });
/// ```
///
/// # Signals
///
/// A signal handler must use neither a token nor a [`Waker`]. It may have interrupted the code that
/// holds the tree's lock: then it waits for ever. Or it may have interrupted a wake on this thread:
/// then its own wake is lost. Let the handler write to a pipe, and let an ordinary thread read the
/// pipe and cancel. That is what `signal-hook` does, and `ctrlc`:
///
/// ```
/// # #[cfg(unix)] {
/// use gondola::CancellationToken;
/// use signal_hook::consts::{SIGINT, SIGTERM};
/// use signal_hook::iterator::Signals;
///
/// let token = CancellationToken::new();
/// let mut signals = Signals::new([SIGINT, SIGTERM])?;
/// let canceller = token.clone();
/// std::thread::spawn(move || {
///     if signals.forever().next().is_some() {
///         canceller.cancel();
///     }
/// });
///
/// signal_hook::low_level::raise(SIGTERM)?; // somebody stops the program
/// gondola::block_on(token.cancelled());
/// # }
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct CancellationToken {
    tree: Arc<Tree>,
    node: u32,
}

struct Tree {
    touched: AtomicBool,
    state: Mutex<State>,
}

struct State {
    nodes: Room<Node>,
    waiters: Nodes<Waiter>,
}

struct Node {
    tokens: usize,
    /// The node whose cancel reached this one.
    cancelled_by: Option<u32>,
    parent: Option<u32>,
    first_child: Option<u32>,
    prev: Option<u32>,
    next: Option<u32>,
    waiting: List,
}

struct Waiter {
    /// `None` once it was taken out to be woken.
    waker: Option<Waker>,
}

impl Tree {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody in the list of `node`. A waker that panics keeps none of the others asleep.
    fn fire(&self, node: u32) {
        let mut contained = Contained::default();
        loop {
            let mut chunk: [Option<Waker>; WAKES_PER_LOCK] = [const { None }; WAKES_PER_LOCK];
            let count = self.lock().take_waiting(node, &mut chunk);
            for waker in chunk.into_iter().flatten() {
                contained.run(|| waker.wake());
            }
            if count < WAKES_PER_LOCK {
                break;
            }
        }
        contained.resume();
    }
}

impl State {
    fn node(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node]
    }

    fn add_node(&mut self, parent: Option<u32>, cancelled_by: Option<u32>) -> u32 {
        let node = Node {
            tokens: 1,
            cancelled_by,
            parent: None,
            first_child: None,
            prev: None,
            next: None,
            waiting: List::new(),
        };
        let node = self.nodes.insert(node);
        if let Some(parent) = parent {
            self.link(node, parent);
        }
        node
    }

    fn link(&mut self, node: u32, parent: u32) {
        let next = self.node(parent).first_child.replace(node);
        if let Some(next) = next {
            self.node(next).prev = Some(node);
        }
        let linked = self.node(node);
        (linked.parent, linked.prev, linked.next) = (Some(parent), None, next);
    }

    fn unlink(&mut self, node: u32) {
        let unlinked = self.node(node);
        let parent = unlinked.parent.take();
        let (prev, next) = (unlinked.prev.take(), unlinked.next.take());
        if let Some(next) = next {
            self.node(next).prev = prev;
        }
        match (prev, parent) {
            (Some(prev), _) => self.node(prev).next = next,
            (None, Some(parent)) => self.node(parent).first_child = next,
            (None, None) => {}
        }
    }

    /// Removes a node that no token names; its children move up.
    fn remove_node(&mut self, node: u32) {
        let parent = self.node(node).parent;
        while let Some(child) = self.node(node).first_child {
            self.unlink(child);
            if let Some(parent) = parent {
                self.link(child, parent);
            }
        }
        self.unlink(node);
        self.nodes.remove(node);
    }

    /// Marks the subtree of `top` as cancelled, and gathers its waiters in the list of `top`. `false`
    /// if it was marked already.
    fn cancel(&mut self, top: u32) -> bool {
        if self.node(top).cancelled_by.is_some() {
            return false;
        }
        let mut gathered = List::new();
        let mut node = top;
        loop {
            let visited = &mut self.nodes[node];
            // The subtree of a cancelled node has been walked already.
            let fresh = visited.cancelled_by.is_none();
            if fresh {
                visited.cancelled_by = Some(top);
                self.waiters.append(&mut gathered, &mut visited.waiting);
            }
            node = match visited.first_child {
                Some(child) if fresh => child,
                _ => match self.next_outside(node, top) {
                    Some(next) => next,
                    None => break,
                },
            };
        }
        self.node(top).waiting = gathered;
        true
    }

    /// The node after the subtree of `node`, in a walk of the subtree of `top`.
    fn next_outside(&mut self, mut node: u32, top: u32) -> Option<u32> {
        while node != top {
            let Node { next, parent, .. } = *self.node(node);
            match next {
                Some(next) => return Some(next),
                None => node = parent.expect("below `top`, a node has a parent"),
            }
        }
        None
    }

    /// Removes a waiter of `node`, whose waker is dropped outside the lock.
    fn remove_waiter(&mut self, node: u32, key: u32) -> Waiter {
        if self.waiters.get_mut(key).waker.is_some() {
            // Not woken yet, so still in a list.
            let gathered_by = self.node(node).cancelled_by.unwrap_or(node);
            self.waiters.unlink(&mut self.nodes[gathered_by].waiting, key);
        }
        self.waiters.remove(key)
    }

    fn take_waiting(&mut self, node: u32, chunk: &mut [Option<Waker>; WAKES_PER_LOCK]) -> usize {
        let waiting = &mut self.nodes[node].waiting;
        let mut count = 0;
        while count < WAKES_PER_LOCK {
            let Some(key) = self.waiters.unlink_front(waiting) else { break };
            chunk[count] = self.waiters.get_mut(key).waker.take();
            count += 1;
        }
        count
    }
}

impl CancellationToken {
    /// A new token, the root of its own tree.
    ///
    /// ```
    /// assert!(!gondola::CancellationToken::new().is_cancelled());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        let mut state = State { nodes: Room::new(), waiters: Nodes::new() };
        let node = state.add_node(None, None);
        let tree = Tree { touched: AtomicBool::new(false), state: Mutex::new(state) };
        Self { tree: Arc::new(tree), node }
    }

    /// A token that is cancelled with this one, and can be cancelled alone. Under a token that is
    /// cancelled already, it is cancelled from the start.
    ///
    /// ```
    /// let parent = gondola::CancellationToken::new();
    /// let child = parent.child_token();
    /// child.cancel();
    /// assert!(!parent.is_cancelled());
    /// ```
    #[must_use]
    pub fn child_token(&self) -> Self {
        let mut state = self.tree.lock();
        let cancelled_by = state.node(self.node).cancelled_by;
        let parent = cancelled_by.is_none().then_some(self.node);
        let node = state.add_node(parent, cancelled_by);
        drop(state);
        Self { tree: self.tree.clone(), node }
    }

    /// Cancels this token and all its descendants, and wakes whoever waits for them. Repeating it
    /// changes nothing.
    ///
    /// When it returns, whoever waited for what this call has cancelled has been woken. What
    /// another call had cancelled already is woken by that one, which may still be at it: on
    /// another thread, or on this one, if a waker of it calls this.
    ///
    /// Costs one walk over the subtree, and one wake per waiter. Not for [signal
    /// handlers](Self#signals).
    ///
    /// # Panics
    /// If a foreign waker panics, its panic goes on here, after all the others have been woken.
    ///
    /// ```
    /// let token = gondola::CancellationToken::new();
    /// token.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        self.tree.touched.store(true, Ordering::Relaxed);
        let cancelled = self.tree.lock().cancel(self.node);
        if cancelled {
            self.tree.fire(self.node);
        }
    }

    /// Whether this token, or one above it, was cancelled. One load, until something in the tree
    /// is cancelled; then it takes the tree's lock.
    ///
    /// ```
    /// let parent = gondola::CancellationToken::new();
    /// let child = parent.child_token();
    /// assert!(!child.is_cancelled());
    /// parent.cancel();
    /// assert!(child.is_cancelled());
    /// ```
    #[must_use]
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.tree.touched.load(Ordering::Relaxed) && self.is_node_cancelled()
    }

    fn is_node_cancelled(&self) -> bool {
        self.tree.lock().node(self.node).cancelled_by.is_some()
    }

    /// Waits until this token is cancelled. Ready at once if it is.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    ///
    /// ```
    /// let token = gondola::CancellationToken::new();
    /// token.cancel();
    /// gondola::block_on(token.cancelled());
    /// ```
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled { token: self, wait: Wait::default() }
    }

    /// Runs `future` until it is ready, or this token is cancelled: then it is dropped, and the
    /// result is `None`.
    ///
    /// The token is asked before each poll, and once it is cancelled, `future` is not polled any
    /// more. So a loop around this call ends at once, even if each `future` in it would be ready.
    /// A result that a poll has returned is not thrown away: a future that cancels the token and
    /// completes in the same poll gives `Some`.
    ///
    /// Nothing is asked during a poll: this can't end a future that never returns `Pending`. A loop
    /// that may run for long without waiting has to give way by itself: see [`consume_budget`](crate::consume_budget).
    ///
    /// A poll costs one load more than that of `future`; once something in the tree was cancelled,
    /// it takes the tree's lock.
    ///
    /// # Panics
    /// If polled again after it was ready.
    ///
    /// # Cancel safety
    /// Dropping it drops `future`, and leaves nothing behind.
    ///
    /// ```
    /// let token = gondola::CancellationToken::new();
    /// gondola::block_on(async {
    ///     assert_eq!(token.run_until_cancelled(async { 1 }).await, Some(1));
    ///     token.cancel();
    ///     assert_eq!(token.run_until_cancelled(std::future::pending::<()>()).await, None);
    /// });
    /// ```
    pub fn run_until_cancelled<F: Future>(&self, future: F) -> RunUntilCancelled<'_, F> {
        RunUntilCancelled { future: Some(future), cancelled: self.cancelled() }
    }

    fn forget_waiter(&self, key: u32) {
        let left = self.tree.lock().remove_waiter(self.node, key);
        drop(left);
    }

    /// A guard that cancels this token when it is dropped.
    ///
    /// ```
    /// let token = gondola::CancellationToken::new();
    /// drop(token.clone().drop_guard());
    /// assert!(token.is_cancelled());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { token: Some(self) }
    }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for CancellationToken {
    fn clone(&self) -> Self {
        self.tree.lock().node(self.node).tokens += 1;
        Self { tree: self.tree.clone(), node: self.node }
    }
}

impl Drop for CancellationToken {
    fn drop(&mut self) {
        let mut state = self.tree.lock();
        let node = state.node(self.node);
        node.tokens -= 1;
        if node.tokens == 0 {
            state.remove_node(self.node);
        }
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// A place in a token's list of waiters, for futures that keep the token as well.
#[derive(Debug, Default)]
struct Wait {
    key: Option<u32>,
}

impl Wait {
    fn poll(&mut self, token: &CancellationToken, cx: &mut Context<'_>) -> Poll<()> {
        // A waker is cloned and dropped outside the lock. Whether that of a later poll is another
        // one is known only under it: so at most two rounds.
        let registers = self.key.is_none() && !token.is_cancelled();
        let mut fresh = registers.then(|| cx.waker().clone());
        loop {
            let mut state = token.tree.lock();
            if state.node(token.node).cancelled_by.is_some() {
                let left = self.key.take().map(|key| state.remove_waiter(token.node, key));
                drop(state);
                drop(left);
                return Poll::Ready(());
            }
            let State { nodes, waiters, .. } = &mut *state;
            let waker = self.key.map(|key| &mut waiters.get_mut(key).waker);
            let old = match (waker, fresh.take()) {
                (Some(Some(old)), _) if old.will_wake(cx.waker()) => return Poll::Pending,
                (Some(place), Some(fresh)) => place.replace(fresh),
                (None, Some(fresh)) => {
                    let waiting = &mut nodes[token.node].waiting;
                    self.key = Some(waiters.push_back(waiting, Waiter { waker: Some(fresh) }));
                    None
                }
                (_, None) => {
                    drop(state);
                    fresh = Some(cx.waker().clone());
                    continue;
                }
            };
            drop(state);
            drop(old);
            return Poll::Pending;
        }
    }

    #[inline]
    fn leave(&mut self, token: &CancellationToken) {
        if let Some(key) = self.key.take() {
            token.forget_waiter(key);
        }
    }
}

/// As [`Cancelled`], with a token of its own.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) token: CancellationToken,
    wait: Wait,
}

impl Waiting {
    pub(crate) fn new(token: CancellationToken) -> Self {
        Self { token, wait: Wait::default() }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait.poll(&self.token, cx)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.wait.leave(&self.token);
    }
}

/// The future of [`CancellationToken::cancelled`]. Once ready, it stays ready.
///
/// ```
/// let token = gondola::CancellationToken::new();
/// let cancelled: gondola::Cancelled<'_> = token.cancelled();
/// token.cancel();
/// assert_eq!(gondola::block_on(cancelled), ());
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Cancelled<'a> {
    token: &'a CancellationToken,
    wait: Wait,
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { token, wait } = &mut *self;
        wait.poll(token, cx)
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        self.wait.leave(self.token);
    }
}

impl fmt::Debug for Cancelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancelled").field("token", self.token).finish_non_exhaustive()
    }
}

with_pinned_future! {
    /// The future of [`CancellationToken::run_until_cancelled`].
    ///
    /// ```
    /// let token = gondola::CancellationToken::new();
    /// let run: gondola::RunUntilCancelled<'_, _> = token.run_until_cancelled(async { "done" });
    /// assert_eq!(gondola::block_on(run), Some("done"));
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct RunUntilCancelled<'a, F> {
        cancelled: Cancelled<'a>,
    }
}

impl<F: Future> Future for RunUntilCancelled<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut future, cancelled) = self.project();
        let inner = future.as_mut().as_pin_mut();
        let inner = inner.expect("`RunUntilCancelled` was polled after it was ready");
        // A cancel is an order, so it goes before what is ready: a loop over a full channel would
        // never end otherwise. A time-out is a guess about others, so there it is the other way
        // round.
        if !cancelled.token.is_cancelled() {
            if let Poll::Ready(output) = inner.poll(cx) {
                future.set(None);
                return Poll::Ready(Some(output));
            }
        }
        if Pin::new(cancelled).poll(cx).is_pending() {
            return Poll::Pending;
        }
        future.set(None);
        Poll::Ready(None)
    }
}

/// Cancels its token when it is dropped: for a scope that ends early, by `?` or by a panic.
///
/// ```
/// let token = gondola::CancellationToken::new();
/// let work = || -> Result<(), std::num::ParseIntError> {
///     let _guard = token.clone().drop_guard();
///     let _number: u8 = "x".parse()?;
///     Ok(())
/// };
/// assert!(work().is_err() && token.is_cancelled());
/// ```
#[derive(Debug)]
#[must_use = "dropping the guard cancels its token at once"]
pub struct DropGuard {
    token: Option<CancellationToken>,
}

impl DropGuard {
    /// Gives the token back, without cancelling it.
    ///
    /// ```
    /// let guard = gondola::CancellationToken::new().drop_guard();
    /// assert!(!guard.disarm().is_cancelled());
    /// ```
    #[must_use]
    pub fn disarm(mut self) -> CancellationToken {
        self.token.take().expect("it is there until it is taken here, or dropped")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            token.cancel();
        }
    }
}

#[cfg(all(test, gondola_loom))]
mod models;
