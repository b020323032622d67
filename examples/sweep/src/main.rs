//! How many items in flight? The experiment that tells, for HTTP requests. See `--help`.
//!
//! The experiment is the library; here are its items (`item`), and a server, for who has none.

mod check;
mod cli;
#[path = "../../support/http.rs"]
#[allow(dead_code, reason = "a sweep does not need all of it")]
mod http_client;
mod item;
mod server;
mod work;

use cli::{Format, Options, Peer};
use gondola_sweep::{Known, Report, SweepError};
use http_client::Target;
use item::Load;
use server::Server;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
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
    say(format_args!("sweep: {}", options.sweep.plan()));
    match sweep(&options, async |_, report| Ok(report)) {
        Ok(report) => {
            for (format, path) in &options.files {
                if let Err(error) = write(&report, format, path) {
                    say(format_args!("sweep: {}: {error}", path.display()));
                    return ExitCode::FAILURE;
                }
            }
            print(&format!("{report}\n{}", options.intro()))
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
    then: impl AsyncFnOnce(&Load, Report) -> io::Result<T>,
) -> Result<T, Box<dyn Error>> {
    let mut sweep = options.sweep.clone();
    let server;
    let url = match &options.peer {
        Peer::Url(url) => url,
        Peer::Own { delay, places, slows } => {
            let waits = *delay * options.requests as u32;
            sweep = sweep.known(Known { waits, places: *places, cpu: options.cpu });
            server = Server::start(*delay, *places, *slows, sweep.most())?;
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
        match sweep.run(async || load.item().await).await {
            Err(SweepError::AllFailed(_)) => {
                Err(format!("{url} worked at first, but not in the experiment").into())
            }
            report => Ok(then(&load, report?).await?),
        }
    })
}

fn write(report: &Report, format: &Format, path: &Path) -> Result<(), Box<dyn Error>> {
    let text = match format {
        Format::Csv => report.to_csv(),
        Format::Json => report.to_json(),
        Format::Svg => report.to_svg()?,
    };
    Ok(fs::write(path, text)?)
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
