//! The one source of wall time.
//!
//! The clock is anchored once and then follows the monotonic clock, so that a step of the machine's clock (NTP, an
//! operator) never makes a stale sample fresh. It does not follow such a step: a restart does.

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall time that never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    monotonic: Instant,
}

impl Clock {
    /// Anchors the clock at the machine's present time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn start() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The wall time of a monotonic instant.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Timestamp {
        self.wall + instant.saturating_duration_since(self.monotonic)
    }
}
