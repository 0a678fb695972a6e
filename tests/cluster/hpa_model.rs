//! The model of the HPA beside the HPA itself: both see the same pods and the same answers, sync by sync, and must come to
//! the same.
//!
//! The HPAs run side by side, each on a target of its own that nothing but they scale. The metrics API server stands in for
//! the adapter as long as that takes.

use std::{
    collections::BTreeSet,
    io::Write as _,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
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
use tokio::{net::TcpListener, sync::oneshot, time::Instant};

use super::{
    adapter::{self, NAMESPACE, SERVICE, answered, point},
    namespace::Namespace,
    wait::{GLANCE, PATIENCE},
};
use scenario::Scenario;
use stage::{Look, MARK, Outcome, Stage};

mod cast;
mod edges;
mod scenario;
mod scenarios;
mod stage;

/// How often a scenario is played at most until both come to the same.
///
/// A machine that stands still for a moment can spoil a play: the controller then reads its clock late, or begins a sync from
/// a cache that is behind (`stage.rs`); and its garbage collector takes one of our deleted pods for failed when it comes by just
/// then. Nothing of that comes back at will, and the timelines are the same in each play: where the model is wrong, it is wrong
/// every time.
const PLAYS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_of_the_hpa_comes_to_what_the_hpa_comes_to_sync_by_sync() {
    let exclusive = adapter::exclusive().await;
    let mut left = scenarios::all();
    let mut shown = Shown::default();
    let mut wrong = String::new();
    for play in 1..=PLAYS {
        let record = perform(exclusive.adapter, &format!("hpa-model-{play}"), std::mem::take(&mut left)).await;
        wrong.clear();
        for (scenario, looks, broken) in record {
            match compare(&scenario, looks, broken) {
                Ok(same) => shown.add(same),
                Err(differs) => {
                    wrong += &format!("--- {}\n{differs}", scenario.name);
                    left.push(scenario);
                }
            }
        }
        if left.is_empty() {
            break;
        }
        // Not by `eprintln!`: libtest swallows that where nothing fails.
        writeln!(std::io::stderr(), "in play {play} the model differs from the HPA where marked:\n{wrong}").unwrap();
    }
    let Shown { syncs, ups, downs, inactive, limits, held } = shown;
    println!(
        "{syncs} syncs: {ups} up, {downs} down, {inactive} without a value; limited by {limits:?}; held for {held:?}"
    );
    assert!(
        left.is_empty(),
        "the model differs from the HPA in each of {PLAYS} plays, in the last where marked:\n{wrong}"
    );
    assert!(ups > 50 && downs > 25 && inactive > 20, "the scenarios show too little of the HPA");
    assert_eq!(limits.len(), 6, "the scenarios show every limit: {limits:?}");
}

/// Plays scenarios in a namespace of that name.
async fn perform(
    adapter: &adapter::Adapter,
    name: &str,
    scenarios: Vec<Scenario>,
) -> Vec<(Scenario, Vec<Look>, Option<String>)> {
    let namespace = Namespace::new(name).await;
    let (plane, client) = (namespace.plane, &namespace.client);
    let stage = Arc::new(Stage::new(client.clone(), &namespace.name, scenarios));
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
    point(client, SERVICE, adapter.port).await;
    answered(client, MARK, false).await;
    adapter.available(client).await.unwrap();
    services.delete(MARK, &DeleteParams::default()).await.unwrap();
    drop(stop);
    server.await.unwrap().unwrap();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    let record = stage.record().await;
    namespace.finish().await;
    record
}

/// Runs the real HPAs through their scenarios.
async fn play(namespace: &Namespace, stage: &Stage) {
    answered(&namespace.client, MARK, true).await;
    for scenario in stage.scenarios() {
        let created: HorizontalPodAutoscaler = namespace.create(scenario::object(scenario)).await;
        if scenario.name == "default" {
            spells_out_the_defaults(namespace, &created).await;
        }
    }
    let start = Instant::now();
    let (mut progress, mut since) = (String::new(), start);
    while !stage.finished().await {
        let now = stage.progress().await;
        if now != progress {
            (progress, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "no HPA has gone on for {PATIENCE:?}: {progress}");
        tokio::time::sleep(GLANCE).await;
    }
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

/// What the scenarios have shown of the HPA.
#[derive(Debug, Default)]
struct Shown {
    syncs: usize,
    ups: usize,
    downs: usize,
    inactive: usize,
    limits: BTreeSet<&'static str>,
    /// The longest that a question has waited for its answer.
    held: Duration,
}

impl Shown {
    fn add(&mut self, other: Self) {
        self.syncs += other.syncs;
        self.ups += other.ups;
        self.downs += other.downs;
        self.inactive += other.inactive;
        self.limits.extend(other.limits);
        self.held = self.held.max(other.held);
    }
}

/// Feeds the model what the HPA was shown. `Err`: all of it, with marks where they differ.
fn compare(scenario: &Scenario, looks: Vec<Look>, broken: Option<String>) -> Result<Shown, String> {
    let mut model = Hpa::new(scenario.spec.clone());
    let mut shown = Shown::default();
    let mut text = String::new();
    let mut agrees = broken.is_none();
    for Look { now, scale, words, pods, answers, rested, held, outcome } in looks {
        let Some(outcome) = outcome else { break };
        let sync = model.decide(now, scale, &pods, &answers);
        let differences = differences(scale, &sync, &outcome);
        agrees &= differences.is_empty();
        let mark = if differences.is_empty() { "  " } else { "!!" };
        let Scale { wanted, present } = scale;
        text += &format!("{mark} {now} ({rested:.1?} after the last, held for {held:.1?}) ");
        text += &format!("from {wanted} ({present}) {words} {answers:?}: {}", outcome.replicas);
        text += &format!(" {:?} {:?} {differences}\n", outcome.conditions, outcome.usage);
        shown.syncs += 1;
        shown.held = shown.held.max(held);
        shown.ups += usize::from(outcome.replicas > wanted);
        shown.downs += usize::from(outcome.replicas < wanted);
        shown.inactive += usize::from(sync.invalid.is_some());
        shown.limits.extend(sync.limit.map(Limit::reason));
    }
    text += &broken.map_or_else(String::new, |why| format!("broken off: {why}\n"));
    if agrees { Ok(shown) } else { Err(text) }
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
