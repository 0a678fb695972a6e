//! `tidegate adapter`: every stage as a task, from the exporters' pages to the metrics APIs.
//!
//! ```text
//! cluster watches ─▶ Index ──▶ targets ─▶ Scraper ─▶ Store
//!                      │                               │
//!                      └───────────▶ Cycle ◀───────────┘
//!                                      │
//!                                  Publisher ─▶ metrics APIs, /metrics
//! ```
//!
//! Every task is joined, and the end of one that should go on ends the process: a half-dead adapter would serve nothing
//! new and say nothing about it.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use apiservice::{
    Authenticator, Authorizer, Limits, Options, VersionInfo,
    authentication::{Trust, TrustStore, watch_trust},
    health::Check,
    metrics::Metrics,
    router::router,
    tls::TlsError,
};
use axum::Router;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet},
};

use crate::{
    burst,
    clock::Clock,
    cluster::{self, Index, Kind},
    config::{Config, Group, Scrape, Serve},
    control::{CannotRecord, Control},
    gpu::{Vocabulary, VocabularyError},
    publish::{
        Publisher, cycle,
        passthrough::{Passthrough, PassthroughError, owners::foreign_owners},
    },
    scrape::{Scraper, ScraperError, Store, TargetSet, targets},
    telemetry::{
        measured::Measured,
        process::Process,
        server::{Pages, serve as serve_telemetry},
        steps::Steps,
    },
};

mod certificate;
mod health;

use certificate::{Certificate, Missing};
use health::{Readiness, livez};

/// How often it is looked at who owns the API groups: they change hands when somebody installs something.
const OWNERS_INTERVAL: Duration = Duration::from_mins(1);
/// Changes of the cluster that arrive within this time are taken together: with thousands of serving pods there is always
/// one, and the set of targets is made anew for each.
const TARGETS_REST: Duration = Duration::from_millis(250);

