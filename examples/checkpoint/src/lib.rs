//! What is remembered of a batch, so that another process can go on with it.
//!
//! Three things are enough, whatever the order in which items end: how many were begun, which of
//! those had not ended, and which failed. (The highest one that is done is not enough: many above
//! the slowest may be done.)
//!
//! Two ways to write it down. A [journal](journal::run) has a line for each beginning and each end:
//! what is uncertain after a kill is what was in flight, at most K items. A [file now and
//! then](periodic::run) costs next to nothing: uncertain is what was in flight when it was written,
//! and whatever began since.

pub mod journal;
pub mod periodic;
pub mod state;

use gondola::yield_now;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// The jobs: a line each, read as they are needed.
///
/// # Errors
/// If the file can't be opened.
pub fn jobs(list: &Path) -> io::Result<impl Iterator<Item = String>> {
    // What can't be read ends the list. A real program would keep the error, as `fetch` does.
    Ok(BufReader::new(File::open(list)?).lines().map_while(Result::ok))
}

/// Does a job: waits, and then changes something outside of the process, in one go.
///
/// # Errors
/// If the job says so, or if its effect can't be written.
pub async fn work(job: &str, mut effects: &File) -> io::Result<()> {
    yield_now().await; // stands for a request
    if job.ends_with("bad") {
        return Err(io::Error::other("a bad job"));
    }
    effects.write_all(format!("{job}\n").as_bytes())?;
    yield_now().await;
    Ok(())
}
