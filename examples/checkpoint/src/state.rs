//! The state of a batch as text: a head, and perhaps lines that were appended to it since.
//!
//! ```text
//! checkpoint 1
//! jobs 5888896 1000000.txt     the list: its length in bytes, and its name
//! begun 204
//! failed 17 a bad job
//! uncertain 201
//! uncertain 203
//! end                          a head without it was cut short
//! +204                         begun
//! -201                         done
//! !203 a bad job               failed
//! ```

use crate::jobs;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// What is known of each job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The list that it is about: its length and its name.
    pub jobs: String,
    /// The jobs below this number have begun.
    pub begun: usize,
    /// Those of them of which nobody knows whether they are done. All others are.
    pub uncertain: BTreeSet<usize>,
    /// Those that failed, and why.
    pub failed: Vec<(usize, String)>,
}

/// Why a state can't be gone on with. The file is left as it is.
#[derive(Debug)]
pub struct StateError {
    path: PathBuf,
    kind: StateErrorKind,
}

#[derive(Debug)]
pub enum StateErrorKind {
    /// It can't be read or written.
    Io(io::Error),
    /// It belongs to another list.
    OtherJobs(String),
    /// It ends too early.
    CutShort,
    /// This line of it makes no sense.
    Damaged(usize),
}

use StateErrorKind::{CutShort, Damaged, OtherJobs};

impl State {
    /// The state of a list of which nothing has begun.
    ///
    /// # Errors
    /// If there is no such list.
    pub fn new(list: &Path) -> Result<Self, StateError> {
        let length = fs::metadata(list).map_err(|error| StateError::io(list, error))?.len();
        let name = list.file_name().unwrap_or_default().display();
        Ok(Self { jobs: format!("{length} {name}"), ..Self::default() })
    }

    /// The state that was saved, if any was.
    ///
    /// # Errors
    /// If it can't be read, is damaged, or belongs to another list.
    pub fn load(path: &Path, list: &Path) -> Result<Self, StateError> {
        let new = Self::new(list)?;
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(new),
            file => file.map_err(|error| StateError::io(path, error))?,
        };
        let read =
            Self::read(BufReader::new(file)).and_then(|saved| match saved.jobs == new.jobs {
                true => Ok(saved),
                false => Err(OtherJobs(saved.jobs)),
            });
        read.map_err(|kind| StateError { path: path.to_path_buf(), kind })
    }

    /// The jobs that have not begun or are uncertain, with their numbers.
    ///
    /// # Errors
    /// If there is no such list.
    pub fn left(&self, list: &Path) -> Result<impl Iterator<Item = (usize, String)>, StateError> {
        let jobs = jobs(list).map_err(|error| StateError::io(list, error))?;
        let is_left = |job: &usize| *job >= self.begun || self.uncertain.contains(job);
        Ok(jobs.enumerate().filter(move |(job, _)| is_left(job)))
    }

    /// Saves it: whole, or not at all.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let part = path.with_extension("part");
        let written = fs::write(&part, self.to_string()).and_then(|()| fs::rename(&part, path));
        written.map_err(|error| StateError::io(path, error))
    }

    /// Reads it line by line, for a journal may be long.
    ///
    /// # Errors
    /// [`CutShort`], [`Damaged`], or that of the reader.
    pub fn read(mut text: impl BufRead) -> Result<Self, StateErrorKind> {
        let (mut state, mut has_ended, mut line) = (Self::default(), false, String::new());
        for number in 1.. {
            line.clear();
            match text.read_line(&mut line) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Damaged(number));
                }
                length => length.map_err(StateErrorKind::Io)?,
            };
            // A line without an end was being written when the process was killed. Without it, a
            // job that has not begun seems not to have begun, and one that is done seems uncertain.
            let Some(line) = line.strip_suffix('\n') else { break };
            let known = match has_ended {
                true => state.change(line),
                false => state.head(number, line),
            };
            if !known {
                return Err(Damaged(number));
            }
            has_ended |= line == "end";
        }
        match has_ended {
            true => Ok(state),
            false => Err(CutShort),
        }
    }

    /// Takes in a line of the head; `false` if it makes no sense.
    fn head(&mut self, number: usize, line: &str) -> bool {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (number, word) {
            (1, "checkpoint") => rest == "1",
            (2, "jobs") => {
                self.jobs = rest.to_string();
                true
            }
            (3, "begun") => rest.parse().map(|begun| self.begun = begun).is_ok(),
            (4.., "failed") => self.fail(rest),
            (4.., "uncertain") => {
                rest.parse().is_ok_and(|job| job < self.begun && self.uncertain.insert(job))
            }
            (4.., _) => line == "end",
            _ => false,
        }
    }

    /// Takes in a line of the journal.
    fn change(&mut self, line: &str) -> bool {
        match line.split_at_checked(1) {
            Some(("+", job)) => job.parse().is_ok_and(|job| self.begin(job)),
            Some(("-", job)) => job.parse().is_ok_and(|job| self.uncertain.remove(&job)),
            Some(("!", rest)) => self.fail(rest),
            _ => false,
        }
    }

    fn begin(&mut self, job: usize) -> bool {
        if job == self.begun {
            self.begun += 1;
            self.uncertain.insert(job)
        } else {
            self.uncertain.contains(&job) // it is done again
        }
    }

    fn fail(&mut self, rest: &str) -> bool {
        let Some((job, why)) = rest.split_once(' ') else { return false };
        let Ok(job) = job.parse() else { return false };
        self.uncertain.remove(&job);
        self.failed.push((job, why.to_string()));
        job < self.begun
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "checkpoint 1\njobs {}\nbegun {}", self.jobs, self.begun)?;
        for (job, why) in &self.failed {
            writeln!(f, "failed {job} {}", one_line(why))?;
        }
        for job in &self.uncertain {
            writeln!(f, "uncertain {job}")?;
        }
        f.write_str("end\n")
    }
}

pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.split(['\r', '\n']) {
        let _ = write!(line, "{part} ");
    }
    line.truncate(line.trim_end().len());
    line
}

impl StateError {
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_path_buf(), kind: StateErrorKind::Io(error) }
    }

    #[must_use]
    pub fn kind(&self) -> &StateErrorKind {
        &self.kind
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.kind {
            StateErrorKind::Io(error) => error.fmt(f),
            OtherJobs(jobs) => write!(f, "this is the state of other jobs: {jobs}"),
            CutShort => f.write_str("the state is cut short"),
            Damaged(line) => write!(f, "line {line} of the state makes no sense"),
        }
    }
}

impl std::error::Error for StateError {}
