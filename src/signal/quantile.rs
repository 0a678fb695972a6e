//! Quantiles of the last so many values.
//!
//! The definition is statrs' (Hyndman & Fan 1996, type 8, nearly unbiased whatever the distribution); a test holds it against
//! that library.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::sorted::{Sorted, Value};

/// The last so many values. Single precision: an error of 10⁻⁷ of a replica moves nobody.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantiles(Sorted<f32>);

impl Value for f32 {
    fn order(&self, other: &Self) -> Ordering {
        self.total_cmp(other)
    }

    fn is_value(&self) -> bool {
        !self.is_nan()
    }
}

impl Quantiles {
    /// Adds a value, and forgets the oldest beyond `most`. NaN is no value.
    pub fn push(&mut self, value: f64, most: usize) {
        self.0.push(value as f32, most);
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
        let sorted = self.0.ascending();
        let count = sorted.len();
        let h = (count as f64 + 1.0 / 3.0) * quantile.clamp(0.0, 1.0) + 1.0 / 3.0;
        let below = h.floor().clamp(1.0, count.max(1) as f64);
        let low = f64::from(*sorted.get(below as usize - 1)?);
        let high = f64::from(sorted[(below as usize).min(count - 1)]);
        Some(low + (h - below).clamp(0.0, 1.0) * (high - low))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use statrs::statistics::{Data, OrderStatistics as _};

    use super::*;

    #[test]
    fn nothing_has_no_quantile_and_nan_is_nothing() {
        let mut quantiles = Quantiles::default();
        quantiles.push(f64::NAN, 4);
        assert_eq!(quantiles.at(0.5), None);
    }

    proptest! {
        #[test]
        fn it_is_what_statrs_says_of_the_last_values(
            values in prop::collection::vec(-100_i16..100, 1..80), most in 1_usize..40, quantile in 0.0..1.0_f64,
        ) {
            let mut quantiles = Quantiles::default();
            for value in &values {
                quantiles.push(f64::from(*value), most);
            }
            let last: Vec<f64> = values.iter().rev().take(most).map(|value| f64::from(*value)).collect();
            prop_assert_eq!(quantiles.len(), last.len());
            let expected = Data::new(last).quantile(quantile);
            let found = quantiles.at(quantile).unwrap();
            prop_assert!((found - expected).abs() < 1e-6, "{} instead of {}", found, expected);
        }

        #[test]
        fn what_was_written_reads_back_the_same(values in prop::collection::vec(-1e3..1e3_f64, 0..40)) {
            let mut quantiles = Quantiles::default();
            for value in &values {
                quantiles.push(*value, 30);
            }
            let text = serde_json::to_string(&quantiles).unwrap();
            prop_assert_eq!(serde_json::from_str::<Quantiles>(&text).unwrap(), quantiles);
        }
    }
}
