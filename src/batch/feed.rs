//! Where the items come from, and whether another one may begin.
#![forbid(unsafe_code)]

use super::error::ErrorKind;
use super::on_error::Stop;
use super::source::{Control as _, Source};
use crate::cancel::Waiting;
use crate::slots::{MAX_ITEMS, Slots};

pub(super) struct Feed<I, F> {
    pub(super) items: I,
    pub(super) f: F,
    pub(super) cancel: Option<Waiting>,
    pub(super) pulled: usize,
    /// The source has ended, or the batch was stopped: no item is begun any more.
    pub(super) closed: bool,
    /// Why it was stopped: the first reason.
    pub(super) stopped: Option<ErrorKind>,
    /// What is in flight is to be dropped.
    pub(super) cuts: bool,
    /// The source had nothing in this turn, and may have something in the next one.
    pub(super) dry: bool,
}

impl<I, F> Feed<I, F> {
    #[inline(always)]
    pub(super) fn new(items: I, f: F, cancel: Option<Waiting>) -> Self {
        let (closed, cuts, dry) = (false, false, false);
        Self { items, f, cancel, pulled: 0, closed, stopped: None, cuts, dry }
    }

    /// Begins nothing more. Of several stops, the first gives the reason, and the hardest decides.
    pub(super) fn stop(&mut self, kind: ErrorKind, how: Stop) {
        self.closed = true;
        self.cuts |= how == Stop::Cancel;
        self.stopped.get_or_insert(kind);
    }

    /// Heeds a stop that was asked for. With nothing left undone, the batch completes all the same.
    pub(super) fn heed(&mut self, how: Stop, in_flight: usize)
    where
        I: Source,
    {
        let nothing_to_come = self.closed || self.items.hint().1 == Some(0);
        if self.stopped.is_none() && nothing_to_come && (how == Stop::Drain || in_flight == 0) {
            self.closed = true;
        } else {
            self.stop(ErrorKind::Stopped, how);
        }
    }

    /// Whether one more item may be pulled; asked before each, for the source, the closure and the
    /// first poll may cancel the token.
    #[inline(always)]
    pub(super) fn may_begin<Fut>(&mut self, slots: &Slots<Fut>) -> bool {
        if let Some(cancel) = &self.cancel {
            // With nothing left to do, it completes all the same.
            if cancel.token.is_cancelled() && (slots.taken() > 0 || !self.closed) {
                self.stop(ErrorKind::Cancelled, Stop::Cancel);
            }
        }
        // Not to be reached with 64 bits, not even in a hundred years.
        if usize::BITS < 64 && self.pulled == MAX_ITEMS && !self.closed {
            self.stop(ErrorKind::TooManyItems { max: MAX_ITEMS }, Stop::Drain);
        }
        !self.closed && slots.any_vacant()
    }

    /// Whether the limit keeps vacant slots from being filled.
    pub(super) fn is_held_back(&mut self, in_flight: usize) -> bool
    where
        I: Source,
    {
        self.items.control().is_some_and(|limit| limit.seen() <= in_flight)
    }
}
