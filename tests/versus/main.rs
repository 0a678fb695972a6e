//! Tidegate beside what clusters use today, in one run: the same pods and the same simulated exporters behind Prometheus +
//! prometheus-adapter (with its default client limits, and with raised ones) and behind `tidegate adapter`.
//!
//! `tests/versus/run` builds what this needs and starts it. What is simulated: nodes and pods (kwok plays them) and the GPU
//! exporters (real sockets and real formats, made-up numbers); everything that is measured is the real program. A part that
//! is missing or does not start ends the run with an error: there are no stand-ins.

use std::process::ExitCode;

use clap::Parser;
use tokio::time::Instant;

/// The harness of the cluster tests, of which this program needs a part.
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

mod connection;
mod contender;
mod decision;
mod figures;
mod latency;
mod prometheus;
mod prometheus_adapter;
mod quantity;
mod scene;
mod staleness;
mod table;
mod usage;
mod watchdog;

use contender::Contender;
use figures::Figures;
use scene::Scene;

/// Measure Tidegate beside Prometheus and prometheus-adapter.
#[derive(Debug, Clone, Copy, Parser)]
struct Options {
    /// Print one JSON object; the table goes to standard error.
    #[arg(long)]
    json: bool,
    /// Fewer queries and cycles, and without what takes five minutes.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if cfg!(debug_assertions) {
        eprintln!(
            "versus: this is a debug build, which says nothing about speed; tests/versus/run makes a release build"
        );
        return ExitCode::FAILURE;
    }
    watchdog::start(options.quick);
    // kube, reqwest and our own connections are told once which provider of cryptography they use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(measure(options)));
    match outcome {
        Ok(figures) if options.json => match serde_json::to_string_pretty(&figures) {
            Ok(text) => {
                eprint!("{}", table::Table(&figures));
                println!("{text}");
            }
            Err(error) => {
                eprintln!("versus: {error}");
                return ExitCode::FAILURE;
            }
        },
        Ok(figures) => print!("{}", table::Table(&figures)),
        Err(error) => {
            eprintln!("versus: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// All parts, one after the other.
async fn measure(options: Options) -> Result<Figures, String> {
    let start = Instant::now();
    let say = |what: &str| eprintln!("versus: {:4.0} s  {what}", start.elapsed().as_secs_f64());
    let mut figures = Figures::begin(options.quick)?;

    say("starting the control plane");
    let namespaces = scene::namespaces().await?;
    say("creating the pods and their exporters: 1, 200 and 1,000 pods of one service");
    let scene = Scene::set(&namespaces).await?;
    say("starting Prometheus and the three adapters");
    let prometheus = prometheus::start(&scene).await?;
    let contenders = Contender::start_all(&scene, &prometheus).await?;
    let processes = usage::Processes::of(&prometheus.part, &contenders)?;

    say("queries: waiting until all serve every pod's own value");
    latency::check(&scene, &contenders).await?;
    say("queries: what each process uses when nobody asks");
    let idle = latency::idle(&processes, options.quick).await?;
    for case in latency::cases(&scene) {
        say(&format!("queries: {}", case.name));
        figures.queries.extend(latency::run(&scene, &case, &contenders, &processes, &idle, options.quick)?);
    }
    figures.processes = processes.report(&idle)?;

    for contender in &contenders {
        if options.quick && contender.kind == contender::Kind::IncumbentDefault {
            continue;
        }
        say(&format!("from a changed utilization to the HPA's decision: {}", contender.kind.label()));
        figures.decisions.extend(decision::run(&scene, contender, options.quick).await?);
    }

    say("dead exporters: until their values are no longer served");
    figures.staleness = staleness::run(&scene, &contenders, options.quick).await?;
    figures.finish(start.elapsed());
    say("done");
    Ok(figures)
}
