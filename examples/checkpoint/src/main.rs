//! `cargo run --release -p checkpoint -- --journal STATE [--out FILE] LIST`, or
//! `--periodic STATE [--period SECONDS]`: works off the lines of LIST. Kill it, run it again, and it goes on.

use checkpoint::state::State;
use checkpoint::{journal, periodic, work};
use lexopt::prelude::*;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut journal, mut state, mut list) = (true, None, None);
    let (mut limit, mut period) = (8, Duration::from_secs(1));
    let mut out = PathBuf::from("/dev/stdout");
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("journal" | "periodic") => {
                journal = argument == Long("journal");
                state = Some(PathBuf::from(parser.value()?));
            }
            Long("out") => out = parser.value()?.into(),
            Long("period") => period = Duration::try_from_secs_f64(parser.value()?.parse()?)?,
            Long("limit") => limit = parser.value()?.parse()?,
            Value(path) if list.is_none() => list = Some(PathBuf::from(path)),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let path = state.ok_or("--journal or --periodic, and a file for the state")?;
    let list = list.ok_or("a file with a job in each line")?;
    let saved = State::load(&path, &list)?;
    for job in &saved.uncertain {
        eprintln!("uncertain: {job}");
    }
    if !journal && saved.begun > 0 {
        eprintln!("uncertain: {}..", saved.begun);
    }
    let effects = &File::options().append(true).create(true).open(out)?;
    let work = |job: String| async move { work(&job, effects).await };
    let end = gondola::block_on(async {
        match journal {
            true => journal::run(saved, &path, &list, limit, work).await,
            false => periodic::run(saved, &path, &list, limit, period, work).await,
        }
    })?;
    println!("{} jobs, {} failed", end.begun, end.failed.len());
    Ok(if end.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
