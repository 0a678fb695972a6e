//! A card's sample buffer → each process's mean utilization since the last read. Pure: times are arguments.
//!
//! What NVML hands out (`nvmlDeviceGetProcessUtilization`, `nvmlDeviceGetProcessesUtilizationInfo`) is described in two
//! ways, and both are read:
//!
//! - One row for each process that used the card since `lastSeenTimeStamp`, which is what NVIDIA's manual says. The row
//!   already is the mean over that time, and is taken as it is.
//! - The rows of the driver's ring one by one, several of a process, which is what NVIDIA's dcgm-exporter expects. Each of
//!   the times in the answer then ends a *cell* that begins at the time before it. A process has in a cell what its row
//!   says, or nothing; its mean is weighted by the cells' lengths. A row says nothing about more than
//!   [`LONGEST_PERIOD`]: a longer cell was idle before that.
//!
//! The first answer that names a process twice shows that a card's driver is of the second kind. Cells tile time: the end
//! of one window is the beginning of the next, so that nothing is counted twice or left out.
//!
//! Unknown, never a number (R1): the first read, a clock that jumped, a read that came too late, and a ring that
//! overwrote all that happened ([`Gap`]); a single figure above 100 makes that process's mean unknown.

use std::{collections::BTreeMap, time::Duration};

use super::nvml::ProcessSample;

/// Longest time between two samples of the driver: 1 s or 1/6 s, depending on the card (NVML manual, sample period of
/// utilization). Microseconds.
pub const LONGEST_PERIOD: u64 = 1_000_000;
/// A mean over a longer time would say little about now.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(15);
/// Wall clock and monotonic clock part by less than this between two reads, or the wall clock was set. Far above what NTP
/// slews in [`LONGEST_WINDOW`] (500 ppm), and below [`LONGEST_PERIOD`].
pub const CLOCK_JUMP: Duration = Duration::from_millis(500);
/// The largest figure that is one, percent.
const FULL: u32 = 100;

/// When a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTime {
    /// Microseconds since 1970 by the machine's clock, which is the driver's, too.
    pub wall: u64,
    /// Since some moment, by the clock that never jumps.
    pub monotonic: Duration,
}

/// SM, memory copy, encoder and decoder utilization, percent 0..=100; `None`: the driver's figure cannot be one.
pub type Utilization = [Option<f64>; 4];

/// Why a read says nothing about the time since the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Gap {
    /// There was none before, or it failed.
    #[error("the first read of the card")]
    FirstRead,
    /// The machine's clock was set meanwhile.
    #[error("the machine's clock was set")]
    ClockJump,
    /// The one before is too long ago.
    #[error("more than {}s since the last read", LONGEST_WINDOW.as_secs())]
    LateRead,
    /// The driver's buffer holds one moment only: the rest was overwritten.
    #[error("the driver's buffer was overwritten")]
    Overwritten,
}

impl Gap {
    /// A short, stable word for alert rules.
    pub fn reason(self) -> &'static str {
        match self {
            Self::FirstRead => "first_read",
            Self::ClockJump => "clock_jump",
            Self::LateRead => "late_read",
            Self::Overwritten => "buffer_overwritten",
        }
    }
}

/// What one read tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    means: BTreeMap<u32, Utilization>,
    /// The length of the time that it is about, microseconds.
    pub length: u64,
    /// Figures above 100.
    pub above_full: u64,
    /// Rows whose time cannot be: before the last read, or in the future.
    pub out_of_time: u64,
}

impl Window {
    /// The process's mean. NVML reports a process that used nothing by leaving it out: a true 0.
    pub fn of(&self, pid: u32) -> Utilization {
        self.means.get(&pid).copied().unwrap_or([Some(0.0); 4])
    }
}

/// One card's buffer, from read to read.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    last: Option<Last>,
    /// An answer has named a process at two times.
    one_by_one: bool,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    read: ReadTime,
    /// Up to where time is accounted for, microseconds since 1970.
    end: u64,
}

