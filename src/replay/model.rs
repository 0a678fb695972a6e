//! Every number of the model, named, with its unit and source. `--model FILE` sets any of them.
//!
//! The measured tables are the few points that are needed, taken over from public data sets; they are facts about one model
//! on one kind of hardware, and another model or card wants its own.

use serde::{Deserialize, Serialize};

use super::exporter::Curve;

mod validate;

/// The model of the serving system. Keys in the file are camelCase.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Model {
    /// One replica.
    pub serving: Serving,
    /// From a pod to a ready pod, and back.
    pub startup: Startup,
    /// What is seen of a replica.
    pub exporter: Exporter,
    /// Nodes and their price.
    pub pools: Pools,
    /// Requests where the trace has only their rate, and copies where it is scaled up.
    pub requests: Requests,
}

/// One replica under continuous batching.
///
/// Prompts are computed before anything else, in the order in which they came, one after the other: several at once are no
/// faster (2, 4 and 8 prompts of 512 tokens took 2.0, 4.5 and 9.7 times as long as one in the same measurements).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Serving {
    /// `[prompt tokens, milliseconds]`, straight lines between and beyond.
    ///
    /// Default: llama2-70b, A100 80 GB, tensor parallel 4, medians of splitwise-sim's `perf_model.csv` (MIT).
    pub prefill_ms: Vec<(f64, f64)>,
    /// `[requests in the batch, milliseconds for one token of each]`. Same source; the length of the prompt made less than
    /// 4 % of difference up to 8,192 tokens and is left out.
    pub decode_step_ms: Vec<(f64, f64)>,
    /// A prompt is computed in chunks of at most so many tokens, and every running request gets a token with each chunk
    /// (vLLM's chunked prefill, its default today). 0: whole prompts, while everything else stands still, as vLLM did before;
    /// with short answers the time per output token is then at the mercy of every neighbour's prompt.
    ///
    /// Default: vLLM's documentation names 512 as the best for the gaps between tokens on A100 with a 70B model.
    pub chunk_tokens: u32,
    /// Most requests computed at once (vLLM's `max_num_seqs`; 64 is the largest batch that was measured).
    pub max_running: u32,
    /// Tokens that the KV cache holds. A request is admitted when its prompt and its whole answer fit, which stands for
    /// vLLM's preemption.
    ///
    /// Default: 4 cards of 80 GiB, of which vLLM uses 90 %, less 138 GB of weights, is 171 GB; one token takes 80 layers × 2
    /// (key, value) × 8 heads × 128 × 2 bytes = 327,680 bytes (llama2-70b's published configuration): 522,000, rounded down
    /// for activations.
    pub kv_cache_tokens: u64,
    /// A client that has no first token after so many seconds goes away (Knative's default `timeoutSeconds`).
    pub give_up_seconds: f64,
    /// A removed replica is sent nothing new and finishes what it has within so many seconds; the rest is cut off. It is
    /// paid for until then. (Kubernetes' default `terminationGracePeriodSeconds`; KServe drains from 0.19 on.)
    pub drain_grace_seconds: f64,
    /// GPUs of one replica: the tensor parallelism of the measurements.
    pub gpus_per_replica: u32,
}

/// From a pod to a ready pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Startup {
    /// From a node to a running container, seconds. An assumption: the image is on the node or streamed.
    pub container_start_seconds: f64,
    /// `[quantile, seconds]` of model loads, rising; drawn by straight lines between.
    ///
    /// Default: 7,531 base-model loads in production, Alibaba's cluster-trace-v2026-GenAI.
    pub model_load_quantiles: Vec<(f64, f64)>,
}

/// What is seen of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Exporter {
    /// Utilization by requests being computed. An assumption that decides much: try all of them.
    pub curve: Curve,
    /// Seconds between two scrapes of one pod.
    pub interval_seconds: f64,
    /// A sample is the mean of so many seconds before it (NVML samples utilization over up to one second).
    pub window_seconds: f64,
    /// Standard deviation of a sample around the curve while the replica is busy, in points. Default: the p10..p90 bands of
    /// a real vLLM server by number of running requests, BurstGPT's logs, are 7 to 22 points wide, mostly 11 to 14.
    pub noise_points: f64,
    /// Share of samples that are missing. Default: 3 % in the duty cycles of Alibaba's cluster-trace-v2026-GenAI.
    pub hole_share: f64,
    /// Mean length of a hole, samples. Same source: two samples missing in a row twice as often as one.
    pub hole_samples: f64,
    /// A sample older than this is unknown (the adapter's default `maxAge`, three intervals).
    pub max_age_seconds: f64,
}

