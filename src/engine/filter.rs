//! Demand from noisy loads: quick on a true rise, calm on noise.
//!
//! Load is averaged over a window, time-weighted. What a full replica cannot take in is not in its load but in its queue, so
//! the growth of the queue over the same window is added: served load + (W(t) − W(t − s)) / (s · rate) is the load that came
//! in over the window `s`, by conservation of requests, also while the service is saturated. The window is a minute, six
//! samples at the usual intervals, for the level from which forecasts begin; and a scrape
//! interval for its peaks, which is what a forecast's error is measured against: a burst of seconds is a true rise for those
//! who wait in it.

use serde::{Deserialize, Serialize};

use crate::signal::Mean;

/// Window of the level, seconds.
pub const LEVEL_SECONDS: f64 = 60.0;
/// Window of peaks, seconds: the usual scrape interval, the shortest that every pod's page fills.
pub const PEAK_SECONDS: f64 = 15.0;
/// A sample counts for at most so long; what was not measured for longer is a hole.
pub const HOLD_SECONDS: f64 = 30.0;

/// The windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    load: Mean,
    waiting: Mean,
}

/// Filtered demand, replica equivalents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filtered {
    /// Over the last minute.
    pub level: f64,
    /// Over the last scrape interval, and no less than the level.
    pub peak: f64,
}

impl Filter {
    /// Takes in the load and the waiting requests of all replicas at `now`; a full replica works off `rate` a second.
    pub fn push(&mut self, now: f64, load: f64, waiting: f64, rate: f64) -> Filtered {
        self.load.push(now, load, LEVEL_SECONDS);
        self.waiting.push(now, waiting, LEVEL_SECONDS);
        let over = |seconds: f64| {
            let (served, _) = self.load.over(seconds, now, HOLD_SECONDS).unwrap_or((load, 0.0));
            let before = self.waiting.at(now - seconds).unwrap_or(waiting);
            (served + (waiting - before) / (seconds * rate)).max(0.0)
        };
        let level = over(LEVEL_SECONDS);
        Filtered { level, peak: over(PEAK_SECONDS).max(level) }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact by construction")]
mod tests {
    use super::*;

    #[test]
    fn a_true_step_arrives_within_the_window_and_at_once_in_the_peak() {
        let mut filter = Filter::default();
        let mut at = |second: u32, load| filter.push(f64::from(second), load, 0.0, 2.0);
        for i in 0..24 {
            at(i * 5, 2.0);
        }
        let step: Vec<Filtered> = (24..40).map(|i| at(i * 5, 6.0)).collect();
        assert_eq!(step[3].peak, 6.0);
        assert!(step[6].level > 3.9 && step[6].level < 4.1, "half way after half the window: {:?}", step[6]);
        assert_eq!(step[12].level, 6.0);
    }

    #[test]
    fn demand_of_a_saturated_service_is_what_comes_in_not_what_it_can_do() {
        // Four full replicas at 2 requests a second each; 12 a second come in, so 4 a second pile up.
        let mut filter = Filter::default();
        let demand: Vec<f64> =
            (0..60).map(|i| filter.push(f64::from(i) * 5.0, 4.0, f64::from(i) * 20.0, 2.0).level).collect();
        assert!((demand[59] - 6.0).abs() < 1e-9, "{}", demand[59]);
    }

    #[test]
    fn a_hole_changes_nothing() {
        let mut filter = Filter::default();
        filter.push(0.0, 3.0, 0.0, 2.0);
        assert_eq!(filter.push(50.0, 3.0, 0.0, 2.0).level, 3.0);
    }
}
