//! Pages as the servers write them, and what is made of two of them.

#![expect(clippy::float_cmp, reason = "the values are exact")]

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Page, page};
use crate::{
    config::{self, ServerFamily},
    exposition::{Format, Limits, PageError},
    gpu::{Vocabulary, VocabularyError},
    reading::{NoRate, Reading, Unknown},
    serving::{Kind, Role},
};

const LIMITS: Limits = Limits { line_bytes: 64 << 10, labels: 64, samples: 1000 };
const LONGEST: Duration = Duration::from_secs(30);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_millis(millis)
}

fn read(text: &str, millis: i64) -> Page {
    page::read(&Vocabulary::default(), text.as_bytes(), Format::Text, true, at(millis), &LIMITS).unwrap()
}

/// By the names under which they are served.
fn named(page: &Page, before: Option<&Page>) -> BTreeMap<String, Reading> {
    let vocabulary = Vocabulary::default();
    let readings = page.readings(&vocabulary, before.map(|page| &page.counters), LONGEST);
    readings.into_iter().map(|(id, reading)| (vocabulary.family(id).name.to_string(), reading)).collect()
}

/// What two pages ten seconds apart say.
fn pair(first: &str, second: &str) -> BTreeMap<String, Reading> {
    named(&read(second, 10_000), Some(&read(first, 0)))
}

fn values(readings: &BTreeMap<String, Reading>) -> Vec<(&str, f64)> {
    readings.iter().filter_map(|(name, reading)| Some((&**name, reading.as_ref().ok()?.value))).collect()
}

/// vLLM 0.4 to 0.8, engine V0, as Python's client writes it.
fn vllm_v0(prompt: f64, generated: f64, first_sum: f64, first_count: f64) -> String {
    let labels = "model_name=\"qwen\"";
    format!(
        "# HELP vllm:num_requests_running Number of requests currently running on GPU.\n\
         # TYPE vllm:num_requests_running gauge\n\
         vllm:num_requests_running{{{labels}}} 3.0\n\
         # TYPE vllm:num_requests_swapped gauge\n\
         vllm:num_requests_swapped{{{labels}}} 0.0\n\
         # TYPE vllm:num_requests_waiting gauge\n\
         vllm:num_requests_waiting{{{labels}}} 2.0\n\
         # TYPE vllm:gpu_cache_usage_perc gauge\n\
         vllm:gpu_cache_usage_perc{{{labels}}} 0.0625\n\
         # TYPE vllm:cpu_cache_usage_perc gauge\n\
         vllm:cpu_cache_usage_perc{{{labels}}} 0.5\n\
         # TYPE vllm:prompt_tokens_total counter\n\
         vllm:prompt_tokens_total{{{labels}}} {prompt:?}\n\
         # TYPE vllm:generation_tokens_total counter\n\
         vllm:generation_tokens_total{{{labels}}} {generated:?}\n\
         # TYPE vllm:time_to_first_token_seconds histogram\n\
         vllm:time_to_first_token_seconds_bucket{{le=\"0.1\",{labels}}} 1.0\n\
         vllm:time_to_first_token_seconds_bucket{{le=\"+Inf\",{labels}}} {first_count:?}\n\
         vllm:time_to_first_token_seconds_count{{{labels}}} {first_count:?}\n\
         vllm:time_to_first_token_seconds_sum{{{labels}}} {first_sum:?}\n\
         # TYPE vllm:time_per_output_token_seconds histogram\n\
         vllm:time_per_output_token_seconds_bucket{{le=\"+Inf\",{labels}}} {generated:?}\n\
         vllm:time_per_output_token_seconds_count{{{labels}}} {generated:?}\n\
         vllm:time_per_output_token_seconds_sum{{{labels}}} {:?}\n\
         # TYPE process_resident_memory_bytes gauge\n\
         process_resident_memory_bytes 6.1e+09\n",
        generated * 0.25,
    )
}

