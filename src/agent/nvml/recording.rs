//! Answers of NVML written down, and given again.
//!
//! JSON lines. The first says what the recording is ([`Header`]), and honestly: `synthetic` is false only where a real
//! library answered. Each further line is one read: the wall clock at that time and the answer, errors included.
//!
//! Played again, one line answers one read, from the first again after the last, and its times are moved to the present,
//! as if the answer were new. What the reader asks with (`since`) is not looked at: the recording's reader asked in the
//! same way. A file that is replaced meanwhile is played from its beginning.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{Answer, Driver, Fault};
use crate::agent::window::ReadTime;

/// The format's name and version.
pub const FORMAT: &str = "tidegate-nvml/1";
/// Longest recording that is played: an hour of eight busy cards has a third of this (R22).
const MAX_BYTES: u64 = 64 << 20;

/// What a recording is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// Made up, rather than said by a driver.
    pub synthetic: bool,
    /// Where it comes from: cards and driver, or what it is made up for.
    pub about: String,
    /// When it was made.
    pub date: String,
}

/// One read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Microseconds since 1970, when it was asked.
    pub wall: u64,
    /// What NVML said.
    pub answer: Result<Answer, Fault>,
}

/// Why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content.
    #[error("{path}, line {line}: expected {expected}: {source}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Another format, too long, or empty.
    #[error("{path}: {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Plays a recording.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    modified: Option<SystemTime>,
    entries: Vec<Entry>,
    next: usize,
}

impl Replay {
    /// Reads the whole recording.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn open(path: &Path) -> Result<(Self, Header), RecordingError> {
        let modified = fs::metadata(path).and_then(|data| data.modified()).ok();
        let (header, entries) = read(path)?;
        Ok((Self { path: path.into(), modified, entries, next: 0 }, header))
    }

    /// Takes up a file that was replaced. One that is half written, or gone for a moment, leaves the old one in use.
    fn follow(&mut self) {
        let modified = fs::metadata(&self.path).and_then(|data| data.modified()).ok();
        if modified == self.modified {
            return;
        }
        match read(&self.path) {
            Ok((_, entries)) => {
                self.entries = entries;
                self.next = 0;
                self.modified = modified;
            }
            Err(error) => tracing::warn!(%error, "the recording was replaced by one that cannot be read"),
        }
    }
}

fn read(path: &Path) -> Result<(Header, Vec<Entry>), RecordingError> {
    let file = |source| RecordingError::File { path: path.into(), source };
    let content = |problem| RecordingError::Content { path: path.into(), problem };
    let size = fs::metadata(path).map_err(file)?.len();
    if size > MAX_BYTES {
        return Err(content(format!("{size} bytes are too many for a recording (limit {MAX_BYTES})")));
    }
    let text = fs::read_to_string(path).map_err(file)?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let line = |number: usize, expected, source| RecordingError::Line {
        path: path.into(),
        line: number + 1,
        expected,
        source,
    };
    let (number, first) = lines.next().ok_or_else(|| content("is empty".into()))?;
    let header: Header = serde_json::from_str(first).map_err(|error| line(number, "a recording's header", error))?;
    if header.format != FORMAT {
        return Err(content(format!("expected the format {FORMAT:?}, got {:?}", header.format)));
    }
    let entries: Vec<Entry> = lines
        .map(|(number, text)| serde_json::from_str(text).map_err(|error| line(number, "one read of NVML", error)))
        .collect::<Result<_, _>>()?;
    if entries.is_empty() {
        return Err(content("holds no read of NVML".into()));
    }
    Ok((header, entries))
}

impl Driver for Replay {
    fn read(&mut self, now: ReadTime, _since: &dyn Fn(&str) -> u64) -> Result<Answer, Fault> {
        self.follow();
        let entry = &self.entries[self.next % self.entries.len()];
        self.next = (self.next + 1) % self.entries.len();
        let mut answer = entry.answer.clone()?;
        for row in answer.cards.iter_mut().filter_map(|card| card.samples.as_mut().ok()).flat_map(|all| &mut all.rows) {
            row.at = now.wall.saturating_add(row.at).saturating_sub(entry.wall);
        }
        Ok(answer)
    }
}

/// Writes down what another driver says.
#[derive(Debug)]
pub struct Recorder<D> {
    driver: D,
    file: File,
    path: PathBuf,
    begun: bool,
    date: String,
}

impl<D: Driver> Recorder<D> {
    /// Makes the file, which must not exist: a recording is never overwritten by another.
    ///
    /// # Errors
    /// [`RecordingError::File`].
    pub fn new(driver: D, path: &Path, date: String) -> Result<Self, RecordingError> {
        let file = File::create_new(path).map_err(|source| RecordingError::File { path: path.into(), source })?;
        Ok(Self { driver, file, path: path.into(), begun: false, date })
    }

    fn write(&mut self, entry: &Entry) -> std::io::Result<()> {
        let mut text = String::new();
        if !self.begun {
            let Ok(answer) = &entry.answer else { return Ok(()) }; // a recording begins when there is something to say
            let models = answer.cards.iter().filter_map(|card| card.identity.as_ref().ok()).map(|card| &*card.model);
            let models: Vec<&str> = models.collect();
            let about = format!("driver {}; cards: {}", answer.driver, models.join(", "));
            let header = Header { format: FORMAT.into(), synthetic: false, about, date: self.date.clone() };
            text = serde_json::to_string(&header)? + "\n";
        }
        text += &serde_json::to_string(entry)?;
        text.push('\n');
        self.file.write_all(text.as_bytes())?;
        self.begun = true;
        Ok(())
    }
}

impl<D: Driver> Driver for Recorder<D> {
    fn read(&mut self, now: ReadTime, since: &dyn Fn(&str) -> u64) -> Result<Answer, Fault> {
        let entry = Entry { wall: now.wall, answer: self.driver.read(now, since) };
        if let Err(error) = self.write(&entry) {
            tracing::warn!(path = %self.path.display(), %error, "this read is missing from the recording");
        }
        entry.answer
    }
}

#[cfg(test)]
mod tests;
