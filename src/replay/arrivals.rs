//! From a trace to requests for a fleet of a given size.
//!
//! A log of requests is thinned or superposed: each request comes `scale` times in the mean, the copies beyond the first
//! within a few seconds of it, so that bursts stay bursts. A series of rates becomes a renewal process whose rate follows
//! straight lines between the points: Poisson, or gamma-distributed gaps with a stated variation, with log-normal token
//! lengths.

use std::sync::Arc;

use super::{
    model::{Requests, interpolate},
    random::Random,
    serving::Request,
    trace::{Load, Trace},
};

/// A trace, scaled, from one time to another.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The trace.
    pub trace: Arc<Trace>,
    /// So many times its load.
    pub scale: f64,
    /// How requests and copies are made.
    pub requests: Requests,
    /// First second of the trace.
    pub from: f64,
    /// Second of the trace at which it ends.
    pub until: f64,
    /// Seconds that are played before it and do not count: its own beginning, backwards, so that the load is the same on both
    /// sides of the first second and nobody is judged for a cold start.
    pub warmup: f64,
}

/// Requests in order of time, counted from the first second of the warm-up.
#[derive(Debug, Clone)]
pub enum Arrivals {
    /// From a log.
    Log(std::vec::IntoIter<Request>),
    /// From rates.
    Stream(Box<Stream>),
}

impl Workload {
    /// Its length without the warm-up, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.until - self.from
    }

    /// Seconds from the first of the warm-up to the end.
    #[must_use]
    pub fn end(&self) -> f64 {
        self.warmup + self.seconds()
    }

    /// The requests of one seed.
    #[must_use]
    pub fn arrivals(&self, seed: u64) -> Arrivals {
        let mut random = Random::new(seed, STREAM);
        match &self.trace.load {
            Load::Requests(requests) => {
                let whole = self.scale.floor();
                let share = self.scale - whole;
                let jitter = self.requests.copy_jitter_seconds;
                let mut copies = Vec::new();
                for request in requests.iter().filter(|request| (self.from..self.until).contains(&request.at)) {
                    let count = whole as usize + usize::from(random.unit() < share);
                    for copy in 0..count {
                        let shift = if copy == 0 { 0.0 } else { (2.0 * random.unit() - 1.0) * jitter };
                        let at = (request.at - self.from + shift).clamp(0.0, self.seconds() - 1e-6);
                        copies.push(Request { at: self.warmup + at, ..*request });
                        if at > 0.0 && at <= self.warmup {
                            copies.push(Request { at: self.warmup - at, ..*request });
                        }
                    }
                }
                copies.sort_by(|a, b| a.at.total_cmp(&b.at));
                Arrivals::Log(copies.into_iter())
            }
            Load::Rates(_) => Arrivals::Stream(Box::new(Stream::new(self, random))),
        }
    }
}

/// Random numbers for arrivals come from a stream of their own: each contender meets the same requests.
const STREAM: u64 = 1;

/// Entries of the tables of token lengths: their quantiles at the middle of each 1/4096.
const LENGTHS: usize = 4_096;

/// A renewal process in the time in which its rate is 1, mapped back through the rate, second by second.
#[derive(Debug, Clone)]
pub struct Stream {
    trace: Arc<Trace>,
    random: Random,
    scale: f64,
    from: f64,
    warmup: f64,
    end: f64,
    /// The second that is played, its requests per second, and how much of it is over.
    second: f64,
    rate: f64,
    spent: f64,
    /// Shape of the gaps; `None` is exponential.
    shape: Option<f64>,
    prompts: Vec<u32>,
    outputs: Vec<u32>,
}

impl Stream {
    fn new(workload: &Workload, random: Random) -> Self {
        let Requests { prompt_median, prompt_sigma, prompt_max, output_median, output_sigma, output_max, .. } =
            workload.requests;
        let cv = workload.requests.arrival_cv;
        let mut stream = Self {
            trace: Arc::clone(&workload.trace),
            random,
            scale: workload.scale,
            from: workload.from,
            warmup: workload.warmup,
            end: workload.end(),
            second: 0.0,
            rate: 0.0,
            spent: 0.0,
            shape: ((cv - 1.0).abs() > 1e-9).then(|| 1.0 / (cv * cv).max(1e-6)),
            prompts: lengths(prompt_median, prompt_sigma, prompt_max),
            outputs: lengths(output_median, output_sigma, output_max),
        };
        stream.rate = stream.rate_now();
        stream
    }

    /// Requests per second in the middle of the second that is played; at the ends the first and last rates hold.
    fn rate_now(&self) -> f64 {
        let Load::Rates(points) = &self.trace.load else { return 0.0 };
        let at = self.from + (self.second + 0.5 - self.warmup).abs();
        let next = points.partition_point(|(next, _)| *next <= at);
        let rate = match (next.checked_sub(1).and_then(|i| points.get(i)), points.get(next)) {
            (Some(before), Some(after)) => interpolate(&[*before, *after], at),
            (Some((_, rate)), None) | (None, Some((_, rate))) => *rate,
            (None, None) => 0.0,
        };
        rate * self.scale
    }

    fn next(&mut self) -> Option<Request> {
        let mut gap = match self.shape {
            None => self.random.exponential(),
            Some(shape) => self.random.gamma(shape),
        };
        loop {
            let rest = (1.0 - self.spent) * self.rate;
            if gap < rest {
                self.spent += gap / self.rate;
                let bits = self.random.next();
                let at = self.second + self.spent;
                let prompt = self.prompts[bits as usize % LENGTHS];
                let output = self.outputs[(bits >> 32) as usize % LENGTHS];
                return (at < self.end).then_some(Request { at, prompt, output });
            }
            gap -= rest;
            self.second += 1.0;
            self.spent = 0.0;
            if self.second >= self.end {
                return None;
            }
            self.rate = self.rate_now();
        }
    }
}

impl Iterator for Arrivals {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        match self {
            Self::Log(requests) => requests.next(),
            Self::Stream(stream) => stream.next(),
        }
    }
}

/// A log-normal's quantiles, at most `max`.
fn lengths(median: f64, sigma: f64, max: f64) -> Vec<u32> {
    use statrs::distribution::{ContinuousCDF, Normal};
    let normal = Normal::standard();
    let quantile = |i: usize| normal.inverse_cdf((i as f64 + 0.5) / LENGTHS as f64);
    (0..LENGTHS).map(|i| (median * (sigma * quantile(i)).exp()).clamp(1.0, max.max(1.0)).round() as u32).collect()
}

#[cfg(test)]
mod tests;
