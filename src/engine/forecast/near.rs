//! The errors of *level*, above all those made at about the level of now (conformal prediction by categories; Vovk, Gammerman
//! & Shafer 2005, 4.5).
//!
//! What a quiet night taught of rises says little about the noise of a busy noon, and the other way round.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::signal::{
    sorted::{Sorted, Value},
    weighted::weighted_quantile,
};

/// Levels up to so many times, or down to such a part of, the one of now are about it.
const FACTOR: f32 = 1.25;
/// An hour of errors: of fewer, a twentieth is not three, and no quantile can be told.
const LEAST: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Entry {
    error: f32,
    weight: f32,
    level: f32,
}

/// The last so many errors, each with its weight and the level at which it was made, in single precision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Near(Sorted<Entry>);

impl Value for Entry {
    fn order(&self, other: &Self) -> Ordering {
        let by = |a: f32, b: f32| a.total_cmp(&b);
        by(self.error, other.error).then(by(self.weight, other.weight)).then(by(self.level, other.level))
    }

    fn is_value(&self) -> bool {
        [self.error, self.weight, self.level].iter().all(|figure| figure.is_finite())
    }
}

impl Entry {
    fn is_near(&self, level: f32) -> bool {
        self.level <= level * FACTOR && self.level * FACTOR >= level
    }
}

impl Near {
    /// Adds an error, and forgets the oldest beyond `most`. What is not finite is none.
    pub(super) fn push(&mut self, error: f64, weight: f64, level: f64, most: usize) {
        self.0.push(Entry { error: error as f32, weight: weight as f32, level: level as f32 }, most);
    }

    /// How many errors there are.
    pub(super) fn len(&self) -> usize {
        self.0.ascending().len()
    }

    /// The quantile, 0..1, of the errors made at about this level; of all if there are too few, and `None` of nothing.
    pub(super) fn at(&self, level: f64, quantile: f64) -> Option<f64> {
        let level = level as f32;
        let near = self.0.ascending().iter().filter(|entry| entry.is_near(level));
        let weighed = |entry: &Entry| (entry.error, entry.weight);
        if near.clone().count() < LEAST {
            return weighted_quantile(self.0.ascending().iter().map(weighed), quantile);
        }
        weighted_quantile(near.map(weighed), quantile)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(entries: impl IntoIterator<Item = (f64, f64, f64)>, most: usize) -> Near {
        let mut near = Near::default();
        for (error, weight, level) in entries {
            near.push(error, weight, level, most);
        }
        near
    }

    #[test]
    fn nights_do_not_speak_for_noons() {
        let nights = (0..100).map(|i| (f64::from(i % 2), 1.0, 2.0));
        let noons = (0..100).map(|i| (f64::from(i % 10), 1.0, 10.0));
        let near = fed(nights.chain(noons), 200);
        for (level, expected) in [(2.0, 1.0), (2.4, 1.0), (1.65, 1.0), (9.0, 9.0), (5.0, 8.0), (13.0, 8.0)] {
            assert_eq!(near.at(level, 0.95), Some(expected), "at {level}");
        }
    }

    #[test]
    fn of_too_few_all_count_and_of_nothing_there_is_no_quantile() {
        let far = || (0..60).map(|_| (5.0, 1.0, 30.0));
        let fed = |here: u32, most| fed(far().chain((0..here).map(|_| (1.0, 1.0, 3.0))), most).at(3.0, 0.9);
        assert_eq!((fed(59, 200), fed(60, 200)), (Some(5.0), Some(1.0)));
        assert_eq!(fed(60, 80), Some(1.0), "the oldest are forgotten");
        let mut nothing = Near::default();
        nothing.push(f64::NAN, 1.0, 3.0, 200);
        assert_eq!(nothing.at(3.0, 0.5), None);
    }

    proptest! {
        #[test]
        fn it_is_the_weighted_quantile_of_those_that_are_near(
            entries in prop::collection::vec((-50_i16..50, 1_u8..20, 1_u8..6), 60..200), level in 1.0..6.0_f64,
            quantile in 0.0..0.999_f64,
        ) {
            let entries = entries.into_iter().map(|(error, weight, level)| (f64::from(error), f64::from(weight), f64::from(level)));
            let entries: Vec<_> = entries.collect();
            let near: Vec<_> =
                entries.iter().filter(|(_, _, at)| *at <= level * 1.25 && at * 1.25 >= level).copied().collect();
            let mut counting = crate::signal::WeightedQuantiles::default();
            for (error, weight, _) in if near.len() >= LEAST { &near } else { &entries } {
                counting.push(*error, *weight, 200);
            }
            prop_assert_eq!(fed(entries, 200).at(level, quantile), counting.at(quantile));
        }

        #[test]
        fn what_was_written_reads_back_the_same(entries in prop::collection::vec((-9.0..9.0_f64, 0.1..9.0_f64, 0.0..9.0_f64), 0..40)) {
            let near = fed(entries, 30);
            let text = serde_json::to_string(&near).unwrap();
            prop_assert_eq!(serde_json::from_str::<Near>(&text).unwrap(), near);
        }
    }
}
