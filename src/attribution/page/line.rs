//! The lines of one page: how old they are, what they add up to, and whether they can be believed.

use jiff::Timestamp;

use super::Rules;
use crate::{
    attribution::{clamp, foremost, heard::Claim, sum},
    cluster::{Phase, Pod},
    gpu::{FamilyId, Unit},
    reading::{Measured, Reading, Unknown, fresh},
    scrape::Batch,
};

/// One line, in the order in which lines are added up: by card, owner, family and process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub card: u32,
    pub owner: u32,
    pub family: FamilyId,
    pub process: u32,
    pub series: u32,
    pub sample: u32,
}

/// One page and the rules that it is read by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    pub batch: &'a Batch,
    pub index: u32,
    pub rules: Rules<'a>,
    /// A sample without a time of its own is fresh.
    fresh: bool,
}

impl<'a> Page<'a> {
    pub fn new(batch: &'a Batch, index: u32, rules: Rules<'a>) -> Self {
        let fresh = fresh(Measured { value: 0.0, at: batch.measured }, rules.now, rules.max_age).is_ok();
        Self { batch, index, rules, fresh }
    }

    fn time(&self, sample: usize) -> Timestamp {
        if self.batch.sample_times.is_empty() {
            return self.batch.measured;
        }
        self.batch.sample_times.get(&sample).copied().unwrap_or(self.batch.measured)
    }

    /// The sample's time, or how old it is.
    pub fn fresh(&self, sample: usize) -> Reading {
        let measured = Measured { value: 0.0, at: self.time(sample) };
        if self.fresh && measured.at == self.batch.measured {
            return Ok(measured);
        }
        fresh(measured, self.rules.now, self.rules.max_age)
    }

    /// A line's value with its time, or why it has none; old lines have none whatever they say (R2).
    fn reading(&self, sample: usize) -> Reading {
        let Measured { at, .. } = self.fresh(sample)?;
        match &self.batch.samples[sample].reading {
            Ok(measured) => Ok(Measured { value: measured.value, at }),
            Err(unknown) => Err(unknown.clone()),
        }
    }

    /// Whether the pod can have caused the sample. One that the kubelet has not taken up yet cannot: what carries its
    /// name is its namesake's.
    pub fn is_after_start(&self, pod: &Pod, sample: usize) -> bool {
        match pod.started {
            Some(started) => self.time(sample) >= started,
            None => pod.phase != Phase::Pending,
        }
    }

    pub fn idle_if_absent(&self, family: FamilyId) -> bool {
        self.batch.absent_means_idle && self.rules.families.unit(family) == Unit::Percent
    }

    /// One card's value from its lines, which come sorted by process: the largest line of each process (it may be repeated
    /// for each container), the processes added up; lines without a process are totals, the largest of which counts (R4,
    /// R7). One unknown line and there is no value (R1).
    pub fn total(&self, lines: impl Iterator<Item = Line>, unit: Unit, values: &mut Vec<f64>) -> Reading {
        values.clear();
        let mut oldest: Option<Timestamp> = None;
        let mut trouble: Option<Unknown> = None;
        let mut total = 0.0_f64;
        let mut process = 0;
        for line in lines {
            match self.reading(line.sample as usize) {
                Ok(Measured { value, at }) => {
                    oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
                    match values.last_mut() {
                        _ if line.process == 0 => total = total.max(value),
                        Some(last) if line.process == process => *last = last.max(value),
                        _ => values.push(value),
                    }
                    process = line.process;
                }
                Err(unknown) => {
                    trouble = Some(match trouble {
                        Some(other) => foremost(other, unknown),
                        None => unknown,
                    });
                }
            }
        }
        match (trouble, oldest) {
            (Some(unknown), _) => Err(unknown),
            (None, None) => Err(Unknown::Absent),
            (None, Some(at)) => Ok(Measured { value: clamp(sum(values).max(total), unit), at }),
        }
    }

    /// R5: the device's own utilization if it is busy while every pod's line of the witness families reads exactly 0.
    /// Witnesses are the utilization of processes, and the pods' lines under the device family's own name. Unknown lines
    /// are no witnesses; lines of pods that do not exist are: an exporter that maps those can map.
    pub fn attribution_failed(&self, lines: &[Line], claims: &[Claim<'_, u32>]) -> Option<f64> {
        let value = |line: &Line| self.reading(line.sample as usize).ok().map(|measured| measured.value);
        let (judge, device) = self.rules.families.device.iter().flatten().find_map(|family| {
            let devices = lines.iter().take_while(|line| line.owner == 0);
            let of_family = devices.filter(|line| line.family == *family && line.process == 0);
            of_family.filter_map(value).max_by(f64::total_cmp).map(|device| (*family, device))
        })?;
        if device < self.rules.busy_percent {
            return None;
        }
        let is_witness = |family: FamilyId| family == judge || Some(family) == self.rules.families.process_sm;
        let mut zeros = claims.iter().any(|claim| {
            is_witness(claim.family) && claim.reading.as_ref().is_ok_and(|measured| measured.value == 0.0)
        });
        for line in lines.iter().filter(|line| line.owner > 0 && is_witness(line.family)) {
            match value(line) {
                Some(0.0) => zeros = true,
                Some(_) => return None,
                None => {}
            }
        }
        zeros.then_some(device)
    }
}
