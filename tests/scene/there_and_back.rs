//! The seed's command, its load, and the way back that the seed leaves out: with arena's HPA, and with a ScalingPolicy in its
//! place.

use futures::future::join_all;

use serde_json::json;

use super::{
    cluster::{kubectl::create, namespace::Namespace, wait::eventually_or_error},
    course::{Course, play},
    fleet::ONPREM,
    karpenter::{CLOUD, CONSOLIDATE_AFTER, POOL},
    ledger::Return,
    prometheus::Prometheus,
    stage::Stage,
    way::Way,
};

/// One service each, side by side.
const WAYS: [Way; 3] = [Way::Plain, Way::Advise, Way::Act];
/// How far the counted GPU seconds of a replica may be from what the API server's events say: the counter moves with the
/// ticks (0.5 s here), and notices both ends of a replica's life late by one of them, or a few where the machine is busy.
const SECONDS_OF_A_REPLICA: f64 = 4.0;
/// The same of a node: of its beginning the API server tells the whole second before, and its end is noticed by the next tick, or
/// by a later one where the machine is busy.
const SECONDS_OF_A_NODE: f64 = 2.0;
/// Longest time without a sample for a Prometheus that asks every five seconds, and does itself stand still when the machine does.
const GAP_SECONDS: f64 = 15.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seeds_load_bursts_from_one_gpu_on_premises_to_two_cloud_nodes_and_the_cloud_is_given_back() {
    let stage = Stage::take(WAYS.len()).await;
    let prometheus = Prometheus::watching(stage.plane, stage.adapter().telemetry).await.unwrap();
    assert_eq!(stage.fleet.picture().machines(CLOUD), 0, "the cloud pool is empty at first");
    let bystander = bystander(&stage).await;
    let no_nodes = format!("tidegate_nodes{{{}}} == 0", cloud_nodes());
    eventually_or_error("the empty pool to be recorded", async || prometheus.value(&no_nodes).await).await.unwrap();
    let courses = join_all(WAYS.map(|way| play(&stage, way, way.name()))).await;
    let courses =
        WAYS.iter().zip(courses).map(|(way, course)| course.unwrap_or_else(|error| panic!("{way:?}: {error}")));
    let courses: Vec<Course> = courses.collect();
    for course in &courses {
        eprintln!("{course:#?}");
    }
    stage.fleet.until("the cloud nodes to go", |now| now.machines(CLOUD) == 0).await.unwrap();
    for Course { way, steps, waited, kept_home, cloud_replicas, .. } in &courses {
        assert!(*kept_home, "{way:?}: the on-premises replica stays");
        assert_eq!((steps.iter().max(), *cloud_replicas), (Some(&3), 2), "{way:?}: {steps:?}");
        if way.has_policy() {
            // R14: while the second was on its way it counted, and nobody was asked for that had to go again.
            let turns = steps.windows(3).filter(|three| (three[1] > three[0]) != (three[2] > three[1])).count();
            assert!(*waited && turns == 1, "{way:?} rises once and falls once: {steps:?}");
        }
    }
    for Return { given_up, gone } in stage.ledger.returns(CLOUD) {
        let given_up = given_up.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1} s"));
        eprintln!(
            "a cloud node's last pod is gone: Karpenter (consolidateAfter {CONSOLIDATE_AFTER}) gives the node up after \
             {given_up}, it is gone after {gone:.1} s"
        );
    }
    watched(&prometheus, &courses).await.unwrap();
    eventually_or_error("the emptied pool to be recorded", async || prometheus.value(&no_nodes).await).await.unwrap();
    billed(&prometheus, &stage, &courses).await.unwrap();
    bystander.finish().await;
}

/// What the cloud pool's nodes are counted by.
fn cloud_nodes() -> String {
    format!("pool='{CLOUD}',node_selector='{POOL}={CLOUD}'")
}

