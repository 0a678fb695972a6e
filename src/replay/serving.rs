//! One replica: a queue, a batch, prompts first.
//!
//! Nothing happens per token: while neither a prompt waits nor an answer ends, the replica runs many decode steps as one.
//! An arrival cuts that run at the end of the step in which it comes.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
};

use super::model::{Model, interpolate};

/// A request as it comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// Seconds since the trace began.
    pub at: f64,
    /// Tokens of the prompt, at least 1.
    pub prompt: u32,
    /// Tokens of the answer, at least 1.
    pub output: u32,
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// The request.
    pub at: f64,
    /// Time to first token, seconds; `None` if the client went away or the replica was cut off.
    pub ttft: Option<f64>,
    /// Mean time per output token after the first, seconds; 0 for an answer of one token.
    pub tpot: f64,
}

/// Who is told what requests come to.
pub trait Ledger {
    /// A request has ended, for better or worse.
    fn ended(&mut self, served: Served);
    /// So many requests more, or fewer, wait for their prompt to be computed.
    fn waiting(&mut self, change: i64);
}

/// The model's rates in tables that are looked up, not interpolated, per request.
#[derive(Debug, Clone)]
pub struct Rates {
    /// Seconds by prompt tokens.
    prefill: Vec<f32>,
    /// Seconds of a step by requests in the batch; index 0 is not used.
    step: Vec<f64>,
    /// Percent by requests being computed.
    utilization: Vec<f64>,
    chunk_tokens: u32,
    max_running: usize,
    kv_cache_tokens: u64,
    give_up: f64,
}

/// Prompts up to this length are looked up; longer ones, rare as they are, are interpolated.
const LONGEST_LOOKED_UP: usize = 16_384;

impl Rates {
    /// The tables of a model.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let serving = &model.serving;
        let prefill = |tokens: usize| (interpolate(&serving.prefill_ms, tokens as f64) / 1e3).max(1e-4) as f32;
        let step = |batch: u32| (interpolate(&serving.decode_step_ms, f64::from(batch)) / 1e3).max(1e-4);
        Self {
            prefill: (0..=LONGEST_LOOKED_UP).map(prefill).collect(),
            step: (0..=serving.max_running).map(step).collect(),
            utilization: (0..=serving.max_running)
                .map(|batch| model.exporter.curve.utilization(batch, serving.max_running))
                .collect(),
            chunk_tokens: serving.chunk_tokens,
            max_running: serving.max_running as usize,
            kv_cache_tokens: serving.kv_cache_tokens,
            give_up: serving.give_up_seconds,
        }
    }

    /// Seconds that a prompt takes. Beyond the table the last slope goes on.
    #[must_use]
    pub fn prefill(&self, tokens: u32) -> f64 {
        let tokens = tokens as usize;
        self.prefill.get(tokens).map_or_else(
            || {
                let last = f64::from(self.prefill[LONGEST_LOOKED_UP]);
                let slope = last - f64::from(self.prefill[LONGEST_LOOKED_UP - 1]);
                last + slope * (tokens - LONGEST_LOOKED_UP) as f64
            },
            |seconds| f64::from(*seconds),
        )
    }

    /// Seconds of one decode step of a batch.
    #[must_use]
    pub fn step(&self, batch: usize) -> f64 {
        self.step[batch.min(self.max_running)]
    }

    /// Chunks in which a prompt is computed beside `decoding` running requests, and the seconds of each.
    ///
    /// A chunk takes its share of the whole prompt's time, but not less than a prompt of its length; reading the weights is
    /// shared with the decode step, of which only what a larger batch adds comes on top.
    fn chunks(&self, prompt: u32, decoding: usize) -> (u64, f64) {
        if self.chunk_tokens == 0 {
            return (1, self.prefill(prompt));
        }
        let chunks = prompt.div_ceil(self.chunk_tokens).max(1);
        let share = self.prefill(prompt) / f64::from(chunks);
        let beside = if decoding == 0 { 0.0 } else { (self.step(decoding) - self.step(1)).max(0.0) };
        (u64::from(chunks), share.max(self.prefill(prompt.div_ceil(chunks))) + beside)
    }

    /// Percent of utilization while so many requests are computed.
    #[must_use]
    pub fn utilization(&self, computing: usize) -> f64 {
        self.utilization[computing.min(self.max_running)]
    }

    /// Seconds of a replica that a request takes when the batch is full: its prompt, and its share of the steps.
    #[must_use]
    pub fn work(&self, request: &Request) -> f64 {
        let share = self.step(self.max_running) / self.max_running as f64;
        let (chunks, seconds) = self.chunks(request.prompt, 0);
        seconds * chunks as f64 + f64::from(request.output.saturating_sub(1)) * share
    }
}

