//! Counts while a run goes on, and makes an [`Outcome`] of them.

use super::super::{
    outcome::{Figures, MAX_MOVES, MAX_SAMPLES, MIN_SAMPLE_SECONDS, Move, Outcome, Sample, Timeline},
    serving::{Ledger, Rates, Request, Served},
};
use super::Scenario;

/// A violation spoils the whole stretch of so many seconds in which its request arrived.
const VIOLATION_SECONDS: f64 = 60.0;

/// The histogram of times to first token: from 10 ms up, each bucket 5 % wider, to about 20 minutes.
const TTFT_FIRST: f64 = 0.01;
const TTFT_GROWTH: f64 = 1.05;
const TTFT_BUCKETS: usize = 240;

/// What happened before the warm-up was over is followed and not counted.
pub(super) struct Tally {
    warmup: f64,
    ttft: f64,
    tpot: f64,
    arrived: u64,
    /// Requests that have arrived and not ended, those of the warm-up too.
    under_way: u64,
    met: u64,
    unfinished: u64,
    violations: u64,
    waiting: i64,
    worst_queue: i64,
    violated: Vec<bool>,
    ttft_histogram: Vec<u64>,
    ttft_log: f64,
    sample_seconds: f64,
    /// By sample of arrival: requests, their work, violations.
    by_sample: Vec<(u32, f64, u32)>,
    samples: Vec<Sample>,
    /// Most waiting since the last sample.
    queue: i64,
    moves: Vec<Move>,
    scale_events: u64,
    reversals: u64,
    undone: u64,
    last_up: Option<bool>,
    /// Removals that may still be undone: until when.
    removals: Vec<f64>,
    max_replicas: u32,
    /// Decisions, and those at which the contender could not tell.
    decisions: (u64, u64),
}

