//! The part that is not simulated: what `tidegate adapter` runs, in this process, with a simulated cluster's view instead of
//! watches and one client certificate instead of an API server to ask.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apiservice::{
    Authenticator, Authorizer, Limits, Tls,
    authentication::{Authority, Trust, TrustStore},
    router, secure,
};
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{SceneError, certificates::Certificates};
use crate::{
    clock::Clock,
    cluster::View,
    config::{Access, Config, Duration as Setting, Scrape, Serving, UrlTarget},
    gpu::Vocabulary,
    publish::{Publisher, cycle::Cycle},
    scrape::{Scraper, Store, TargetSet, targets},
    telemetry::{self, measured::Measured, process::Process},
};

/// Never connected to: the one client of the scene is a member of `system:masters`, which needs no review. Were it asked,
/// the answer would be no.
const NO_API_SERVER: &str = "http://127.0.0.1:9";

/// These exporters, each `interval`; no model servers.
#[must_use]
pub fn exporters<'a>(
    urls: impl IntoIterator<Item = (String, &'a str)>,
    interval: Duration,
    max_age: Duration,
) -> Scrape {
    let urls = urls.into_iter();
    let urls = urls.map(|(url, node)| UrlTarget { url, node: Some(node.into()), access: Access::default() }).collect();
    Scrape {
        interval: Setting(interval),
        timeout: Setting(interval / 2),
        max_age: Some(Setting(max_age)),
        urls,
        serving: Serving { enabled: false, ..Serving::default() },
        ..Scrape::default()
    }
}

/// The running adapter.
#[derive(Debug)]
pub struct Adapter {
    /// Where the metrics APIs are served.
    pub address: SocketAddr,
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// The families.
    pub vocabulary: Arc<Vocabulary>,
    /// What is scraped, and how.
    pub scrape: Scrape,
    view: Arc<ArcSwap<View>>,
    /// Counts views.
    seen: watch::Sender<u64>,
    targets: watch::Sender<Arc<TargetSet>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), SceneError>>,
}

impl Adapter {
    /// Scrapes what `scrape` says, and serves on a loopback port what that tells about the pods of the latest view; our own
    /// metrics on `metrics`, if wanted, with what is in `registry` already. Ages are by `clock`, the pace of scrapes by the
    /// machine's.
    ///
    /// # Errors
    /// A socket or certificate that cannot be used.
    pub async fn start(
        clock: Clock,
        scrape: Scrape,
        metrics: Option<SocketAddr>,
        mut registry: Registry,
        certificates: &Certificates,
    ) -> Result<Self, SceneError> {
        let config = Config::default();
        let max_age = scrape.max_age();
        let vocabulary = Arc::new(Vocabulary::default());
        let store = Arc::new(Store::new());
        let publisher = Arc::new(Publisher::new(Arc::clone(&vocabulary), clock));
        let view = Arc::new(ArcSwap::from_pointee(View::default()));
        let seen = watch::Sender::new(0);
        let set = watch::Sender::new(Arc::new(targets(&scrape, &View::default())));
        let stop = watch::Sender::new(false);
        let stopped = || {
            let mut stopped = stop.subscribe();
            async move {
                // An error means that the adapter is gone: stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        let mut tasks = JoinSet::new();

        let scraper = Scraper::new(&scrape, Arc::clone(&vocabulary), clock, Arc::clone(&store));
        let scraping = scraper.run(set.subscribe(), stopped());
        tasks.spawn(async move { Ok(scraping.await?) });

        let cycle = Cycle {
            store: Arc::clone(&store),
            publisher: Arc::clone(&publisher),
            vocabulary: Arc::clone(&vocabulary),
            aggregate: config.aggregate,
            max_age,
            clock,
        };
        let latest = Arc::clone(&view);
        let publishing = cycle.run(move || latest.load_full(), seen.subscribe(), stopped());
        tasks.spawn(async move {
            publishing.await;
            Ok(())
        });

        let trust = Trust {
            client_ca: Some(Authority::from_pem("the demo's authority", certificates.authority.as_bytes())?),
            request_header: None,
        };
        let nobody = kube::Config::new(http::Uri::from_static(NO_API_SERVER));
        let authorizer = Authorizer::new(kube::Client::try_from(nobody)?);
        let authenticator = Authenticator::new(Arc::new(TrustStore::only(trust)), None);
        registry.register_collector(Box::new(Process));
        let series = config.telemetry.series;
        let measured = Measured { publisher: Arc::clone(&publisher), store, clock, series };
        registry.register_collector(Box::new(measured));
        let options = router::Options::new(registry, move || clock.now());
        if let Some(address) = metrics {
            let pages = telemetry::server::Pages {
                registry: Arc::clone(&options.registry),
                metrics: options.metrics.clone(),
                live: Arc::new(|| Ok(())),
                ready: Arc::new(|| Ok(())),
            };
            let serving = telemetry::server::serve(TcpListener::bind(address).await?, Arc::new(pages), stopped());
            tasks.spawn(async move { Ok(serving.await?) });
        }
        let own = options.metrics.clone();
        let routes = router::router(Arc::clone(&publisher), options);
        let app = secure(routes, own.clone(), Arc::new(authenticator), Arc::new(authorizer));
        let tls = Tls::from_pem(certificates.server.as_bytes(), certificates.server_key.as_bytes())?;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = apiservice::serve(listener, tls, app, own, Limits::default(), stopped());
        tasks.spawn(async move { Ok(serving.await?) });

        Ok(Self { address, publisher, vocabulary, scrape, view, seen, targets: set, stop, tasks })
    }

    /// Takes over what the cluster looks like now.
    pub fn see(&self, view: View) {
        let targets = targets(&self.scrape, &view);
        self.targets.send_if_modified(|known| {
            let changed = **known != targets;
            if changed {
                *known = Arc::new(targets);
            }
            changed
        });
        self.view.store(Arc::new(view));
        self.seen.send_modify(|seen| *seen += 1);
    }

    /// Completes when a part has ended, which none does by itself unless something is wrong with it.
    pub async fn ended(&mut self) -> SceneError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => SceneError::Died(error.to_string()),
            Some(Ok(Ok(()))) | None => SceneError::Died("it ended early".into()),
        }
    }

    /// Ends all parts and waits for them.
    ///
    /// # Errors
    /// The first part's that failed.
    pub async fn stop(mut self) -> Result<(), SceneError> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| SceneError::Died(error.to_string()))??;
        }
        Ok(())
    }
}