#[test]
fn vllm_of_the_older_engine_is_read_under_todays_names() {
    let first = vllm_v0(1000.0, 200.0, 8.0, 10.0);
    let second = vllm_v0(6000.0, 700.0, 9.0, 14.0);
    let readings = pair(&first, &second);
    assert_eq!(
        values(&readings),
        [
            ("vllm:generation_tokens_per_second", 50.0),
            ("vllm:inter_token_latency_seconds_mean", 0.25),
            ("vllm:kv_cache_usage_perc", 0.0625),
            ("vllm:num_requests_running", 3.0),
            ("vllm:num_requests_waiting", 2.0),
            ("vllm:prompt_tokens_per_second", 500.0),
            ("vllm:time_to_first_token_seconds_mean", 0.25),
        ]
    );
    assert!(readings.values().flatten().all(|measured| measured.at == at(10_000)), "the end of the time it is about");
}

#[test]
fn several_models_and_engines_on_one_page_add_up_and_the_fullest_kv_cache_counts() {
    // Two engines of one model, in the release that had the old names beside the new ones.
    let text = |scale: f64| {
        let mut text = String::new();
        for (engine, running, waiting, cache, tokens) in [("0", 5.0, 1.0, 0.25, 100.0), ("1", 7.0, 0.0, 0.75, 300.0)] {
            let labels = format!("engine=\"{engine}\",model_name=\"unsloth/Llama-3.2-1B-Instruct\"");
            text += &format!(
                "vllm:num_requests_running{{{labels}}} {running:?}\nvllm:num_requests_waiting{{{labels}}} {waiting:?}\n\
                 vllm:gpu_cache_usage_perc{{{labels}}} 0.99\nvllm:kv_cache_usage_perc{{{labels}}} {cache:?}\n\
                 vllm:prompt_tokens_total{{{labels}}} {:?}\nvllm:prompt_tokens_created{{{labels}}} 1.75e+09\n\
                 vllm:time_per_output_token_seconds_sum{{{labels}}} {scale:?}\n\
                 vllm:time_per_output_token_seconds_count{{{labels}}} {scale:?}\n\
                 vllm:inter_token_latency_seconds_sum{{{labels}}} {:?}\n\
                 vllm:inter_token_latency_seconds_count{{{labels}}} {scale:?}\n",
                tokens * scale,
                0.5 * scale,
            );
        }
        text + "vllm:num_requests_running{engine=\"0\",model_name=\"other\"} 1.0\n"
    };
    assert_eq!(
        values(&pair(&text(1.0), &text(3.0))),
        [
            ("vllm:inter_token_latency_seconds_mean", 0.5),
            ("vllm:kv_cache_usage_perc", 0.75),
            ("vllm:num_requests_running", 13.0),
            ("vllm:num_requests_waiting", 1.0),
            ("vllm:prompt_tokens_per_second", 80.0),
        ]
    );
}

#[test]
fn sglang_is_read_by_its_own_names_and_ranks_that_repeat_the_first_are_passed_over() {
    let text = |tokens: f64| {
        let mut text = String::from("# TYPE sglang:num_running_reqs gauge\n");
        for (dp, tp, running) in [("0", "0", 4.0), ("0", "1", 4.0), ("1", "0", 6.0), ("1", "1", 6.0)] {
            let labels = format!(
                "dp_rank=\"{dp}\",engine_type=\"unified\",model_name=\"m\",moe_ep_rank=\"0\",pp_rank=\"0\",tp_rank=\"{tp}\""
            );
            text += &format!(
                "sglang:num_running_reqs{{{labels}}} {running:?}\nsglang:num_queue_reqs{{{labels}}} 1.0\n\
                 sglang:token_usage{{{labels}}} 0.28\nsglang:cache_hit_rate{{{labels}}} 0.007\n\
                 sglang:gen_throughput{{{labels}}} 86.5\n"
            );
        }
        text + &format!(
            "sglang:prompt_tokens_total{{model_name=\"m\"}} {tokens:e}\n\
             sglang:generation_tokens_total{{model_name=\"m\"}} 7.5e+06\n\
             sglang:e2e_request_latency_seconds_sum{{model_name=\"m\"}} {tokens:e}\n\
             sglang:e2e_request_latency_seconds_count{{model_name=\"m\"}} {tokens:e}\n"
        )
    };
    assert_eq!(
        values(&pair(&text(8e6), &text(8.001e6))),
        [
            ("sglang:e2e_request_latency_seconds_mean", 1.0),
            ("sglang:generation_tokens_per_second", 0.0),
            ("sglang:num_queue_reqs", 2.0),
            ("sglang:num_running_reqs", 10.0),
            ("sglang:prompt_tokens_per_second", 100.0),
            ("sglang:token_usage", 0.28),
        ]
    );
}

