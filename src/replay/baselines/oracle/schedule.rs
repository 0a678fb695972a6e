//! The cheapest schedule of ready replicas, by dynamic programming.

use super::super::super::{serving::Rates, simulation::Scenario};

/// Most buckets of time.
const MAX_BUCKETS: f64 = 40_000.0;
/// Shortest bucket, seconds.
const MIN_BUCKET_SECONDS: f64 = 5.0;

/// What will be offered, in buckets of time from the beginning of the warm-up.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Length of a bucket, seconds.
    pub seconds: f64,
    /// Work that arrives in each, seconds of a replica.
    pub work: Vec<f64>,
    /// Requests that arrive in each and count.
    pub count: Vec<f64>,
}

/// What replicas cost and do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Replicas that fit on premises, at a price of 1 a second.
    pub on_premises: u32,
    /// Least and most replicas.
    pub replicas: (u32, u32),
    /// Replicas at the beginning.
    pub initial: u32,
    /// Price of a second of a cloud replica.
    pub cloud_price: f64,
    /// Seconds that are paid for before a replica on premises is ready.
    pub on_premises_start: f64,
    /// The same in the cloud.
    pub cloud_start: f64,
    /// Seconds that an empty cloud node is paid for.
    pub cloud_release: f64,
    /// Seconds that a removed replica is paid for.
    pub drain: f64,
    /// Work that one replica does in a second.
    pub capacity: f64,
    /// A request that waits longer than this is missed, seconds.
    pub patience: f64,
}

impl Load {
    /// The requests of a seed.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let workload = &scenario.workload;
        let rates = Rates::new(&scenario.model);
        let seconds = (workload.end() / MAX_BUCKETS).max(MIN_BUCKET_SECONDS);
        let buckets = (workload.end() / seconds).ceil().max(1.0) as usize;
        let (mut work, mut count) = (vec![0.0; buckets], vec![0.0; buckets]);
        for request in workload.arrivals(seed) {
            let at = ((request.at / seconds) as usize).min(buckets - 1);
            work[at] += rates.work(&request);
            count[at] += f64::from(u8::from(request.at >= workload.warmup));
        }
        Self { seconds, work, count }
    }

    /// Requests that count.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.count.iter().sum()
    }
}

impl Costs {
    fn split(&self, replicas: u32) -> (f64, f64) {
        let home = replicas.min(self.on_premises);
        (f64::from(home), f64::from(replicas - home))
    }

    /// Price of a second.
    fn price(&self, replicas: u32) -> f64 {
        let (home, cloud) = self.split(replicas);
        home + self.cloud_price * cloud
    }

    /// What starting all of them would cost.
    fn start(&self, replicas: u32) -> f64 {
        let (home, cloud) = self.split(replicas);
        home * self.on_premises_start + cloud * self.cloud_price * self.cloud_start
    }

    /// What removing all of them would cost.
    fn stop(&self, replicas: u32) -> f64 {
        let (home, cloud) = self.split(replicas);
        home * self.drain + cloud * self.cloud_price * (self.drain + self.cloud_release)
    }
}

/// The best way to a number of replicas.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Cost so far, missed requests at their price included.
    cost: f64,
    /// Missed requests so far.
    missed: f64,
    /// Work that waits.
    backlog: f64,
}

/// Ready replicas by bucket at the least cost, where a missed request costs `price` seconds of a replica on premises; and how
/// many are missed.
///
/// For each bucket and number of replicas the cheapest way there is kept, with its backlog. Starting and stopping cost so
/// much a replica, so that the best way to a number from all others is found in one pass up and one down.
#[must_use]
pub fn cheapest(load: &Load, costs: &Costs, price: f64) -> (Vec<u32>, f64) {
    let (least, most) = costs.replicas;
    // More than the heaviest bucket needs are of no use.
    let heaviest = load.work.iter().fold(0.0, |most: f64, work| most.max(*work)) / load.seconds / costs.capacity;
    let most = most.min((heaviest.ceil() as u32).saturating_add(2)).max(least).max(costs.initial);
    let count = (most.saturating_sub(least) + 1) as usize;
    let replicas = |state: usize| least + state as u32;
    let per_second: Vec<f64> = (0..count).map(|state| costs.price(replicas(state))).collect();
    let start: Vec<f64> = (0..count).map(|state| costs.start(replicas(state))).collect();
    let stop: Vec<f64> = (0..count).map(|state| costs.stop(replicas(state))).collect();
    let done: Vec<f64> = (0..count).map(|state| f64::from(replicas(state)) * costs.capacity).collect();
    let total: f64 = load.work.iter().sum();
    // What a waiting second of work stands for, in requests.
    let density = load.requests() / total.max(1e-9);
    let nowhere = Way { cost: f64::INFINITY, missed: 0.0, backlog: 0.0 };
    let mut ways = vec![nowhere; count];
    let initial = costs.initial.clamp(least, most) - least;
    ways[initial as usize].cost = 0.0;
    let mut next = ways.clone();
    let mut from: Vec<u16> = vec![0; count * load.work.len()];
    let mut come = vec![0_u16; count];
    let mut worth = vec![0.0; count];
    for (bucket, (work, arrived)) in load.work.iter().zip(&load.count).enumerate() {
        // A way is worth what it cost, and what its backlog will.
        for ((worth, way), done) in worth.iter_mut().zip(&ways).zip(&done) {
            *worth = way.cost + price * density * (way.backlog - costs.patience * done).max(0.0);
        }
        let mut best = 0;
        for state in 0..count {
            if worth[state] - start[state] <= worth[best] - start[best] {
                best = state;
            }
            come[state] = best as u16;
        }
        best = count - 1;
        for state in (0..count).rev() {
            if worth[state] + stop[state] < worth[best] + stop[best] {
                best = state;
            }
            let up = usize::from(come[state]);
            if worth[best] + stop[best] - stop[state] < worth[up] + start[state] - start[up] {
                come[state] = best as u16;
            }
        }
        for state in 0..count {
            let before = usize::from(come[state]);
            let way = ways[before];
            let moved = if before <= state { start[state] - start[before] } else { stop[before] - stop[state] };
            let (missed, backlog) = wait(way.backlog, *work, *arrived, done[state], load.seconds, costs.patience);
            next[state] = Way {
                cost: way.cost + moved + per_second[state] * load.seconds + price * missed,
                missed: way.missed + missed,
                backlog,
            };
            from[bucket * count + state] = come[state];
        }
        std::mem::swap(&mut ways, &mut next);
    }
    let last = (0..count).min_by(|a, b| ways[*a].cost.total_cmp(&ways[*b].cost)).unwrap_or(0);
    let mut ready = vec![0; load.work.len()];
    let mut state = last;
    for bucket in (0..load.work.len()).rev() {
        ready[bucket] = replicas(state);
        state = usize::from(from[bucket * count + state]);
    }
    (ready, ways[last].missed)
}

/// Requests of a bucket that wait too long, and the work that waits at its end.
fn wait(backlog: f64, work: f64, arrived: f64, done: f64, seconds: f64, patience: f64) -> (f64, f64) {
    if done <= 0.0 {
        return (arrived, backlog + work);
    }
    let after = (backlog + work - done * seconds).max(0.0);
    let (first, last) = (backlog / done, after / done);
    let share = if first <= patience && last <= patience {
        0.0
    } else if first > patience && last > patience {
        1.0
    } else {
        (first.max(last) - patience) / (first - last).abs()
    };
    (arrived * share, after)
}