/// A request in the batch, ordered so that the one that ends first is the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Running {
    /// The replica's step at which its last token is there.
    last_step: u64,
    first_token: f64,
    request: Request,
}

impl Eq for Running {}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> Ordering {
        other.last_step.cmp(&self.last_step)
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A prompt that is being computed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Prompt {
    request: Request,
    /// Chunks left.
    chunks: u64,
    /// Of so many.
    of: u64,
}

/// Equal steps that are under way.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Steps {
    since: f64,
    seconds: f64,
    count: u64,
}

/// What a replica's own metrics page would say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Page {
    /// Requests being computed.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Used share of the KV cache.
    pub kv_cache: f64,
    /// Prompt tokens computed so far.
    pub prompt_tokens: f64,
    /// Tokens generated so far.
    pub generated_tokens: f64,
    /// Answers that have ended so far.
    pub finished: u64,
    /// Integral of the utilization over time so far, percent seconds.
    pub busy: f64,
}

/// One replica.
#[derive(Debug, Clone)]
pub struct Replica {
    queue: VecDeque<Request>,
    running: BinaryHeap<Running>,
    prompt: Option<Prompt>,
    /// What is under way; nothing in an idle replica.
    steps: Option<Steps>,
    /// Steps done that gave each running request a token.
    step: u64,
    /// Tokens for which room in the KV cache is kept.
    reserved: u64,
    prompt_tokens: u64,
    generated_tokens: u64,
    finished: u64,
    busy: f64,
    busy_until: f64,
}

impl Replica {
    /// An idle replica.
    #[must_use]
    pub fn new(now: f64) -> Self {
        Self {
            queue: VecDeque::new(),
            running: BinaryHeap::with_capacity(64),
            prompt: None,
            steps: None,
            step: 0,
            reserved: 0,
            prompt_tokens: 0,
            generated_tokens: 0,
            finished: 0,
            busy: 0.0,
            busy_until: now,
        }
    }

    /// When something changes by itself; infinite if nothing does.
    #[must_use]
    pub fn next_event(&self) -> f64 {
        self.steps.map_or(f64::INFINITY, |steps| steps.since + steps.seconds * steps.count as f64)
    }

