//! A line for each beginning and each end.

use crate::state::{State, StateError, one_line};
use gondola::batch;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Works off what `state` says is left of the jobs in `list`, and writes to the file at `path` what becomes of
/// each. Two small writes per job.
///
/// # Errors
/// If the journal can't be written. No job begins that is not in it.
pub async fn run<F: Future<Output = io::Result<()>>>(
    state: State,
    path: &Path,
    list: &Path,
    limit: usize,
    mut work: impl FnMut(String) -> F,
) -> Result<State, StateError> {
    state.save(path)?; // the head, without what was appended
    let journal = File::options().append(true).open(path);
    let journal = &journal.map_err(|error| StateError::io(path, error))?;
    let append = |line: String| (&*journal).write_all(line.as_bytes());
    let run = batch(state.left(list)?).limit(limit).try_for_each(|(job, text)| {
        // A line is whole or missing: it is one write.
        let begins = append(format!("+{job}\n"));
        let work = begins.is_ok().then(|| work(text));
        async move {
            begins?;
            match work.expect("it has begun").await {
                Ok(()) => append(format!("-{job}\n")),
                Err(error) => append(format!("!{job} {}\n", one_line(&error.to_string()))),
            }
        }
    });
    let done = run.await;
    done.map_err(|record| StateError::io(path, record.into()))?;
    State::load(path, list)
}