#[test]
fn tgi_is_read_by_its_own_names_and_its_tokens_by_the_sums_of_histograms() {
    let text = |requests: u32| {
        format!(
            "# TYPE tgi_queue_size gauge\ntgi_queue_size 12\n\n# TYPE tgi_batch_current_size gauge\n\
             tgi_batch_current_size 32\n\n# TYPE tgi_request_generated_tokens histogram\n\
             tgi_request_generated_tokens_bucket{{le=\"+Inf\"}} {requests}\n\
             tgi_request_generated_tokens_sum {}\ntgi_request_generated_tokens_count {requests}\n\
             tgi_request_input_length_sum {}\ntgi_request_input_length_count {requests}\n\
             tgi_request_duration_sum {}\ntgi_request_duration_count {requests}\n\
             tgi_request_count{{method=\"generate\"}} {requests}\n",
            requests * 100,
            requests * 1000,
            requests * 2,
        )
    };
    assert_eq!(
        values(&pair(&text(5), &text(15))),
        [
            ("tgi_batch_current_size", 32.0),
            ("tgi_queue_size", 12.0),
            ("tgi_request_duration_mean", 2.0),
            ("tgi_request_generated_tokens_per_second", 100.0),
            ("tgi_request_input_length_per_second", 1000.0),
        ]
    );
}

#[test]
fn r1_what_is_no_count_is_unknown_and_its_neighbours_live() {
    for (line, unknown) in [
        ("vllm:num_requests_waiting NaN", "not a number"),
        ("vllm:num_requests_waiting many", "not a number"),
        ("vllm:num_requests_waiting -1", "outside of the family's range"),
        ("vllm:num_requests_waiting +Inf", "outside of the family's range"),
        ("vllm:num_requests_waiting 1e7", "outside of the family's range"),
        ("vllm:num_requests_waiting{model_name=\"a\"} 1\nvllm:num_requests_waiting{model_name=b} 2", "not a number"),
        (
            "vllm:num_requests_waiting{model_name=\"a\"} NaN\nvllm:num_requests_waiting{model_name=\"b\"} 2",
            "not a number",
        ),
    ] {
        let readings = named(&read(&format!("vllm:num_requests_running 5\n{line}\n"), 0), None);
        assert_eq!(readings["vllm:num_requests_running"].as_ref().unwrap().value, 5.0, "{line}");
        let said = readings["vllm:num_requests_waiting"].as_ref().unwrap_err().to_string();
        assert!(said.contains(unknown), "{line}: {said}");
    }
    let cache = |value: &str| {
        let readings = named(&read(&format!("vllm:kv_cache_usage_perc {value}\n"), 0), None);
        readings["vllm:kv_cache_usage_perc"].clone().map(|measured| measured.value)
    };
    assert_eq!(cache("0"), Ok(0.0), "a true zero is a value");
    assert_eq!(cache("1.004"), Ok(1.0), "rounding");
    assert!(cache("1.5").is_err() && cache("37").is_err(), "no percentage is taken for a share");
}

