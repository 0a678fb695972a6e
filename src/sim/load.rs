//! The offered load of a scene, and how busy GPUs get from it.
//!
//! Load is counted in replica equivalents: 1.0 keeps one replica fully busy. Simplified: requests spread evenly over ready
//! replicas, utilization is proportional to load and stops at 100 %, what cannot be served is lost and not queued, and an
//! idle replica reads a small baseline. Real LLM servers are less kind: their utilization can fall while load rises.

use std::time::Duration;

/// Offered load over the time of the scene: straight lines between points.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    points: Vec<(Duration, f64)>,
}

impl Curve {
    /// Lines between these points; before the first and after the last their load holds. Sorted by time here.
    #[must_use]
    pub fn new(points: impl Into<Vec<(Duration, f64)>>) -> Self {
        let mut points = points.into();
        points.sort_by_key(|(at, _)| *at);
        Self { points }
    }

    /// Offered load in replica equivalents. A curve without points offers none.
    #[must_use]
    pub fn at(&self, time: Duration) -> f64 {
        let next = self.points.partition_point(|(at, _)| *at <= time);
        match (next.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(next)) {
            (Some((t0, a)), Some((t1, b))) => {
                let share = time.saturating_sub(*t0).as_secs_f64() / t1.saturating_sub(*t0).as_secs_f64();
                a + (b - a) * share
            }
            (Some((_, load)), None) | (None, Some((_, load))) => *load,
            (None, None) => 0.0,
        }
    }
}

/// Utilization of each of `ready` replicas in percent, before noise: its share of the load above the idle baseline, at
/// most 100. Without a ready replica nothing is busy.
#[must_use]
pub fn utilization(offered: f64, ready: usize, idle_percent: f64) -> f64 {
    if ready == 0 {
        return 0.0;
    }
    (idle_percent + (100.0 - idle_percent) * offered / ready as f64).clamp(0.0, 100.0)
}

/// The fewest replicas that hold utilization at or below `target_percent` times `1 + tolerance`: what a perfectly informed
/// autoscaler would not go below.
#[must_use]
pub fn warranted(offered: f64, idle_percent: f64, target_percent: f64, tolerance: f64, max: usize) -> usize {
    let limit = target_percent * (1.0 + tolerance);
    (1..max).find(|n| utilization(offered, *n, idle_percent) <= limit).unwrap_or(max)
}

/// Reproducible noise: SplitMix64 (Steele, Lea, Flood 2014). Not for secrets.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// The same seed gives the same noise.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, evenly spread over -1 to 1.
    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn load_follows_straight_lines_and_holds_at_the_ends() {
        let curve = Curve::new([(s(20), 3.0), (s(10), 1.0), (s(20), 2.0)]);
        for (at, load) in [(0, 1.0), (10, 1.0), (15, 2.0), (20, 2.0), (99, 2.0)] {
            assert!((curve.at(s(at)) - load).abs() < 1e-9, "{at}: {}", curve.at(s(at)));
        }
        assert!(Curve::new([]).at(s(5)).abs() < 1e-9);
    }

    #[test]
    fn replicas_share_the_load_above_an_idle_baseline_up_to_100() {
        for (offered, ready, expected) in
            [(0.0, 1, 2.0), (1.0, 1, 100.0), (1.0, 2, 51.0), (5.0, 3, 100.0), (1.0, 0, 0.0)]
        {
            let busy = utilization(offered, ready, 2.0);
            assert!((busy - expected).abs() < 1e-9, "{offered} over {ready}: {busy}");
        }
    }

    #[test]
    fn warranted_replicas_hold_the_target_with_its_tolerance() {
        // 1.4 over 3 is 46.7 %, over 2 it is 70 %.
        for (offered, expected) in [(0.2, 1), (0.55, 1), (0.56, 2), (1.09, 2), (1.4, 3), (9.0, 3)] {
            assert_eq!(warranted(offered, 0.0, 50.0, 0.1, 3), expected, "{offered}");
        }
    }

    #[test]
    fn noise_is_reproducible_bounded_and_centred() {
        let draw = |seed| {
            let mut noise = Noise::new(seed);
            (0..10_000).map(|_| noise.draw()).collect::<Vec<_>>()
        };
        let drawn = draw(7);
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
        assert!(drawn.iter().all(|x| (-1.0..=1.0).contains(x)));
        assert!((drawn.iter().sum::<f64>() / 10_000.0).abs() < 0.03);
    }
}
