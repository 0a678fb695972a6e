//! `tidegate agent`: the node agent. NVML, `/proc` and the cluster → a page of per-process GPU use by pod.
//!
//! ```text
//! NVML ──▶ window ─┐
//! /proc ─▶ cgroup ─┼─▶ Sampler ─▶ Snapshot ─▶ page ─▶ /metrics
//! watch of the node's pods, kubelet's pod resources ─┘
//! ```
//!
//! One loop reads, once in an interval; a scrape renders what was read last. It gives every NVIDIA node the metric that
//! Alibaba's exporter has, by the rules of the adapter that scrapes it: a process that is there and does nothing reads 0,
//! and what is not known has no line (R1), nor has what was read too long ago (R2).
//!
//! Not here: DCGM and its profiling counters, a history, anything that is written to the cluster.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use apiservice::{
    Limits,
    tls::{CertificateFiles, TlsError},
};
use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    task::{JoinError, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{clock::Clock, telemetry::server::serve_routes};

pub mod cgroup;
mod metrics;
pub mod nvml;
pub mod page;
pub mod pod_resources;
pub mod pods;
pub mod process;
pub mod sampler;
mod server;
pub mod snapshot;
#[cfg(test)]
mod testing;
pub mod window;

use page::Node;
use pod_resources::Kubelet;
use pods::Pods;
use process::Processes;
use sampler::Sampler;
use snapshot::{Missing, Snapshot};
use window::ReadTime;

/// Most cards of a node; more are not read (R22). The largest machines have 16.
pub const MAX_CARDS: usize = 64;
/// Most processes on all cards together: with more, the page would pass the adapter's limit, and no process is reported.
pub const MAX_PROCESSES: usize = 2048;
/// Longest label value that comes from a process or a driver, bytes; the rest is cut off.
pub const MAX_LABEL_BYTES: usize = 256;
/// A snapshot older than so many intervals, and than [`LEAST_STALE`], is not shown: the loop hangs, mostly in the driver.
const STALE_AFTER: u32 = 5;
/// See [`STALE_AFTER`].
const LEAST_STALE: Duration = Duration::from_secs(5);

/// How the agent is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of `/metrics` and `/healthz`.
    pub listen: SocketAddr,
    /// What every line says of the node.
    pub node: Node,
    /// Between two reads.
    pub interval: Duration,
    /// `/proc` of the node's PID namespace.
    pub proc_root: PathBuf,
    /// The kubelet's pod-resources socket.
    pub pod_resources: PathBuf,
    /// Serve HTTPS with this.
    pub certificate: Option<CertificateFiles>,
    /// Demand the bearer token in this file.
    pub token_file: Option<PathBuf>,
}

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The address is taken or not ours.
    #[error("--listen {address}: {source}")]
    Bind {
        /// The setting.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Processes could be taken for others.
    #[error(
        "--proc-root {}: these are a container's own processes, and NVML names the host's: set hostPID: true in the pod",
        .0.display()
    )]
    PidNamespace(PathBuf),
    /// The certificate.
    #[error("--tls-cert-file, --tls-key-file: {0}")]
    Tls(#[from] TlsError),
    /// The token cannot be read at the start.
    #[error("--bearer-token-file {path}: {problem}")]
    Token {
        /// The setting.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The server stopped accepting.
    #[error("the server ended: {0}")]
    Server(#[from] std::io::Error),
    /// The sampling loop panicked.
    #[error("the sampling loop died: {0}")]
    Sampler(#[from] JoinError),
}

/// What the loop leaves and the server shows.
#[derive(Debug)]
pub struct State {
    snapshot: ArcSwap<Snapshot>,
    started: Instant,
    interval: Duration,
    pods: Arc<Pods>,
    kubelet: Arc<Kubelet>,
}

impl State {
    fn new(interval: Duration, pods: Arc<Pods>, kubelet: Arc<Kubelet>) -> Self {
        Self { snapshot: ArcSwap::default(), started: Instant::now(), interval, pods, kubelet }
    }

    /// The last snapshot; one that is too old has nothing to say but that.
    fn current(&self, now: Instant) -> Arc<Snapshot> {
        let snapshot = self.snapshot.load_full();
        if self.is_live(now) || snapshot.read.is_none() {
            return snapshot;
        }
        let message = "the last read of NVML is too long ago: the loop hangs in the driver";
        let driver = Err(Missing { reason: "stale".into(), message: message.into() });
        let Snapshot { at, read, took, dropped, reads, faults, .. } = (*snapshot).clone();
        Arc::new(Snapshot { at, read, took, driver, dropped, reads, faults, ..Snapshot::default() })
    }

    /// The loop read lately.
    fn is_live(&self, now: Instant) -> bool {
        let last = self.snapshot.load().read.unwrap_or(self.started);
        now.saturating_duration_since(last) <= (self.interval * STALE_AFTER).max(LEAST_STALE)
    }
}

/// Runs until `shutdown` completes. `client`: the cluster's; without one, no process is attributed.
///
/// # Errors
/// [`AgentError`].
pub async fn run(
    settings: Settings,
    driver: Box<dyn nvml::Driver>,
    client: Option<kube::Client>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AgentError> {
    let Settings { listen, node, interval, proc_root, pod_resources, certificate, token_file } = settings;
    let processes = Processes::new(proc_root.clone());
    // Without a cluster nothing is attributed, and so nothing can be attributed wrongly.
    if client.is_some() && processes.are_a_containers_own() {
        return Err(AgentError::PidNamespace(proc_root));
    }
    let listener = TcpListener::bind(listen).await.map_err(|source| AgentError::Bind { address: listen, source })?;
    tracing::info!(address = %listener.local_addr()?, node = %node.name, "serving /metrics and /healthz");
    let pods = Arc::new(Pods::default());
    let kubelet = Arc::new(Kubelet::default());
    let state = Arc::new(State::new(interval, Arc::clone(&pods), Arc::clone(&kubelet)));
    let sampler = Sampler::new(driver, processes, Arc::clone(&pods), Arc::clone(&kubelet));
    let routes = server::routes(Arc::clone(&state), node.clone(), token_file)?;
    let serve = async {
        match certificate {
            None => serve_routes(listener, routes, shutdown).await.map_err(AgentError::from),
            Some(files) => {
                let (tls, fresh) = files.load(std::future::pending())?;
                tokio::select! {
                    ended = apiservice::serve(listener, tls, routes, None, Limits::default(), shutdown) => Ok(ended?),
                    () = fresh => Ok(()),
                }
            }
        }
    };
    let watch = async {
        match client {
            Some(client) => pods::follow(client, &node.name, &pods).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = serve => ended,
        died = sample(sampler, &state) => Err(died.into()),
        never = watch => match never {},
        never = kubelet.follow(&pod_resources) => match never {},
    }
}

/// Reads for ever. Reads block, and some drivers hang: they have a thread to do so.
async fn sample(mut sampler: Sampler, state: &State) -> JoinError {
    let mut ticks = interval(state.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let started = state.started;
        let read = spawn_blocking(move || {
            let begun = Instant::now();
            // Anchored anew: the driver's times follow the machine's clock when it is set.
            let at = Clock::start().now();
            let wall = u64::try_from(at.as_microsecond()).unwrap_or_default();
            let mut snapshot = sampler.read(ReadTime { wall, monotonic: begun - started });
            (snapshot.at, snapshot.read, snapshot.took) = (Some(at), Some(begun), begun.elapsed());
            (sampler, snapshot)
        });
        match read.await {
            Ok((kept, snapshot)) => {
                sampler = kept;
                tell(&state.snapshot.load().driver, &snapshot.driver);
                state.snapshot.store(Arc::new(snapshot));
            }
            Err(died) => return died,
        }
    }
}

/// One line of log for each change.
fn tell(before: &Result<Arc<str>, Missing>, now: &Result<Arc<str>, Missing>) {
    match now {
        _ if before == now => {}
        Ok(driver) => tracing::info!(%driver, "NVML answers"),
        Err(missing) => tracing::warn!(reason = %missing.reason, "no card can be read: {}", missing.message),
    }
}
