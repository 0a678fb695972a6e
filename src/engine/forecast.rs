//! What demand will be when a replica that is asked for now could serve, and how wrong that may be.
//!
//! Four experts forecast for each horizon: *level* (it stays), *trend* (Holt's linear smoothing, 1957), *season* (it changes
//! as it did on other days), *return* (the greatest demand within the horizon as a linear function of the level, by least
//! squares: after a burst comes less than a burst more). None may forecast less than the level: a forecast raises what is
//! wanted, it never removes a replica. Each keeps the errors that it would have made: the greatest demand within the horizon
//! less the forecast made at its beginning. The margin is a quantile of these errors, the same for each expert, so that they
//! cover the same share; the one with the lowest forecast plus margin is listened to, which is how trend and season prove themselves on the same
//! history or are silent. For *level* it is the errors made at about the level of now, as soon as there are enough of them.
//!
//! The quantile is **weighted by demand**: what an objective counts is requests, and in a service that is idle two thirds of
//! the time most requests come in the bursts that two thirds of the moments know nothing of. Errors are distribution-free
//! and self-calibrating in the sense of conformal prediction (Vovk, Gammerman & Shafer 2005): nothing is assumed of their
//! shape.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{filter::Filtered, season::Season};
use crate::signal::WeightedQuantiles;

mod near;

use near::Near;

/// Seconds between two points of the history.
const POINT_SECONDS: f64 = 15.0;
/// Seconds between two errors that are kept: shorter, and neighbours say the same.
const ERROR_SECONDS: f64 = 60.0;
/// Errors kept of each expert and horizon: eight hours.
const ERRORS: usize = 480;
/// So many errors are needed before the margin is all theirs, and what it is without any, as a share of the level: a
/// quarter of it is two standard deviations of an hour's load around its mean on the services that we have seen.
const PRIOR_ERRORS: f64 = 10.0;
const PRIOR_MARGIN: f64 = 0.25;
/// Holt's smoothing of level and trend, per point: half of a step is in after three points, of a slope after a few minutes.
const ALPHA: f64 = 0.2;
const BETA: f64 = 0.05;
/// A trend adds at most this share of the level: beyond that it is a step, which goes on no further.
const TREND_LIMIT: f64 = 0.5;
/// Points further apart than this have no trend between them, seconds.
const GAP: f64 = 120.0;
/// Trend and season are listened to only if they save at least this share of the level.
const WORTH: f64 = 0.02;
/// Weight of a moment without demand: no request is late then, but that it was quiet is worth knowing.
const LEAST_WEIGHT: f64 = 1e-3;
/// Longest horizon, seconds.
const LONGEST: f64 = 7_200.0;

/// Decay of the sums of *return* from one error to the next: half in as long as errors are kept.
const RETURN_KEEP: f64 = 0.998_557;

/// Level, trend, season, return.
pub const EXPERTS: usize = 4;

/// A horizon and how much of its errors is to be covered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ahead {
    /// Seconds.
    pub seconds: f64,
    /// Quantile, 0..1.
    pub quantile: f64,
    /// So many experts are asked, at most [`EXPERTS`]: 1 where only staying matters.
    pub experts: usize,
}

/// What is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expectation {
    /// Demand, replica equivalents.
    pub value: f64,
    /// For its error.
    pub margin: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Point {
    at: f64,
    level: f64,
    peak: f64,
    smooth: f64,
    slope: f64,
}

/// History and errors. Bounded: points of one horizon, [`ERRORS`] of each expert and horizon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecaster {
    points: VecDeque<Point>,
    judged: f64,
    horizons: Vec<Horizon>,
}

/// What is known of the forecasts of one horizon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Horizon {
    /// The errors of *level*.
    level: Near,
    /// Those of the experts after it.
    errors: [WeightedQuantiles; EXPERTS - 1],
    /// Their quantiles, as of the last judgement.
    margins: [f64; EXPERTS - 1],
    /// Decayed sums for *return*: weight, level, greatest, level², level · greatest.
    sums: [f64; 5],
}

