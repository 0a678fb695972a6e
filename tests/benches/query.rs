//! From samples to answers: attributing a whole cluster, and queries from the snapshot to the bytes of their JSON.
//!
//! The cluster has 1,000 nodes with 8 GPUs each; on each node run 8 pods with one GPU and four processes, and the node's
//! page has 264 recognized samples. Half of the pods belong to services of 1,000 pods, half to services of 10. Queries go
//! through all of `apiservice`'s routes, without TLS, authentication and authorization.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};

use axum::body::Body;
use divan::{Bencher, black_box, counter::BytesCount};
use http::Request;
use jiff::Timestamp;
use tidegate::{
    attribution::{Readings, attribute},
    clock::Clock,
    cluster::{Autoscaler, Deployment, Node, ObjectKey, PageHint, Phase, Pod, PodState, Resources, View},
    config::{self, Aggregate},
    exposition::{Format, Limits},
    gpu::{Vocabulary, page},
    publish::{Publisher, Snapshot},
    scrape::{Batch, TargetId},
    signal::{Known, Observer, PoolNodes},
};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const NODES: usize = 1000;
const CARDS: usize = 8;
const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const MAX_AGE: Duration = Duration::from_hours(1);
const LIMITS: Limits = Limits { line_bytes: 65_536, labels: 64, samples: 50_000 };
/// Five families about four processes on each card, and 13 lines about the card: 33 lines.
const PROCESS: [&str; 5] = ["SM_UTIL", "MEM_COPY_UTIL", "ENCODE_UTIL", "DECODE_UTIL", "MEM_USED"];

/// Pods of even nodes are in `large`, 1,000 a service; the others in `small`, 10 a service.
fn place(node: usize, card: usize) -> (&'static str, String, String) {
    let number = node / 2 * CARDS + card;
    let (namespace, service) = if node.is_multiple_of(2) { ("large", number / 1000) } else { ("small", number / 10) };
    let deployment = format!("llm-{service}-predictor");
    let pod = format!("{deployment}-6c9f7d5b8-{number:05}");
    (namespace, deployment, pod)
}

fn batch(vocabulary: &Vocabulary, node: usize, measured: Timestamp) -> Arc<Batch> {
    let mut text = String::new();
    for family in PROCESS {
        for card in 0..CARDS {
            let (namespace, _, pod) = place(node, card);
            for process in 0..4 {
                writeln!(
                    text,
                    r#"DCGM_CUSTOM_PROCESS_{family}{{AllocateMode="Exclusive",ContainerName="kserve-container",NamespaceName="{namespace}",NodeName="node-{node:04}",PodName="{pod}",ProcessId="{card}{process}17",UUID="GPU-6ad7ea4c-5517-05e7-{node:04}-7554cb4374d{card}",gpu="{card}"}} {}"#,
                    (node + card + process) % 25
                )
                .expect("strings take everything");
            }
        }
    }
    // The device families that the vocabulary has, in turns, on instances of their own: 13 lines a card.
    let device = ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"];
    for line in 0..13 {
        for card in 0..CARDS {
            let instance = line / device.len();
            writeln!(
                text,
                r#"{}{{gpu="{card}",UUID="GPU-6ad7ea4c-5517-05e7-{node:04}-7554cb4374d{card}",GPU_I_ID="{instance}",Hostname="node-{node:04}"}} 0"#,
                device[line % device.len()]
            )
            .expect("strings take everything");
        }
    }
    let page = page::read(vocabulary, text.as_bytes(), Format::Text, true, measured, &LIMITS)
        .expect("the page is well formed");
    assert_eq!(page.samples.len(), 264);
    Arc::new(Batch {
        target: TargetId(format!("arms-prom/gpu-exporter-{node:04}/uid").into()),
        rank: 0,
        node: Some(format!("node-{node:04}").into()),
        measured,
        samples: page.samples,
        sample_times: page.timestamps,
        absent_means_idle: false,
        own: None,
    })
}

fn view() -> View {
    let mut view = View::default();
    for node in 0..NODES {
        let name: Arc<str> = format!("node-{node:04}").into();
        view.nodes.insert(
            Arc::clone(&name),
            Arc::new(Node {
                name: Arc::clone(&name),
                labels: [].into(),
                created: None,
                open: true,
                lost: false,
                gpus: 0,
                allocatable: Resources::default(),
            }),
        );
        for card in 0..CARDS {
            let (namespace, deployment, pod) = place(node, card);
            let key = |name: &str| ObjectKey { namespace: namespace.into(), name: name.into() };
            let app = format!("isvc.{deployment}");
            let pod = Pod {
                key: key(&pod),
                uid: format!("uid-{pod}").into(),
                labels: [
                    ("app".into(), app.as_str().into()),
                    ("component".into(), "predictor".into()),
                    ("pod-template-hash".into(), "6c9f7d5b8".into()),
                ]
                .into(),
                node: Some(Arc::clone(&name)),
                ip: None,
                ports: Vec::new(),
                phase: Phase::Running,
                state: PodState::Ready,
                created: None,
                scheduled: None,
                started: Some(Timestamp::UNIX_EPOCH),
                ready_since: None,
                gpus: 1,
                running: None,
                requests: Resources::default(),
                deletion_cost: None,
                page: PageHint::default(),
            };
            view.pods.insert(pod.key.clone(), Arc::new(pod));
            view.deployments.entry(key(&deployment)).or_insert_with(|| {
                Arc::new(Deployment {
                    key: key(&deployment),
                    labels: [].into(),
                    selector: format!("app={app}").parse().expect("a selector"),
                    replicas: 1,
                    template_labels: [].into(),
                    inference_service: deployment.strip_suffix("-predictor").map(Into::into),
                    requests: Resources::default(),
                })
            });
            view.autoscalers.entry(key(&deployment)).or_insert_with(|| {
                Arc::new(Autoscaler {
                    key: key(&deployment),
                    target_kind: "Deployment".into(),
                    target_name: deployment.as_str().into(),
                    metrics: vec![(METRIC.into(), 50.0)],
                    exact: false,
                    min: 1,
                    max: 1000,
                    current: 1,
                    desired: 1,
                })
            });
        }
    }
    view
}

