//! Where the items come from, and whether another one may begin.
#![forbid(unsafe_code)]

use super::error::ErrorKind;
use super::on_error::{OnError, Stop};
use crate::cancel::{CancellationToken, Wait};
use crate::slots::{MAX_ITEMS, Slots};

pub(super) struct Feed<I, F> {
    pub(super) items: I,
    pub(super) f: F,
    pub(super) cancel: Option<Cancel>,
    pub(super) pulled: usize,
    /// The source has ended, or the batch was stopped: no item is begun any more.
    pub(super) closed: bool,
    /// Why it was stopped.
    pub(super) stopped: Option<ErrorKind>,
}

pub(super) struct Cancel {
    pub(super) token: CancellationToken,
    pub(super) wait: Wait,
}

impl<I, F> Feed<I, F> {
    pub(super) fn new(items: I, f: F, token: Option<CancellationToken>) -> Self {
        let cancel = token.map(|token| Cancel { token, wait: Wait::default() });
        Self { items, f, cancel, pulled: 0, closed: false, stopped: None }
    }

    pub(super) fn stop(&mut self, kind: ErrorKind) {
        self.closed = true;
        self.stopped.get_or_insert(kind);
    }

    /// Whether one more item may be pulled; asked before each, for the source, the closure and the
    /// first poll may cancel the token.
    #[inline(always)]
    pub(super) fn may_begin<Fut>(&mut self, slots: &Slots<Fut>) -> bool {
        if let Some(cancel) = &self.cancel {
            // With nothing left to do, it completes all the same.
            if cancel.token.is_cancelled() && (slots.taken() > 0 || !self.closed) {
                self.stop(ErrorKind::Cancelled);
            }
        }
        // Not to be reached with 64 bits, not even in a hundred years.
        if usize::BITS < 64 && self.pulled == MAX_ITEMS && !self.closed {
            self.stop(ErrorKind::TooManyItems { max: MAX_ITEMS });
        }
        !self.closed && slots.any_vacant()
    }

    /// Whether what is in flight is to be dropped.
    pub(super) fn cuts(&self, on_error: OnError) -> bool {
        match self.stopped {
            None | Some(ErrorKind::TooManyItems { .. }) => false,
            Some(_) => on_error != OnError::Stop(Stop::Drain),
        }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.wait.leave(&self.token);
    }
}
