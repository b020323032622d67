//! Downloads URLs into files of their last part, and goes on where an earlier download stopped.

use gondola::{OnError, batch};
use https::{Client, Error, Url, download};
use lexopt::{Arg, Parser, ValueExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "https [--limit K] [--roots PEM] [--timeout SECONDS] [--redirects N] \
    [--output DIRECTORY] URL...";

struct Options {
    limit: usize,
    roots: Option<PathBuf>,
    timeout: u64,
    redirects: usize,
    output: PathBuf,
    urls: Vec<Url>,
}

fn options() -> Result<Options, lexopt::Error> {
    let (output, urls) = (PathBuf::from("."), Vec::new());
    let mut options = Options { limit: 8, roots: None, timeout: 30, redirects: 10, output, urls };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("limit") => options.limit = parser.value()?.parse()?,
            Arg::Long("roots") => options.roots = Some(parser.value()?.into()),
            Arg::Long("timeout") => options.timeout = parser.value()?.parse()?,
            Arg::Long("redirects") => options.redirects = parser.value()?.parse()?,
            Arg::Long("output") => options.output = parser.value()?.into(),
            Arg::Value(url) => options.urls.push(url.parse()?),
            _ => return Err(argument.unexpected()),
        }
    }
    match options.urls.is_empty() {
        true => Err(USAGE.into()),
        false => Ok(options),
    }
}

fn file_name(url: &Url) -> Result<&str, Error> {
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    // A URL is somebody else's text: no way out of the directory.
    last.filter(|name| !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.'))
        .ok_or_else(|| Error::Url(format!("{url} has no file name")))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    gondola::block_on(async {
        let patience = Duration::from_secs(options.timeout);
        let client = match Client::new(options.roots.as_deref(), patience, options.redirects) {
            Ok(client) => client,
            Err(error) => {
                eprintln!("{}", with_causes(&error));
                return ExitCode::from(2);
            }
        };
        let run = batch(&options.urls).limit(options.limit).on_error(OnError::Collect);
        let run = run.try_for_each(async |url| {
            let path = options.output.join(file_name(url)?);
            let bytes = download(&client, url.clone(), &path).await?;
            println!("{url}: {bytes} bytes");
            Ok::<_, Error>(())
        });
        match run.await {
            Ok(()) => ExitCode::SUCCESS,
            Err(record) => {
                for failed in &record.errors {
                    eprintln!("{}: {}", options.urls[failed.index], with_causes(&failed.error));
                }
                if record.errors.is_empty() {
                    eprintln!("{}", record);
                }
                ExitCode::FAILURE
            }
        }
    })
}
