//! A file now and then.

use crate::state::{State, StateError};
use gondola::batch::ItemError;
use gondola::{ErrorKind, OnError, batch, time::timeout};
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Works off what `state` says is left of the jobs in `list`, and saves the state to `path` once in a `period`
/// and at the end.
///
/// # Errors
/// If it can't be saved.
pub async fn run<F: Future<Output = io::Result<()>>>(
    state: State,
    path: &Path,
    list: &Path,
    limit: usize,
    period: Duration,
    mut work: impl FnMut(String) -> F,
) -> Result<State, StateError> {
    let State { begun, ref uncertain, .. } = state;
    let again: Vec<usize> = uncertain.iter().copied().collect();
    let left = state.left(list)?;
    let next = Cell::new(begun);
    let mut run =
        batch(left).limit(limit).on_error(OnError::Collect).try_for_each(|(job, text)| {
            next.set(next.get().max(job + 1));
            work(text)
        });
    // The run counts from 0: first those that are done again, then those that follow.
    let job = |item: usize| again.get(item).map_or_else(|| begun + item - again.len(), |&job| job);
    let now = |pulled: usize, in_flight: Vec<usize>, errors: &[ItemError<io::Error>]| {
        let mut now = State { begun: next.get(), ..state.clone() };
        now.uncertain =
            in_flight.into_iter().map(job).chain(again.iter().copied().skip(pulled)).collect();
        now.failed
            .extend(errors.iter().map(|failed| (job(failed.index), failed.error.to_string())));
        now
    };
    loop {
        match timeout(period, &mut run).await {
            Err(_) => now(run.pulled(), run.in_flight().collect(), run.errors()).save(path)?,
            Ok(end) => {
                let errors = match end {
                    Err(record) if record.kind != ErrorKind::Item => {
                        return Err(StateError::io(path, record.into()));
                    }
                    end => end.map_or_else(|record| record.errors, |()| vec![]),
                };
                let all = now(again.len(), vec![], &errors);
                all.save(path)?;
                return Ok(all);
            }
        }
    }
}
