//! The one source of wall time.
//!
//! The clock is anchored once and then follows the monotonic clock, so that a step of the machine's clock (NTP, an
//! operator) never makes a stale sample fresh. It does not follow such a step: a restart does, and [`steps`](crate::telemetry::steps) are told.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Wall time that never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    monotonic: Instant,
    /// How many times as fast as the machine's it goes; none: as fast.
    pace: Option<f64>,
}

impl Clock {
    /// Anchors the clock at the machine's present time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn start() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now(), pace: None }
    }

    /// A clock that begins at the machine's present time and goes `pace` times as fast: for a scene that is played faster than
    /// it would happen, and in which ages and times have to read as they would. `pace` is above 0.
    #[must_use]
    pub fn paced(pace: f64) -> Self {
        Self { pace: Some(pace), ..Self::start() }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// How far the machine's clock is ahead of this one: by how much it was stepped since the start.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn behind(&self) -> SignedDuration {
        Timestamp::now().duration_since(self.now())
    }

    /// The wall time of a monotonic instant.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Timestamp {
        let since = instant.saturating_duration_since(self.monotonic);
        self.wall + self.pace.map_or(since, |pace| since.mul_f64(pace))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_paced_clock_goes_so_many_times_as_fast_and_an_ordinary_one_as_fast_as_the_machines() {
        for (clock, pace) in [(Clock::start(), 1), (Clock::paced(20.0), 20)] {
            let passed = |seconds| clock.at(clock.monotonic + Duration::from_secs(seconds)).duration_since(clock.wall);
            assert_eq!([passed(0), passed(3)].map(|passed| passed.as_secs()), [0, 3 * pace]);
        }
    }
}
