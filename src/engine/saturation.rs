//! Whether the service has more work than it can do (R16).
//!
//! Saturated is a service whose waiting requests would take its ready replicas more than half of the objective's time to
//! first token to work off, or of which a KV cache is full, for [`ENTER_SECONDS`]; it is so until they would take less than
//! half of that and no cache is nearly full, for [`LEAVE_SECONDS`]. While it is, nothing is removed whatever utilization
//! says, and if nothing is on its way one more replica is wanted than is ready.

use serde::{Deserialize, Serialize};

use super::{demand::Measured, policy::Policy};

/// So long it must last: two or three pages, so that one burst of arrivals is none.
pub const ENTER_SECONDS: f64 = 20.0;
/// So long it must be over.
pub const LEAVE_SECONDS: f64 = 60.0;
/// Share of the time to first token.
const SHARE: f64 = 0.5;
/// A KV cache is full, and no longer nearly full.
const CACHE: (f64, f64) = (0.95, 0.85);

/// Remembers since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saturation {
    saturated: bool,
    /// Since when the other state holds, seconds.
    turning: Option<f64>,
}

impl Saturation {
    /// Whether it is saturated at `now`.
    pub fn look(&mut self, now: f64, measured: &Measured, policy: &Policy) -> bool {
        let Measured { waiting, rate, kv_cache, known, .. } = *measured;
        let to_clear = waiting / (rate * f64::from(known.max(1))).max(f64::MIN_POSITIVE);
        let bound = policy.objective.time_to_first_token_seconds * SHARE;
        let used = kv_cache.unwrap_or(0.0);
        let (turns, after) = if self.saturated {
            (to_clear < bound / 2.0 && used < CACHE.1, LEAVE_SECONDS)
        } else {
            (to_clear > bound || used >= CACHE.0, ENTER_SECONDS)
        };
        if !turns {
            self.turning = None;
        } else if now >= *self.turning.get_or_insert(now) + after {
            self.saturated = !self.saturated;
            self.turning = None;
        }
        self.saturated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(saturation: &mut Saturation, now: f64, waiting: f64, kv_cache: f64) -> bool {
        let measured = Measured { waiting, kv_cache: Some(kv_cache), rate: 2.0, known: 2, ..Measured::default() };
        saturation.look(now, &measured, &Policy::default())
    }

    #[test]
    fn it_takes_a_while_to_begin_and_longer_to_end() {
        // Two replicas at two a second work off ten in the allowed 2.5 s.
        let mut saturation = Saturation::default();
        let timeline = [
            (0.0, 11.0, false),
            (10.0, 3.0, false), // one burst is none
            (20.0, 11.0, false),
            (30.0, 11.0, false),
            (40.0, 11.0, true),
            (50.0, 7.0, true), // neither saturated nor over
            (60.0, 4.0, true),
            (110.0, 4.0, true),
            (120.0, 4.0, false),
        ];
        for (now, waiting, expected) in timeline {
            assert_eq!(look(&mut saturation, now, waiting, 0.0), expected, "at {now}");
        }
    }

    #[test]
    fn a_full_cache_saturates_without_a_queue() {
        let mut saturation = Saturation::default();
        assert!(!look(&mut saturation, 0.0, 0.0, 0.96));
        assert!(look(&mut saturation, 20.0, 0.0, 0.96));
        assert!(look(&mut saturation, 200.0, 0.0, 0.9));
    }
}
