//! The mean over a window of time, each value weighed by how long it held.
//!
//! A value holds from its own time until the next one, but at most for the hold time: what was not measured for longer is a
//! hole, which counts neither as zero nor as more of the same (R1).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Most samples kept; beyond it the oldest goes, and the window is shorter than asked for. A minute of samples each 15 ms.
const MOST: usize = 4_096;

/// A time-weighted mean over the last seconds. Times are seconds on any one scale and do not go back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Time and value, in order of time.
    samples: VecDeque<(f64, f64)>,
}

impl Mean {
    /// Adds a value that holds from `at` on. One that is not younger than the last replaces it.
    pub fn push(&mut self, at: f64, value: f64, span: f64) {
        while self.samples.back().is_some_and(|(last, _)| *last >= at) {
            self.samples.pop_back();
        }
        // The last one before the window began still holds at its beginning.
        while self.samples.get(1).is_some_and(|(next, _)| *next <= at - span) || self.samples.len() >= MOST {
            self.samples.pop_front();
        }
        self.samples.push_back((at, value));
    }

    /// The mean over the `span` seconds before `now`, and how many of them are covered by values; `None` if none are.
    #[must_use]
    pub fn over(&self, span: f64, now: f64, hold: f64) -> Option<(f64, f64)> {
        let (mut area, mut covered) = (0.0, 0.0);
        let mut until = now;
        for (at, value) in self.samples.iter().rev() {
            let from = at.max(now - span);
            let held = (until.min(at + hold) - from).max(0.0);
            area += held * value;
            covered += held;
            until = *at;
            if *at <= now - span {
                break;
            }
        }
        // A value of this very moment has held for no time yet, and is all there is.
        let newest = || self.samples.back().filter(|(at, _)| *at >= now).map(|(_, value)| (*value, 0.0));
        if covered > 0.0 { Some((area / covered, covered)) } else { newest() }
    }

    /// The value that held at `then`, if one of the kept ones did.
    #[must_use]
    pub fn at(&self, then: f64) -> Option<f64> {
        let next = self.samples.partition_point(|(at, _)| *at <= then);
        Some(self.samples.get(next.checked_sub(1)?)?.1)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.samples.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOLD: f64 = 30.0;

    fn mean(samples: &[(f64, f64)], span: f64, now: f64) -> Option<(f64, f64)> {
        let mut mean = Mean::default();
        for (at, value) in samples {
            mean.push(*at, *value, span);
        }
        mean.over(span, now, HOLD)
    }

    #[test]
    fn a_value_counts_for_as_long_as_it_held() {
        assert_eq!(mean(&[(0.0, 10.0), (30.0, 40.0), (40.0, 40.0)], 60.0, 60.0), Some((25.0, 60.0)));
    }

    #[test]
    fn what_held_when_the_window_began_counts_from_there() {
        assert_eq!(mean(&[(0.0, 10.0), (10.0, 20.0), (20.0, 40.0)], 10.0, 25.0), Some((30.0, 10.0)));
    }

    #[test]
    fn a_hole_is_neither_zero_nor_more_of_the_same() {
        // 10 holds for 30 s, then nothing is known for 60 s, then 20.
        assert_eq!(mean(&[(0.0, 10.0), (90.0, 20.0)], 200.0, 120.0), Some((15.0, 60.0)));
        assert_eq!(mean(&[(0.0, 10.0)], 60.0, 120.0), None);
        assert_eq!(mean(&[], 60.0, 0.0), None);
    }

    #[test]
    fn the_first_value_counts_at_once() {
        assert_eq!(mean(&[(5.0, 7.0)], 60.0, 5.0), Some((7.0, 0.0)));
    }

    proptest! {
        #[test]
        fn it_lies_between_the_least_and_the_greatest_value(
            samples in prop::collection::vec((0.0..40.0_f64, -1e6..1e6_f64), 1..60), span in 1.0..300.0_f64, late in 0.0..60.0_f64,
        ) {
            let mut at = 0.0;
            let timed: Vec<(f64, f64)> = samples.iter().map(|(gap, value)| { at += gap; (at, *value) }).collect();
            let (least, greatest) =
                timed.iter().fold((f64::MAX, f64::MIN), |(low, high), (_, value)| (low.min(*value), high.max(*value)));
            if let Some((mean, covered)) = mean(&timed, span, at + late) {
                prop_assert!(mean >= least - 1e-6 && mean <= greatest + 1e-6);
                prop_assert!(covered <= span + 1e-9);
            }
        }
    }
}
