//! Which replicas go when 3 become 1: twenty services side by side with us, and twenty without.

use std::{fmt, time::Duration};

use futures::future::join_all;
use serde::Serialize;

use super::{
    cluster::namespace::Namespace,
    fleet::{ONPREM, Picture},
    karpenter::CLOUD,
    stage::Stage,
};

/// Services with us, and as many without.
pub const SERVICES: usize = 20;
/// Prefix of the namespaces with a ResourcePolicy.
const ORDERED: &str = "ordered";
/// Utilization at which the HPA wants more than three replicas, and one at which it wants one.
const BUSY: f64 = 95.0;
const CALM: f64 = 5.0;

fn uid(picture: &Picture, namespace: &str) -> Option<String> {
    picture.of(namespace).next().map(|pod| pod.uid.clone())
}

/// Without an order, which of several ready pods goes is told by the logarithms of their ages first, so that soon after a
/// burst the old one stays by itself. Only when the ages are of one power of two, this long after, is it chance.
const UNTIL_AGES_SAY_NOTHING: Duration = Duration::from_secs(75);

/// How many services have kept the replica on premises.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Releases with us, and as many without.
    pub releases: usize,
    /// With us.
    pub with_us: usize,
    /// As it comes from the ReplicaSet controller.
    pub without_us: usize,
    /// Seconds between the burst and the release: so long, because soon after a burst the order of ages is as we want it.
    pub age_seconds: u64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { releases, with_us, without_us, age_seconds } = self;
        write!(
            f,
            "release 3 to 1, {age_seconds} s after the burst, the replica on premises kept: {with_us} of {releases} with us, \
             {without_us} of {releases} without"
        )
    }
}

/// Lets all services burst and fall back side by side; the stage has two nodes on premises for each of [`SERVICES`].
pub async fn kept_at_home(stage: &Stage) -> Kept {
    let of = |prefix: &str| -> Vec<String> { (0..SERVICES).map(|i| format!("{prefix}-{i}")).collect() };
    let names = [of(ORDERED), of("unordered")].concat();
    let fleet = &stage.fleet;
    let force = |percent: f64| {
        for name in &names {
            fleet.force(name, Some(percent));
        }
    };
    force(CALM);
    let namespaces = join_all(names.iter().map(|name| Namespace::new(name))).await;
    for namespace in &namespaces {
        if namespace.name.starts_with(ORDERED) {
            stage.opt_in(namespace).await.unwrap();
            stage.order(namespace, "isvc.qwen-chat-predictor").await.unwrap();
        }
        stage.serve(namespace).await.unwrap();
    }
    let all = |wanted: &dyn Fn(&str) -> bool| names.iter().all(|name| wanted(name));
    let start = fleet
        .until("each service to have a replica on premises", |now| all(&|name| now.ready(name, ONPREM) == 1))
        .await
        .unwrap();
    let homes: Vec<_> = names.iter().map(|name| uid(&start, name)).collect();
    force(BUSY);
    fleet
        .until("each service to have two replicas in the cloud", |now| {
            all(&|name| now.ready(name, ONPREM) == 1 && now.ready(name, CLOUD) == 2)
        })
        .await
        .unwrap();
    tokio::time::sleep(UNTIL_AGES_SAY_NOTHING).await;
    force(CALM);
    let end = fleet
        .until("each service to be back at one replica", |now| all(&|name| now.of(name).count() == 1))
        .await
        .unwrap();
    let stayed: Vec<bool> =
        names.iter().zip(&homes).map(|(name, home)| end.ready(name, ONPREM) == 1 && uid(&end, name) == *home).collect();
    for namespace in namespaces {
        namespace.finish().await;
    }
    fleet
        .until("the services and the cloud nodes to go", |now| now.pods.is_empty() && now.machines(CLOUD) == 0)
        .await
        .unwrap();
    let (with, without) = stayed.split_at(SERVICES);
    let kept = |services: &[bool]| services.iter().filter(|stayed| **stayed).count();
    Kept {
        releases: SERVICES,
        with_us: kept(with),
        without_us: kept(without),
        age_seconds: UNTIL_AGES_SAY_NOTHING.as_secs(),
    }
}