#[test]
fn r6_a_server_says_nothing_about_gpus_and_other_pods() {
    let text = "DCGM_CUSTOM_PROCESS_SM_UTIL{UUID=\"GPU-1\",NamespaceName=\"prod\",PodName=\"victim\",ProcessId=\"1\"} 0\n\
                DCGM_FI_DEV_GPU_UTIL{UUID=\"GPU-1\",pod=\"victim\",namespace=\"prod\"} 0\n\
                vllm:num_requests_waiting{namespace=\"prod\",pod=\"victim\",exported_pod=\"victim\"} 7\n";
    let page = read(text, 0);
    assert_eq!(page.samples, 1);
    assert_eq!(values(&named(&page, None)), [("vllm:num_requests_waiting", 7.0)], "its own, whatever the labels say");
}

#[test]
fn a_page_of_something_else_has_no_sample() {
    for text in ["", "process_cpu_seconds_total 3\n", "request_predict_seconds_count{model_name=\"iris\"} 4\n"] {
        let page = read(text, 0);
        assert_eq!((page.samples, page.bad_lines.len()), (0, 0), "{text:?}");
    }
}

#[test]
fn r22_a_page_with_too_many_series_is_refused_whole() {
    let lines: Vec<String> =
        (0..=LIMITS.samples).map(|n| format!("vllm:prompt_tokens_total{{m=\"{n}\"}} 1\n")).collect();
    let text = lines.concat();
    let refused = page::read(&Vocabulary::default(), text.as_bytes(), Format::Text, true, at(0), &LIMITS);
    assert_eq!(refused, Err(PageError::TooManySamples { limit: LIMITS.samples }));
}

const PROMPT: &str = "vllm:prompt_tokens_per_second";

fn prompt(lines: &[(&str, f64)], millis: i64) -> Page {
    let line = |(engine, value): &(&str, f64)| format!("vllm:prompt_tokens_total{{engine=\"{engine}\"}} {value:?}\n");
    read(&lines.iter().map(line).collect::<String>(), millis)
}

fn rate(before: Option<&Page>, page: &Page) -> Result<f64, Unknown> {
    named(page, before)[PROMPT].clone().map(|measured| measured.value)
}

#[test]
fn a_rate_has_holes_where_two_pages_do_not_tell_the_whole_gain() {
    let before = prompt(&[("0", 100.0), ("1", 50.0)], 0);
    let gap = NoRate::Gap { elapsed: Duration::from_secs(31), longest: LONGEST };
    for (page, expected) in [
        (prompt(&[("0", 100.0), ("1", 50.0)], 10_000), Ok(0.0)),
        (prompt(&[("1", 60.0), ("0", 140.0)], 10_000), Ok(5.0)),
        (prompt(&[("0", 140.0), ("1", 60.0)], 30_000), Ok(50.0 / 30.0)),
        (prompt(&[("0", 140.0), ("1", 60.0)], 31_000), Err(gap)),
        (prompt(&[("0", 140.0), ("1", 60.0)], 0), Err(NoRate::First)),
        (prompt(&[("0", 140.0), ("1", 60.0)], -5_000), Err(NoRate::First)),
        // More in all, and yet one engine was restarted.
        (prompt(&[("0", 900.0), ("1", 10.0)], 10_000), Err(NoRate::Fell)),
        (prompt(&[("0", 140.0)], 10_000), Err(NoRate::Changed)),
        (prompt(&[("0", 140.0), ("1", 60.0), ("2", 9.0)], 10_000), Err(NoRate::Changed)),
        (prompt(&[("0", 140.0), ("2", 60.0)], 10_000), Err(NoRate::Changed)),
    ] {
        assert_eq!(rate(Some(&before), &page), expected.map_err(Unknown::NoRate), "{page:?}");
    }
    assert_eq!(rate(None, &before), Err(NoRate::First.into()));
}

