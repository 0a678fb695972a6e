//! What the agent costs a node: 8 cards, 64 processes, a read each second, a scrape each 10 s.
//!
//! `tidegate agent` runs as its own process, so that the figures are its alone: CPU time from `/proc/PID/stat`, memory from
//! `/proc/PID/status`. It follows an API server with the node's pods and a kubelet's socket, both played by this process over
//! real sockets, and looks at processes that exist (`sleep`), through the kernel's own `stat` files. NVML's answers are a
//! made-up recording: what the library itself costs is *not* in the figures.
//!
//! `cargo bench --bench agent -- --seconds 60 --json`. The exit status is 1 if the agent costs more than 1 % of a core or
//! 30 MiB, or if its page is not whole.

use std::{
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use serde::Serialize;
use tokio::time::{Instant, sleep};

mod cluster;
mod node;

use node::Folder;

/// Most CPU that the agent may take, percent of one core.
const CPU_LIMIT: f64 = 1.0;
/// Most memory, MiB.
const MEMORY_LIMIT: f64 = 30.0;
/// `USER_HZ`: 100 on every architecture that Linux still supports for servers (proc(5), `utime`).
const TICKS_PER_SECOND: f64 = 100.0;
/// For the first windows to be there.
const WARM_UP: Duration = Duration::from_secs(5);

/// The node and how long it is watched.
#[derive(Debug, Clone, clap::Parser)]
struct Args {
    /// Seconds of measurement.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Cards.
    #[arg(long, default_value_t = 8)]
    cards: usize,
    /// Processes on all cards together, each in a pod of its own.
    #[arg(long, default_value_t = 64)]
    processes: usize,
    /// Seconds between two scrapes.
    #[arg(long, default_value_t = 10)]
    scrape_every: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    date: String,
    load_average: f64,
    cards: usize,
    processes: usize,
    seconds: f64,
    cpu_percent_of_a_core: f64,
    rss_mib: f64,
    rss_peak_mib: f64,
    reads: u64,
    page_bytes: usize,
    scrapes: usize,
    attributed_lines: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let figures = measure(&args).await?;
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    let cheap = figures.cpu_percent_of_a_core < CPU_LIMIT && figures.rss_peak_mib < MEMORY_LIMIT;
    Ok(if cheap { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args) -> anyhow::Result<Figures> {
    // reqwest is told once which provider of cryptography it uses; there is none before this.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = Folder::new()?;
    let sleepers = node::sleepers(args.processes)?;
    let pids: Vec<u32> = sleepers.0.iter().map(Child::id).collect();
    node::write(&folder.0, args.cards, &pids)?;
    let server = cluster::serve_pods(pids.len()).await?;
    cluster::serve_kubelet(&folder.0.join("kubelet.sock"), args.cards)?;
    let kubeconfig = folder.0.join("kubeconfig");
    std::fs::write(&kubeconfig, cluster::kubeconfig(&server))?;

    let free = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["agent", "--node-name", "n1", "--log", "warn"])
        .arg(format!("--listen={free}"))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--replay-nvml={}", folder.0.join("nvml.jsonl").display()))
        .arg(format!("--proc-root={}", folder.0.join("proc").display()))
        .arg(format!("--pod-resources-socket={}", folder.0.join("kubelet.sock").display()))
        .stdin(Stdio::null())
        .spawn()
        .context("the agent")?;
    let agent = Children(vec![child]);
    let pid = agent.0[0].id();
    let url = format!("http://{free}/metrics");
    let client = reqwest::Client::new();
    let scrape = async || anyhow::Ok(client.get(&url).send().await?.error_for_status()?.text().await?);
    sleep(WARM_UP).await;
    let attributed = |page: &str| {
        page.lines()
            .filter(|line| line.starts_with("DCGM_CUSTOM_PROCESS_SM_UTIL{") && line.contains("PodName=\"llm-"))
            .count()
    };
    let first = scrape().await?;
    ensure!(attributed(&first) == args.processes, "each of {} processes has its pod:\n{first}", args.processes);

    let begun = Instant::now();
    let (cpu, reads) = (cpu_seconds(pid)?, counter(&first, "tidegate_agent_reads_total")?);
    let (mut last, mut scrapes) = (first, 0);
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        sleep(Duration::from_secs(args.scrape_every.clamp(1, args.seconds.max(1)))).await;
        last = scrape().await?;
        scrapes += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(attributed(&last) == args.processes, "each process still has its pod:\n{last}");
    Ok(Figures {
        date: tidegate::clock::Clock::start().now().strftime("%Y-%m-%d").to_string(),
        load_average: load_average(),
        cards: args.cards,
        processes: args.processes,
        seconds,
        cpu_percent_of_a_core: 100.0 * (cpu_seconds(pid)? - cpu) / seconds,
        rss_mib: memory(pid, "VmRSS:")?,
        rss_peak_mib: memory(pid, "VmHWM:")?,
        reads: (counter(&last, "tidegate_agent_reads_total")? - reads) as u64,
        page_bytes: last.len(),
        scrapes,
        attributed_lines: attributed(&last),
    })
}

/// Processes that end with this value.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Either fails only if it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn counter(page: &str, name: &str) -> anyhow::Result<f64> {
    let line = page.lines().find(|line| line.starts_with(name)).context("the agent's own metrics")?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent runs")?;
    // utime and stime are fields 14 and 15; the second one, in parentheses, may hold blanks.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has another form")?;
    let mut fields = fields.split(' ').skip(11).map(str::parse::<f64>);
    let mut ticks = || fields.next().context("utime, stime")?.context("a number");
    Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

fn memory(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the agent runs")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("VmRSS, VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or_default()
}