/// A service without replicas that has the cloud pool, too: a pool counts for as long as a service has it, and the others may be
/// gone before Prometheus has asked what the last node has cost.
async fn bystander(stage: &Stage) -> Namespace {
    let namespace = Namespace::new("bystander").await;
    let labels = json!({"app": "bystander"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bystander", "namespace": namespace.name},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": "none"}]},
        }},
    });
    let policy = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "ScalingPolicy",
        "metadata": {"name": "bystander", "namespace": namespace.name},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": "bystander"}, "maxReplicas": 1,
            "pools": [{"name": CLOUD, "nodeSelector": {POOL: CLOUD}, "elastic": true}],
        },
    });
    for object in [deployment, policy] {
        create(stage.plane, &object.to_string()).await.unwrap();
    }
    namespace
}

/// R20: the nodes of the pool cost what the API server's events say, each once although four services have the pool, and what
/// they idled is the difference to what pods held of them.
async fn billed(prometheus: &Prometheus, stage: &Stage, courses: &[Course]) -> Result<(), String> {
    let counter = format!("tidegate_node_gpu_seconds_total{{{}}}[1h]", cloud_nodes());
    let nodes = format!("max by (pool) (max_over_time({counter}) - min_over_time({counter}))");
    // Services of a scene before this one may be counted still.
    let names: Vec<&str> = WAYS.iter().filter(|way| way.has_policy()).map(|way| way.name()).collect();
    let of = format!("pool='{CLOUD}',namespace=~'{}'", names.join("|"));
    let pods = format!("sum by (pool) (max_over_time(tidegate_gpu_seconds_total{{{of}}}[1h]))");
    let counted = prometheus.value(&nodes).await?;
    let (machines, seconds) = stage.ledger.billed(CLOUD);
    eprintln!("{counted:.1} GPU seconds of {machines} cloud nodes counted, {seconds:.1} by the API server's events");
    let tolerance = SECONDS_OF_A_NODE * machines as f64;
    assert!((counted - seconds).abs() < tolerance, "{counted} counted, {machines} nodes for {seconds} s");

    let idle = prometheus.value(&format!("{nodes} - {pods}")).await?;
    let by_policy = courses.iter().filter(|course| course.way.has_policy());
    let (replicas, held) =
        by_policy.fold((0, 0.0), |(n, held), course| (n + course.cloud_replicas, held + course.held_seconds));
    eprintln!("{idle:.1} of them without a pod of a policy's, {:.1} by the API server's events", seconds - held);
    let tolerance = tolerance + SECONDS_OF_A_REPLICA * replicas as f64;
    assert!((idle - (seconds - held)).abs() < tolerance, "{idle} idle, {seconds} less {held}");
    Ok(())
}

/// R20: what Prometheus has recorded of the burst, and that it has recorded all of it.
async fn watched(prometheus: &Prometheus, courses: &[Course]) -> Result<(), String> {
    let up = prometheus.range("up{job='tidegate'}[1h]").await?;
    let [up] = &up[..] else { return Err(format!("one target is expected: {up:?}")) };
    let gap = up.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(0.0, f64::max);
    assert!(up.iter().all(|(_, up)| *up > 0.0) && gap < GAP_SECONDS, "no gap is longer than {gap} s: {up:?}");
    for Course { way, cloud_replicas, held_seconds, node_seconds, .. } in courses.iter().filter(|c| c.way.has_policy())
    {
        let of = |metric: &str, pool: &str| {
            let namespace = way.name();
            format!(
                "max_over_time({metric}{{namespace='{namespace}',deployment='qwen-chat-predictor',pool='{pool}'}}[1h])"
            )
        };
        let most = [
            prometheus.value(&of("tidegate_ready_replicas", ONPREM)).await?,
            prometheus.value(&of("tidegate_ready_replicas", CLOUD)).await?,
        ];
        assert_eq!(most.map(|most| most as u32), [1, 2], "{way:?}: ready replicas on premises and in the cloud");
        let counted = prometheus.value(&of("tidegate_gpu_seconds_total", CLOUD)).await?;
        let tolerance = SECONDS_OF_A_REPLICA * *cloud_replicas as f64;
        eprintln!(
            "{way:?}: {counted:.1} cloud GPU seconds of pods counted, {held_seconds:.1} by the API server's events, their nodes there for {node_seconds:.1}"
        );
        assert!((counted - held_seconds).abs() < tolerance, "{way:?}: {counted} counted, {held_seconds} held");
        assert!(node_seconds > held_seconds, "{way:?}: a node is there before its pod and after: {node_seconds} s");
    }
    Ok(())
}
