//! `tests/scene/compare`: the seed's scene there and back behind Prometheus + prometheus-adapter and behind Tidegate, in one
//! run, and which replicas go first with us and without.
//!
//! Ours run side by side (arena's HPA, Advise, Act), then as many services behind the incumbent, in turn. Prometheus and Tidegate
//! both ask each exporter every second. What is simulated is said in `main.rs`.

use std::{fs, process::ExitCode, thread};

use clap::Parser;
use futures::future::join_all;
use serde::Serialize;
use tidegate::clock::Clock;

/// The harness of the cluster tests, of which these scenes need a part.
#[expect(dead_code, unused_imports, reason = "the cluster tests use the rest of their harness")]
#[path = "../cluster"]
mod cluster {
    pub mod account;
    pub mod adapter;
    pub mod controlplane;
    pub mod kubectl;
    pub mod kwok;
    pub mod namespace;
    pub mod parts;
    pub mod pki;
    pub mod process;
    pub mod raw;
    pub mod timeline;
    pub mod wait;
    pub mod workload;
}

mod chart;
mod course;
#[expect(dead_code, reason = "the scenes of faults break exporters")]
mod fleet;
mod gateway;
mod incumbent;
mod karpenter;
mod kserve;
#[expect(dead_code, reason = "the scenes hold it against what was counted")]
mod ledger;
mod load;
#[expect(dead_code, reason = "the scenes ask it for more")]
mod prometheus;
#[path = "../versus/prometheus_adapter.rs"]
mod prometheus_adapter;
mod record;
mod release;
#[expect(dead_code, reason = "the scenes watch arena's HPA, these whichever there is")]
mod stage;
mod way;

use course::{Course, play};
use incumbent::{Incumbent, Scraping};
use release::{Kept, SERVICES, kept_at_home};
use stage::Stage;
use way::Way;

/// Ours, side by side.
const OURS: [Way; 3] = [Way::Plain, Way::Advise, Way::Act];

/// Measure the scene behind Prometheus + prometheus-adapter and behind Tidegate.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// How often each.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Leave out the release of 40 services.
    #[arg(long)]
    no_release: bool,
}

/// All that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    date: jiff::Timestamp,
    cores: usize,
    /// Load averages of this machine at the end.
    load_average: String,
    /// `-z` of hey.
    load: String,
    courses: Vec<Course>,
    release: Option<Kept>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let outcome = measure(Options::parse()).await;
    match outcome {
        Ok(figures) => {
            print!("{}", table(&figures));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(Options { repeats, no_release }: Options) -> Result<Figures, String> {
    let mut figures = Figures {
        date: Clock::start().now(),
        cores: thread::available_parallelism().map_or(0, usize::from),
        load_average: String::new(),
        load: load::length()?.to_string(),
        courses: Vec::new(),
        release: None,
    };
    let stage = Stage::take(OURS.len()).await;
    let mut prometheus = Some(Scraping::start(&stage).await?);
    let mut incumbent = None;
    for i in 0..repeats {
        figures.courses.extend(side_by_side(&stage, OURS, i).await?);
        // It lists a metric that Prometheus knows when it starts, or half a minute later.
        if let Some(prometheus) = prometheus.take() {
            incumbent = Some(Incumbent::start(&stage, prometheus).await?);
        }
        if let Some(incumbent) = &incumbent {
            incumbent.serve(&stage).await?;
        }
        figures.courses.extend(side_by_side(&stage, [Way::Unordered; OURS.len()], i).await?);
        incumbent::hand_back(&stage).await?;
        save(&mut figures)?;
    }
    drop(incumbent);
    drop(stage);
    if !no_release {
        let stage = Stage::take(2 * SERVICES).await;
        figures.release = Some(kept_at_home(&stage).await);
    }
    save(&mut figures)?;
    Ok(figures)
}

async fn side_by_side(stage: &Stage, ways: [Way; OURS.len()], round: usize) -> Result<Vec<Course>, String> {
    let names: Vec<String> = ways.iter().enumerate().map(|(i, way)| format!("{}-{round}-{i}", way.name())).collect();
    let courses = join_all(ways.iter().zip(&names).map(|(way, name)| play(stage, *way, name))).await;
    let courses: Result<Vec<Course>, String> = courses.into_iter().collect();
    for course in courses.iter().flatten() {
        eprintln!("compare: {}: {course}", course.way.name());
    }
    // What is left of it must not be reused by the next.
    stage.fleet.until("the cloud nodes to go", |now| now.machines(karpenter::CLOUD) == 0).await?;
    courses
}

fn save(figures: &mut Figures) -> Result<(), String> {
    let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    figures.load_average = average.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let text = serde_json::to_string_pretty(figures).map_err(|error| error.to_string())?;
    record::write("compare.json", &text).map(drop)
}

/// Name of a column, and its figure.
type Column = (&'static str, fn(&Course) -> Option<f64>);
const COLUMNS: [Column; 9] = [
    ("first decision", |course| Some(course.decided)),
    ("three asked for", |course| Some(course.decided_three)),
    ("nodes asked for", |course| Some(course.nodes_asked)),
    ("three ready", |course| Some(course.three_ready)),
    ("one left", |course| Some(course.one_left)),
    ("cloud replicas gone", |course| course.cloud_replicas_gone),
    ("cloud nodes gone", |course| course.cloud_nodes_gone),
    ("cloud GPU s", |course| Some(course.held_seconds)),
    ("cloud node s", |course| Some(course.node_seconds)),
];

/// A row for each way: medians, and the range in brackets.
fn table(figures: &Figures) -> String {
    let Figures { date, cores, load_average, load, courses, release } = figures;
    let mut out = format!(
        "{date}, {cores} cores, load average {load_average}, hey -z {load}. Seconds: the first four from utilization above 50 %, \
         the next three from the load's end.\n| way | runs |"
    );
    for (name, _) in COLUMNS {
        out.push_str(&format!(" {name} |"));
    }
    out.push_str(" kept on premises |\n|---|---|");
    out.push_str(&"---|".repeat(COLUMNS.len() + 1));
    for way in [Way::Unordered, Way::Plain, Way::Advise, Way::Act] {
        let of: Vec<&Course> = courses.iter().filter(|course| course.way == way).collect();
        let label = if way == Way::Unordered { "Prometheus + prometheus-adapter" } else { way.label() };
        out.push_str(&format!("\n| {label} | {} |", of.len()));
        for (_, value) in COLUMNS {
            out.push_str(&format!(" {} |", spread(of.iter().filter_map(|course| value(course)).collect(), of.len())));
        }
        out.push_str(&format!(" {} of {} |", of.iter().filter(|course| course.kept_home).count(), of.len()));
    }
    out.push('\n');
    if let Some(release) = release {
        out.push_str(&format!("{release}\n"));
    }
    out
}

/// `median [least, most]`, and in how many of the runs where not in all.
fn spread(mut values: Vec<f64>, runs: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return "never".into() };
    let middle = values[values.len() / 2];
    let only = if values.len() < runs { format!(" in {} of {runs}", values.len()) } else { String::new() };
    format!("{middle:.1} [{first:.1}, {last:.1}]{only}")
}