impl Forecaster {
    /// Takes in what demand is now. Horizons are told apart by their place in `ahead`; they may change slowly.
    pub fn push(&mut self, now: f64, demand: Filtered, ahead: &[Ahead], season: &Season) {
        let Filtered { level, peak } = demand;
        if let Some(last) = self.points.back_mut()
            && now < last.at + POINT_SECONDS
        {
            last.peak = last.peak.max(peak);
            return;
        }
        let last = self.points.back().filter(|last| now - last.at <= GAP);
        let (smooth, slope) = last.map_or((level, 0.0), |last| {
            let passed = now - last.at;
            let expected = last.smooth + last.slope * passed;
            let smooth = expected + ALPHA * (level - expected);
            (smooth, last.slope + BETA * ((smooth - last.smooth) / passed - last.slope))
        });
        self.points.push_back(Point { at: now, level, peak, smooth, slope });
        let longest = ahead.iter().map(|ahead| ahead.seconds).fold(0.0, f64::max).min(LONGEST);
        while self.points.get(1).is_some_and(|second| second.at <= now - longest) {
            self.points.pop_front();
        }
        if now >= self.judged + ERROR_SECONDS || now < self.judged {
            self.judged = now;
            self.judge(now, ahead, season);
        }
    }

    fn judge(&mut self, now: f64, ahead: &[Ahead], season: &Season) {
        self.horizons.resize_with(ahead.len(), Horizon::default);
        for (horizon, Ahead { seconds, quantile, experts }) in self.horizons.iter_mut().zip(ahead) {
            let seconds = seconds.min(LONGEST);
            let after = self.points.partition_point(|point| point.at <= now - seconds);
            let Some(made) = after.checked_sub(1).and_then(|before| self.points.get(before)) else { continue };
            // A hole in which nothing was measured proves nothing.
            if made.at < now - seconds - GAP {
                continue;
            }
            let greatest = self.points.range(after..).map(|point| point.peak).fold(0.0, f64::max);
            let (level, weight) = (made.level, greatest.max(LEAST_WEIGHT));
            horizon.level.push(greatest - level, weight, level, ERRORS);
            for expert in 1..EXPERTS.min(*experts) {
                if let Some(forecast) = horizon.forecast(expert, made, seconds, season) {
                    horizon.errors[expert - 1].push(greatest - forecast, weight, ERRORS);
                }
                horizon.margins[expert - 1] = horizon.errors[expert - 1].at(*quantile).unwrap_or(0.0).max(0.0);
            }
            for (sum, value) in horizon.sums.iter_mut().zip([1.0, level, greatest, level * level, level * greatest]) {
                *sum = *sum * RETURN_KEEP + value;
            }
        }
    }

    /// What is expected at horizon number `index`, from a level of now.
    #[must_use]
    pub fn expect(&self, index: usize, now: f64, level: f64, ahead: Ahead, season: &Season) -> Expectation {
        let mut best = self.stay(index, level, ahead.quantile);
        let Some(last) = self.points.back() else { return best };
        let point = Point { at: now, level, ..*last };
        let Some(horizon) = self.horizons.get(index) else { return best };
        let seconds = ahead.seconds.min(LONGEST);
        for expert in 1..EXPERTS.min(ahead.experts) {
            if (horizon.errors[expert - 1].len() as f64) < PRIOR_ERRORS {
                continue;
            }
            let Some(value) = horizon.forecast(expert, &point, seconds, season) else { continue };
            let margin = horizon.margins[expert - 1];
            if value + margin < best.value + best.margin - WORTH * level {
                best = Expectation { value, margin };
            }
        }
        best
    }

    /// The expectation that nothing changes, with the margin that covers this quantile of its errors.
    #[must_use]
    pub fn stay(&self, index: usize, level: f64, quantile: f64) -> Expectation {
        let (count, learned) = self.horizons.get(index).map_or((0, 0.0), |horizon| {
            (horizon.level.len(), horizon.level.at(level, quantile).unwrap_or(0.0).max(0.0))
        });
        let share = (count as f64 / PRIOR_ERRORS).min(1.0);
        let margin = share * learned + (1.0 - share) * PRIOR_MARGIN * level;
        Expectation { value: level, margin }
    }
}

impl Horizon {
    /// What one expert forecasts from a point; nothing as long as it knows too little.
    fn forecast(&self, expert: usize, from: &Point, seconds: f64, season: &Season) -> Option<f64> {
        let Point { at, level, slope, .. } = *from;
        match expert {
            0 => Some(level),
            1 => Some(level + (slope * seconds).clamp(0.0, TREND_LIMIT * level)),
            2 => Some(level * season.ratio(at, at + seconds)?.max(1.0)),
            _ => self.returning(level).map(|value| value.max(level)),
        }
    }