#[test]
fn a_counter_that_cannot_be_read_makes_a_hole_on_its_own_page_and_on_the_next() {
    let whole = |value: f64, millis| prompt(&[("0", value), ("1", value)], millis);
    let broken =
        read("vllm:prompt_tokens_total{engine=\"0\"} 150\nvllm:prompt_tokens_total{engine=\"1\"} NaN\n", 10_000);
    assert_eq!(rate(Some(&whole(100.0, 0)), &broken), Err(Unknown::Malformed));
    assert_eq!(rate(Some(&broken), &whole(200.0, 20_000)), Err(NoRate::First.into()));
    assert_eq!(rate(Some(&whole(200.0, 20_000)), &whole(250.0, 30_000)), Ok(10.0));
}

#[test]
fn the_mean_of_nothing_is_unknown() {
    let text = "vllm:e2e_request_latency_seconds_sum 10\nvllm:e2e_request_latency_seconds_count 4\n";
    let readings = pair(text, text);
    assert_eq!(readings["vllm:e2e_request_latency_seconds_mean"], Err(NoRate::Nothing.into()));
}

proptest! {
    /// Rates times their intervals are the whole gain, however the pages fall; order of lines and start of the counters do
    /// not matter.
    #[test]
    fn rates_add_up_to_what_was_gained(
        steps in prop::collection::vec((1_i64..30_000, prop::collection::vec(0_u32..1_000_000, 3)), 1..20),
        start in prop::collection::vec(0_u32..1_000_000, 3),
        reverse in any::<bool>(),
    ) {
        let mut totals: Vec<f64> = start.iter().map(|start| f64::from(*start)).collect();
        let page = |totals: &[f64], millis| {
            let mut lines: Vec<(&str, f64)> = ["0", "1", "2"].into_iter().zip(totals.iter().copied()).collect();
            if reverse {
                lines.reverse();
            }
            prompt(&lines, millis)
        };
        let (mut before, mut now, mut sum) = (prompt(&["0", "1", "2"].into_iter().zip(totals.iter().copied()).collect::<Vec<_>>(), 0), 0, 0.0);
        for (millis, gains) in &steps {
            now += millis;
            totals.iter_mut().zip(gains).for_each(|(total, gain)| *total += f64::from(*gain));
            let next = page(&totals, now);
            match rate(Some(&before), &next) {
                Ok(rate) => sum += rate * *millis as f64 / 1000.0,
                // A million tokens in a millisecond are beyond belief.
                Err(Unknown::OutOfRange { .. }) => sum += gains.iter().map(|gain| f64::from(*gain)).sum::<f64>(),
                Err(other) => prop_assert!(false, "{other}"),
            }
            before = next;
        }
        let gained: f64 = totals.iter().sum::<f64>() - start.iter().map(|start| f64::from(*start)).sum::<f64>();
        prop_assert!((sum - gained).abs() <= 1e-9 * gained.max(1.0), "{sum} {gained}");
    }

    /// No pair of pages gives a number that is negative or not finite, and a counter that fell gives none at all.
    #[test]
    fn no_restart_becomes_a_number(old in prop::collection::vec(0.0_f64..1e9, 2), new in prop::collection::vec(0.0_f64..1e9, 2), millis in 1_i64..40_000) {
        let page = |values: &[f64], millis| prompt(&[("0", values[0]), ("1", values[1])], millis);
        let rate = rate(Some(&page(&old, 0)), &page(&new, millis));
        if old.iter().zip(&new).any(|(old, new)| new < old) {
            prop_assert!(rate.is_err());
        } else if let Ok(rate) = rate {
            prop_assert!(rate.is_finite() && rate >= 0.0);
        }
    }

    /// Arbitrary text never panics, and never gives anything but families of servers within their ranges.
    #[test]
    fn arbitrary_pages_are_survived(first in "[a-z:_{}=\"0-9.\n# NaN+Inf-]{0,300}", second in "(vllm:(num_requests_waiting|prompt_tokens_total|kv_cache_usage_perc) ?[-+0-9.eNaInf]{0,8}\n){0,8}") {
        let vocabulary = Vocabulary::default();
        let read = |text: &str, millis| page::read(&vocabulary, text.as_bytes(), Format::Text, true, at(millis), &LIMITS).unwrap();
        let before = read(&first, 0);
        for (family, reading) in read(&second, 1000).readings(&vocabulary, Some(&before.counters), LONGEST) {
            let family = vocabulary.family(family);
            prop_assert!(family.by_server);
            if let Ok(measured) = reading {
                prop_assert!((0.0..=family.max).contains(&measured.value));
            }
        }
    }
}

