//! What gondola costs beside its peers, and beside a loop by hand that does the same work.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [FILTER...] [--quick] [--svg FILE]
//! ```
//!
//! Medians of seven rounds, in which everybody takes turns; each run proves that it did its work.
//! Runtimes are built outside the measured part. Compare within a row: absolute figures move
//! between machines. `--quick` is one round of a twentieth: it says that all runs, not how fast.
//! `--growth`, with the same options, shows how the costs change as the work grows: `growth.rs`.
//!
//! `--list` names rows and implementations; `--count ROW IMPLEMENTATION UNITS` does just that work,
//! once, and prints how many units it was: for the scripts `instructions` and `calls`.

mod batches;
mod client;
mod echo;
mod figures;
mod growth;
mod harness;
mod load;
mod runtimes;
mod sockets;
mod spawns;
mod timers;
mod wakes;
mod yields;

use harness::Row;
use lexopt::prelude::*;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let works = [yields::rows, spawns::rows, batches::rows, timers::rows, wakes::rows];
    let sockets = [echo::rows, client::rows];
    let mut rows: Vec<Row> = works.iter().chain(&sockets).flat_map(|rows| rows()).collect();
    let (mut filters, mut svg, mut rounds, mut part) = (Vec::new(), None, 7, 1);
    let mut growth = false;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("quick") => (rounds, part) = (1, 20),
            Long("growth") => growth = true,
            Long("svg") => svg = Some(arguments.value()?),
            Long("list") => {
                rows.iter().for_each(|row| println!("{}: {}", row.name, row.names().join(", ")));
                return Ok(());
            }
            Long("count") => {
                let name = arguments.value()?.string()?;
                let implementation = arguments.value()?.string()?;
                let units = arguments.value()?.parse()?;
                let row = rows.iter().find(|row| row.name == name);
                let units = row.and_then(|row| row.once(&implementation, units));
                println!("{}", units.ok_or("no such row or implementation: see --list")?);
                return Ok(());
            }
            Long("load") => return load::main(&mut arguments),
            Value(filter) => filters.push(filter.string()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f));
    if growth {
        let series =
            growth::series(wanted, rounds.min(3), if part > 1 { 10_000 } else { u64::MAX });
        println!("{}\n\n{}", versions(), growth::markdown(&series));
        return svg.map_or(Ok(()), |file| figures::growth(Path::new(&file), &series));
    }
    rows.retain(|row| wanted(&row.name));
    let mut reports = Vec::new();
    for row in &rows {
        eprintln!("{}", row.name);
        reports.push(row.run(rounds, part));
    }
    println!("{}\n\n{}", versions(), harness::markdown(&reports));
    svg.map_or(Ok(()), |file| figures::factors(Path::new(&file), &reports))
}

/// What was measured: there is no lock file in the repository.
fn versions() -> String {
    let peers = ["tokio", "tokio-util", "smol", "async-executor", "async-io", "futures"];
    let others = ["futures-buffered", "embassy-executor", "monoio", "compio", "compio-runtime"];
    let version = |peer| {
        let (_, rest) =
            include_str!("Cargo.lock").split_once(&format!("name = \"{peer}\"\nversion = \""))?;
        Some(format!("{peer} {}", rest.split_once('"')?.0))
    };
    peers.into_iter().chain(others).filter_map(version).collect::<Vec<_>>().join(", ")
}
