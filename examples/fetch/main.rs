//! Downloads many URLs, a few at a time, and says what became of each:
//! `cargo run --release --example fetch -- --help`
//!
//! The list is read as the downloads go on, so it may be longer than memory. What is remembered
//! are the URLs in flight and those that failed: together with the rest of the list, which the
//! batch gives back, they are what a second run has to do. Reading the list blocks the thread: a
//! list that comes slowly through a pipe holds up the downloads.

mod files;
#[allow(dead_code, unused_imports, reason = "each example uses some of it")]
#[path = "../support/http.rs"]
mod http_client;
mod options;
mod outcome;

use files::PartFile;
use gondola::meter::{Meter, Reading};
use gondola::{ErrorKind, batch, block_on, time, try_spawn};
use http_client::{Connection, Target};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use options::{Options, UrlList};
use outcome::Outcome;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

fn main() -> ExitCode {
    let (options, list, state) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            say(format_args!("{error}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    run(&options, list, state).unwrap_or_else(|error| {
        say(format_args!("{error}"));
        ExitCode::FAILURE
    })
}

/// The exit status tells as well, so it does not matter whether this can be read.
fn say(why: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "fetch: {why}");
}

/// Opens everything that the command line names: before the work, not after it, is the time to
/// learn that the state cannot be saved.
fn prepare() -> Result<(Options, UrlList, Option<PartFile>), Box<dyn Error>> {
    let mut options = Options::from_env()?;
    let list = options.open_list()?;
    if let Some(folder) = &options.out {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let state = options.state.as_deref().map(PartFile::create).transpose()?;
    Ok((options, list, state))
}

/// Downloads the list, saves the state, and reports.
fn run(
    options: &Options,
    list: UrlList,
    state: Option<PartFile>,
) -> Result<ExitCode, Box<dyn Error>> {
    let (meter, bytes) = (Meter::new(), Rc::new(Cell::new(0)));
    // By position in the list: what is in flight or has failed. A success leaves.
    let open = RefCell::new(BTreeMap::new());
    let broken = Cell::new(None);

    let bar = progress_bar(list.size_hint().1);
    let urls = list.map_while(|url| url.map_err(|error| broken.set(Some(error))).ok()).fuse();
    let downloads = batch(urls.enumerate())
        .limit(&options.limit)
        .on_error(options.on_error)
        .try_for_each(|(index, url)| {
            open.borrow_mut().insert(index, url.clone());
            let (bytes, open) = (&bytes, &open);
            meter.try_watch(async move {
                let length = download(index, &url, options).await?;
                bytes.set(bytes.get() + length);
                open.borrow_mut().remove(&index);
                Ok::<_, Box<dyn Error>>(())
            })
        });
    let result = block_on(async {
        if !bar.is_hidden() {
            try_spawn(draw(bar.clone(), meter.clone(), bytes.clone()))?.detach();
        }
        io::Result::Ok(downloads.await)
    })?;
    bar.finish_and_clear();

    let (mut errors, mut cut_off, mut rest) = (Vec::new(), Vec::new(), None);
    if let Err(record) = result {
        if record.kind != ErrorKind::Item {
            let error = Box::<dyn Error>::from(record);
            say(format_args!("{error}")); // Nothing was pulled: no ring has such a limit.
            return Ok(ExitCode::from(2));
        }
        (errors, cut_off, rest) = (record.errors, record.cut_off, Some(record.rest));
    }
    errors.sort_by_key(|failed| failed.index);
    let (reading, bytes, open) = (meter.read(), bytes.get(), open.into_inner());
    let limit = options.auto.then(|| options.limit.get());
    let outcome = Outcome { reading, limit, bytes, open, errors, cut_off };
    let mut rest = rest.into_iter().flatten().map(|(_, url)| url);

    // The state comes before the report, which may go into a pipe that nobody reads.
    let (mut unstarted, mut resume) = (0, None);
    if let Some(mut file) = state {
        unstarted = outcome.save(&mut file, rest.by_ref())?;
        match broken.take() {
            None => {
                file.finish()?;
                resume = options.resume_command();
            }
            // A list that is its own state would lose what could not be read.
            error => broken.set(error),
        }
    }
    outcome.print(unstarted, rest, resume)?;
    match broken.take() {
        Some(error) => Err(format!("the list breaks off (so no state is saved): {error}").into()),
        None if outcome.errors.is_empty() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

/// Downloads one URL within the time allowed, and returns the length of its body.
async fn download(index: usize, url: &str, options: &Options) -> Result<u64, Box<dyn Error>> {
    let path = options.out.as_ref().map(|folder| folder.join(files::name(index, url)));
    match time::timeout(options.timeout, get(url, path.as_deref())).await {
        Ok(result) => result,
        Err(_) => Err(format!("not done within {:?}", options.timeout).into()),
    }
}

async fn get(url: &str, path: Option<&Path>) -> Result<u64, Box<dyn Error>> {
    let target: Target = url.parse()?;
    let mut connection = Connection::connect(&target.resolve().await?).await?;
    let status = connection.get(&target).await?.status;
    if status.is_redirection() {
        return Err(format!("{status} (redirects are not followed)").into());
    }
    if !status.is_success() {
        return Err(status.to_string().into());
    }
    let mut file = path.map(PartFile::create).transpose()?;
    let mut length = 0;
    while let Some(chunk) = connection.next_chunk().await? {
        // Files block the thread, if only for a copy into the page cache.
        if let Some(file) = &mut file {
            file.write_all(chunk)?;
        }
        length += chunk.len() as u64;
    }
    if let Some(file) = file {
        file.finish()?;
    }
    Ok(length)
}

/// Draws to stderr, and only if that is a terminal. Without a steady tick, as that is a thread.
fn progress_bar(length: Option<usize>) -> ProgressBar {
    let template = match length {
        Some(_) => "{bar:40} {pos}/{len} URLs, {msg}, {elapsed}",
        None => "{spinner} {pos} URLs, {msg}, {elapsed}",
    };
    let length = length.map(|length| length as u64);
    ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(template).expect("a valid template"))
}

/// Draws what the meter says, ten times a second.
async fn draw(bar: ProgressBar, meter: Meter, bytes: Rc<Cell<u64>>) {
    let mut ticks = time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let read @ Reading { completed, failed, in_flight, .. } = meter.read();
        let (bytes, speed) = (HumanBytes(bytes.get()), read.items_per_second());
        bar.set_message(format!("{bytes}, {in_flight} in flight, {failed} failed, {speed:.0}/s"));
        bar.set_position((completed + failed) as u64);
    }
}
