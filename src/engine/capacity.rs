//! What one replica of this service can do: learned from what its pods say of themselves.
//!
//! Under continuous batching the time per output token grows about linearly with the number of requests that share a
//! replica, `y(r) = b (r + k)`, so that throughput is the hyperbola `X(r) = r / y(r) = r / (b (r + k))` (Michaelis and
//! Menten's form; the regression of `y` on `r` is Hanes' plot of it). By Little's law `y` is running requests over generated
//! tokens per second, which needs no histogram. From it and from what saturated pods show follow
//!
//! - [`full`](Curve::full): the running requests at which a replica is full. The least of where `y` reaches the objective's
//!   time per output token, where the KV cache would be full, and what pods with a standing queue were seen to run. The
//!   first of these is a line through what was seen, and is believed only [`REACH`] times as far: short answers, prompts and
//!   the server's own limits bend it where nobody has been yet;
//! - the load of a replica that runs `r`: `X(r) / X(full)`, at most 1;
//! - the rate at which a full replica finishes requests, which says how fast a queue is worked off.

use serde::{Deserialize, Serialize};

/// Running requests at which a replica is full, until anything is learned: between the 8 of a model that is busy with
/// prompts and vLLM's default limit of 256.
const PRIOR_FULL: f64 = 32.0;
/// `k` as a share of `full`, as long as the regression has nothing to say: fitted in earlier experiments on one model, and
/// here the curve between two known ends.
const PRIOR_CURVATURE: f64 = 0.5;
/// The prior of the regression counts like so many minutes, spread over a quarter of the mean.
const PRIOR_MINUTES: f64 = 10.0;
const PRIOR_SPREAD: f64 = 0.25;
/// So many running requests in the whole service make half of a minute's weight.
const FEW_REQUESTS: f64 = 4.0;
/// What was learned a quarter of a day ago counts half: models and mixes of requests change.
const HALF_LIFE_MINUTES: f64 = 360.0;
/// Share of the objective's time per output token at which a replica is full: the bound is for each request, the law for
/// their mean.
const LATENCY_SHARE: f64 = 0.9;
/// The law of latency is believed up to so many times the concurrency at which the service was seen to compute calmly, and
/// always up to [`PRIOR_FULL`]. At 1 a fleet that is never full never learns how much it could do (+25 % GPU hours on a week
/// of real load); at 2 a service of which little was seen is taken for twice what it is.
const REACH: f64 = 1.5;
/// What it was seen to do is a fact about the model and its card, and is forgotten slowly: half in three days.
const SEEN_HALF_LIFE_MINUTES: f64 = 4_320.0;
/// A KV cache is full a little before 1, for requests in it still grow.
const CACHE_SHARE: f64 = 0.95;
/// So many observations are needed before a limit is believed, and older ones than that many fade.
const BELIEVED: f64 = 10.0;
const FADING: f64 = 200.0;
/// A request's time in a full replica until it is known, seconds: some 200 tokens at 0.07 s.
const PRIOR_STAY: f64 = 15.0;
/// The prior of the rate counts like so many replica-minutes.
const PRIOR_RATE_WEIGHT: f64 = 3.0;

/// What is learned of one replica's capacity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capacity {
    /// Sums of the regression of latency on running requests: weight, r, y, r², r·y.
    latency: [f64; 5],
    /// The greatest [`Minute::shared`] of calm minutes, fading.
    seen: f64,
    /// Running requests of pods with a standing queue.
    saturated: Average,
    /// Used share of the KV cache for each running request.
    cache: Average,
    /// Sums: load, requests finished per second.
    rate: [f64; 2],
}

/// A mean whose old values fade once there are enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Average {
    weight: f64,
    mean: f64,
}

/// The curve from running requests to load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Running requests of a full replica.
    pub full: f64,
    /// Where throughput is half of what it could ever be.
    pub half: f64,
    /// Requests that a full replica finishes per second.
    pub rate: f64,
}

/// One minute of the whole service, as means for each of its replicas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    /// Running requests a replica.
    pub running: f64,
    /// Requests that a request shared its replica with, itself included: Σr² / Σr. In a minute with one short burst it is
    /// far above the mean, and it is what the burst's latency belongs to.
    pub shared: f64,
    /// Load a replica, by the curve.
    pub load: f64,
    /// Generated tokens per second and replica, if offered.
    pub generated: Option<f64>,
    /// Finished requests per second and replica, if offered.
    pub finished: Option<f64>,
    /// Used share of the KV cache, if offered.
    pub cache: Option<f64>,
    /// Replicas.
    pub replicas: f64,
    /// Hardly anything waits, so that latency is that of computing.
    pub calm: bool,
}

