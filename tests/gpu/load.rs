//! The load as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;

/// A running load; it ends with the value.
pub struct Load(Mutex<Child>);

impl Load {
    /// This program once more, as a load; returns once it has its context and its memory.
    pub fn start(card: u32, percent: u32, offset: u32) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's path")?;
        let arguments = [("--card", card), ("--load", percent), ("--offset", offset)];
        let mut child = Command::new(program)
            .args(arguments.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the load")?;
        let output = child.stdout.take().context("the load's standard output")?;
        let this = Self(Mutex::new(child));
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("the load's first word")?;
        ensure!(line.trim() == "ready", "the load does not start; see above");
        Ok(this)
    }

    pub fn pid(&self) -> u32 {
        self.0.lock().id()
    }

    pub fn alive(&self) -> anyhow::Result<()> {
        let ended = self.0.lock().try_wait()?;
        ensure!(ended.is_none(), "the load {} ended by itself: {ended:?}", self.pid());
        Ok(())
    }

    /// Ends it with that signal, and takes its end up so that it is no zombie.
    pub fn end(&self, signal: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status()?;
        ensure!(sent.success(), "kill {signal} {}", self.pid());
        self.0.lock().wait()?;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let child = self.0.get_mut();
        // Either fails only if it has ended before.
        let _ = child.kill();
        let _ = child.wait();
    }
}
