//! One page of a model server → gauges and counters of the pod that it was scraped from.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Part, Source,
    rate::{Counters, Series},
};
use crate::{
    exposition::{Format, Label, Limits, Line, PageError, Parser},
    gpu::{FamilyId, Unit, Vocabulary},
    reading::{Measured, Reading, Unknown},
    scrape::BadLine,
};

/// A share may be above its range by this factor, through rounding.
const LEEWAY: f64 = 1.01;
/// With SGLang's `--enable-metrics-for-all-schedulers` each rank of a tensor or pipeline parallel group repeats what the
/// first says. Ranks of data parallel groups have requests of their own.
const REPEATING_RANKS: [&[u8]; 2] = [b"tp_rank", b"pp_rank"];

/// What was read from one page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    measured: Timestamp,
    gauges: BTreeMap<FamilyId, Result<f64, Unknown>>,
    /// The counters, to be kept until the next page.
    pub counters: Counters,
    /// Lines of known families.
    pub samples: u64,
    /// Bad lines by reason.
    pub bad_lines: BTreeMap<BadLine, u64>,
}

/// Reads a page. `complete`: the transport vouches that the body is whole. `measured`: when it arrived; timestamps on the
/// page are not looked at, because model servers write none.
pub fn read(
    vocabulary: &Vocabulary,
    body: &[u8],
    format: Format,
    complete: bool,
    measured: Timestamp,
    limits: &Limits,
) -> Result<Page, PageError> {
    let mut parser = Parser::new(body, format, complete, limits);
    let mut draft = Draft::default();
    let mut want = |name: &[u8]| vocabulary.server_source(name);
    while let Some(line) = parser.next_line(&mut want)? {
        match line {
            Line::Bad(reason) => draft.bad(reason),
            Line::Broken(source, reason, _) => {
                draft.bad(reason);
                draft.line(source, &[], None);
            }
            Line::Sample(source, sample) => {
                let value = sample.value.map_err(|reason| draft.bad(reason)).ok();
                draft.line(source, sample.labels, value);
            }
        }
    }
    Ok(draft.finish(measured))
}

#[derive(Default)]
struct Draft {
    rows: Vec<(Source, u64, Option<f64>)>,
    bad_lines: BTreeMap<BadLine, u64>,
    /// The lowest rank of the names under which each family is on the page.
    heard: BTreeMap<FamilyId, u16>,
}

impl Draft {
    fn bad(&mut self, reason: BadLine) {
        *self.bad_lines.entry(reason).or_default() += 1;
    }

    /// `None`: the line cannot be read.
    fn line(&mut self, source: Source, labels: &[Label<'_>], value: Option<f64>) {
        let repeats = |label: &Label<'_>| REPEATING_RANKS.contains(&label.name) && label.raw != b"0";
        if labels.iter().any(repeats) {
            return;
        }
        let rank = self.heard.entry(source.family).or_insert(source.rank);
        *rank = source.rank.min(*rank);
        self.rows.push((source, hash(labels), value));
    }

    fn finish(self, measured: Timestamp) -> Page {
        let Self { rows, bad_lines, heard } = self;
        let samples = rows.len() as u64;
        let mut gauges: BTreeMap<FamilyId, Result<f64, Unknown>> = BTreeMap::new();
        let mut counters = Counters::new(measured);
        for (Source { family, part, rank }, labels, value) in rows {
            if heard.get(&family) != Some(&rank) {
                continue; // the page has the family under a better name too
            }
            match (part, count(value)) {
                (Part::Sum | Part::Largest, Err(unknown)) => {
                    gauges.insert(family, Err(unknown));
                }
                (Part::Total | Part::Count, Err(_)) => counters.mark_broken(family),
                (Part::Sum | Part::Largest, Ok(value)) => {
                    let gauge = gauges.entry(family).or_insert(Ok(0.0));
                    if let Ok(sum) = gauge {
                        *sum = if part == Part::Sum { *sum + value } else { sum.max(value) };
                    }
                }
                (Part::Total | Part::Count, Ok(value)) => counters.add(Series { family, part, rank, labels }, value),
            }
        }
        Page { measured, gauges, counters, samples, bad_lines }
    }
}

/// Infinite and negative values are no counts and no shares, and what is not a number is nothing.
fn count(value: Option<f64>) -> Result<f64, Unknown> {
    match value {
        Some(value) if value.is_finite() && value >= 0.0 => Ok(value),
        Some(value) if !value.is_nan() => Err(Unknown::OutOfRange { value, max: f64::INFINITY }),
        _ => Err(Unknown::Malformed),
    }
}

/// The labels of a line, in any order.
fn hash(labels: &[Label<'_>]) -> u64 {
    let one = |label: &Label<'_>| {
        let mut hasher = DefaultHasher::new();
        (label.name, label.raw).hash(&mut hasher);
        hasher.finish()
    };
    labels.iter().map(one).fold(0, u64::wrapping_add)
}

impl Page {
    /// What the pod says of itself, by family. `before` are the counters of its previous page; two pages that are further
    /// apart than `longest` have no rate.
    #[must_use]
    pub fn readings(
        &self,
        vocabulary: &Vocabulary,
        before: Option<&Counters>,
        longest: Duration,
    ) -> BTreeMap<FamilyId, Reading> {
        let counters = self.counters.families().into_iter().map(|family| {
            let value = match vocabulary.family(family).unit {
                Unit::Seconds => self.counters.mean(before, family, longest),
                _ => self.counters.per_second(before, family, longest),
            };
            (family, value)
        });
        let gauges = self.gauges.iter().map(|(family, value)| (*family, value.clone()));
        let all = gauges.chain(counters);
        all.map(|(family, value)| (family, self.reading(vocabulary, family, value))).collect()
    }

    fn reading(&self, vocabulary: &Vocabulary, family: FamilyId, value: Result<f64, Unknown>) -> Reading {
        let value = value?;
        let family = vocabulary.family(family);
        let bound = if family.unit == Unit::Share { family.max * LEEWAY } else { family.max };
        if (0.0..=bound).contains(&value) {
            Ok(Measured { value: value.min(family.max) + 0.0, at: self.measured }) // -0 becomes 0
        } else {
            Err(Unknown::OutOfRange { value, max: family.max })
        }
    }

    /// Families on the page, known or not.
    #[must_use]
    pub fn families(&self) -> BTreeSet<FamilyId> {
        self.gauges.keys().copied().chain(self.counters.families()).collect()
    }
}