impl Average {
    fn add(&mut self, value: f64) {
        self.weight = (self.weight + 1.0).min(FADING);
        self.mean += (value - self.mean) / self.weight;
    }

    fn believed(self) -> Option<f64> {
        (self.weight >= BELIEVED && self.mean > 0.0).then_some(self.mean)
    }
}

impl Capacity {
    /// Learns from one minute.
    pub fn learn(&mut self, minute: &Minute) {
        let Minute { running, shared, load, generated, finished, cache, replicas, calm } = *minute;
        let keep = 0.5_f64.powf(1.0 / HALF_LIFE_MINUTES);
        if let Some(generated) = generated.filter(|generated| *generated > 0.0 && running > 0.0 && calm) {
            let y = running / generated;
            self.seen = (self.seen * 0.5_f64.powf(1.0 / SEEN_HALF_LIFE_MINUTES)).max(shared);
            // A minute with hardly a request says little.
            let weight = running * replicas / (running * replicas + FEW_REQUESTS);
            for (sum, value) in self.latency.iter_mut().zip([1.0, shared, y, shared * shared, shared * y]) {
                *sum = *sum * keep + value * weight;
            }
        }
        if let Some(cache) = cache.filter(|cache| *cache > 0.0 && running >= 1.0) {
            self.cache.add(cache / running);
        }
        if let Some(finished) = finished {
            for (sum, value) in self.rate.iter_mut().zip([load * replicas, finished * replicas]) {
                *sum = *sum * keep + value;
            }
        }
    }

    /// A pod with a standing queue no longer takes on more: it runs what it can.
    pub fn learn_saturated(&mut self, running: f64) {
        self.saturated.add(running.max(1.0));
    }

    /// What is known now, for an objective of so many seconds per output token.
    #[must_use]
    pub fn curve(&self, seconds_per_token: f64) -> Curve {
        let cache = self.cache.believed().map(|share| CACHE_SHARE / share);
        let limit = [self.saturated.believed(), cache].into_iter().flatten().reduce(f64::min);
        // An objective that not even a request alone would keep is nothing that replicas can help with.
        let by_latency = self.law(limit.unwrap_or(PRIOR_FULL)).map(|(b, k)| seconds_per_token * LATENCY_SHARE / b - k);
        let by_latency =
            by_latency.filter(|full| *full >= 1.0).map(|full| full.min((REACH * self.seen).max(PRIOR_FULL)));
        let full = [limit, by_latency].into_iter().flatten().reduce(f64::min).unwrap_or(PRIOR_FULL).max(1.0);
        // Between a curve that bends at once and one that is almost straight.
        let half = self.law(full).map_or(PRIOR_CURVATURE * full, |(_, k)| k.clamp(0.1 * full, 10.0 * full));
        let [load, finished] = self.rate;
        let rate = (finished + full / PRIOR_STAY * PRIOR_RATE_WEIGHT) / (load + PRIOR_RATE_WEIGHT);
        Curve { full, half, rate }
    }

    /// `b` and `k` of `y = b (r + k)`, by least squares drawn towards the prior's `k`.
    fn law(&self, full: f64) -> Option<(f64, f64)> {
        let [weight, r, y, rr, ry] = self.latency;
        if weight < 1.0 {
            return None;
        }
        let (r, y) = (r / weight, y / weight);
        let (variance, covariance) = ((rr / weight - r * r).max(0.0), ry / weight - r * y);
        let prior = y / (r + PRIOR_CURVATURE * full);
        let prior_variance = (PRIOR_SPREAD * r).powi(2);
        let b = (covariance * weight + prior * prior_variance * PRIOR_MINUTES)
            / (variance * weight + prior_variance * PRIOR_MINUTES).max(f64::MIN_POSITIVE);
        // Latency neither falls with load nor is less than nothing in an idle replica.
        let b = b.clamp(1e-9 * y / r.max(1e-9), y / r.max(1e-9)).max(f64::MIN_POSITIVE);
        Some((b, y / b - r))
    }
}