impl Buffer {
    /// What to give the driver as `lastSeenTimeStamp` in a read at that time.
    pub fn since(&self, now: ReadTime) -> u64 {
        match self.last {
            Some(last) if gap(last.read, now).is_none() => last.end,
            _ => now.wall.saturating_sub(LONGEST_PERIOD),
        }
    }

    /// Takes in the driver's answer to [`Buffer::since`]. `full`: the answer fills the driver's buffer, so that what came
    /// before its first row may have been overwritten.
    ///
    /// # Errors
    /// [`Gap`]; the next read starts from here.
    pub fn take(&mut self, now: ReadTime, samples: &[ProcessSample], full: bool) -> Result<Window, Gap> {
        let start = self.since(now);
        let gap = self.last.map_or(Some(Gap::FirstRead), |last| gap(last.read, now));

        let mut window = Window::default();
        let mut rows: BTreeMap<u64, BTreeMap<u32, [u32; 4]>> = BTreeMap::new();
        for sample in samples {
            if !(start < sample.at && sample.at <= now.wall.saturating_add(LONGEST_PERIOD)) {
                window.out_of_time += 1;
                continue;
            }
            // Twice at one time is the same row twice.
            let row = rows.entry(sample.at).or_default().entry(sample.pid).or_default();
            for (kept, value) in row.iter_mut().zip([sample.sm, sample.memory, sample.encoder, sample.decoder]) {
                *kept = value.max(*kept);
            }
        }
        let newest = rows.keys().next_back().copied().unwrap_or(start);
        // Idle time that is long past is accounted for; the last moments may still come.
        let end = newest.max(now.wall.saturating_sub(LONGEST_PERIOD)).max(start);
        self.last = Some(Last { read: now, end });
        let rows_in_all: usize = rows.values().map(BTreeMap::len).sum();
        let mut pids: Vec<u32> = rows.values().flat_map(BTreeMap::keys).copied().collect();
        pids.sort_unstable();
        pids.dedup();
        self.one_by_one |= pids.len() < rows_in_all;
        if let Some(gap) = gap {
            return Err(gap);
        }
        if self.one_by_one {
            // The first of a full buffer's times ends a cell whose beginning is not known.
            let start = if full { rows.pop_first().map_or(start, |(first, _)| first) } else { start };
            if full && start == end {
                return Err(Gap::Overwritten);
            }
            window.weigh(start, end, &rows);
        } else {
            window.length = end - start;
            for (pid, row) in rows.into_values().flatten() {
                let checked = row.map(|value| window.check(value));
                window.means.insert(pid, checked.map(|value| value.map(f64::from)));
            }
        }
        Ok(window)
    }

    /// The driver has failed: what it says next has no beginning.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// Why `now` does not continue the read at `last`.
fn gap(last: ReadTime, now: ReadTime) -> Option<Gap> {
    let passed = now.monotonic.saturating_sub(last.monotonic);
    let expected = last.wall.saturating_add(passed.as_micros() as u64);
    if Duration::from_micros(now.wall.abs_diff(expected)) > CLOCK_JUMP {
        return Some(Gap::ClockJump);
    }
    (passed > LONGEST_WINDOW).then_some(Gap::LateRead)
}

impl Window {
    fn check(&mut self, value: u32) -> Option<u32> {
        let valid = value <= FULL;
        self.above_full += u64::from(!valid);
        valid.then_some(value)
    }

    /// Means over `start..end` from rows by the time at which their cell ends.
    fn weigh(&mut self, start: u64, end: u64, rows: &BTreeMap<u64, BTreeMap<u32, [u32; 4]>>) {
        self.length = end - start;
        let length = self.length as f64;
        let mut begin = start;
        for (time, row) in rows {
            let weight = (time - begin).min(LONGEST_PERIOD) as f64 / length;
            begin = *time;
            for (pid, values) in row {
                let checked = values.map(|value| self.check(value));
                let mean = self.means.entry(*pid).or_insert([Some(0.0); 4]);
                for (mean, value) in mean.iter_mut().zip(checked) {
                    // Rounding must not lift a sum of shares over the whole.
                    *mean = mean.zip(value).map(|(mean, value)| f64::from(value).mul_add(weight, mean).min(100.0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
