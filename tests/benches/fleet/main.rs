//! What a large fleet costs: 1,000 nodes with 8 cards each, a page of each every 10 s.
//!
//! This process is the adapter without its front door: the real scraper, store, publish cycle and publisher over real
//! sockets, a cluster view of 8,000 pods, the questions that the services' HPAs ask every 15 s (through `apiservice`'s
//! routes, without TLS, authentication and authorization), and the page of `/metrics` that Prometheus asks for as often.
//! The exporters run in a second process, so that the figures are the adapter's alone. The cluster does not change.
//!
//! `cargo bench --bench fleet -- --seconds 60 --json`. The exit status is 1 if a tick was missed, a scrape failed or a
//! question was not answered.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use tidegate::{
    clock::Clock,
    cluster::View,
    config::{self, Aggregate, Scrape, UrlTarget},
    gpu::Vocabulary,
    publish::{Publisher, cycle::Cycle},
    scrape::{Scraper, Store, targets},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

mod cluster;
mod exporters;
#[path = "../families.rs"]
mod families;
mod figures;
mod readers;

use figures::{Figures, Usage, Watched};

/// Often enough to see each snapshot: two of them lie 50 ms apart at least.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The simulated fleet and how long it is watched.
#[derive(Debug, Clone, clap::Parser)]
struct Args {
    /// Seconds of measurement, after a warm-up in which each target is scraped once.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Nodes.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Seconds between two scrapes of one node.
    #[arg(long, default_value_t = 10)]
    interval: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Ask nothing: no HPAs, no Prometheus.
    #[arg(long)]
    unread: bool,
    /// Be the second process: so many exporters.
    #[arg(long, hide = true, value_name = "NODES")]
    exporters: Option<usize>,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(nodes) = args.exporters {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(exporters::run(nodes))?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(&args))?;
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures}");
    }
    Ok(if figures.is_flawless() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args) -> anyhow::Result<Figures> {
    let interval = Duration::from_secs(args.interval.max(1));
    let bare = Usage::now()?;
    let (_exporters, ports) = start_exporters(args.nodes)?;
    let clock = Clock::start();
    let scrape = Scrape {
        interval: config::Duration(interval),
        targets: args.nodes,
        urls: ports.iter().enumerate().map(|(node, port)| url(node, *port)).collect(),
        // What is measured are exporters: the pods' addresses do not exist.
        serving: config::Serving { enabled: false, ..config::Serving::default() },
        ..Scrape::default()
    };
    let view = Arc::new(cluster::view(args.nodes, clock.now()));
    let vocabulary = Arc::new(Vocabulary::default());
    let store = Arc::new(Store::new());
    let publisher = Arc::new(Publisher::new(Arc::clone(&vocabulary), clock));
    let (stop, stopped) = watch::channel(false);
    let told = move || {
        let mut stopped = stopped.clone();
        async move { drop(stopped.wait_for(|stop| *stop).await) }
    };
    let mut tasks = JoinSet::new();

    let set = targets(&scrape, &view);
    ensure!(set.refusals.is_empty(), "all targets are scraped: {:?}", set.refusals);
    let (_sets, sets) = watch::channel(Arc::new(set));
    let scraper = Scraper::new(&scrape, Arc::clone(&vocabulary), clock, Arc::clone(&store));
    let scraping = scraper.run(sets, told());
    tasks.spawn(async move { scraping.await.map_err(anyhow::Error::from) });
    let cycle = Cycle {
        store: Arc::clone(&store),
        publisher: Arc::clone(&publisher),
        vocabulary,
        aggregate: Aggregate::default(),
        max_age: scrape.max_age(),
        clock,
    };
    let (_changes, changes) = watch::channel(0);
    let seen: Arc<View> = Arc::clone(&view);
    let cycling = cycle.run(move || Arc::clone(&seen), changes, told());
    tasks.spawn(async move {
        cycling.await;
        Ok(())
    });
    let answered = readers::Answered::default();
    if !args.unread {
        let router = readers::router(&publisher, &store, clock);
        readers::start(&mut tasks, &router, &view, &answered, &told);
    }

    // Each node's first page comes within one interval.
    let pods = view.pods.len();
    let began = Instant::now();
    while publisher.snapshot().readings.pods.len() < pods {
        ensure!(began.elapsed() < interval * 3, "each of {pods} pods has readings after three intervals");
        sleep(LOOK_EVERY).await;
    }
    let answered_before = answered.get();
    let before = (Usage::now()?, store.snapshot().totals, Instant::now());
    let mut watched = Watched::default();
    while before.2.elapsed() < Duration::from_secs(args.seconds) {
        watched.look(&publisher.snapshot(), clock.now());
        sleep(LOOK_EVERY).await;
    }
    let after = (Usage::now()?, store.snapshot().totals, Instant::now());
    let questions = readers::since(answered.get(), answered_before);
    let measured = publisher.snapshot().readings.pods.len();
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task died")??;
    }
    ensure!(measured == pods, "each of {pods} pods has readings, {measured} do");
    Ok(Figures::new(args, &view, &bare, &before, &after, questions, watched))
}

fn url(node: usize, port: u16) -> UrlTarget {
    UrlTarget {
        url: format!("http://127.0.0.1:{port}/metrics"),
        node: Some(cluster::node_name(node)),
        access: config::Access::default(),
    }
}

/// The second process; ended with this value.
struct Exporters(Child);

impl Drop for Exporters {
    fn drop(&mut self) {
        // Either fails only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This program once more, as the exporters; and their ports.
fn start_exporters(nodes: usize) -> anyhow::Result<(Exporters, Vec<u16>)> {
    let program = std::env::current_exe().context("this program's path")?;
    let child = Command::new(program)
        .args(["--exporters", &nodes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the exporters' process")?;
    let mut exporters = Exporters(child);
    let output = exporters.0.stdout.take().context("the exporters' standard output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("the exporters' ports")?;
    let ports: Vec<u16> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("a port")?;
    ensure!(ports.len() == nodes, "{} of {nodes} exporters listen; is `ulimit -n` too low?", ports.len());
    Ok((exporters, ports))
}
