//! The simulated cluster: nodes with 8 cards, a pod on each card, services of 1 to 1,000 pods.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tidegate::cluster::{
    Autoscaler, AutoscalerClass, CoreService, Deployment, InferenceService, Node, ObjectKey, PageHint, Phase, Pod,
    PodState, Resources, View,
};

pub const CARDS: usize = 8;
/// The metric that the HPAs read.
pub const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
/// What they want it to be, percent.
const TARGET: f64 = 50.0;
/// Sizes of services: two large ones, then these again and again.
const LARGE: [usize; 2] = [1000, 500];
const SIZES: [usize; 14] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 64, 100];
const NAMESPACES: usize = 20;

/// A pod's service and namespace, and its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub inference_service: String,
    pub deployment: String,
    pub pod: String,
}

pub fn node_name(node: usize) -> String {
    format!("gpu-worker-{node:04}.cluster.example")
}

/// The pod of each card: that of card `c` of node `n` is number `c * nodes + n`, so that the pods of a service are on
/// different nodes.
pub fn places(nodes: usize) -> Vec<Place> {
    let sizes = LARGE.into_iter().chain(SIZES.into_iter().cycle());
    let services = sizes.enumerate().flat_map(|(service, size)| (0..size).map(move |pod| (service, pod)));
    services
        .take(nodes * CARDS)
        .map(|(service, pod)| {
            let inference_service = format!("qwen-chat-{service:03}");
            let deployment = format!("{inference_service}-predictor");
            Place {
                namespace: format!("team-{:02}", service % NAMESPACES),
                pod: format!("{deployment}-6c9f7d5b8-x{pod:04}"),
                inference_service,
                deployment,
            }
        })
        .collect()
}

pub fn view(nodes: usize, now: Timestamp) -> View {
    let mut view = View::default();
    for node in 0..nodes {
        let name: Arc<str> = node_name(node).into();
        view.nodes.insert(
            Arc::clone(&name),
            Arc::new(Node {
                name,
                labels: [].into(),
                created: None,
                open: true,
                lost: false,
                gpus: 0,
                allocatable: Resources::default(),
            }),
        );
    }
    let started = now - SignedDuration::from_hours(1);
    for (number, place) in places(nodes).iter().enumerate() {
        let key = |name: &str| ObjectKey { namespace: place.namespace.as_str().into(), name: name.into() };
        let app: Arc<str> = format!("isvc.{}", place.deployment).into();
        let served: Arc<str> = place.inference_service.as_str().into();
        let pod = Pod {
            key: key(&place.pod),
            uid: format!("0b9c7f0e-8a35-4c2b-9d5e-{number:012}").into(),
            labels: [
                ("app".into(), Arc::clone(&app)),
                ("component".into(), "predictor".into()),
                ("pod-template-hash".into(), "6c9f7d5b8".into()),
                ("serving.kserve.io/inferenceservice".into(), Arc::clone(&served)),
            ]
            .into(),
            node: Some(node_name(number % nodes).into()),
            ip: Some(format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255).into()),
            ports: vec![(Some("http".into()), 8080)],
            phase: Phase::Running,
            state: PodState::Ready,
            created: Some(started),
            scheduled: Some(started),
            started: Some(started),
            ready_since: Some(started),
            gpus: 1,
            running: None,
            requests: Resources::default(),
            deletion_cost: None,
            page: PageHint::default(),
        };
        view.pods.insert(pod.key.clone(), Arc::new(pod));
        let deployment = key(&place.deployment);
        if view.deployments.contains_key(&deployment) {
            continue;
        }
        let served_key = key(&place.inference_service);
        let served_labels = [("team".into(), Arc::clone(&served_key.namespace))].into();
        let inference_service = InferenceService {
            key: served_key.clone(),
            labels: served_labels,
            autoscaler: AutoscalerClass::External,
            multi_node: false,
        };
        view.inference_services.insert(served_key, Arc::new(inference_service));
        let selector = [("app".into(), Arc::clone(&app))].into();
        let service = CoreService { key: deployment.clone(), labels: [].into(), selector };
        view.core_services.insert(deployment.clone(), Arc::new(service));
        let autoscaler = Autoscaler {
            key: deployment.clone(),
            target_kind: "Deployment".into(),
            target_name: Arc::clone(&deployment.name),
            metrics: vec![(METRIC.into(), TARGET)],
            exact: false,
            min: 1,
            max: 1000,
            current: 1,
            desired: 1,
        };
        view.autoscalers.insert(deployment.clone(), Arc::new(autoscaler));
        let of = Deployment {
            key: deployment.clone(),
            labels: [].into(),
            selector: format!("app={app}").parse().expect("a label selector of a fixed form"),
            replicas: 1,
            template_labels: [].into(),
            inference_service: Some(served),
            requests: Resources::default(),
        };
        view.deployments.insert(deployment, Arc::new(of));
    }
    view
}
