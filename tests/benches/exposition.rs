//! Reading a page: ours against `prometheus_parse`, which also says how many allocations each makes.
//!
//! The page is that of a node with 8 GPUs: 25 families of dcgm-exporter for each card, 12 labels a line with the keys of
//! its templates, and 64 lines of processes; 264 samples, about 110 kB. The last line printed is the ratio of the two
//! medians, both taken in turns in this run. Counting costs the reference a few nanoseconds for each of its allocations,
//! a percent or two of its time.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use jiff::Timestamp;
use tidegate::{
    exposition::{Format, Limits, Line, Parser},
    gpu::{Vocabulary, page},
};

mod families;

use families::FAMILIES;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const SAMPLES: usize = 264;

const LIMITS: Limits = Limits { line_bytes: 65_536, labels: 64, samples: 50_000 };

fn node_page() -> String {
    let mut page = String::new();
    let labels = |gpu: usize| {
        format!(
            r#"gpu="{gpu}",UUID="GPU-6ad7ea4c-5517-05e7-0b54-7554cb4374d{gpu}",pci_bus_id="00000000:{gpu}B:00.0",device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",hostname="gpu-worker-0042.cluster.example",DCGM_FI_DRIVER_VERSION="550.54.15",container="kserve-container",namespace="inference-prod",pod="qwen-chat-predictor-6c9f7d5b8-x{gpu}q2z""#
        )
    };
    for (n, family) in FAMILIES.iter().enumerate() {
        writeln!(page, "# HELP {family} One of dcgm-exporter's default counters.\n# TYPE {family} gauge")
            .expect("strings take everything");
        for gpu in 0..8 {
            let value = if family.contains("_PROF_") {
                format!("0.{:06}", 123_457 * (gpu + 1))
            } else {
                (n * 37 + gpu).to_string()
            };
            let labels = labels(gpu);
            writeln!(
                page,
                r#"{family}{{{labels},pod_uid="0b9c7f0e-8a35-4c2b-9d5e-3f1a2b4c5d6{gpu}",vgpu="0"}} {value}"#
            )
            .expect("strings take everything");
        }
    }
    for process in 0..64 {
        let labels = labels(process % 8);
        writeln!(
            page,
            r#"DCGM_FI_DEV_FB_USED{{{labels},pid="{}",process_name="VLLM::Worker"}} {}"#,
            31_400 + process,
            900 + process
        )
        .expect("strings take everything");
    }
    page
}

/// Reads everything on the page; returns how many samples there were.
fn ours(body: &[u8], want: impl Fn(&[u8]) -> bool) -> usize {
    let mut parser = Parser::new(body, Format::Text, true, &LIMITS);
    let mut samples = 0;
    while let Ok(Some(line)) = parser.next_line(|name| want(name).then_some(())) {
        if let Line::Sample((), sample) = line {
            samples += 1;
            black_box(&sample);
        }
    }
    samples
}

fn reference(body: &str) -> usize {
    let scrape = prometheus_parse::Scrape::parse(body.lines().map(|line| Ok(line.to_owned())));
    black_box(scrape).map_or(0, |scrape| scrape.samples.len())
}

#[divan::bench]
fn parser(bencher: Bencher<'_, '_>) {
    let page = node_page();
    bencher.counter(BytesCount::of_str(&page)).bench(|| ours(black_box(page.as_bytes()), |_| true));
}

#[divan::bench]
fn parser_of_two_families(bencher: Bencher<'_, '_>) {
    let page = node_page();
    let want = |name: &[u8]| matches!(name, b"DCGM_FI_DEV_GPU_UTIL" | b"DCGM_FI_DEV_FB_USED");
    bencher.counter(BytesCount::of_str(&page)).bench(|| ours(black_box(page.as_bytes()), want));
}

#[divan::bench]
fn page_to_canonical_samples(bencher: Bencher<'_, '_>) {
    let page = node_page();
    let vocabulary = Vocabulary::default();
    bencher.counter(BytesCount::of_str(&page)).bench(|| {
        page::read(&vocabulary, black_box(page.as_bytes()), Format::Text, true, Timestamp::UNIX_EPOCH, &LIMITS)
    });
}

#[divan::bench]
fn prometheus_parse(bencher: Bencher<'_, '_>) {
    let page = node_page();
    bencher.counter(BytesCount::of_str(&page)).bench(|| reference(black_box(&page)));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(read: impl FnOnce() -> usize) -> Duration {
    let start = Instant::now();
    let samples = read();
    let time = start.elapsed();
    assert_eq!(samples, SAMPLES, "both read the whole page");
    time
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() {
    /// Enough that the median stands still; the reference needs about a second for them.
    const ROUNDS: usize = 501;

    divan::main();
    let page = node_page();
    let (mut our_times, mut reference_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our_times.push(timed(|| ours(black_box(page.as_bytes()), |_| true)));
        reference_times.push(timed(|| reference(black_box(&page))));
    }
    let (our_median, reference_median) = (median(our_times), median(reference_times));
    println!("page: {} bytes, {SAMPLES} samples", page.len());
    println!("median of {ROUNDS}: ours {our_median:?}, prometheus-parse {reference_median:?}");
    println!("ratio: {:.1}", reference_median.as_secs_f64() / our_median.as_secs_f64());
}
