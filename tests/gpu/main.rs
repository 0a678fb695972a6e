//! The agent on a real card: its reading against a set duty and against `nvidia-smi pmon`, in one table.
//!
//! `tests/gpu/run` starts it. It runs itself once more as the load ([`cuda`]), `tidegate agent` with `--record-nvml`, and
//! `nvidia-smi pmon`, all at the same time. **It has not run on a real card yet**: until it has, neither has the agent.
//!
//! Two processes on a card take turns, and a kernel that waits for the clock waits through the other's turn, too: what each
//! of two overlapping loads should read is not known beforehand, and they are compared with `nvidia-smi` only.

use std::{
    fmt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use tidegate::clock::Clock;
use tokio::time::{Instant, sleep, sleep_until};

mod agent;
mod cuda;
mod load;
mod pmon;

use agent::{Agent, Means};
use load::Load;

/// Percentage points by which two readings of one load may differ: each is a mean of samples of up to a second.
const TOLERANCE: f64 = 10.0;
/// MiB by which two figures for a process's memory may differ: the context itself is counted by both.
const MEMORY_TOLERANCE: f64 = 8.0;
/// For the load to be steady, and the windows of both readers to be full.
const SETTLE: Duration = Duration::from_secs(4);
/// Within this, a process that has ended is gone from the page: two reads and a scrape.
const GONE: Duration = Duration::from_secs(4);
/// What each load allocates, MiB.
const MEMORY_MIB: u64 = 1024;

#[derive(Debug, clap::Parser)]
struct Args {
    /// Index of the card.
    #[arg(long, default_value_t = 0)]
    card: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Be a load of so many percent.
    #[arg(long, hide = true, value_name = "PERCENT")]
    load: Option<u32>,
    /// The load's place in the period, percent of it.
    #[arg(long, hide = true, default_value_t = 0)]
    offset: u32,
}

/// Which loads run together, percent each, and what each should read.
struct Scenario {
    name: &'static str,
    duties: &'static [u32],
    expected: Option<&'static [f64]>,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "one, idle", duties: &[0], expected: Some(&[0.0]) },
    Scenario { name: "one", duties: &[30], expected: Some(&[30.0]) },
    Scenario { name: "one", duties: &[60], expected: Some(&[60.0]) },
    Scenario { name: "one", duties: &[95], expected: Some(&[95.0]) },
    Scenario { name: "two, one idle", duties: &[60, 0], expected: Some(&[60.0, 0.0]) },
    Scenario { name: "two in turn", duties: &[30, 30], expected: Some(&[30.0, 30.0]) },
    Scenario { name: "two overlapping", duties: &[60, 60], expected: None },
    Scenario { name: "two overlapping", duties: &[95, 95], expected: None },
];

/// One process in one scenario.
struct Row {
    scenario: &'static str,
    duty: u32,
    expected: Option<f64>,
    agent: Means,
    pmon: pmon::Means,
}

impl Row {
    fn is_within(&self) -> bool {
        let near = |other: Option<f64>| other.is_none_or(|other| (self.agent.sm - other).abs() <= TOLERANCE);
        let memory = self.agent.memory_mib.zip(self.pmon.memory_mib);
        near(self.expected)
            && near(Some(self.pmon.sm))
            && memory.is_some_and(|(ours, theirs)| (ours - theirs).abs() <= MEMORY_TOLERANCE)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1}"));
        write!(
            f,
            "{:<18}{:>6}{:>10}{:>9.1}{:>9.1}{:>12}{:>12}  {}",
            self.scenario,
            self.duty,
            or_dash(self.expected),
            self.agent.sm,
            self.pmon.sm,
            or_dash(self.agent.memory_mib),
            or_dash(self.pmon.memory_mib),
            if self.is_within() { "ok" } else { "DIFFERS" }
        )
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(percent) = args.load {
        cuda::spin(args.card, percent, args.offset, MEMORY_MIB)?;
        return Ok(ExitCode::SUCCESS);
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(compare(&args))
}

async fn compare(args: &Args) -> anyhow::Result<ExitCode> {
    let card = name_of(args.card)?;
    let date = Clock::start().now().strftime("%Y-%m-%d-%H%M%S").to_string();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gpu");
    std::fs::create_dir_all(&folder)?;
    let recording = folder.join(format!("nvml-{date}.jsonl"));
    let agent = Agent::start(&recording).await?;

    println!("{card}; {date}; {} s each", args.seconds);
    println!(
        "{:<18}{:>6}{:>10}{:>9}{:>9}{:>12}{:>12}",
        "scenario", "duty", "expected", "agent", "pmon", "agent MiB", "pmon MiB"
    );
    let mut good = true;
    for scenario in &SCENARIOS {
        for row in measure(args, scenario, &agent).await? {
            println!("{row}");
            good &= row.is_within();
        }
    }
    for (name, signal) in [("exit", "-TERM"), ("kill", "-KILL")] {
        let gone = disappears(args, signal, &agent).await?;
        println!("{name:<18}{}", if gone { "gone from the page: ok" } else { "STILL ON THE PAGE" });
        good &= gone;
    }
    println!("NVML's answers: {}", recording.display());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args, scenario: &Scenario, agent: &Agent) -> anyhow::Result<Vec<Row>> {
    let offsets = (0..).step_by(50);
    let start = |(percent, offset): (&u32, u32)| Load::start(args.card, *percent, offset);
    let loads = scenario.duties.iter().zip(offsets).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    sleep(SETTLE).await;
    let pids: Vec<u32> = loads.iter().map(Load::pid).collect();
    // Both look at the same seconds.
    let theirs = pmon::start(args.card, args.seconds)?;
    let mut pages = Vec::new();
    let begun = Instant::now();
    for second in 1..=args.seconds {
        sleep_until(begun + Duration::from_secs(second)).await;
        pages.push(agent.processes().await?);
    }
    let theirs = theirs.finish().await?;
    loads.iter().try_for_each(Load::alive)?;
    let rows = pids.iter().zip(scenario.duties).enumerate().map(|(nth, (pid, duty))| {
        Ok(Row {
            scenario: scenario.name,
            duty: *duty,
            expected: scenario.expected.map(|all| all[nth]),
            agent: agent::means(&pages, *pid).with_context(|| format!("the agent reports process {pid}"))?,
            pmon: pmon::means(&theirs, *pid, args.seconds).with_context(|| format!("pmon reports process {pid}"))?,
        })
    });
    rows.collect()
}

/// Whether a busy process that ends is off the page soon, and was on it before.
async fn disappears(args: &Args, signal: &str, agent: &Agent) -> anyhow::Result<bool> {
    let load = Load::start(args.card, 60, 0)?;
    sleep(SETTLE).await;
    let pid = load.pid();
    ensure!(agent.processes().await?.contains_key(&pid), "the agent reports process {pid} while it lives");
    load.end(signal)?;
    sleep(GONE).await;
    Ok(!agent.processes().await?.contains_key(&pid))
}

fn name_of(card: u32) -> anyhow::Result<String> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=name,driver_version", "--format=csv,noheader", "-i", &card.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("nvidia-smi")?;
    ensure!(output.status.success(), "nvidia-smi knows no card {card}: {}", String::from_utf8_lossy(&output.stdout));
    Ok(format!("card {card}: {}", String::from_utf8_lossy(&output.stdout).trim()))
}
