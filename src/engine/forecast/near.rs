//! The errors of *level*, above all those made at about the level of now (conformal prediction by categories; Vovk, Gammerman
//! & Shafer 2005, 4.5).
//!
//! What a quiet night taught of rises says little about the noise of a busy noon, and the other way round.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

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
#[serde(from = "Ring", into = "Ring")]
pub(super) struct Near {
    ring: VecDeque<Entry>,
    sorted: Vec<Entry>,
}

/// What is serialized: the sorted copy is made anew.
#[derive(Clone, Serialize, Deserialize)]
struct Ring(VecDeque<Entry>);

impl From<Ring> for Near {
    fn from(Ring(ring): Ring) -> Self {
        let mut sorted: Vec<Entry> = ring.iter().copied().collect();
        sorted.sort_by(Entry::order);
        Self { ring, sorted }
    }
}

impl From<Near> for Ring {
    fn from(near: Near) -> Self {
        Self(near.ring)
    }
}

impl Entry {
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let by = |a: f32, b: f32| a.total_cmp(&b);
        by(self.error, other.error).then(by(self.weight, other.weight)).then(by(self.level, other.level))
    }

    fn is_near(&self, level: f32) -> bool {
        self.level <= level * FACTOR && self.level * FACTOR >= level
    }
}

impl Near {
    /// Adds an error, and forgets the oldest beyond `most`. What is not finite is none.
    pub(super) fn push(&mut self, error: f64, weight: f64, level: f64, most: usize) {
        let entry = Entry { error: error as f32, weight: weight as f32, level: level as f32 };
        if ![entry.error, entry.weight, entry.level].iter().all(|value| value.is_finite()) {
            return;
        }
        let place = |sorted: &[Entry], entry: &Entry| sorted.partition_point(|kept| kept.order(entry).is_lt());
        while self.ring.len() >= most.max(1) {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.sorted.remove(place(&self.sorted, &oldest));
        }
        self.ring.push_back(entry);
        self.sorted.insert(place(&self.sorted, &entry), entry);
    }

    /// How many errors there are.
    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// The quantile, 0..1, of the errors made at about this level; of all if there are too few, and `None` of nothing.
    pub(super) fn at(&self, level: f64, quantile: f64) -> Option<f64> {
        let level = level as f32;
        let near = self.sorted.iter().filter(|entry| entry.is_near(level)).count();
        if near < LEAST {
            return self.quantile(quantile, |_| true);
        }
        self.quantile(quantile, |entry| entry.is_near(level))
    }

    fn quantile(&self, quantile: f64, counts: impl Fn(&Entry) -> bool) -> Option<f64> {
        let counting = || self.sorted.iter().filter(|entry| counts(entry));
        let total: f64 = counting().map(|entry| f64::from(entry.weight)).sum();
        let mut above = total * (1.0 - quantile);
        let reached = counting().rev().find(|entry| {
            above -= f64::from(entry.weight);
            above < 0.0
        });
        reached.or(counting().next()).map(|entry| f64::from(entry.error))
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