fn configured(families: &[(&str, Option<&str>, Kind, Option<Role>)]) -> Result<Vocabulary, VocabularyError> {
    let servers = families.iter().map(|(name, served_as, kind, role)| ServerFamily {
        name: (*name).into(),
        served_as: served_as.map(Into::into),
        kind: *kind,
        role: *role,
    });
    Vocabulary::new(&config::Vocabulary { servers: servers.collect(), ..config::Vocabulary::default() })
}

#[test]
fn other_servers_are_read_by_configured_names() {
    let vocabulary = configured(&[
        ("trt:queue", None, Kind::Gauge, Some(Role::Waiting)),
        ("trt:tokens_total", None, Kind::Counter, Some(Role::GeneratedTokens)),
        ("trt:latency", Some("trt:latency_s"), Kind::Histogram, None),
        ("trt:blocks_running", Some("vllm:num_requests_running"), Kind::Gauge, None),
    ])
    .unwrap();
    let text = |tokens: u32| {
        format!(
            "trt:queue 3\ntrt:tokens_total {tokens}\ntrt:latency_sum {tokens}\ntrt:latency_count {tokens}\ntrt:blocks_running 2\n"
        )
    };
    let read =
        |text: &str, millis| page::read(&vocabulary, text.as_bytes(), Format::Text, true, at(millis), &LIMITS).unwrap();
    let readings = read(&text(200), 10_000).readings(&vocabulary, Some(&read(&text(100), 0).counters), LONGEST);
    let values: BTreeMap<&str, f64> =
        readings.iter().map(|(id, reading)| (&*vocabulary.family(*id).name, reading.clone().unwrap().value)).collect();
    let expected = [
        ("trt:latency_s", 1.0),
        ("trt:queue", 3.0),
        ("trt:tokens_per_second", 10.0),
        ("vllm:num_requests_running", 2.0),
    ];
    assert_eq!(values, expected.into());
    let waiting: Vec<_> = vocabulary.with_role(Role::Waiting).map(|id| &*vocabulary.family(id).name).collect();
    assert_eq!(waiting, ["vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size", "trt:queue"]);
}

#[test]
fn a_server_family_that_cannot_work_is_refused_with_the_reason() {
    for (families, fault) in [
        (&[("9x", None, Kind::Gauge, None)][..], "not a metric name"),
        (&[("x", Some("a b"), Kind::Gauge, None)], "not a metric name"),
        (&[("vllm:num_requests_waiting", None, Kind::Gauge, None)], "are read already"),
        (&[("x", None, Kind::Gauge, None), ("x", None, Kind::Gauge, None)], "are read already"),
        (&[("x", Some("DCGM_FI_DEV_GPU_UTIL"), Kind::Gauge, None)], "of another kind"),
        (&[("x", Some("vllm:kv_cache_usage_perc"), Kind::Gauge, None)], "of another kind"),
        (&[("x", None, Kind::Gauge, Some(Role::KvCache))], "the role KvCache needs a Share"),
    ] {
        let error = configured(families).unwrap_err().to_string();
        assert!(error.starts_with("vocabulary.servers") && error.contains(fault), "{error}");
    }
}
