//! The vocabulary of model servers: what vLLM, SGLang, TGI and configured others say of their own work.
//!
//! A page of a model server speaks about the pod that it was scraped from and about nothing else: no label on it names an
//! owner (R6), and no family of GPU exporters is read from it. Its lines are told apart by model, engine or rank, and become
//! one value for the pod: counts are added up, shares take the largest.
//!
//! ```text
//! page ─▶ page::read ─▶ gauges, Counters ─▶ Page::readings (with the Counters before) ─▶ readings by family
//! ```
//!
//! Counters are served as what they gained per second since the page before, histograms as the mean of what was added since
//! then: quantiles are not made of their buckets.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::gpu::{FamilyId, Unit};

mod families;
pub mod page;
pub mod rate;

pub(crate) use families::{BUILT_IN, BuiltIn};
pub use page::Page;
pub use rate::Counters;

/// What the engine takes a family for. Several families can have one role: each server has its own name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Requests being computed.
    Running,
    /// Requests that wait for a place.
    Waiting,
    /// Used share of the KV cache, 0..1.
    KvCache,
    /// Prompt tokens computed per second.
    PromptTokens,
    /// Tokens generated per second.
    GeneratedTokens,
    /// Requests finished per second.
    Finished,
}

impl Role {
    /// The kind of family that can have it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Running | Self::Waiting => Kind::Gauge,
            Self::KvCache => Kind::Share,
            Self::PromptTokens | Self::GeneratedTokens | Self::Finished => Kind::Counter,
        }
    }
}

/// How the lines of a family become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A count of the moment; those of models and engines add up.
    Gauge,
    /// A share of the moment, 0..1; of those of models and engines the largest counts, because it is the first to be full.
    Share,
    /// A count since the start; served as its gain per second, added up.
    Counter,
    /// Durations in seconds; served as the mean of those that were added, by `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// The unit in which it is served.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Gauge => Unit::Count,
            Self::Share => Unit::Share,
            Self::Counter => Unit::PerSecond,
            Self::Histogram => Unit::Seconds,
        }
    }

    /// The name under which a family is served if nothing else is said. A counter's gain is no total, and the mean of a
    /// histogram must not look like its `_sum`, which would be the name of the sum over pods.
    #[must_use]
    pub fn served_as(self, name: &str) -> String {
        match self {
            Self::Gauge | Self::Share => name.to_owned(),
            Self::Counter => {
                let stem = ["_total", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
                format!("{}_per_second", stem.unwrap_or(name))
            }
            Self::Histogram => format!("{name}_mean"),
        }
    }

    /// The names of its lines.
    fn lines(self, name: &str) -> Vec<(String, Part)> {
        match self {
            Self::Gauge => vec![(name.to_owned(), Part::Sum)],
            Self::Share => vec![(name.to_owned(), Part::Largest)],
            Self::Counter => vec![(name.to_owned(), Part::Total)],
            Self::Histogram => vec![(format!("{name}_sum"), Part::Total), (format!("{name}_count"), Part::Count)],
        }
    }
}

/// What a line is for its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A gauge that adds up.
    Sum,
    /// A gauge of which the largest counts.
    Largest,
    /// A counter, or the `_sum` of a histogram.
    Total,
    /// The `_count` of a histogram.
    Count,
}

/// Where a name on a page leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Source {
    family: FamilyId,
    part: Part,
    /// Order among the names of one family: where a page has several, the lowest is heard.
    rank: u16,
}

/// The names on pages of model servers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sources {
    names: HashMap<Box<[u8]>, Source>,
}

impl Sources {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Reads lines of that name into the family. False if one of them is read already.
    pub(crate) fn add(&mut self, name: &str, kind: Kind, family: FamilyId) -> bool {
        let rank = self.names.len() as u16;
        let mut lines = kind.lines(name).into_iter();
        lines.all(|(line, part)| self.names.insert(line.into_bytes().into(), Source { family, part, rank }).is_none())
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Source> {
        self.names.get(name).copied()
    }
}

#[cfg(test)]
mod tests;
