//! The part that is not simulated: what `tidegate adapter` runs, in this process, with a simulated cluster's view instead of
//! watches and one client certificate instead of an API server to ask.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use apiservice::{
    Authenticator, Authorizer, Limits, Tls,
    authentication::{Authority, Trust, TrustStore},
    router, secure,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{SceneError, certificates::Certificates};
use crate::{
    clock::Clock,
    cluster::View,
    config::{Config, Duration as Setting, UrlTarget},
    gpu::Vocabulary,
    publish::{Publisher, Snapshot},
    scrape::{Scraper, Store, TargetSet, targets},
};

/// Never connected to: the one client of the scene is a member of `system:masters`, which needs no review. Were it asked,
/// the answer would be no.
const NO_API_SERVER: &str = "http://127.0.0.1:9";

/// The running adapter.
#[derive(Debug)]
pub struct Adapter {
    /// Where the metrics APIs are served.
    pub address: SocketAddr,
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// What was scraped.
    pub store: Arc<Store>,
    /// The families.
    pub vocabulary: Arc<Vocabulary>,
    /// Age beyond which a value is unknown.
    pub max_age: Duration,
    views: watch::Sender<Arc<View>>,
    // Dropped with the adapter, which ends the scraper's wait for more targets.
    _targets: watch::Sender<Arc<TargetSet>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), SceneError>>,
}

impl Adapter {
    /// Scrapes `urls` every `interval`, and serves on a loopback port what that says about the pods of the latest view.
    ///
    /// # Errors
    /// A socket or certificate that cannot be used.
    pub async fn start(
        clock: Clock,
        urls: Vec<(String, &'static str)>,
        interval: Duration,
        max_age: Duration,
        certificates: &Certificates,
    ) -> Result<Self, SceneError> {
        let mut config = Config::default();
        config.scrape.interval = Setting(interval);
        config.scrape.timeout = Setting(interval / 2);
        config.scrape.max_age = Some(Setting(max_age));
        config.scrape.urls = urls
            .into_iter()
            .map(|(url, node)| UrlTarget { url, node: Some(node.into()), access: crate::config::Access::default() })
            .collect();
        let vocabulary = Arc::new(Vocabulary::default());
        let store = Arc::new(Store::new());
        let publisher = Arc::new(Publisher::new(Arc::clone(&vocabulary), clock));
        let views = watch::Sender::new(Arc::new(View::default()));
        let set = watch::Sender::new(Arc::new(targets(&config.scrape, &View::default())));
        let stop = watch::Sender::new(false);
        let stopped = || {
            let mut stopped = stop.subscribe();
            async move {
                // An error means that the adapter is gone: stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        let mut tasks = JoinSet::new();

        let scraper = Scraper::new(&config.scrape, Arc::clone(&vocabulary), clock, Arc::clone(&store));
        let scraping = scraper.run(set.subscribe(), stopped());
        tasks.spawn(async move { Ok(scraping.await?) });

        let publish = Publish {
            store: Arc::clone(&store),
            views: views.subscribe(),
            publisher: Arc::clone(&publisher),
            vocabulary: Arc::clone(&vocabulary),
            config,
            clock,
            max_age,
        };
        let publishing = publish.run(stopped());
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
        let options = router::Options::new(prometheus_client::registry::Registry::default(), move || clock.now());
        let routes = router::router(Arc::clone(&publisher), options);
        let app = secure(routes, Arc::new(authenticator), Arc::new(authorizer));
        let tls = Tls::from_pem(certificates.server.as_bytes(), certificates.server_key.as_bytes())?;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = apiservice::serve(listener, tls, app, Limits::default(), stopped());
        tasks.spawn(async move { Ok(serving.await?) });

        Ok(Self { address, publisher, store, vocabulary, max_age, views, _targets: set, stop, tasks })
    }

    /// Takes over what the cluster looks like now.
    pub fn see(&self, view: View) {
        self.views.send_replace(Arc::new(view));
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

/// Readings are made anew whenever a page, or the cluster, has changed.
struct Publish {
    store: Arc<Store>,
    views: watch::Receiver<Arc<View>>,
    publisher: Arc<Publisher>,
    vocabulary: Arc<Vocabulary>,
    config: Config,
    clock: Clock,
    max_age: Duration,
}

impl Publish {
    async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut pages = self.store.changes();
        tokio::pin!(stopped);
        loop {
            let batches: Vec<_> = self.store.snapshot().batches().map(Arc::clone).collect();
            let view = Arc::clone(&self.views.borrow_and_update());
            let vocabulary = Arc::clone(&self.vocabulary);
            let now = self.clock.now();
            let snapshot = Snapshot::build(&batches, view, vocabulary, &self.config.aggregate, now, self.max_age);
            self.publisher.publish(snapshot);
            tokio::select! {
                // Both senders outlive this task; it ends when it is told to.
                Ok(()) = pages.changed() => {}
                Ok(()) = self.views.changed() => {}
                () = &mut stopped => return,
            }
        }
    }
}
