//! What a day of this service looks like.
//!
//! A profile of [`BUCKETS`] quarters of an hour, in UTC, each the mean of what the last days had there (the newest counts
//! three tenths). As a forecast it says how the level changes from now to then in the profile, as a ratio. It says nothing
//! before two days have filled both quarters; whether it is listened to is decided by its errors (see [`super::forecast`]).
//! A week is not modelled.

use serde::{Deserialize, Serialize};

/// Quarters of an hour in a day.
pub const BUCKETS: usize = 96;
const BUCKET_SECONDS: f64 = 86_400.0 / BUCKETS as f64;

/// Index of a quarter, by its number since the epoch.
fn bucket(number: i64) -> usize {
    // 0..96: it fits whatever the sizes.
    number.rem_euclid(96) as usize
}

/// Weight of the newest day.
const NEWEST: f32 = 0.3;
/// Days after which a quarter is believed.
const BELIEVED: u16 = 2;
/// The ratio is at most this and at least its inverse: a profile of a quiet hour is mostly chance.
const MOST: f64 = 2.0;

/// A day's profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Season {
    /// Mean level and days seen, by quarter.
    quarters: Vec<(f32, u16)>,
    /// The quarter under way: its number since the epoch, sum, count.
    current: (i64, f64, u32),
}

impl Season {
    /// Takes in the level at `now`, seconds since the epoch.
    pub fn learn(&mut self, now: f64, level: f64) {
        let number = (now / BUCKET_SECONDS).floor() as i64;
        let (under_way, sum, count) = self.current;
        if number != under_way {
            if count > 0 {
                self.quarters.resize(BUCKETS, (0.0, 0));
                let (mean, days) = &mut self.quarters[bucket(under_way)];
                let level = (sum / f64::from(count)) as f32;
                *mean = if *days == 0 { level } else { *mean + NEWEST * (level - *mean) };
                *days = days.saturating_add(1);
            }
            self.current = (number, 0.0, 0);
        }
        self.current.1 += level;
        self.current.2 += 1;
    }

    /// How many times the level of `now` is expected at `then`.
    #[must_use]
    pub fn ratio(&self, now: f64, then: f64) -> Option<f64> {
        let (now, then) = (self.profile(now)?, self.profile(then)?);
        (now > 0.0).then(|| (then / now).clamp(1.0 / MOST, MOST))
    }

    /// The profile at a time, straight lines between the middles of the quarters.
    fn profile(&self, at: f64) -> Option<f64> {
        let position = at / BUCKET_SECONDS - 0.5;
        let quarter = |number: f64| {
            let (mean, days) = *self.quarters.get(bucket(number as i64))?;
            (days >= BELIEVED).then_some(f64::from(mean))
        };
        let (before, after) = (quarter(position.floor())?, quarter(position.floor() + 1.0)?);
        Some(before + (position - position.floor()) * (after - before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(at: f64) -> f64 {
        10.0 - 5.0 * (at / 86_400.0 * std::f64::consts::TAU).cos()
    }

    fn taught(days: f64) -> Season {
        let mut season = Season::default();
        let steps = (days * 86_400.0 / 300.0) as u32;
        (0..=steps).map(|i| f64::from(i) * 300.0).for_each(|at| season.learn(at, level(at)));
        season
    }

    #[test]
    fn it_says_nothing_before_two_days() {
        assert_eq!(taught(1.9).ratio(80_000.0, 83_600.0), None);
    }

    #[test]
    fn after_that_it_tells_how_the_level_will_change() {
        let season = taught(2.1);
        for hour in [3.0, 9.0, 15.0, 21.0] {
            let now = 2.0 * 86_400.0 + hour * 3600.0;
            let expected = level(now + 1800.0) / level(now);
            let ratio = season.ratio(now, now + 1800.0).unwrap();
            assert!((ratio - expected).abs() < 0.02, "hour {hour}: {ratio} instead of {expected}");
        }
    }

    #[test]
    fn a_ratio_is_bounded() {
        let mut season = Season::default();
        for i in 0..400 {
            season.learn(f64::from(i) * 900.0, if i % 2 == 0 { 0.001 } else { 50.0 });
        }
        assert_eq!(season.ratio(450.0, 1350.0), Some(MOST));
    }
}
