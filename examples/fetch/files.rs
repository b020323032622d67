//! Files that appear whole or not at all.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// A file that has a temporary name until it is finished. Dropped before, it is removed: so a
/// download that fails, times out or is cut off leaves nothing behind.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
}

impl PartFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let (part, path) = (PathBuf::from(part), path.to_path_buf());
        let file = File::create(&part).map_err(|error| named(&part, error))?;
        Ok(Self { file: BufWriter::new(file), part, path })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(|error| named(&self.part, error))
    }

    /// Gives the file its name, replacing a file that has it.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| named(&self.part, error))?;
        fs::rename(&self.part, &self.path).map_err(|error| named(&self.path, error))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part); // It is gone already if it was finished.
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The longest escaped URL in a name: with the other parts it stays below the usual 255 bytes.
const LONGEST: usize = 200;

/// The name of the file for the URL at `index`. The index keeps duplicates apart. The URL is in it
/// in full, or in an excerpt and a hash, so that no later run with other URLs replaces the file.
pub(crate) fn name(index: usize, url: &str) -> String {
    let mut name = format!("{index:06}-");
    for byte in url.trim_start_matches("http://").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(byte.into()),
            b'/' => name.push('+'),
            _ => write!(name, "%{byte:02x}").expect("a string takes everything"),
        }
    }
    if name.len() > LONGEST {
        let mut hasher = DefaultHasher::new();
        url.hash(&mut hasher);
        name.truncate(LONGEST);
        write!(name, "-{:016x}", hasher.finish()).expect("a string takes everything");
    }
    name
}
