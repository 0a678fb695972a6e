//! Quantiles of the last so many values, each with its weight.
//!
//! The quantile `q` is the least value such that values up to it carry at least the share `q` of all weight.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::sorted::{Sorted, Value};

/// The last so many values with their weights, in single precision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WeightedQuantiles(Sorted<(f32, f32)>);

impl Value for (f32, f32) {
    fn order(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.total_cmp(&other.1))
    }

    fn is_value(&self) -> bool {
        self.0.is_finite() && self.1.is_finite() && self.1 > 0.0
    }
}

/// The quantile, 0..1, of values with their weights, from the least to the greatest; `None` of nothing. It goes down from the
/// greatest, since high quantiles are asked for.
pub fn weighted_quantile(ascending: impl DoubleEndedIterator<Item = (f32, f32)> + Clone, quantile: f64) -> Option<f64> {
    // Anew each time: a running sum would drift apart from its parts.
    let total: f64 = ascending.clone().map(|(_, weight)| f64::from(weight)).sum();
    let mut above = total * (1.0 - quantile);
    let reached = ascending.clone().rev().find(|(_, weight)| {
        above -= f64::from(*weight);
        above < 0.0
    });
    reached.or_else(|| ascending.into_iter().next()).map(|(value, _)| f64::from(value))
}

impl WeightedQuantiles {
    /// Adds a value, and forgets the oldest beyond `most`. What is not finite, or weighs nothing, is no value.
    pub fn push(&mut self, value: f64, weight: f64, most: usize) {
        self.0.push((value as f32, weight as f32), most);
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ascending().len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ascending().is_empty()
    }

    /// The quantile, 0..1; `None` of nothing.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Option<f64> {
        weighted_quantile(self.0.ascending().iter().copied(), quantile)
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
