//! What is seen of a replica: utilization by a curve, sampled, with noise and holes.

use serde::{Deserialize, Serialize};

mod probe;

pub use probe::{Probe, Signals, Words};

use super::model::interpolate;

/// Utilization of a replica's GPUs, percent, by the requests that it computes. No law: it depends on model, card and
/// exporter. The four span what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Curve {
    /// 35 + 45·√(batch/max): rises, less and less.
    #[default]
    Mono,
    /// 10 + 65·(batch/max)^0.7: nearly proportional.
    Lin,
    /// 97 whenever busy: utilization cannot tell.
    Flat,
    /// Falls from three requests on, as BurstGPT's logs of one real vLLM server show (small model, one 24 GB card): 72 % at
    /// 2 to 3 running requests, 31 % at 64.
    Fall,
}

/// The log's ranges of running requests, for a batch of at most 64, at their centres, with the mean utilization in each.
const FALL: [(f64, f64); 9] = [
    (0.0, 0.0),
    (1.0, 53.9),
    (2.0, 71.3),
    (3.0, 71.3),
    (5.5, 67.8),
    (11.5, 61.7),
    (23.5, 52.9),
    (47.5, 44.8),
    (64.0, 31.0),
];

impl Curve {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mono, Self::Lin, Self::Flat, Self::Fall];

    /// The name in options and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mono => "mono",
            Self::Lin => "lin",
            Self::Flat => "flat",
            Self::Fall => "fall",
        }
    }

    /// Percent at `batch` of at most `max` requests. An idle replica reads a true 0.
    #[must_use]
    pub fn utilization(self, batch: u32, max: u32) -> f64 {
        if batch == 0 {
            return 0.0;
        }
        let share = f64::from(batch) / f64::from(max.max(1));
        match self {
            Self::Mono => 35.0 + 45.0 * share.sqrt(),
            Self::Lin => 10.0 + 65.0 * share.powf(0.7),
            Self::Flat => 97.0,
            Self::Fall => interpolate(&FALL, f64::from(batch).min(64.0)),
        }
    }
}

#[cfg(test)]
mod tests;
