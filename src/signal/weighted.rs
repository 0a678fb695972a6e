//! Quantiles of the last so many values, each with its weight.
//!
//! The quantile `q` is the least value such that values up to it carry at least the share `q` of all weight. Kept sorted
//! beside the ring, as [`super::Quantiles`] is; a look-up goes down from the greatest, since high quantiles are asked for.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The last so many values with their weights, in single precision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Ring", into = "Ring")]
pub struct WeightedQuantiles {
    ring: VecDeque<(f32, f32)>,
    sorted: Vec<(f32, f32)>,
    total: f64,
}

/// What is serialized: the sorted copy is made anew.
#[derive(Clone, Serialize, Deserialize)]
struct Ring(VecDeque<(f32, f32)>);

impl From<Ring> for WeightedQuantiles {
    fn from(Ring(ring): Ring) -> Self {
        let mut quantiles = Self::default();
        let most = ring.len();
        for (value, weight) in ring {
            quantiles.push(f64::from(value), f64::from(weight), most);
        }
        quantiles
    }
}

impl From<WeightedQuantiles> for Ring {
    fn from(quantiles: WeightedQuantiles) -> Self {
        Self(quantiles.ring)
    }
}

impl WeightedQuantiles {
    /// Adds a value, and forgets the oldest beyond `most`. What is not finite, or weighs nothing, is no value.
    pub fn push(&mut self, value: f64, weight: f64, most: usize) {
        let entry = (value as f32, weight as f32);
        if !entry.0.is_finite() || !entry.1.is_finite() || entry.1 <= 0.0 {
            return;
        }
        let place = |sorted: &[(f32, f32)], entry: &(f32, f32)| {
            sorted.partition_point(|kept| kept.0.total_cmp(&entry.0).then(kept.1.total_cmp(&entry.1)).is_lt())
        };
        while self.ring.len() >= most.max(1) {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.sorted.remove(place(&self.sorted, &oldest));
        }
        self.ring.push_back(entry);
        self.sorted.insert(place(&self.sorted, &entry), entry);
        // Anew each time: a running sum would drift apart from its parts.
        self.total = self.sorted.iter().map(|(_, weight)| f64::from(*weight)).sum();
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The quantile, 0..1; `None` of nothing.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Option<f64> {
        let mut above = self.total * (1.0 - quantile);
        let reached = self.sorted.iter().rev().find(|(_, weight)| {
            above -= f64::from(*weight);
            above < 0.0
        });
        reached.or(self.sorted.first()).map(|(value, _)| f64::from(*value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_weighs_more_counts_more() {
        let mut quantiles = WeightedQuantiles::default();
        for (value, weight) in [(1.0, 90.0), (2.0, 6.0), (9.0, 4.0), (f64::NAN, 1e9), (7.0, 0.0)] {
            quantiles.push(value, weight, 10);
        }
        for (quantile, expected) in [(0.5, 1.0), (0.89, 1.0), (0.95, 2.0), (0.97, 9.0), (1.0, 9.0)] {
            assert_eq!(quantiles.at(quantile), Some(expected), "at {quantile}");
        }
        assert_eq!(WeightedQuantiles::default().at(0.5), None);
    }

    proptest! {
        #[test]
        fn the_share_up_to_the_quantile_is_what_was_asked_for(
            values in prop::collection::vec((-50_i16..50, 1_u8..20), 1..80), most in 1_usize..40, quantile in 0.0..0.999_f64,
        ) {
            let mut quantiles = WeightedQuantiles::default();
            for (value, weight) in &values {
                quantiles.push(f64::from(*value), f64::from(*weight), most);
            }
            let last: Vec<_> = values.iter().rev().take(most).collect();
            prop_assert_eq!(quantiles.len(), last.len());
            let found = quantiles.at(quantile).unwrap();
            let share = |upto: f64, inclusive: bool| {
                let counts = |value: f64| if inclusive { value <= upto } else { value < upto };
                let sum = |all: bool| last.iter().filter(|(v, _)| all || counts(f64::from(*v))).map(|(_, w)| f64::from(*w)).sum::<f64>();
                sum(false) / sum(true)
            };
            prop_assert!(share(found, true) >= quantile - 1e-9 && share(found, false) <= quantile + 1e-9);
        }

        #[test]
        fn what_was_written_reads_back_the_same(values in prop::collection::vec((-1e3..1e3_f64, 0.1..9.0_f64), 0..40)) {
            let mut quantiles = WeightedQuantiles::default();
            for (value, weight) in &values {
                quantiles.push(*value, *weight, 30);
            }
            let text = serde_json::to_string(&quantiles).unwrap();
            prop_assert_eq!(serde_json::from_str::<WeightedQuantiles>(&text).unwrap(), quantiles);
        }
    }
}
