//! The families of model servers that are read and served, with the names that they have on pages.
//!
//! Names: vLLM's production metrics (<https://docs.vllm.ai/en/stable/usage/metrics/>), those of its older releases
//! included; SGLang's (<https://docs.sglang.io/references/production_metrics.html>); TGI's
//! (<https://huggingface.co/docs/text-generation-inference/reference/metrics>). SGLang serves its page only with
//! `--enable-metrics`.
//!
//! Left out on purpose: what a scaling decision has no use for (prefix cache hits, preemptions, parameters of requests),
//! and `vllm:num_requests_swapped`, which only the engine before V1 had.

use super::{Kind, Role};

/// One built-in family: help, kind, role, and its names on pages. It is served under what [`Kind::served_as`] makes of the
/// first name, and of several names on one page the first is heard.
pub(crate) struct BuiltIn {
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) role: Option<Role>,
    pub(crate) names: &'static [&'static str],
}

const fn family(kind: Kind, role: Option<Role>, help: &'static str, names: &'static [&'static str]) -> BuiltIn {
    BuiltIn { help, kind, role, names }
}

/// All of them.
pub(crate) static BUILT_IN: &[BuiltIn] = {
    use Kind::{Counter, Gauge, Histogram, Share};
    use Role::{Finished, GeneratedTokens, KvCache, PromptTokens, Running, Waiting};
    &[
        family(Gauge, Some(Running), "Requests being computed", &["vllm:num_requests_running"]),
        family(Gauge, Some(Waiting), "Requests that wait for a place", &["vllm:num_requests_waiting"]),
        // Renamed in vLLM 0.9, the old name kept for some releases.
        family(
            Share,
            Some(KvCache),
            "Used share of the KV cache, 0 to 1",
            &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        ),
        family(Counter, Some(PromptTokens), "Prompt tokens per second", &["vllm:prompt_tokens_total"]),
        family(Counter, Some(GeneratedTokens), "Generated tokens per second", &["vllm:generation_tokens_total"]),
        family(Counter, Some(Finished), "Requests finished per second", &["vllm:request_success_total"]),
        family(Histogram, None, "Mean time to the first token, s", &["vllm:time_to_first_token_seconds"]),
        family(
            Histogram,
            None,
            "Mean time between two tokens, s",
            &["vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"],
        ),
        family(Histogram, None, "Mean time of a request, s", &["vllm:e2e_request_latency_seconds"]),
        family(Gauge, Some(Running), "Requests being computed", &["sglang:num_running_reqs"]),
        family(Gauge, Some(Waiting), "Requests that wait for a place", &["sglang:num_queue_reqs"]),
        family(Share, Some(KvCache), "Used share of the token pool, 0 to 1", &["sglang:token_usage"]),
        family(Counter, Some(PromptTokens), "Prompt tokens per second", &["sglang:prompt_tokens_total"]),
        family(Counter, Some(GeneratedTokens), "Generated tokens per second", &["sglang:generation_tokens_total"]),
        family(Counter, Some(Finished), "Requests finished per second", &["sglang:num_requests_total"]),
        family(Histogram, None, "Mean time to the first token, s", &["sglang:time_to_first_token_seconds"]),
        family(
            Histogram,
            None,
            "Mean time between two tokens, s",
            &["sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"],
        ),
        family(Histogram, None, "Mean time of a request, s", &["sglang:e2e_request_latency_seconds"]),
        family(Gauge, Some(Running), "Requests in the running batch", &["tgi_batch_current_size"]),
        family(Gauge, Some(Waiting), "Requests that wait for a place", &["tgi_queue_size"]),
        // Histograms of tokens per request, whose `_sum` counts tokens. A request's tokens are added when it ends.
        family(Counter, Some(PromptTokens), "Prompt tokens per second", &["tgi_request_input_length_sum"]),
        family(Counter, Some(GeneratedTokens), "Generated tokens per second", &["tgi_request_generated_tokens_sum"]),
        family(Counter, Some(Finished), "Requests finished per second", &["tgi_request_success"]),
        family(Histogram, None, "Mean time between two tokens, s", &["tgi_request_mean_time_per_token_duration"]),
        family(Histogram, None, "Mean time of a request, s", &["tgi_request_duration"]),
    ]
};
