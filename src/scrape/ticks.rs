//! When a target is due: its own offset within the interval, and no drift. Pure arithmetic.

use std::time::Duration;

use tokio::time::Instant;

use super::TargetId;

/// Shortest interval; a shorter one is taken for this.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

/// The moments at which one target is due: `first`, and each whole interval after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    first: Instant,
    interval: Duration,
}

impl Ticks {
    /// The ticks of that target, counted from `anchor`, which all targets share.
    pub(super) fn new(anchor: Instant, interval: Duration, id: &TargetId) -> Self {
        let interval = interval.max(LEAST_INTERVAL);
        Self { first: anchor + offset(id, interval), interval }
    }

    /// The number of the first tick at or after `now`.
    pub(super) fn next(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.first).as_nanos();
        since.div_ceil(self.interval.as_nanos()) as u64
    }

    /// When that tick is.
    pub(super) fn at(&self, tick: u64) -> Instant {
        let nanos = u128::from(tick) * self.interval.as_nanos();
        self.first + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Where in the interval that target is due: the same in each process and version, evenly spread over all targets.
fn offset(id: &TargetId, interval: Duration) -> Duration {
    let share = u128::from(spread(id.0.as_bytes()));
    // share / 2^64 of the interval.
    Duration::from_nanos(((share * interval.as_nanos()) >> 64) as u64)
}

/// FNV-1a (64 bits), then the finalizer of `MurmurHash3`, because FNV leaves the high bits of similar names alike.
fn spread(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut hash = fnv;
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TargetId {
        TargetId(text.into())
    }

    #[test]
    fn targets_with_similar_names_are_spread_evenly_over_the_interval() {
        const TENTHS: usize = 10;
        let names: Vec<String> = (0..1000).map(|n| format!("arms-prom/gpu-exporter-{n:04}/uid-{n}")).collect();
        let mut bins = [0; TENTHS];
        for name in &names {
            let offset = offset(&id(name), Duration::from_secs(10));
            assert!(offset < Duration::from_secs(10));
            bins[offset.as_secs() as usize] += 1;
        }
        // 1,000 in ten bins: 100 each, standard deviation 9.5.
        assert!(bins.iter().all(|count| (60..=140).contains(count)), "{bins:?}");
    }

    #[test]
    fn the_offset_is_the_same_in_every_process() {
        assert_eq!(spread(b""), 0xefd0_1f60_ba99_2926);
        let interval = Duration::from_secs(10);
        assert_eq!(
            offset(&id("http://node-1:9445/metrics"), interval),
            offset(&id("http://node-1:9445/metrics"), interval)
        );
        assert_ne!(
            offset(&id("http://node-1:9445/metrics"), interval),
            offset(&id("http://node-2:9445/metrics"), interval)
        );
    }

    #[test]
    fn ticks_do_not_drift_and_a_late_target_waits_for_its_next_one() {
        let anchor = Instant::now();
        let ticks = Ticks { first: anchor + Duration::from_secs(3), interval: Duration::from_secs(10) };
        let table = [
            // (now, next tick, its time), in seconds from the anchor
            (0, 0, 3),
            (3, 0, 3),
            (4, 1, 13),
            (13, 1, 13),
            (14, 2, 23),
            (1_000_003, 100_000, 1_000_003),
        ];
        for (now, tick, at) in table {
            let next = ticks.next(anchor + Duration::from_secs(now));
            assert_eq!((next, ticks.at(next)), (tick, anchor + Duration::from_secs(at)), "at {now}s");
        }
    }

    #[test]
    fn an_interval_of_zero_does_not_divide_by_it() {
        let ticks = Ticks::new(Instant::now(), Duration::ZERO, &id("a"));
        assert_eq!(ticks.at(5) - ticks.at(4), LEAST_INTERVAL);
    }
}
