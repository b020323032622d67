//! How many items in flight? The experiment that tells: `cargo run --release --example sweep`.
//!
//! To be read in this order: `cli`, `item`, `measure` (the batch is there), `experiment`,
//! `verdict`, `report`; beside them `server`, for who has none.

mod check;
mod cli;
mod experiment;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "a sweep does not need all of it")]
mod http_client;
mod item;
mod measure;
mod plan;
mod progress;
mod report;
mod row;
mod server;
mod table;
mod usage;
mod verdict;
mod work;

use cli::{Options, Peer};
use experiment::Findings;
use http_client::Target;
use item::Load;
use row::Row;
use server::Server;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match cli::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return print(cli::HELP),
        Err(error) => {
            say(format_args!("sweep: {error}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    if options.check {
        return match check::check(options) {
            Ok(report) => print(&report),
            Err(error) => {
                say(format_args!("sweep: {error}"));
                ExitCode::FAILURE
            }
        };
    }
    match sweep(&options, async |_, findings| Ok(findings)) {
        Ok(findings) => {
            let (intro, table) = (report::intro(&options), table::table(&findings.rows));
            print(&format!("{intro}\n{table}\n{}", report::report(&findings, &options)))
        }
        Err(error) => {
            say(format_args!("sweep: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Makes the experiment, and then what else there is to do with the same server.
fn sweep<T>(
    options: &Options,
    then: impl AsyncFnOnce(&Load, Findings) -> io::Result<T>,
) -> Result<T, Box<dyn Error>> {
    let server;
    let url = match &options.peer {
        Peer::Url(url) => url,
        Peer::Own { delay, places, slows } => {
            let most = options.ks[options.ks.len() - 1];
            server = Server::start(*delay, *places, *slows, most)?;
            &server.url()
        }
    };
    let target: Target = url.parse()?;
    // The batch is the root future, and spawns nothing.
    let mut runtime = gondola::Runtime::builder().slots(1).build()?;
    runtime.block_on(async {
        let explain = |error| format!("{url} does not work: {error}");
        let load = Load::new(target, options.requests, options.cpu).await.map_err(explain)?;
        load.check().await.map_err(explain)?;
        let findings = experiment::run(&load, options).await?;
        match findings.rows.iter().map(Row::succeeded).sum() {
            0_u64 => Err(format!("{url} worked at first, but not in the experiment").into()),
            _ => Ok(then(&load, findings).await?),
        }
    })
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        // Who reads no further, `head` for one, has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(format_args!("sweep: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Nobody has to hear it, so it is no error, let alone a panic, if nobody can.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