struct Cluster {
    vocabulary: Arc<Vocabulary>,
    batches: Vec<Arc<Batch>>,
    view: Arc<View>,
    now: Timestamp,
    clock: Clock,
}

impl Cluster {
    fn new() -> Self {
        let vocabulary = Arc::new(Vocabulary::default());
        let clock = Clock::start();
        let now = clock.now();
        let batches = (0..NODES).map(|node| batch(&vocabulary, node, now)).collect();
        Self { vocabulary, batches, view: Arc::new(view()), now, clock }
    }

    fn attribute(&self) -> Readings {
        let none = BTreeSet::new();
        attribute(&self.batches, &self.view, &self.vocabulary, &Aggregate::default(), &none, self.now, MAX_AGE)
    }
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn attribute_1000_nodes_with_8_cards(bencher: Bencher<'_, '_>) {
    let cluster = Cluster::new();
    let readings = cluster.attribute();
    assert_eq!((readings.pods.len(), readings.services.len(), readings.unattributed), (NODES * CARDS, 404, 0));
    bencher.bench_local(|| black_box(&cluster).attribute());
}

/// What the engine is told in one tick about 404 services with 8,000 pods on 1,000 nodes in two pools.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn observe_404_services(bencher: Bencher<'_, '_>) {
    let cluster = Cluster::new();
    let readings = cluster.attribute();
    let pool = |nodes: &str| PoolNodes { nodes: nodes.parse().expect("a selector"), elastic: true };
    let (scrape, pools) = (config::Scrape::default(), [pool("pool=onprem"), pool("!pool")]);
    let known = Known { readings: &readings, view: &cluster.view, vocabulary: &cluster.vocabulary, scrape: &scrape };
    let tick = || {
        let mut observer = Observer::new(known, cluster.now);
        let services = readings.services.keys();
        services
            .filter_map(|deployment| observer.observe(deployment, &pools, None))
            .map(|o| o.pods.len())
            .sum::<usize>()
    };
    assert_eq!(tick(), NODES * CARDS);
    bencher.bench_local(tick);
}

/// Asks the routes; returns the body. `expected` items are in it.
fn query(bencher: Bencher<'_, '_>, path: &str, expected: usize) {
    let cluster = Cluster::new();
    let publisher = Arc::new(Publisher::new(Arc::clone(&cluster.vocabulary), cluster.clock));
    let Cluster { vocabulary, view, now, clock, .. } = &cluster;
    publisher.publish(Snapshot::of(cluster.attribute(), Arc::clone(view), Arc::clone(vocabulary), *now, MAX_AGE));
    let clock = *clock;
    let options = apiservice::Options::new(prometheus_client::registry::Registry::default(), move || clock.now());
    let router = apiservice::router::router(publisher, options);
    let runtime = Runtime::new().expect("a runtime");
    let ask = || {
        let request = Request::get(path).header("accept", "application/json").body(Body::empty()).expect("a request");
        runtime.block_on(async {
            let response = router.clone().oneshot(request).await.expect("routes do not fail");
            axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory")
        })
    };
    let body = ask();
    let items = String::from_utf8_lossy(&body).matches("\"value\":").count();
    assert_eq!(items, expected, "{}", String::from_utf8_lossy(&body[..body.len().min(500)]));
    bencher.counter(BytesCount::new(body.len())).bench_local(ask);
}

#[divan::bench(sample_count = 100, sample_size = 100)]
fn query_one_pod_by_name(bencher: Bencher<'_, '_>) {
    let (namespace, _, pod) = place(1, 0);
    query(bencher, &format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/{pod}/{METRIC}"), 1);
}

#[divan::bench(sample_count = 100, sample_size = 100)]
fn query_one_inference_service(bencher: Bencher<'_, '_>) {
    let group = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/small";
    query(bencher, &format!("{group}/inferenceservices.serving.kserve.io/llm-7/{METRIC}"), 1);
}

#[divan::bench(sample_count = 100, sample_size = 10)]
fn query_1000_pods_by_selector(bencher: Bencher<'_, '_>) {
    let group = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/large";
    query(bencher, &format!("{group}/pods/%2A/{METRIC}?labelSelector=app%3Disvc.llm-1-predictor"), 1000);
}

#[divan::bench(sample_count = 100, sample_size = 100)]
fn query_one_external_metric(bencher: Bencher<'_, '_>) {
    let group = "/apis/external.metrics.k8s.io/v1beta1/namespaces/small";
    query(bencher, &format!("{group}/{METRIC}?labelSelector=inferenceservice%3Dllm-7"), 1);
}

fn main() {
    divan::main();
}