/// Nodes and their price. A node holds one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pools {
    /// Median of the seconds from a pod without a place to a ready cloud node, log-normal. An assumption (4 minutes, as
    /// the project's figures are stated for).
    pub cloud_boot_seconds: f64,
    /// Standard deviation of its logarithm.
    pub cloud_boot_sigma: f64,
    /// An empty cloud node is paid for so many seconds more. Karpenter with `consolidateAfter: 5s` gave nodes back after 25
    /// to 35 s here; cluster-autoscaler's default is 600.
    pub cloud_release_seconds: f64,
    /// Most cloud nodes.
    pub cloud_max: u32,
    /// Price of a GPU hour on premises; the unit.
    pub on_premises_price: f64,
    /// Price of a GPU hour in the cloud. An assumption.
    pub cloud_price: f64,
}

/// Requests of a trace that has only rates, and copies of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Requests {
    /// Median of the prompt's tokens, log-normal. Default: mean and standard deviation of the logarithms in the 19,366
    /// requests of Azure's 2023 conversation trace (AzurePublicDataset, CC-BY; its plain mean is 1,155 tokens).
    pub prompt_median: f64,
    /// Standard deviation of their logarithm.
    pub prompt_sigma: f64,
    /// Longest prompt.
    pub prompt_max: f64,
    /// Median of the answer's tokens, log-normal. The same trace; its plain mean is 211 tokens.
    pub output_median: f64,
    /// Standard deviation of their logarithm.
    pub output_sigma: f64,
    /// Longest answer.
    pub output_max: f64,
    /// Coefficient of variation of the gaps between requests: 1 is Poisson, more is burstier (gamma-distributed gaps).
    pub arrival_cv: f64,
    /// Where a request log is scaled up, a request's copies come up to so many seconds before or after it.
    pub copy_jitter_seconds: f64,
}

/// The bounds that a request must meet, both of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Slo {
    /// Time to first token, seconds, queueing included.
    pub ttft_seconds: f64,
    /// Time per output token after the first, seconds, as the mean over the request's answer.
    pub tpot_seconds: f64,
    /// Share of requests that should meet both; what is "tuned" is tuned for it.
    pub attainment: f64,
}

impl Default for Slo {
    fn default() -> Self {
        Self { ttft_seconds: 5.0, tpot_seconds: 0.2, attainment: 0.99 }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            prefill_ms: vec![
                (128.0, 63.65),
                (256.0, 78.57),
                (512.0, 126.96),
                (1024.0, 227.08),
                (2048.0, 403.33),
                (4096.0, 965.15),
                (8192.0, 2278.45),
            ],
            decode_step_ms: vec![
                (1.0, 44.99),
                (2.0, 45.0),
                (4.0, 45.09),
                (8.0, 45.8),
                (16.0, 48.52),
                (32.0, 52.35),
                (64.0, 72.95),
            ],
            chunk_tokens: 512,
            max_running: 64,
            kv_cache_tokens: 500_000,
            give_up_seconds: 300.0,
            drain_grace_seconds: 30.0,
            gpus_per_replica: 4,
        }
    }
}

impl Default for Startup {
    fn default() -> Self {
        Self {
            container_start_seconds: 10.0,
            model_load_quantiles: vec![
                (0.0, 1.329),
                (0.05, 2.287),
                (0.1, 2.629),
                (0.2, 2.918),
                (0.25, 3.144),
                (0.3, 3.643),
                (0.35, 7.599),
                (0.4, 20.056),
                (0.5, 22.718),
                (0.55, 24.215),
                (0.6, 26.91),
                (0.65, 33.016),
                (0.7, 35.39),
                (0.8, 38.295),
                (0.9, 41.988),
                (0.95, 45.449),
                (0.99, 51.856),
                (0.999, 57.832),
                (1.0, 79.436),
            ],
        }
    }
}

impl Default for Exporter {
    fn default() -> Self {
        Self {
            curve: Curve::Mono,
            interval_seconds: 10.0,
            window_seconds: 1.0,
            noise_points: 5.0,
            hole_share: 0.03,
            hole_samples: 1.7,
            max_age_seconds: 30.0,
        }
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            cloud_boot_seconds: 240.0,
            cloud_boot_sigma: 0.2,
            cloud_release_seconds: 60.0,
            cloud_max: 1_000,
            on_premises_price: 1.0,
            cloud_price: 3.0,
        }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            prompt_median: 760.0,
            prompt_sigma: 0.985,
            prompt_max: 8_192.0,
            output_median: 151.0,
            output_sigma: 0.859,
            output_max: 2_048.0,
            arrival_cv: 1.0,
            copy_jitter_seconds: 5.0,
        }
    }
}

/// Straight lines between the points, and on along the first and the last of them. Sorted by the first coordinate; at least
/// one point.
#[must_use]
pub fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let next = points.partition_point(|(at, _)| *at <= x).clamp(1, points.len().max(2) - 1);
    match (points.get(next - 1), points.get(next)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((_, y)), None) => *y,
        (None, _) => f64::NAN,
    }
}