impl Tally {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let seconds = scenario.workload.seconds();
        let sample_seconds = (seconds / MAX_SAMPLES as f64).ceil().max(MIN_SAMPLE_SECONDS);
        let count = (seconds / sample_seconds).ceil().max(1.0) as usize;
        Self {
            warmup: scenario.workload.warmup,
            ttft: scenario.slo.ttft_seconds,
            tpot: scenario.slo.tpot_seconds,
            arrived: 0,
            under_way: 0,
            met: 0,
            unfinished: 0,
            violations: 0,
            waiting: 0,
            worst_queue: 0,
            violated: vec![false; (seconds / VIOLATION_SECONDS).ceil().max(1.0) as usize],
            ttft_histogram: vec![0; TTFT_BUCKETS],
            ttft_log: 1.0 / TTFT_GROWTH.ln(),
            sample_seconds,
            by_sample: vec![(0, 0.0, 0); count],
            samples: Vec::with_capacity(count),
            queue: 0,
            moves: Vec::new(),
            scale_events: 0,
            reversals: 0,
            undone: 0,
            last_up: None,
            removals: Vec::new(),
            max_replicas: scenario.initial(),
            decisions: (0, 0),
        }
    }

    /// End of the sample under way.
    pub(super) fn next_sample(&self) -> f64 {
        self.warmup + (self.samples.len() + 1) as f64 * self.sample_seconds
    }

    /// Requests that have arrived and not ended.
    pub(super) fn under_way(&self) -> u64 {
        self.under_way
    }

    /// Requests that have missed a bound so far.
    pub(super) fn violations(&self) -> u64 {
        self.violations
    }

    pub(super) fn arrived(&mut self, request: &Request, rates: &Rates) {
        self.under_way += 1;
        if request.at < self.warmup {
            return;
        }
        self.arrived += 1;
        let at = self.sample_of(request.at);
        let (requests, work, _) = &mut self.by_sample[at];
        *requests += 1;
        *work += rates.work(request);
    }

    fn sample_of(&self, at: f64) -> usize {
        (((at - self.warmup) / self.sample_seconds) as usize).min(self.by_sample.len() - 1)
    }

    /// The warm-up is over.
    pub(super) fn begin(&mut self) {
        self.queue = self.waiting;
    }

    /// Counts a change; `horizon` is how long a replica that was removed would take to become ready anew.
    pub(super) fn moved(&mut self, now: f64, from: u32, to: u32, horizon: f64, why: impl FnOnce() -> String) {
        if now < self.warmup {
            self.max_replicas = to;
            return;
        }
        let up = to > from;
        self.scale_events += 1;
        self.reversals += u64::from(self.last_up.is_some_and(|last| last != up));
        self.last_up = Some(up);
        self.removals.retain(|until| *until >= now);
        if up {
            self.undone += self.removals.len() as u64;
            self.removals.clear();
        } else {
            self.removals.push(now + horizon);
        }
        self.max_replicas = self.max_replicas.max(to);
        if self.moves.len() < MAX_MOVES {
            self.moves.push(Move { at: now - self.warmup, from, to, why: why() });
        }
    }

    pub(super) fn decided(&mut self, now: f64, cannot_tell: bool) {
        if now >= self.warmup {
            self.decisions.0 += 1;
            self.decisions.1 += u64::from(cannot_tell);
        }
    }

    /// A sample with what is known here.
    pub(super) fn begin_sample(&mut self) -> Sample {
        let queue = self.queue.max(self.waiting).clamp(0, i64::from(u32::MAX)) as u32;
        self.worst_queue = self.worst_queue.max(self.queue);
        self.queue = self.waiting;
        Sample { queue, ..Sample::default() }
    }

    pub(super) fn sampled(&mut self, sample: Sample) {
        if self.samples.len() < self.by_sample.len() {
            self.samples.push(sample);
        }
    }

    pub(super) fn outcome(
        mut self,
        name: &str,
        settings: &str,
        seed: u64,
        (on_premises, cloud): (f64, f64),
        scenario: &Scenario,
    ) -> Outcome {
        let model = &scenario.model;
        let gpus = f64::from(model.serving.gpus_per_replica);
        let (on_premises, cloud) = (on_premises * gpus / 3600.0, cloud * gpus / 3600.0);
        for (sample, (requests, work, violations)) in self.samples.iter_mut().zip(&self.by_sample) {
            sample.requests = *requests;
            sample.violations = *violations;
            sample.load = work / self.sample_seconds / scenario.capacity;
        }
        let calm = self.violated.iter().filter(|violated| !**violated).count();
        let figures = Figures {
            slo_attainment: self.met as f64 / self.arrived.max(1) as f64,
            time_without_violation: calm as f64 / self.violated.len() as f64,
            gpu_hours: on_premises + cloud,
            cloud_gpu_hours: cloud,
            cost: on_premises * model.pools.on_premises_price + cloud * model.pools.cloud_price,
            scale_events: self.scale_events,
            direction_reversals: self.reversals,
            undone_scale_downs: self.undone,
            worst_queue: self.worst_queue.max(0) as u64,
            requests: self.arrived,
            unfinished: self.unfinished,
            ttft_p99: self.ttft_quantile(0.99),
            max_replicas: self.max_replicas,
            hours: scenario.workload.seconds() / 3600.0,
            cannot_tell: self.decisions.1 as f64 / self.decisions.0.max(1) as f64,
        };
        Outcome {
            name: name.to_owned(),
            settings: settings.to_owned(),
            seed,
            figures,
            timeline: Timeline { seconds: self.sample_seconds, samples: self.samples },
            moves: self.moves,
        }
    }

    /// Upper end of the bucket in which the quantile lies. Requests without a first token count as later than all others.
    fn ttft_quantile(&self, quantile: f64) -> f64 {
        let wanted = (quantile * self.arrived as f64) as u64;
        let mut seen = 0;
        let bucket = self.ttft_histogram.iter().position(|count| {
            seen += count;
            seen > wanted
        });
        bucket.map_or(f64::INFINITY, |bucket| TTFT_FIRST * TTFT_GROWTH.powf(bucket as f64))
    }
}

impl Ledger for Tally {
    fn ended(&mut self, served: Served) {
        self.under_way -= 1;
        if served.at < self.warmup {
            return;
        }
        let met = match served.ttft {
            None => {
                self.unfinished += 1;
                false
            }
            Some(ttft) => {
                let bucket = ((ttft / TTFT_FIRST).ln() * self.ttft_log).ceil().clamp(0.0, TTFT_BUCKETS as f64 - 1.0);
                self.ttft_histogram[bucket as usize] += 1;
                ttft <= self.ttft && served.tpot <= self.tpot
            }
        };
        if met {
            self.met += 1;
        } else {
            self.violations += 1;
            let minute = (((served.at - self.warmup) / VIOLATION_SECONDS) as usize).min(self.violated.len() - 1);
            self.violated[minute] = true;
            let sample = self.sample_of(served.at);
            self.by_sample[sample].2 += 1;
        }
    }

    fn waiting(&mut self, change: i64) {
        self.waiting += change;
        self.queue = self.queue.max(self.waiting);
    }
}
