//! How long a pod takes from its creation to Ready, by pool: learned, with a prior.
//!
//! Three stretches with different causes are learned apart, because a pod does not always go through all of them: the wait
//! for a node (only where one has to come first), the image (bound → container runs), and the model load (container runs →
//! Ready). A quantile of a stretch is that of its last [`KEPT`] observations, drawn towards the prior as if that had been
//! observed [`PRIOR_WEIGHT`] times; quantiles of the sum are taken as sums of quantiles, which for independent stretches is
//! late rather than early.

use serde::{Deserialize, Serialize};

use super::policy::{Boot, Pool};
use crate::signal::Quantiles;

/// Observations kept of each stretch.
pub const KEPT: usize = 64;
/// The prior counts like so many observations.
pub const PRIOR_WEIGHT: f64 = 4.0;
/// A prior's p90 over its median: log-normal with a standard deviation of 0.2 of the logarithm, as of node boots, is 1.29.
const PRIOR_SPREAD: f64 = 1.3;
/// A pod bound sooner than this after its creation found its node there.
const NODE_WAIT: f64 = 5.0;
/// A stretch longer than this is a pod that hung, not a time to plan with, seconds.
const LONGEST: f64 = 7_200.0;

/// What is learned of one pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Readiness {
    node: Quantiles,
    image: Quantiles,
    load: Quantiles,
}

/// A pod's stretches, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretches {
    /// Created → bound.
    pub node: f64,
    /// Bound → container runs.
    pub image: Option<f64>,
    /// Container runs → Ready; from bound on if it is not known when the container began.
    pub load: f64,
}

/// Seconds until a replica asked for now could serve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// Median.
    pub p50: f64,
    /// Nine of ten are ready by then.
    pub p90: f64,
    /// How much of it is observation rather than prior, 0..1, for the least observed stretch.
    pub confidence: f64,
}

impl Readiness {
    /// A pod has become Ready.
    pub fn learn(&mut self, stretches: Stretches) {
        let Stretches { node, image, load } = stretches;
        let keep = |quantiles: &mut Quantiles, seconds: f64| {
            if (0.0..=LONGEST).contains(&seconds) {
                quantiles.push(seconds, KEPT);
            }
        };
        if node >= NODE_WAIT {
            keep(&mut self.node, node);
        }
        if let Some(image) = image {
            keep(&mut self.image, image);
        }
        keep(&mut self.load, load);
    }

    /// What to expect, if a node has to come first or not.
    #[must_use]
    pub fn expected(&self, pool: &Pool, needs_node: bool) -> Expected {
        let Boot { node_seconds, image_seconds, load_seconds } = pool.boot;
        let stretches = [
            (&self.node, if needs_node { node_seconds } else { 0.0 }, needs_node),
            (&self.image, image_seconds, true),
            (&self.load, load_seconds, true),
        ];
        let mut expected = Expected { p50: 0.0, p90: 0.0, confidence: 1.0 };
        for (seen, prior, counts) in stretches {
            if !counts {
                continue;
            }
            let n = seen.len() as f64;
            let share = n / (n + PRIOR_WEIGHT);
            let drawn = |quantile, prior: f64| share * seen.at(quantile).unwrap_or(0.0) + (1.0 - share) * prior;
            expected.p50 += drawn(0.5, prior);
            expected.p90 += drawn(0.9, prior * PRIOR_SPREAD);
            expected.confidence = expected.confidence.min(share);
        }
        expected.p90 = expected.p90.max(expected.p50);
        expected
    }
}