    /// Requests queued and computed.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        (self.queue.len() + self.computing()) as u32
    }

    /// Requests being computed.
    #[must_use]
    pub fn computing(&self) -> usize {
        self.running.len() + usize::from(self.prompt.is_some())
    }

    /// Takes a request in. The replica must have been advanced to `now`.
    pub fn enqueue(&mut self, request: Request, now: f64, rates: &Rates, ledger: &mut impl Ledger) {
        self.queue.push_back(request);
        ledger.waiting(1);
        match &mut self.steps {
            None => self.begin(now, rates, ledger),
            // Its prompt begins with the next step, if nothing is before it and there is a place.
            Some(steps) if self.prompt.is_none() && self.queue.len() == 1 && self.running.len() < rates.max_running => {
                let begun = ((now - steps.since) / steps.seconds).ceil().max(1.0) as u64;
                steps.count = begun.min(steps.count);
            }
            Some(_) => {}
        }
    }

    /// Lives through everything up to and at `now`.
    pub fn advance(&mut self, now: f64, rates: &Rates, ledger: &mut impl Ledger) {
        loop {
            let at = self.next_event();
            if at > now {
                return;
            }
            self.account(at, rates);
            self.stepped(at, rates, ledger);
            self.begin(at, rates, ledger);
        }
    }

    /// Cuts off whatever it still has.
    pub fn cut_off(&mut self, ledger: &mut impl Ledger) {
        for _ in &self.queue {
            ledger.waiting(-1);
        }
        let prefilling = self.prompt.take().map(|prompt| prompt.request);
        let computed = self.running.drain().map(|running| running.request);
        for request in self.queue.drain(..).chain(computed).chain(prefilling) {
            ledger.ended(Served { at: request.at, ttft: None, tpot: 0.0 });
        }
        self.steps = None;
        self.reserved = 0;
    }

    /// What it says of itself at `now`, to which it must have been advanced.
    #[must_use]
    pub fn page(&mut self, now: f64, rates: &Rates, ledger: &mut impl Ledger) -> Page {
        self.forget_the_gone(now, rates, ledger);
        self.account(now, rates);
        let (begun, done) = self.steps.map_or((0.0, 0), |steps| {
            let begun = ((now - steps.since) / steps.seconds).min(steps.count as f64);
            (begun, if self.decoding(rates) { begun as u64 } else { 0 })
        });
        let share = self.prompt.map_or(0.0, |Prompt { request, chunks, of }| {
            f64::from(request.prompt) * ((of - chunks) as f64 + begun) / of as f64
        });
        let used: u64 = self
            .running
            .iter()
            .map(|running| {
                let left = running.last_step.saturating_sub(self.step + done);
                u64::from(running.request.prompt) + u64::from(running.request.output).saturating_sub(left)
            })
            .sum();
        Page {
            running: self.computing() as u32,
            waiting: self.queue.len() as u32,
            kv_cache: (used as f64 / rates.kv_cache_tokens as f64).min(1.0),
            prompt_tokens: self.prompt_tokens as f64 + share,
            generated_tokens: (self.generated_tokens + done * self.running.len() as u64) as f64,
            finished: self.finished,
            busy: self.busy,
        }
    }

    /// The integral of the utilization over time up to `now`.
    #[must_use]
    pub fn busy(&self, now: f64, rates: &Rates) -> f64 {
        self.busy + rates.utilization(self.computing()) * (now - self.busy_until)
    }

    fn account(&mut self, now: f64, rates: &Rates) {
        self.busy = self.busy(now, rates);
        self.busy_until = now;
    }

    fn forget_the_gone(&mut self, now: f64, rates: &Rates, ledger: &mut impl Ledger) {
        while let Some(request) = self.queue.pop_front_if(|request| request.at + rates.give_up < now) {
            ledger.waiting(-1);
            ledger.ended(Served { at: request.at, ttft: None, tpot: 0.0 });
        }
    }

    /// Whether running requests get tokens with the steps that are under way.
    fn decoding(&self, rates: &Rates) -> bool {
        self.prompt.is_none() || rates.chunk_tokens > 0
    }

    /// Chooses what to do next: chunks of a prompt if one waits and fits, and steps until the next answer ends.
    fn begin(&mut self, now: f64, rates: &Rates, ledger: &mut impl Ledger) {
        self.account(now, rates);
        if self.prompt.is_none() && !self.queue.is_empty() {
            self.forget_the_gone(now, rates, ledger);
            let reserved = self.reserved;
            let place = self.running.len() < rates.max_running;
            // A request larger than the cache is let in alone, rather than blocking the queue for good.
            let fits = |request: &mut Request| reserved == 0 || reserved + tokens(request) <= rates.kv_cache_tokens;
            if place && let Some(request) = self.queue.pop_front_if(fits) {
                ledger.waiting(-1);
                self.reserved += tokens(&request);
                let (chunks, _) = rates.chunks(request.prompt, 0);
                self.prompt = Some(Prompt { request, chunks, of: chunks });
            }
        }
        let left = self.running.peek().map(|first| first.last_step - self.step);
        self.steps = match (self.prompt, left) {
            (None, None) => None,
            (None, Some(left)) => Some((rates.step(self.running.len()), left)),
            (Some(prompt), left) => {
                let (_, seconds) = rates.chunks(prompt.request.prompt, self.running.len());
                let left = left.filter(|_| rates.chunk_tokens > 0);
                Some((seconds, left.map_or(prompt.chunks, |left| left.min(prompt.chunks))))
            }
        }
        .map(|(seconds, count)| Steps { since: now, seconds, count });
    }

    /// The steps under way are over.
    fn stepped(&mut self, now: f64, rates: &Rates, ledger: &mut impl Ledger) {
        let Some(Steps { count, .. }) = self.steps.take() else { return };
        if self.decoding(rates) {
            self.step += count;
            self.generated_tokens += count * self.running.len() as u64;
            while let Some(done) = self.running.peek().copied().filter(|running| running.last_step <= self.step) {
                self.running.pop();
                self.reserved -= tokens(&done.request);
                self.finished += 1;
                ledger.ended(Served {
                    at: done.request.at,
                    ttft: Some(done.first_token - done.request.at),
                    tpot: (now - done.first_token) / f64::from(done.request.output - 1),
                });
            }
        }
        if let Some(prompt) = &mut self.prompt {
            prompt.chunks -= count.min(prompt.chunks);
            if prompt.chunks == 0 {
                let request = prompt.request;
                self.prompt = None;
                self.first_token(request, now, ledger);
            }
        }
    }

    fn first_token(&mut self, request: Request, now: f64, ledger: &mut impl Ledger) {
        self.prompt_tokens += u64::from(request.prompt);
        self.generated_tokens += 1;
        if request.output <= 1 {
            self.reserved -= tokens(&request);
            self.finished += 1;
            ledger.ended(Served { at: request.at, ttft: Some(now - request.at), tpot: 0.0 });
        } else {
            let last_step = self.step + u64::from(request.output) - 1;
            self.running.push(Running { last_step, first_token: now, request });
        }
    }
}

fn tokens(request: &Request) -> u64 {
    u64::from(request.prompt) + u64::from(request.output)
}

#[cfg(test)]
mod tests;
