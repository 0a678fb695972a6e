//! How far a long run is, on standard error.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicU64, Ordering},
};

/// Where standard error is no terminal, every so many runs get a line.
const EVERY: u64 = 20;

/// Counts runs that have ended.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    runs: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), runs: AtomicU64::new(0) }
    }

    /// A run has ended.
    pub(super) fn done(&self, what: &str) {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let mut err = io::stderr().lock();
        // What cannot be shown is not missed: the result comes on standard output.
        let _ = if self.terminal {
            write!(err, "\r\x1b[K{runs} runs: {what}").and_then(|()| err.flush())
        } else if runs.is_multiple_of(EVERY) {
            writeln!(err, "{runs} runs: {what}")
        } else {
            Ok(())
        };
    }

    /// Leaves no trace on a terminal.
    pub(super) fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
