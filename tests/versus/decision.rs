//! From a changed utilization to the changed decision of the HPA, with each adapter in turn behind the APIService.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Service, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster::{
        raw,
        timeline::{Moment, Timeline},
        wait::eventually_or_error,
        workload::{Load, METRIC},
    },
    contender::{Contender, Kind, NAMESPACE},
    quantity::items,
    scene::{CALM, Scene},
};

const BUSY: f64 = 80.0;
/// The HPA's sync period on this control plane. Changes are spread evenly over it: otherwise each would follow the HPA's
/// last look by the same time.
const SYNC: Duration = Duration::from_secs(2);

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From 10 to 80.
    Up,
    /// From 80 to 10. The stabilization window of 10 s is in it.
    Down,
}

/// Seconds from the exporter's new value to the Deployment's new number of replicas.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// Who answered the HPA.
    pub contender: Kind,
    /// Which way.
    pub direction: Direction,
    /// To the first change.
    pub first: Spread,
    /// To the last change: 1 → 2 → 3.
    pub last: Spread,
}

/// Of some cycles, seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Spread {
    /// How many.
    pub cycles: usize,
    /// The shortest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The longest.
    pub max: f64,
}

impl Spread {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |i: usize| seconds.get(i).copied().unwrap_or(f64::NAN);
        let cycles = seconds.len();
        Self { cycles, min: at(0), median: at(cycles / 2), max: at(cycles.saturating_sub(1)) }
    }
}

/// The cycles of one contender.
pub async fn run(scene: &Scene<'_>, contender: &Contender, quick: bool) -> Result<[Decision; 2], String> {
    let cycles = if quick { 1 } else { 5 };
    let workload = &scene.scaled.workload;
    let timeline = workload.timeline();
    point_at(scene, contender).await?;
    let reads = |percent: f64, replicas: i32| {
        let value = percent.to_string();
        move |m: &Moment| {
            m.active && m.value.as_deref() == Some(&value) && m.replicas == replicas && m.ready == replicas
        }
    };
    timeline.until("the HPA reads 10 % through this adapter", reads(CALM, 1)).await?;

    let (mut up, mut down) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for cycle in 0..cycles {
        tokio::time::sleep(SYNC * (2 * cycle + 1) / (2 * cycles)).await;
        measure(&timeline, || workload.set_load(Load::Each(BUSY)), 1, 3, &mut up).await?;
        timeline.until("three replicas at 80 %", reads(BUSY, 3)).await?;
        tokio::time::sleep(SYNC * (2 * cycle + 1) / (2 * cycles)).await;
        measure(&timeline, || workload.set_load(Load::Each(CALM)), 3, 1, &mut down).await?;
        timeline.until("one replica at 10 %", reads(CALM, 1)).await?;
        contender.alive()?;
    }
    let decision = |direction, [first, last]: [Vec<f64>; 2]| Decision {
        contender: contender.kind,
        direction,
        first: Spread::of(first),
        last: Spread::of(last),
    };
    Ok([decision(Direction::Up, up), decision(Direction::Down, down)])
}

async fn measure(
    timeline: &Timeline,
    change: impl Fn(),
    from: i32,
    to: i32,
    seconds: &mut [Vec<f64>; 2],
) -> Result<(), String> {
    let start = Instant::now();
    change();
    timeline.until("the first new number of replicas", |m| m.replicas != from).await?;
    seconds[0].push(start.elapsed().as_secs_f64());
    timeline.until(&format!("{to} replicas"), |m| m.replicas == to).await?;
    seconds[1].push(start.elapsed().as_secs_f64());
    Ok(())
}

/// Makes `v1beta1.custom.metrics.k8s.io` that adapter, and waits until the aggregator has seen it.
async fn point_at(scene: &Scene<'_>, contender: &Contender) -> Result<(), String> {
    let client = &scene.scaled.namespace.client;
    let field_manager = PatchParams::apply("versus").force();
    let name = contender.kind.name();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        // The cluster network does not exist: an external name on this machine stands in for the Service's pods.
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": contender.port}]},
    });
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    services.patch(name, &field_manager, &Patch::Apply(&service)).await.map_err(|error| error.to_string())?;
    let api_service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.custom.metrics.k8s.io"},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": NAMESPACE, "name": name, "port": contender.port},
            "insecureSkipTLSVerify": true,
        },
    });
    let api_services: Api<APIService> = Api::all(client.clone());
    api_services
        .patch("v1beta1.custom.metrics.k8s.io", &field_manager, &Patch::Apply(&api_service))
        .await
        .map_err(|error| error.to_string())?;
    let path = scene.scaled.path(METRIC);
    eventually_or_error(&format!("the aggregator to answer with {}", contender.kind.label()), async || {
        contender.alive()?;
        // What tells them apart: only ours has InferenceServices.
        let discovery = raw::get(client, "/apis/custom.metrics.k8s.io/v1beta1").await?.to_string();
        if discovery.contains("inferenceservices") != (contender.kind == Kind::Tidegate) {
            return Err("the other one answers".to_owned());
        }
        let list = raw::get(client, &path).await?.to_string();
        if items(list.as_bytes())?.len() == 1 { Ok(()) } else { Err(list) }
    })
    .await
}