/// Why the adapter ended.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// An address is taken or not ours.
    #[error("{field}: cannot listen on {address}: {source}")]
    Bind {
        /// The setting.
        field: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The vocabulary's settings contradict each other.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The serving certificate.
    #[error("the serving certificate: {0}; --tls-cert-file and --tls-key-file would give another")]
    Tls(#[from] TlsError),
    /// The recording of decisions.
    #[error(transparent)]
    Record(#[from] CannotRecord),
    /// The other adapter's settings.
    #[error(transparent)]
    Passthrough(#[from] PassthroughError),
    /// A server stopped accepting.
    #[error("a server ended: {0}")]
    Server(#[from] std::io::Error),
    /// A watch of the cluster died.
    #[error(transparent)]
    Cluster(#[from] cluster::watch::WatchEnded),
    /// A scrape task died.
    #[error(transparent)]
    Scraper(#[from] ScraperError),
    /// A task panicked.
    #[error("a task died: {0}")]
    Task(#[from] JoinError),
    /// A task ended that should not.
    #[error("the task {0:?} ended by itself")]
    Ended(&'static str),
}

/// Completes when the sender says so, or is gone.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // an error: the sender is gone, which says the same
}

/// The tasks, and what tells them to stop.
struct Tasks {
    set: JoinSet<Result<&'static str, AdapterError>>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    fn new() -> Self {
        Self { set: JoinSet::new(), stop: watch::Sender::new(false) }
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        told(self.stop.subscribe())
    }

    fn spawn<T, E: Into<AdapterError>>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<T, E>> + Send + 'static,
    ) {
        self.set.spawn(async move { task.await.map(|_| name).map_err(Into::into) });
    }

    fn spawn_quiet(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok::<_, AdapterError>(())
        });
    }

    /// Runs until `shutdown` or until a task ends, then stops and joins them all.
    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AdapterError> {
        let first = tokio::select! {
            () = shutdown => Ok(()),
            Some(ended) = self.set.join_next() => match ended {
                Ok(Ok(name)) => Err(AdapterError::Ended(name)),
                Ok(Err(error)) => Err(error),
                Err(error) => Err(error.into()),
            },
        };
        self.stop.send_replace(true);
        let mut result = first;
        while let Some(ended) = self.set.join_next().await {
            let ended = ended.map_err(AdapterError::from).and_then(|ended| ended);
            result = result.and(ended.map(|_| ()));
        }
        result
    }
}

/// Runs until `shutdown` completes, then drains.
///
/// # Errors
/// [`AdapterError`].
pub async fn run(
    settings: Config,
    client: kube::Client,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AdapterError> {
    let Config { scrape, vocabulary, aggregate, serve, burst: order, control, telemetry } = settings;
    let api_listener = bind("serve.listen", serve.listen).await?;
    let telemetry_listener = bind("telemetry.listen", telemetry.listen).await?;
    let webhook_listener = match order.webhook_listen {
        Some(address) => Some(bind("burst.webhookListen", address).await?),
        None => None,
    };

    let clock = Clock::start();
    let vocabulary = Arc::new(Vocabulary::new(&vocabulary)?);
    let decided: &[Kind] = if control.enabled { &Kind::DECIDED } else { &[] };
    let ordered: &[Kind] = if order.enabled { &Kind::ORDERED } else { &[] };
    let kinds = [&Kind::MEASURED, decided, ordered].concat();
    let index = Arc::new(Index::new(&aggregate, &kinds));
    let store = Arc::new(Store::new());
    let publisher = Arc::new(Publisher::new(Arc::clone(&vocabulary), clock));
    let mut tasks = Tasks::new();

    // Reading.
    let stopped = tasks.stopped();
    let watches = cluster::watch::run(client.clone(), Arc::clone(&index));
    tasks.spawn("cluster watches", async move {
        tokio::select! {
            () = stopped => Ok(()),
            Err(error) = watches => Err(error),
        }
    });
    let (set, sets) = watch::channel(Arc::new(targets(&scrape, &index.view())));
    tasks.spawn_quiet("targets", follow_targets(scrape.clone(), Arc::clone(&index), set, tasks.stopped()));
    let scraper = Scraper::new(&scrape, Arc::clone(&vocabulary), clock, Arc::clone(&store));
    tasks.spawn("scraper", scraper.run(sets, tasks.stopped()));

    // Attributing, aggregating.
    let cycle = cycle::Cycle {
        store: Arc::clone(&store),
        publisher: Arc::clone(&publisher),
        vocabulary,
        aggregate,
        max_age: scrape.max_age(),
        clock,
    };
    let view = Arc::clone(&index);
    tasks.spawn_quiet("cycle", cycle.run(move || view.view(), index.changes(), tasks.stopped()));

    // Deciding.
    let mut registry = Registry::default();
    let honours = Arc::new(OnceLock::new());
    if control.enabled {
        let namespace = &serve.service_namespace;
        let control = Control::new(&control, scrape.clone(), namespace, &client, Arc::clone(&publisher), clock)?;
        if order.enabled {
            let controller = burst::controller::Controller {
                client: client.clone(),
                publisher: Arc::clone(&publisher),
                scrape: scrape.clone(),
                scheduler: order.scheduler,
                honours: Arc::clone(&honours),
                leadership: control.leadership(),
                identity: control.reporter.identity.clone(),
                found: Arc::clone(&control.reporter.found),
                clock,
            };
            registry.register_collector(Box::new(burst::announce::Shown(Arc::clone(&controller.found))));
            tasks.spawn_quiet("release order", controller.run(tasks.stopped()));
        }
        let Control { election, ticker, actor, reporter, rounds, shown } = control;
        registry.register_collector(Box::new(shown));
        tasks.spawn_quiet("lease", election.run(tasks.stopped()));
        tasks.spawn_quiet("decisions", ticker.run(tasks.stopped()));
        tasks.spawn_quiet("scaling", actor.run(rounds.clone(), tasks.stopped()));
        tasks.spawn_quiet("reporting", reporter.run(rounds, tasks.stopped()));
    }

    // Serving.
    let trust = Arc::new(TrustStore::new(Trust::default()));
    tasks.spawn_quiet("trust", watch_trust(client.clone(), Arc::clone(&trust), tasks.stopped()));
    registry.register_collector(Box::new(Process));
    let steps = Steps::default();
    registry.register_collector(Box::new(steps.clone()));
    tasks.spawn_quiet("clock", steps.watch(clock, tasks.stopped()));
    registry.register_collector(Box::new(Measured {
        publisher: Arc::clone(&publisher),
        store: Arc::clone(&store),
        clock,
        series: telemetry.series,
    }));
    let live = livez(Arc::clone(&publisher), clock);
    let missing = Missing::new();
    let ready = Readiness {
        certificate: missing.clone(),
        scrape: scrape.clone(),
        index: Arc::clone(&index),
        publisher: Arc::clone(&publisher),
        store: Arc::clone(&store),
        trust: Arc::clone(&trust),
    };
    let ready = ready.probe();
    let mut options = Options::new(registry, move || clock.now());
    options.apis.retain(|api| serve.groups.contains(&group(*api)));
    options.version = VersionInfo::of(concat!("v", env!("CARGO_PKG_VERSION")));
    let probe = Arc::clone(&live);
    options.checks.push(Check::live("cycle", move || probe()));
    let probe = Arc::clone(&ready);
    options.checks.push(Check::ready("measured", move || probe()));
    let (registry, metrics) = (Arc::clone(&options.registry), options.metrics.clone());
    let pages = Arc::new(Pages { registry, metrics: metrics.clone(), live, ready });
    tasks.spawn("telemetry", serve_telemetry(telemetry_listener, pages, tasks.stopped()));
    let webhook =
        webhook_listener.map(|listener| (listener, burst::webhook::routes(Arc::clone(&publisher), honours, clock)));
    let authenticator = Arc::new(Authenticator::new(trust, Some(client.clone())));
    let authorizer = Arc::new(Authorizer::new(client.clone()));
    tasks.spawn_quiet("owners", until(tasks.stopped(), tell_owners(client.clone(), serve.clone())));
    let routes = if let Some(other) = &serve.passthrough {
        let provider = Passthrough::new(publisher, other)?;
        tasks.spawn_quiet("passthrough", until(tasks.stopped(), provider.refresh()));
        router(Arc::new(provider), options)
    } else {
        router(publisher, options)
    };
    let app = apiservice::secure(routes, metrics.clone(), authenticator, authorizer);
    let serving = Serving {
        certificate: Certificate { serve, webhook: order.webhook_configuration, client, missing },
        apis: (api_listener, app),
        webhook,
        metrics,
    };
    tasks.spawn("serving", serving.run(tasks.stopped()));

    tasks.run(shutdown).await
}

/// What is served once there is a certificate.
struct Serving {
    certificate: Certificate,
    apis: (TcpListener, Router),
    webhook: Option<(TcpListener, Router)>,
    metrics: Metrics,
}

impl Serving {
    async fn run(self, stopped: impl Future<Output = ()>) -> Result<(), AdapterError> {
        let Self { certificate, apis: (listener, app), webhook, metrics } = self;
        let mut stopped = std::pin::pin!(stopped);
        let mut tasks = Tasks::new();
        let address = certificate.serve.listen;
        let tls = tokio::select! {
            () = &mut stopped => return Ok(()),
            tls = certificate.obtain(&mut tasks) => tls?,
        };
        if let Some((listener, app)) = webhook {
            let serving = apiservice::serve(listener, tls.clone(), app, None, Limits::default(), tasks.stopped());
            tasks.spawn("admission webhook", serving);
        }
        tracing::info!(%address, "serving the metrics APIs");
        let serving = apiservice::serve(listener, tls, app, metrics, Limits::default(), tasks.stopped());
        tasks.spawn("metrics APIs", serving);
        tasks.run(stopped).await
    }
}

/// Runs `task` until `stopped`.
async fn until(stopped: impl Future<Output = ()>, task: impl Future<Output = Infallible>) {
    tokio::select! {
        () = stopped => {}
        never = task => match never {},
    }
}

/// Says who else owns a group that we are to serve (R13), once for each change of the answer.
async fn tell_owners(client: kube::Client, serve: Serve) -> Infallible {
    let mut told = Vec::new();
    loop {
        match foreign_owners(&client, &serve).await {
            Ok(owners) if owners != told => {
                for owner in &owners {
                    tracing::warn!("{owner}");
                }
                told = owners;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot see who owns the metrics APIs"),
        }
        tokio::time::sleep(OWNERS_INTERVAL).await;
    }
}

async fn bind(field: &'static str, address: SocketAddr) -> Result<TcpListener, AdapterError> {
    TcpListener::bind(address).await.map_err(|source| AdapterError::Bind { field, address, source })
}

const fn group(api: apiservice::Api) -> Group {
    match api.group() {
        apiservice::Group::Custom => Group::Custom,
        apiservice::Group::External => Group::External,
    }
}

/// Keeps the target set at what the cluster says.
async fn follow_targets(
    scrape: Scrape,
    index: Arc<Index>,
    set: watch::Sender<Arc<TargetSet>>,
    shutdown: impl Future<Output = ()>,
) {
    let mut changes = index.changes();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        changes.mark_unchanged();
        let now = targets(&scrape, &index.view());
        set.send_if_modified(|before| {
            let changed = **before != now;
            *before = Arc::new(now);
            changed
        });
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(TARGETS_REST) => {}
        }
        tokio::select! {
            () = &mut shutdown => return,
            // The index lives as long as this task: its sender is never gone.
            _ = changes.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests;
