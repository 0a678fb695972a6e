//! The bound by deadlines and starts.

use super::{Model, Rates, Scenario, interpolate, may_miss, requests};

/// Most buckets of time.
const MAX_BUCKETS: f64 = 10_000.0;
/// Lengths of buckets, seconds. In short ones much of the room is in the seconds after, which the next bucket counts too; in
/// long ones what comes at once has long to be done. Each gives a bound.
const BUCKET_SECONDS: [f64; 4] = [5.0, 10.0, 20.0, 40.0];
/// Halvings of the price's logarithm.
const HALVINGS: u32 = 10;
/// Prices of a missed request, seconds of a replica on premises.
const PRICES: (f64, f64) = (1e-3, 1e6);

/// Seconds of replicas, those above the on-premises pool times `cloud_price`.
///
/// Whoever is served within the bound has its prompt computed within so many seconds of its arrival, one after the other: what
/// comes in a bucket of time must find room in it and in the seconds after. As many of its prompts as do not fit, the largest
/// ones, are missed. A replica that starts is paid for until it is ready, a cloud node after it has gone. By dynamic
/// programming over the number of replicas; everything else is left out, and a price on each missed request stands for the
/// share that may be missed (Lagrangian relaxation: a lower bound at any price, the best one found is taken).
pub(super) fn seconds(scenario: &Scenario, seed: u64, cloud_price: f64) -> f64 {
    let shortest = scenario.workload.seconds() / MAX_BUCKETS;
    let lengths = BUCKET_SECONDS.iter().map(|length| length.max(shortest));
    let mut lengths: Vec<f64> = lengths.collect();
    lengths.dedup();
    lengths.iter().map(|length| in_buckets(scenario, seed, cloud_price, *length)).fold(0.0, f64::max)
}

fn in_buckets(scenario: &Scenario, seed: u64, cloud_price: f64, length: f64) -> f64 {
    let arrived = Buckets::of(scenario, seed, length);
    let allowed = may_miss(scenario, arrived.requests);
    let fleet = Fleet::of(scenario, cloud_price, length, arrived.most_replicas(scenario));
    let (mut low, mut high) = PRICES;
    let mut best: f64 = 0.0;
    for _ in 0..HALVINGS {
        let price = (low * high).sqrt();
        let (cost, missed) = arrived.least(&fleet, price, scenario.slo.ttft_seconds);
        best = best.max(cost - price * allowed);
        if missed > allowed {
            low = price;
        } else {
            high = price;
        }
    }
    best
}

/// What comes in each bucket.
struct Buckets {
    seconds: f64,
    requests: usize,
    /// Seconds of the prompts, largest first, added up from the smallest: what is left when the first so many are missed.
    left: Vec<Vec<f32>>,
}

/// What so many replicas cost.
struct Fleet {
    least: u32,
    /// For a bucket, by replicas from the least on.
    hold: Vec<f64>,
    /// To start all of them, and to stop them. A bucket less each: replicas need not be there for all of their first and last.
    start: Vec<f64>,
    stop: Vec<f64>,
}

impl Fleet {
    fn of(scenario: &Scenario, cloud_price: f64, bucket: f64, most: u32) -> Self {
        let model = &scenario.model;
        let load = model.startup.container_start_seconds + mean_load(model);
        let boot = model.pools.cloud_boot_seconds * (model.pools.cloud_boot_sigma.powi(2) / 2.0).exp();
        let each = |home: f64, cloud: f64| {
            let of = move |n: u32| {
                let home_replicas = n.min(scenario.on_premises);
                f64::from(home_replicas) * home + f64::from(n - home_replicas) * cloud * cloud_price
            };
            (scenario.min..=most).map(of).collect::<Vec<f64>>()
        };
        let less = |seconds: f64| (seconds - bucket).max(0.0);
        Self {
            least: scenario.min,
            hold: each(bucket, bucket),
            start: each(less(load), less(boot + load)),
            stop: each(0.0, less(model.pools.cloud_release_seconds)),
        }
    }
}

fn mean_load(model: &Model) -> f64 {
    let quantile = |i: u32| interpolate(&model.startup.model_load_quantiles, (f64::from(i) + 0.5) / 1_000.0);
    (0..1_000).map(quantile).sum::<f64>() / 1_000.0
}

