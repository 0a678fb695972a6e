//! The greatest value of a window of time, in constant time a value.
//!
//! A monotonic deque: a value that is followed by a greater one can never be the greatest again and is dropped at once
//! (Lemire 2006, "Streaming maximum-minimum filter"). Times are seconds on any one scale and do not go back.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Most values kept. The oldest goes beyond it, and is kept as the value of the next: never less than the true maximum.
const MOST: usize = 2_048;

/// The greatest value since some time ago.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Maximum {
    /// Times rise, values fall.
    falling: VecDeque<(f64, f64)>,
}

impl Maximum {
    /// Adds a value of `at` and forgets what is older than `span` seconds.
    pub fn push(&mut self, at: f64, value: f64, span: f64) {
        while self.falling.back().is_some_and(|(_, earlier)| *earlier <= value) {
            self.falling.pop_back();
        }
        self.falling.push_back((at, value));
        while self.falling.front().is_some_and(|(earlier, _)| *earlier < at - span) {
            self.falling.pop_front();
        }
        if self.falling.len() > MOST
            && let Some((_, value)) = self.falling.pop_front()
            && let Some(next) = self.falling.front_mut()
        {
            next.1 = value;
        }
    }

    /// The greatest of the values of the last `span` seconds before `now`; `None` if there is none.
    #[must_use]
    pub fn over(&self, span: f64, now: f64) -> Option<f64> {
        let first = self.falling.partition_point(|(at, _)| *at < now - span);
        self.falling.get(first).map(|(_, value)| *value)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.falling.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_greatest_counts_until_it_leaves_the_window() {
        let mut maximum = Maximum::default();
        for (at, value) in [(0.0, 5.0), (10.0, 3.0), (20.0, 4.0), (30.0, 1.0)] {
            maximum.push(at, value, 60.0);
        }
        for (span, now, expected) in
            [(60.0, 30.0, Some(5.0)), (25.0, 30.0, Some(4.0)), (5.0, 30.0, Some(1.0)), (5.0, 50.0, None)]
        {
            assert_eq!(maximum.over(span, now), expected, "over {span} s before {now}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_look_at_all_values_finds(
            samples in prop::collection::vec((0.0..20.0_f64, -10_i32..10), 1..200), span in 0.0..120.0_f64,
        ) {
            let mut maximum = Maximum::default();
            let mut all = Vec::new();
            let mut at = 0.0;
            for (gap, value) in samples {
                at += gap;
                all.push((at, f64::from(value)));
                maximum.push(at, f64::from(value), 120.0);
                let expected = all.iter().filter(|(then, _)| *then >= at - span).map(|(_, value)| *value).reduce(f64::max);
                prop_assert_eq!(maximum.over(span, at), expected);
            }
        }
    }
}
