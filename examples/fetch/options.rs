//! The command line, and the list that it names.

use gondola::batch::Auto;
use gondola::{OnError, Stop};
use lexopt::prelude::*;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Downloads URLs, at most K at a time.

usage: fetch [OPTIONS] [URL]...

Without URLs and --from, the list is read from standard input: one URL a line, blank lines and
those that begin with # are skipped. Only http:// is spoken, and redirects are not followed.

  --from FILE        read the list from FILE
  -k, --limit K      at most K downloads in flight (8; 100 with --auto)
  --auto             find out how many in flight are enough, and print that at the end
  --timeout SECONDS  at most so long for each URL, such as 2.5 (30)
  --keep-going       go on after a failure; without this the first one ends the run, which cuts
                     off what is in flight
  --out DIR          keep the bodies as files in DIR; without this they are only counted
  --state FILE       at the end, write the URLs that remain into FILE: those that failed, were
                     cut off, or were never started. It is a list for --from, so that
                         fetch --state rest.txt --from list.txt
                         fetch --state rest.txt --from rest.txt
                     resumes, as often as it takes. Empty if nothing remains
  -h, --help         print this

The exit status is 0 if every URL succeeded, 1 if not, and 2 if the command line makes no sense.";

/// The list, read as it is needed.
pub(crate) type UrlList = Box<dyn Iterator<Item = io::Result<String>>>;

pub(crate) struct Options {
    urls: Vec<String>,
    from: Option<PathBuf>,
    pub(crate) limit: Auto,
    pub(crate) auto: bool,
    pub(crate) timeout: Duration,
    pub(crate) on_error: OnError,
    pub(crate) out: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
}

impl Options {
    pub(crate) fn from_env() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            urls: Vec::new(),
            from: None,
            limit: Auto::new(8),
            auto: false,
            timeout: Duration::from_secs(30),
            on_error: OnError::Stop(Stop::Cancel),
            out: None,
            state: None,
        };
        let mut limit = None;
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Value(url) => options.urls.push(url.string()?),
                Long("from") => options.from = Some(parser.value()?.into()),
                Short('k') | Long("limit") => limit = Some(parser.value()?.parse()?),
                Long("auto") => options.auto = true,
                Long("timeout") => {
                    let seconds: f64 = parser.value()?.parse()?;
                    options.timeout = Duration::try_from_secs_f64(seconds)?;
                }
                Long("keep-going") => options.on_error = OnError::Collect,
                Long("out") => options.out = Some(parser.value()?.into()),
                Long("state") => options.state = Some(parser.value()?.into()),
                Short('h') | Long("help") => {
                    writeln!(io::stdout(), "{HELP}")?;
                    std::process::exit(0);
                }
                _ => return Err(argument.unexpected().into()),
            }
        }
        let most = limit.unwrap_or(if options.auto { 100 } else { 8 });
        // A fixed limit is one with no room to move.
        options.limit = Auto::new(most).min(if options.auto { 1 } else { most });
        Ok(options)
    }

    /// Takes the URLs of the command line, else opens the file or standard input.
    pub(crate) fn open_list(&mut self) -> Result<UrlList, Box<dyn Error>> {
        Ok(match &self.from {
            Some(_) if !self.urls.is_empty() => {
                return Err("either URLs or --from, not both".into());
            }
            Some(path) => {
                let file =
                    File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
                Box::new(read_list(BufReader::new(file)))
            }
            None if !self.urls.is_empty() => {
                Box::new(std::mem::take(&mut self.urls).into_iter().map(Ok))
            }
            None if io::stdin().is_terminal() => return Err("no URLs".into()),
            None => Box::new(read_list(io::stdin().lock())),
        })
    }

    /// The command that goes on where this run ended, if it saved its state.
    pub(crate) fn resume_command(&self) -> Option<String> {
        let state = self.state.as_ref()?;
        let mut words = vec![std::env::args_os().next()?];
        words.extend(["--limit".into(), self.limit.max().to_string().into()]);
        if self.auto {
            words.push("--auto".into());
        }
        words.extend(["--timeout".into(), self.timeout.as_secs_f64().to_string().into()]);
        if self.on_error == OnError::Collect {
            words.push("--keep-going".into());
        }
        if let Some(folder) = &self.out {
            words.extend(["--out".into(), folder.into()]);
        }
        words.extend(["--state".into(), state.into(), "--from".into(), state.into()]);
        let words = words.iter().map(|word| quoted(&word.to_string_lossy()));
        Some(words.collect::<Vec<_>>().join(" "))
    }
}

/// The URLs in the lines of `source`.
fn read_list(source: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    source
        .lines()
        .map(|line| line.map(|line| line.trim().to_string()))
        .filter(|line| !matches!(line, Ok(text) if text.is_empty() || text.starts_with('#')))
}

/// As a POSIX shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