impl Buckets {
    fn of(scenario: &Scenario, seed: u64, seconds: f64) -> Self {
        let rates = Rates::new(&scenario.model);
        let length = scenario.workload.seconds();
        let count = (length / seconds).ceil().max(1.0) as usize;
        let mut left: Vec<Vec<f32>> = vec![Vec::new(); count];
        let mut all = 0;
        for request in requests(scenario, seed) {
            left[((request.at / seconds) as usize).min(count - 1)].push(rates.prefill(request.prompt) as f32);
            all += 1;
        }
        for prompts in &mut left {
            prompts.sort_by(f32::total_cmp);
            let mut sum = 0.0;
            for prompt in prompts.iter_mut() {
                sum += *prompt;
                *prompt = sum;
            }
            prompts.reverse();
        }
        Self { seconds, requests: all, left }
    }

    /// As many replicas as the heaviest bucket can use.
    fn most_replicas(&self, scenario: &Scenario) -> u32 {
        let heaviest = self.left.iter().filter_map(|left| left.first()).fold(0.0, |most: f32, one| most.max(*one));
        let used = (f64::from(heaviest) / self.seconds).ceil() as u32 + 1;
        used.clamp(scenario.min, scenario.max.max(scenario.min))
    }

    /// The least of cost and missed requests at their price, and how many are missed then.
    fn least(&self, fleet: &Fleet, price: f64, patience: f64) -> (f64, f64) {
        let Fleet { least, hold, start, stop } = fleet;
        let replicas = |state: usize| f64::from(*least + state as u32);
        // By the replicas of the bucket under way: whoever is there at the beginning has been there.
        let mut ways: Vec<(f64, f64)> = hold.iter().map(|hold| (*hold, 0.0)).collect();
        let mut next = ways.clone();
        for (i, left) in self.left.iter().enumerate() {
            let last = i + 1 == self.left.len();
            for (to, way) in next.iter_mut().enumerate() {
                *way = (f64::INFINITY, 0.0);
                for (from, (cost, missed)) in ways.iter().enumerate() {
                    let room = replicas(from) * self.seconds + replicas(to) * patience;
                    let misses = left.partition_point(|left| f64::from(*left) > room) as f64;
                    let moved = if to >= from { start[to] - start[from] } else { stop[from] - stop[to] };
                    let held = if last { 0.0 } else { hold[to] };
                    let cost = cost + moved + held + price * misses;
                    if cost < way.0 {
                        *way = (cost, missed + misses);
                    }
                }
            }
            std::mem::swap(&mut ways, &mut next);
        }
        ways.iter().copied().fold((f64::INFINITY, 0.0), |best, way| if way.0 < best.0 { way } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(most: u32) -> Fleet {
        let each = |seconds: f64| (0..=most).map(|n| f64::from(n) * seconds).collect::<Vec<f64>>();
        Fleet { least: 0, hold: each(10.0), start: each(100.0), stop: each(0.0) }
    }

    fn buckets(prompts: &[&[f32]]) -> Buckets {
        let left =
            prompts.iter().map(|prompts| (0..prompts.len()).map(|missed| prompts[missed..].iter().sum()).collect());
        Buckets { seconds: 10.0, requests: prompts.iter().map(|prompts| prompts.len()).sum(), left: left.collect() }
    }

    #[test]
    fn prompts_that_do_not_fit_are_missed_the_largest_first_or_replicas_are_paid_for() {
        // 32 s of prompts at once. One replica for a bucket does two of them, two do all but the largest; for that one it
        // takes three, and one of them in the next bucket too.
        let buckets = buckets(&[&[20.0, 4.0, 4.0, 4.0], &[]]);
        let cases =
            [(0.1, 4.0 * 0.1, 4.0), (8.0, 10.0 + 2.0 * 8.0, 2.0), (15.0, 20.0 + 15.0, 1.0), (1e5, 30.0 + 10.0, 0.0)];
        for (price, cost, missed) in cases {
            let (least, misses) = buckets.least(&fleet(5), price, 5.0);
            assert!((least - cost).abs() < 1e-9 && (misses - missed).abs() < 1e-9, "{price}: {least}, {misses}");
        }
    }

    #[test]
    fn who_comes_later_is_started() {
        let buckets = buckets(&[&[], &[], &[10.0], &[]]);
        let (least, _) = buckets.least(&fleet(2), 1e6, 5.0);
        // There all along until then rather than started.
        assert!((least - 30.0).abs() < 1e-9, "{least}");
    }
}
