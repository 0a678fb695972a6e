//! `--record FILE`: every decision with what it was made from, as lines of a recording ([`engine::record`](crate::engine::record)).
//!
//! The file is rotated at a size and a number of files is kept (`FILE`, `FILE.1`, …), so that recording can stay on. Writing
//! happens on a thread of its own behind a bounded queue: a slow disk loses lines, which is counted and said, and never
//! delays a decision. After a loss every service begins anew, because what follows would not follow from what is there.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use tracing::warn;

use crate::engine::record::Line;

/// Lines that wait for the disk: some ticks of a large cluster.
const QUEUE: usize = 20_000;

/// Where to, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The newest file.
    pub file: PathBuf,
    /// A file at least this large is full.
    pub bytes: u64,
    /// Files that are kept, the newest included.
    pub files: usize,
}

/// The side of whoever decides.
#[derive(Debug)]
pub struct Recorder {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
    /// Counts up when every service must begin anew.
    epoch: Arc<AtomicU64>,
    seen: u64,
    begun: HashSet<Arc<str>>,
    /// Lines lost to a full queue.
    lost: u64,
}

impl Recorder {
    /// Opens the file and starts the writer. What the file holds already is rotated away.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn start(target: Target) -> io::Result<Self> {
        if target.file.exists() {
            rotate(&target)?;
        }
        let file = File::create(&target.file)?;
        let (lines, queue) = sync_channel(QUEUE);
        let epoch = Arc::new(AtomicU64::new(0));
        let turned = Arc::clone(&epoch);
        let writer = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || write_all(&target, file, &queue, &turned))?;
        Ok(Self { lines: Some(lines), writer: Some(writer), epoch, seen: 0, begun: HashSet::new(), lost: 0 })
    }

    /// Whether the service's next decision needs a [`Line::Begin`] before it.
    pub fn must_begin(&mut self, service: &Arc<str>) -> bool {
        let epoch = self.epoch.load(Ordering::Acquire);
        if epoch != self.seen {
            self.seen = epoch;
            self.begun.clear();
        }
        self.begun.insert(Arc::clone(service))
    }

    /// The service begins anew with its next decision: its policy has changed.
    pub fn begin_again(&mut self, service: &Arc<str>) {
        self.begun.remove(service);
    }

    /// Hands a line to the writer.
    pub fn record(&mut self, record: Line) {
        let Some(lines) = &self.lines else { return };
        if let Err(TrySendError::Full(_)) = lines.try_send(record) {
            if self.lost == 0 {
                warn!(
                    "decisions are made faster than they can be recorded: lines are left out, and services begin anew"
                );
            }
            self.lost += 1;
            self.begun.clear();
        }
    }

    /// Lines that were left out so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl Drop for Recorder {
    /// Everything that was handed over is on the disk afterwards.
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so itself.
            let _ = writer.join();
        }
    }
}

fn write_all(target: &Target, file: File, queue: &Receiver<Line>, turned: &AtomicU64) {
    let mut out = BufWriter::new(file);
    let mut written = 0;
    let mut failing = false;
    while let Ok(record) = queue.recv() {
        let begins = matches!(record, Line::Begin { .. });
        match serde_json::to_string(&record).map_err(io::Error::from).and_then(|line| {
            writeln!(out, "{line}")?;
            Ok(line.len() as u64 + 1)
        }) {
            Ok(bytes) => {
                written += bytes;
                failing = false;
            }
            Err(error) => {
                if !failing {
                    warn!(file = %target.file.display(), %error, "decisions cannot be recorded");
                }
                failing = true;
                turned.fetch_add(1, Ordering::AcqRel);
            }
        }
        // Not between a service's beginning and its first decision.
        if written >= target.bytes && !begins {
            match turn(target, &mut out) {
                Ok(()) => written = 0,
                Err(error) => warn!(file = %target.file.display(), %error, "the record cannot be rotated"),
            }
            turned.fetch_add(1, Ordering::AcqRel);
        }
    }
    if let Err(error) = out.flush() {
        warn!(file = %target.file.display(), %error, "the last decisions are not in the record");
    }
}

/// Closes the full file and begins a new one.
fn turn(target: &Target, out: &mut BufWriter<File>) -> io::Result<()> {
    out.flush()?;
    rotate(target)?;
    *out = BufWriter::new(File::create(&target.file)?);
    Ok(())
}

/// `FILE` becomes `FILE.1`, that `FILE.2`, and what is beyond the number of files goes.
fn rotate(target: &Target) -> io::Result<()> {
    let older = |n: usize| -> PathBuf { if n == 0 { target.file.clone() } else { numbered(&target.file, n) } };
    let last = target.files.max(1) - 1;
    if last == 0 {
        return std::fs::remove_file(&target.file);
    }
    for n in (0..last).rev() {
        match std::fs::rename(older(n), older(n + 1)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn numbered(file: &Path, n: usize) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

#[cfg(test)]
mod tests;
