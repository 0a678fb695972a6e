//! The model of the HPA beside the HPA itself: both see the same pods and the same answers, sync by sync, and must come to
//! the same.
//!
//! The HPAs run side by side, each on a target of its own that nothing but they scale. The metrics API server stands in for
//! the adapter as long as that takes.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use apiservice::{Limits, Options, tls::CertificateFiles};
use futures::FutureExt as _;
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Service};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use tidegate::sim::hpa::{Behavior, Hpa, Limit, Scale, Sync};
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    adapter::{self, NAMESPACE, SERVICE, answered, point},
    namespace::Namespace,
    wait::eventually,
};
use scenario::Scenario;
use stage::{Look, MARK, Outcome, Stage};

mod scenario;
mod scenarios;
mod stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_of_the_hpa_comes_to_what_the_hpa_comes_to_sync_by_sync() {
    let exclusive = adapter::exclusive().await;
    let namespace = Namespace::new("hpa-model").await;
    let (plane, client) = (namespace.plane, &namespace.client);
    let stage = Arc::new(Stage::new(client.clone(), &namespace.name, scenarios::all()));
    stage.set_up().await;

    let (certificate, key) =
        plane.authority.issue(MARK, &[], &[&format!("{MARK}.{NAMESPACE}.svc")]).write(plane.folder(), MARK);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tls, _) = CertificateFiles { certificate, key }.load(std::future::pending()).unwrap();
    let options = Options::new(prometheus_client::registry::Registry::default(), stage::now);
    let app = apiservice::router(Arc::clone(&stage), options);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(apiservice::serve(listener, tls, app, None, Limits::default(), shutdown));
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": MARK},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }))
    .unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    services.create(&PostParams::default(), &service).await.unwrap();

    point(client, MARK, port).await;
    let outcome = AssertUnwindSafe(play(&namespace, &stage)).catch_unwind().await;
    // The other tests want the adapter back, whatever has become of this one.
    point(client, SERVICE, exclusive.adapter.port).await;
    answered(client, MARK, false).await;
    exclusive.adapter.available(client).await.unwrap();
    services.delete(MARK, &DeleteParams::default()).await.unwrap();
    drop(stop);
    server.await.unwrap().unwrap();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    compare(stage.record().await);
    namespace.finish().await;
}

/// Runs the real HPAs through their scenarios.
async fn play(namespace: &Namespace, stage: &Stage) {
    answered(&namespace.client, MARK, true).await;
    for scenario in scenarios::all() {
        let created: HorizontalPodAutoscaler = namespace.create(scenario::object(&scenario)).await;
        if scenario.name == "default" {
            spells_out_the_defaults(namespace, &created).await;
        }
    }
    let start = tokio::time::Instant::now();
    let finished = async || match stage.finished().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(stage.progress().await),
        Err(broken) => panic!("{broken}"),
    };
    eventually("the HPAs to have gone through their scenarios", finished).await;
    println!("{:.0} s for {}", start.elapsed().as_secs_f64(), stage.progress().await);
}

/// What the model holds for Kubernetes' defaults is what the API server fills in.
async fn spells_out_the_defaults(namespace: &Namespace, spelt: &HorizontalPodAutoscaler) {
    let mut object = serde_json::to_value(spelt).unwrap();
    object["metadata"] = json!({"name": "defaults"});
    let window = Behavior::default().down.window.as_secs();
    object["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": window}});
    let defaulted: HorizontalPodAutoscaler = namespace.create(object).await;
    namespace.api::<HorizontalPodAutoscaler>().delete("defaults", &DeleteParams::default()).await.unwrap();
    let mut spelt = spelt.spec.behavior.clone().unwrap();
    for rules in [&mut spelt.scale_up, &mut spelt.scale_down] {
        // Left out, it is the cluster's.
        assert_eq!(rules.as_mut().unwrap().tolerance.take().unwrap().0, "100m");
    }
    assert_eq!(defaulted.spec.behavior.unwrap(), spelt);
}

/// Feeds the model what the HPAs were shown.
fn compare(record: Vec<(&Scenario, Vec<Look>)>) {
    let mut limits = BTreeSet::new();
    let (mut syncs, mut ups, mut downs, mut inactive) = (0, 0, 0, 0);
    let mut wrong = String::new();
    for (scenario, looks) in record {
        let mut model = Hpa::new(scenario.spec.clone());
        let mut text = String::new();
        let mut agrees = true;
        for Look { now, scale, words, pods, answers, outcome } in looks {
            let sync = model.decide(now, scale, &pods, &answers);
            let outcome = outcome.expect("read at the next sync");
            let differences = differences(scale, &sync, &outcome);
            agrees &= differences.is_empty();
            let mark = if differences.is_empty() { "  " } else { "!!" };
            let Scale { wanted, present } = scale;
            text += &format!("{mark} {now} from {wanted} ({present}) {words} {answers:?}: {}", outcome.replicas);
            text += &format!(" {:?} {:?} {differences}\n", outcome.conditions, outcome.usage);
            syncs += 1;
            ups += usize::from(outcome.replicas > wanted);
            downs += usize::from(outcome.replicas < wanted);
            inactive += usize::from(sync.invalid.is_some());
            limits.extend(sync.limit.map(Limit::reason));
        }
        if !agrees {
            wrong += &format!("--- {}\n{text}", scenario.name);
        }
    }
    println!("{syncs} syncs: {ups} up, {downs} down, {inactive} without a value; limited by {limits:?}");
    assert!(wrong.is_empty(), "the model differs from the HPA where marked:\n{wrong}");
    assert!(ups > 50 && downs > 25 && inactive > 20, "the scenarios show too little of the HPA");
    assert_eq!(limits.len(), 6, "the scenarios show every limit: {limits:?}");
}

/// In which the model differs from what the HPA came to; empty if in nothing.
fn differences(scale: Scale, sync: &Sync, outcome: &Outcome) -> String {
    let mut differences = String::new();
    let mut differ = |what: &str, model: String, real: String| {
        if model != real {
            differences += &format!("{what}: model {model}, HPA {real}; ");
        }
    };
    let Sync { desired, limit, usage, items: _, invalid } = sync;
    differ("replicas", desired.to_string(), outcome.replicas.to_string());
    differ("usage", format!("{usage:?}"), format!("{:?}", outcome.usage));
    let condition = |kind: &str| match outcome.conditions.get(kind) {
        Some((status, reason)) => format!("{status} {reason}"),
        None => "none".into(),
    };
    let active = invalid.as_ref().map_or("true ValidMetricFound".into(), |(reason, _)| format!("false {reason}"));
    differ("ScalingActive", active, condition("ScalingActive"));
    if invalid.is_some() {
        // It stops there: what it said before stays.
        return differences;
    }
    differ("desiredReplicas", desired.to_string(), outcome.desired.to_string());
    let stabilized = limit.filter(|limit| matches!(limit, Limit::ScaleUpStabilized | Limit::ScaleDownStabilized));
    let able = match (stabilized, limit) {
        _ if *desired != scale.wanted => Some("SucceededRescale"),
        (Some(stabilized), _) => Some(stabilized.reason()),
        (None, None) => Some("ReadyForNewScale"),
        // Of two limits the model names the one that bound last.
        (None, Some(_)) => None,
    };
    if let Some(able) = able {
        differ("AbleToScale", format!("true {able}"), condition("AbleToScale"));
    }
    let limited = match limit.filter(|_| stabilized.is_none()) {
        Some(limit) => format!("true {}", limit.reason()),
        None => "false DesiredWithinRange".into(),
    };
    differ("ScalingLimited", limited, condition("ScalingLimited"));
    differences
}
