//! Ends the run when it takes more time or memory than it may. What it has started ends with it.

use std::{thread, time::Duration};

use tokio::time::Instant;

use super::usage;

/// Twice what a run takes on two cores that are busy with other things.
const TIME: Duration = Duration::from_mins(45);
/// As [`TIME`], for a quick run.
const QUICK_TIME: Duration = Duration::from_mins(10);
/// Of all programs together, MiB; about four times what they take.
const MEMORY_MIB: f64 = 8192.0;
const GLANCE: Duration = Duration::from_secs(1);

/// Watches until the end of the process.
pub fn start(quick: bool) {
    let start = Instant::now();
    let limit = if quick { QUICK_TIME } else { TIME };
    thread::spawn(move || {
        loop {
            thread::sleep(GLANCE);
            let memory = usage::memory_of_children();
            let broken = if start.elapsed() > limit {
                format!("it has not come to its end after {limit:?}")
            } else if memory > MEMORY_MIB {
                format!("its programs use {memory:.0} MiB, more than {MEMORY_MIB:.0}")
            } else {
                continue;
            };
            eprintln!("versus: ended by its own watchdog: {broken}");
            std::process::exit(1);
        }
    });
}
