//! A simulated vLLM server's page, in the format of the real one.
//!
//! Names, labels and types: vLLM's V1 engine (`vllm/v1/metrics/loggers.py`) through Python's Prometheus client, which is why
//! numbers have a decimal point and counters a `_created` beside them. Simplified: one model and one engine, and only three
//! buckets of each histogram. What the server does is the director's to say: nothing here computes requests.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use tidegate::sim::server::{ModelServer, Vllm};
//!
//! let server = ModelServer::serve(([127, 0, 0, 1], 0).into(), Vllm::new("qwen")).await?;
//! server.change(|vllm| (vllm.running, vllm.waiting) = (64, 33));
//! server.change(|vllm| vllm.finish(10, 1024, 256, 0.8));
//! println!("{}", server.url());
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;

use super::exporter::{Endpoint, Fault, Source};

/// A running model server with its page.
pub type ModelServer = Endpoint<Vllm>;

/// What one vLLM server says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Vllm {
    /// `--served-model-name`.
    pub model: String,
    /// Requests being computed.
    pub running: u64,
    /// Requests that wait for a place.
    pub waiting: u64,
    /// Used share of the KV cache, 0..1.
    pub kv_cache: f64,
    prompt_tokens: u64,
    generated_tokens: u64,
    finished: u64,
    first_token: Histogram,
    inter_token: Histogram,
    request: Histogram,
}

/// Seconds.
#[derive(Debug, Clone, PartialEq, Default)]
struct Histogram {
    sum: f64,
    count: u64,
}

impl Histogram {
    fn add(&mut self, seconds: f64, count: u64) {
        self.sum += seconds * count as f64;
        self.count += count;
    }
}

impl Vllm {
    /// A server that has just been started.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Self {
            model: model.into(),
            running: 0,
            waiting: 0,
            kv_cache: 0.0,
            prompt_tokens: 0,
            generated_tokens: 0,
            finished: 0,
            first_token: Histogram::default(),
            inter_token: Histogram::default(),
            request: Histogram::default(),
        }
    }

    /// Counts requests that have been served, each with so many tokens and that time to its first token. A further token
    /// takes a fiftieth of a second.
    pub fn finish(&mut self, requests: u64, prompt_tokens: u64, generated_tokens: u64, first_token: f64) {
        const PER_TOKEN: f64 = 0.02;
        let gaps = generated_tokens.saturating_sub(1);
        self.prompt_tokens += requests * prompt_tokens;
        self.generated_tokens += requests * generated_tokens;
        self.finished += requests;
        self.first_token.add(first_token, requests);
        self.inter_token.add(PER_TOKEN, requests * gaps);
        self.request.add(first_token + PER_TOKEN * gaps as f64, requests);
    }

    /// Sets what the counters of tokens and answers say, which only rise while a server lives.
    pub fn count(&mut self, prompt_tokens: u64, generated_tokens: u64, finished: u64) {
        (self.prompt_tokens, self.generated_tokens, self.finished) = (prompt_tokens, generated_tokens, finished);
    }
}

struct Page<'a> {
    text: String,
    labels: String,
    fault: Fault,
    server: &'a Vllm,
}

impl Source for Vllm {
    fn render(&self, fault: Fault) -> String {
        let labels = format!("engine=\"0\",model_name=\"{}\"", self.model);
        let mut page = Page { text: String::with_capacity(4 << 10), labels, fault, server: self };
        page.write();
        page.text
    }
}

impl Page<'_> {
    fn write(&mut self) {
        let Vllm { model: _, running, waiting, kv_cache, prompt_tokens, generated_tokens, .. } = *self.server;
        let Vllm { first_token, inter_token, request, .. } = self.server;
        self.gauge("vllm:num_requests_running", "Number of requests in model execution batches.", running as f64);
        self.gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting as f64);
        self.gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", kv_cache);
        self.counter("vllm:prompt_tokens", "Number of prefill tokens processed.", prompt_tokens as f64);
        self.counter("vllm:generation_tokens", "Number of generation tokens processed.", generated_tokens as f64);
        self.head("vllm:request_success_total", "Count of successfully processed requests.", "counter");
        for (reason, count) in [("stop", self.server.finished), ("length", 0), ("abort", 0)] {
            let labels = format!("engine=\"0\",finished_reason=\"{reason}\",model_name=\"{}\"", self.server.model);
            self.line("vllm:request_success_total", &labels, count as f64);
        }
        for (name, help, histogram) in [
            ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", first_token),
            ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", inter_token),
            ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", request),
        ] {
            self.histogram(name, help, histogram);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = write!(self.text, "{name}{{{labels}}} ");
        let _ = match self.fault {
            Fault::Values(odd) => writeln!(self.text, "{}", odd.text()),
            // As Python writes a float.
            _ => writeln!(self.text, "{value:?}"),
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        let labels = self.labels.clone();
        self.line(name, &labels, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        let labels = self.labels.clone();
        self.head(&format!("{name}_total"), help, "counter");
        self.line(&format!("{name}_total"), &labels, value);
        self.head(&format!("{name}_created"), help, "gauge");
        self.line(&format!("{name}_created"), &labels, 1.767_225_6e9);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let labels = self.labels.clone();
        let count = histogram.count as f64;
        self.head(name, help, "histogram");
        // The buckets are not read; those of the real server are twenty.
        for (bound, share) in [("0.1", 0.5), ("1.0", 1.0), ("+Inf", 1.0)] {
            let labels = format!("engine=\"0\",le=\"{bound}\",model_name=\"{}\"", self.server.model);
            self.line(&format!("{name}_bucket"), &labels, (count * share).floor());
        }
        self.line(&format!("{name}_count"), &labels, count);
        self.line(&format!("{name}_sum"), &labels, histogram.sum);
    }
}
