//! The agent on this machine, without a cluster, and what its page says of each process.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tidegate::{
    clock::Clock,
    exposition::{Format, Limits},
    gpu::{Vocabulary, page},
};
use tokio::time::{Instant, sleep};

/// For the agent to listen.
const PATIENCE: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { line_bytes: 64 << 10, labels: 64, samples: 50_000 };

/// A running agent; it ends with the value.
pub struct Agent {
    child: Child,
    url: String,
    client: reqwest::Client,
}

/// One process at one scrape.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Percent; `None`: not known.
    pub sm: Option<f64>,
    /// MiB.
    pub memory_mib: Option<f64>,
}

/// One process over all scrapes.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// Percent.
    pub sm: f64,
    /// MiB, at the last scrape.
    pub memory_mib: Option<f64>,
}

impl Agent {
    pub async fn start(recording: &Path) -> anyhow::Result<Self> {
        let address = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["agent", "--node-name", "here", "--without-cluster", "--log", "warn"])
            .arg(format!("--listen={address}"))
            .arg(format!("--record-nvml={}", recording.display()))
            .stdin(Stdio::null())
            .spawn()
            .context("the agent")?;
        let mut this = Self { child, url: format!("http://{address}"), client: reqwest::Client::new() };
        let begun = Instant::now();
        loop {
            let problem = match this.get("/healthz").await {
                Ok(text) if text.contains("nvml: ok") => return Ok(this),
                Ok(text) => text,
                Err(error) => error.to_string(),
            };
            ensure!(this.child.try_wait()?.is_none(), "the agent has ended; see above");
            ensure!(begun.elapsed() < PATIENCE, "the agent does not read the card: {problem}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        Ok(self.client.get(format!("{}{path}", self.url)).send().await?.text().await?)
    }

    /// The processes on its page, by id.
    pub async fn processes(&self) -> anyhow::Result<BTreeMap<u32, Process>> {
        let text = self.get("/metrics").await?;
        let vocabulary = Vocabulary::default();
        let page = page::read(&vocabulary, text.as_bytes(), Format::Text, true, Clock::start().now(), &LIMITS)?;
        ensure!(page.bad_lines.is_empty(), "lines of the page cannot be read: {:?}", page.bad_lines);
        let mut all: BTreeMap<u32, Process> = BTreeMap::new();
        for sample in &page.samples {
            let (Some(pid), Ok(reading)) = (&sample.process, &sample.reading) else { continue };
            let process = all.entry(pid.parse().context("ProcessId")?).or_default();
            match &*vocabulary.family(sample.family).name {
                "DCGM_CUSTOM_PROCESS_SM_UTIL" => process.sm = Some(reading.value),
                "DCGM_CUSTOM_PROCESS_MEM_USED" => process.memory_mib = Some(reading.value),
                _ => {}
            }
        }
        Ok(all)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Either fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process over all pages. `None` unless every page has a figure for it: a page that is silent is a fault here.
pub fn means(pages: &[BTreeMap<u32, Process>], pid: u32) -> Option<Means> {
    let values = pages.iter().map(|page| page.get(&pid)?.sm).collect::<Option<Vec<f64>>>()?;
    let memory_mib = pages.last()?.get(&pid)?.memory_mib;
    Some(Means { sm: values.iter().sum::<f64>() / values.len() as f64, memory_mib })
}
