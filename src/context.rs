//! The runtime that is entered on this thread: how leaf futures reach the scheduler.
#![forbid(unsafe_code)]

use crate::budget;
use crate::error::NO_RUNTIME;
use crate::sched::Core;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The runtime entered on this thread. None as well while the thread's locals are being dropped.
#[inline]
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// The time of the runtime that is entered, and the system's where none is.
#[inline]
pub(crate) fn now() -> Instant {
    try_current().map_or_else(Instant::now, |core| core.timers.clock.now())
}

#[track_caller]
#[inline]
pub(crate) fn current() -> Rc<Core> {
    try_current().expect(NO_RUNTIME)
}

/// Makes `core` the current runtime for the guard's life; scopes nest, last in, first out.
pub(crate) fn enter(core: &Rc<Core>) -> Entered {
    let swap = |current: &RefCell<_>| current.replace(Some(core.clone()));
    Entered {
        outer: CURRENT.try_with(swap).ok().flatten(),
        was_entered: core.reactor.set_entered(true),
        _budget: budget::enter(core.number),
        core: core.clone(),
    }
}

pub(crate) struct Entered {
    core: Rc<Core>,
    outer: Option<Rc<Core>>,
    was_entered: bool,
    _budget: budget::Outer,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.core.reactor.set_entered(self.was_entered);
        let outer = self.outer.take();
        let left = CURRENT.try_with(|current| current.replace(outer));
        drop(left);
    }
}
