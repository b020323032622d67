//! What became of the list: saved for the next run, and told.

use crate::files::PartFile;
use gondola::batch::ItemError;
use gondola::meter::Reading;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufWriter, Write};

/// All but the rest of the list, which is not held in memory.
pub(crate) struct Outcome {
    pub(crate) reading: Reading,
    /// The limit that was found, if it was looked for.
    pub(crate) limit: Option<usize>,
    pub(crate) bytes: u64,
    /// What failed or was cut off, by its position in the list.
    pub(crate) open: BTreeMap<usize, String>,
    pub(crate) errors: Vec<ItemError<Box<dyn Error>>>,
    pub(crate) cut_off: Vec<usize>,
}

impl Outcome {
    /// Writes the URLs that remain, in the order of the list; returns how many are of its rest.
    pub(crate) fn save(
        &self,
        file: &mut PartFile,
        rest: impl Iterator<Item = String>,
    ) -> io::Result<usize> {
        for url in self.open.values() {
            file.write_all(format!("{url}\n").as_bytes())?;
        }
        let mut unstarted = 0;
        for url in rest {
            file.write_all(format!("{url}\n").as_bytes())?;
            unstarted += 1;
        }
        Ok(unstarted)
    }

    /// Prints the fate of each URL that did not succeed, and the sums. `unstarted` are in the
    /// state already, and those of `rest` are not.
    pub(crate) fn print(
        &self,
        mut unstarted: usize,
        rest: impl Iterator<Item = String>,
        resume: Option<String>,
    ) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        for failed in &self.errors {
            writeln!(out, "failed       {}: {}", self.open[&failed.index], failed.error)?;
        }
        for index in &self.cut_off {
            writeln!(out, "cut off      {}", self.open[index])?;
        }
        for url in rest {
            writeln!(out, "not started  {url}")?;
            unstarted += 1;
        }
        let Self { bytes, reading, .. } = self;
        let Reading { completed, failed, cut_off, p50, p99, .. } = reading;
        write!(out, "{completed} done ({bytes} bytes), {failed} failed, ")?;
        writeln!(out, "{cut_off} cut off in flight, {unstarted} left")?;
        if completed + failed > 0 {
            let speed = reading.items_per_second();
            write!(out, "{speed:.1} URLs/s, p50 {p50:.1?}, p99 {p99:.1?}")?;
            self.limit.map_or(Ok(()), |limit| write!(out, "; K = {limit} at the end"))?;
            writeln!(out)?;
        }
        if let (Some(command), 1..) = (resume, failed + cut_off + unstarted) {
            writeln!(out, "To go on with what remains:\n{command}")?;
        }
        out.flush()
    }
}
