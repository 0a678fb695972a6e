//! Counters of two pages → what was gained between them.
//!
//! A gain is known only if it is the whole truth (R1): where a counter fell, came or went between the pages (the server was
//! restarted, an engine was added), or one of its lines could not be read, there is a hole and no number. Nothing is
//! carried over a hole: the next two pages that agree give the next rate. Time comes with the pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::Part;
use crate::{
    gpu::FamilyId,
    reading::{NoRate, Unknown},
};

/// One counter on a page: the family, which of its names, which part of it, and its labels as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) family: FamilyId,
    pub(super) part: Part,
    pub(super) rank: u16,
    pub(super) labels: u64,
}

/// The counters of one page.
#[derive(Debug, Clone, PartialEq)]
pub struct Counters {
    at: Timestamp,
    series: BTreeMap<Series, f64>,
    /// Families of which a line could not be read.
    broken: BTreeSet<FamilyId>,
}

/// What the parts of one family have gained.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Gain {
    total: f64,
    count: f64,
}

impl Counters {
    pub(super) fn new(at: Timestamp) -> Self {
        Self { at, series: BTreeMap::new(), broken: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, series: Series, value: f64) {
        *self.series.entry(series).or_default() += value;
    }

    pub(super) fn mark_broken(&mut self, family: FamilyId) {
        self.broken.insert(family);
    }

    pub(super) fn families(&self) -> BTreeSet<FamilyId> {
        self.series.keys().map(|series| series.family).chain(self.broken.iter().copied()).collect()
    }

    /// Gain per second of a counter since `before`. Two pages that are further apart than `longest` tell nothing about now.
    pub(super) fn per_second(
        &self,
        before: Option<&Self>,
        family: FamilyId,
        longest: Duration,
    ) -> Result<f64, Unknown> {
        let (gain, seconds) = self.gain(before, family, longest)?;
        Ok(gain.total / seconds)
    }

    /// Mean of what was added to a histogram since `before`.
    pub(super) fn mean(&self, before: Option<&Self>, family: FamilyId, longest: Duration) -> Result<f64, Unknown> {
        let (Gain { total, count }, _) = self.gain(before, family, longest)?;
        if count > 0.0 { Ok(total / count) } else { Err(NoRate::Nothing.into()) }
    }

    fn gain(&self, before: Option<&Self>, family: FamilyId, longest: Duration) -> Result<(Gain, f64), Unknown> {
        if self.broken.contains(&family) {
            return Err(Unknown::Malformed);
        }
        let before = before.filter(|before| !before.broken.contains(&family)).ok_or(NoRate::First)?;
        let elapsed = Duration::try_from(self.at.duration_since(before.at)).unwrap_or_default();
        if elapsed.is_zero() {
            return Err(NoRate::First.into());
        }
        if elapsed > longest {
            return Err(NoRate::Gap { elapsed, longest }.into());
        }
        let of = |counters: &Self| -> Vec<(Series, f64)> {
            let all = counters.series.iter().filter(|(series, _)| series.family == family);
            all.map(|(series, value)| (*series, *value)).collect()
        };
        let (old, new) = (of(before), of(self));
        if old.is_empty() {
            return Err(NoRate::First.into());
        }
        if !old.iter().map(|(series, _)| series).eq(new.iter().map(|(series, _)| series)) {
            return Err(NoRate::Changed.into());
        }
        let mut gain = Gain::default();
        for ((series, old), (_, new)) in old.iter().zip(&new) {
            if new < old {
                return Err(NoRate::Fell.into());
            }
            match series.part {
                Part::Count => gain.count += new - old,
                Part::Total | Part::Sum | Part::Largest => gain.total += new - old,
            }
        }
        Ok((gain, elapsed.as_secs_f64()))
    }
}