    fn returning(&self, level: f64) -> Option<f64> {
        let [weight, x, y, xx, xy] = self.sums;
        if weight < PRIOR_ERRORS {
            return None;
        }
        let (x, y) = (x / weight, y / weight);
        let variance = xx / weight - x * x;
        let slope = if variance > 1e-9 { ((xy / weight - x * y) / variance).clamp(0.0, 1.0) } else { 1.0 };
        Some(y + slope * (level - x))
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact by construction")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AHEAD: [Ahead; 1] = [Ahead { seconds: 300.0, quantile: 0.9, experts: EXPERTS }];

    fn fed(levels: impl IntoIterator<Item = f64>) -> (Forecaster, f64, f64) {
        let (mut forecaster, season) = (Forecaster::default(), Season::default());
        let (mut now, mut last) = (0.0, 0.0);
        for level in levels {
            now += POINT_SECONDS;
            last = level;
            forecaster.push(now, Filtered { level, peak: level }, &AHEAD, &season);
        }
        (forecaster, now, last)
    }

    fn expected((forecaster, now, level): &(Forecaster, f64, f64)) -> Expectation {
        forecaster.expect(0, *now, *level, AHEAD[0], &Season::default())
    }

    #[test]
    fn steady_demand_needs_no_margin_once_that_is_known() {
        assert_eq!(expected(&fed([8.0; 8])), Expectation { value: 8.0, margin: 2.0 });
        assert_eq!(expected(&fed([8.0; 200])), Expectation { value: 8.0, margin: 0.0 });
    }

    #[test]
    fn the_margin_is_what_demand_was_seen_to_rise_by() {
        // Up by 3 for a while, every 20 minutes.
        let wave = expected(&fed((0..960).map(|i| if i % 80 < 20 { 8.0 } else { 5.0 })));
        assert!((2.9..=3.1).contains(&wave.margin), "{wave:?}");
    }

    #[test]
    fn rare_bursts_that_carry_most_of_the_requests_are_covered() {
        // Idle nine tenths of the time: nine tenths of all moments know of no burst.
        let bursts = expected(&fed((0..1_900).map(|i| if i % 190 < 19 { 10.0 } else { 0.1 })));
        assert!(bursts.margin > 9.0, "{bursts:?}");
    }

    #[test]
    fn a_steady_rise_is_foreseen_by_the_trend_with_less_margin() {
        let rise = fed((0..240).map(|i| 4.0 + 0.05 * f64::from(i)));
        let truth = rise.2 + 0.05 * 20.0;
        let horizon = &rise.0.horizons[0];
        let value =
            horizon.forecast(1, &Point { level: rise.2, ..*rise.0.points.back().unwrap() }, 300.0, &Season::default());
        assert!(
            (value.unwrap() - truth).abs() < 0.1
                && horizon.level.at(rise.2, 0.9).unwrap() > 0.9
                && horizon.errors[0].at(0.5).unwrap() < 0.1
        );
        let Expectation { value, margin } = expected(&rise);
        assert!(value + margin < truth + 0.3, "{value} + {margin}, truth {truth}");
    }

    #[test]
    fn in_the_middle_of_a_burst_no_second_one_is_expected_on_top() {
        // Bursts of 10, two minutes long, every 16 minutes; this one has just begun.
        let bursts = fed((0..1_286).map(|i| if i % 64 < 8 { 10.0 } else { 0.0 }));
        assert_eq!(bursts.2, 10.0);
        let Expectation { value, margin } = expected(&bursts);
        // By the level alone it would be 10 and the 10 that a burst adds.
        assert_eq!(bursts.0.stay(0, bursts.2, 0.9), Expectation { value: 10.0, margin: 10.0 });
        assert!(value + margin < 17.5, "{value} + {margin}");
    }

    #[test]
    fn a_falling_trend_removes_nothing() {
        let fall = fed((0..240).map(|i| 20.0 - 0.05 * f64::from(i)));
        assert!(expected(&fall).value >= fall.2);
    }

    #[test]
    fn a_hole_in_the_history_is_no_error() {
        let season = Season::default();
        let mut forecaster = Forecaster::default();
        for i in 0..100 {
            forecaster.push(f64::from(i) * POINT_SECONDS, Filtered { level: 2.0, peak: 2.0 }, &AHEAD, &season);
        }
        forecaster.push(9_000.0, Filtered { level: 9.0, peak: 9.0 }, &AHEAD, &season);
        assert_eq!(forecaster.expect(0, 9_000.0, 9.0, AHEAD[0], &season), Expectation { value: 9.0, margin: 0.0 });
    }

    proptest! {
        #[test]
        fn no_forecast_is_below_the_level_and_no_margin_below_zero(levels in prop::collection::vec(0.0..100.0_f64, 1..300)) {
            let fed = fed(levels);
            let Expectation { value, margin } = expected(&fed);
            prop_assert!(value >= fed.2 && margin >= 0.0 && value.is_finite() && margin.is_finite());
        }
    }
}