impl Curve {
    /// Load of a replica that runs so many requests, 0..1.
    #[must_use]
    pub fn load(&self, running: f64) -> f64 {
        let r = running.clamp(0.0, self.full);
        r / (r + self.half) * (self.full + self.half) / self.full
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact by construction")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn minute(running: f64, seconds_per_token: f64) -> Minute {
        Minute {
            running,
            shared: running,
            load: 0.5,
            generated: Some(running / seconds_per_token),
            finished: Some(1.0),
            cache: None,
            replicas: 4.0,
            calm: true,
        }
    }

    #[test]
    fn nothing_learned_is_the_prior() {
        let curve = Capacity::default().curve(0.2);
        assert_eq!((curve.full, curve.half), (PRIOR_FULL, PRIOR_FULL * PRIOR_CURVATURE));
    }

    #[test]
    fn latency_that_grows_with_the_batch_tells_how_many_requests_keep_the_objective() {
        // y = 0.002 (r + 20): 0.9 × 0.2 s are reached at 70.
        let mut capacity = Capacity::default();
        for i in 0..240 {
            let r = 5.0 + f64::from(i % 50);
            capacity.learn(&minute(r, 0.002 * (r + 20.0)));
        }
        let curve = capacity.curve(0.2);
        assert!((curve.full - 70.0).abs() < 4.0, "{curve:?}");
        assert!((curve.half - 20.0).abs() < 2.0, "{curve:?}");
        assert!(capacity.curve(0.1).full < curve.full);
    }

    #[test]
    fn the_law_of_latency_is_believed_only_half_as_far_again_as_was_seen() {
        // By this law 160 requests would keep the objective.
        let law = |r: f64| 0.001 * (r + 20.0);
        let full = |seen: &[f64]| {
            let mut capacity = Capacity::default();
            for r in seen.iter().cycle().take(240) {
                capacity.learn(&minute(*r, law(*r)));
            }
            capacity.curve(0.2).full
        };
        assert_eq!(full(&[4.0, 12.0]), PRIOR_FULL, "little was seen");
        assert!((full(&[10.0, 60.0]) - 90.0).abs() < 1.0, "{}", full(&[10.0, 60.0]));
        assert!((full(&[50.0, 150.0]) - 160.0).abs() < 8.0, "{}", full(&[50.0, 150.0]));
    }

    #[test]
    fn a_standing_queue_tells_what_a_full_replica_runs_once_it_was_seen_often_enough() {
        let mut capacity = Capacity::default();
        for _ in 0..9 {
            capacity.learn_saturated(8.0);
        }
        assert_eq!(capacity.curve(0.2).full, PRIOR_FULL);
        capacity.learn_saturated(8.0);
        assert_eq!(capacity.curve(0.2).full, 8.0);
    }

    #[test]
    fn a_cache_that_would_be_full_is_a_limit() {
        let mut capacity = Capacity::default();
        for _ in 0..20 {
            capacity.learn(&Minute { cache: Some(0.5), ..minute(10.0, 0.01) });
        }
        assert!((capacity.curve(10.0).full - 19.0).abs() < 0.01);
    }

    #[test]
    fn the_rate_of_a_full_replica_is_learned() {
        let mut capacity = Capacity::default();
        for _ in 0..300 {
            capacity.learn(&minute(10.0, 0.1));
        }
        // One request a second at half load.
        assert!((capacity.curve(0.2).rate - 2.0).abs() < 0.05);
    }

    proptest! {
        #[test]
        fn load_rises_from_0_to_1_whatever_was_learned(
            minutes in prop::collection::vec((0.0..500.0_f64, 0.0..10.0_f64, 0.0..1.0_f64), 0..60),
            saturated in prop::collection::vec(0.0..500.0_f64, 0..30),
            objective in 0.001..10.0_f64,
        ) {
            let mut capacity = Capacity::default();
            for (running, y, cache) in minutes {
                capacity.learn(&Minute { cache: Some(cache), ..minute(running, y.max(1e-6)) });
            }
            for running in saturated {
                capacity.learn_saturated(running);
            }
            let curve = capacity.curve(objective);
            prop_assert!(curve.full >= 1.0 && curve.full.is_finite() && curve.rate > 0.0 && curve.rate.is_finite(), "{:?}", curve);
            prop_assert_eq!(curve.load(0.0), 0.0);
            prop_assert!((curve.load(curve.full * 2.0) - 1.0).abs() < 1e-9);
            let loads: Vec<f64> = (0..=20).map(|i| curve.load(curve.full * f64::from(i) / 20.0)).collect();
            prop_assert!(loads.windows(2).all(|pair| pair[0] <= pair[1]));
        }
    }
}
