//! Pods.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    Metadata,
    containers::{Container, Spec},
    page,
};
use crate::cluster::view::{Phase, Pod, PodState};

/// The API cuts its times to whole seconds: what it says happened may have happened this much later.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

/// Reason of `Ready` while readiness gates are not fulfilled.
const GATES_NOT_READY: &str = "ReadinessGatesNotReady";

#[derive(Deserialize)]
pub(super) struct Wire {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Arc<str>>,
    start_time: Option<Timestamp>,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    name: Arc<str>,
    #[serde(default)]
    state: ContainerState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    running: Option<Running>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    #[serde(default)]
    started_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    last_transition_time: Option<Timestamp>,
}

impl Status {
    /// The condition of that type, if it is true.
    fn holds(&self, condition: &str) -> Option<&Condition> {
        self.conditions.iter().flatten().find(|c| c.r#type == condition && c.status == "True")
    }

    /// Whether somebody else than its kubelet took its readiness away. A kubelet never says that the containers are ready and
    /// the pod is not, but for readiness gates, and then it says so; the node lifecycle controller, which marks the pods of a
    /// node that is no longer heard of, changes `Ready` and nothing beside it (kubernetes, `pkg/kubelet/status/generate.go`
    /// and `pkg/controller/util/node`, `MarkPodsNotReady`).
    fn cut_off(&self) -> bool {
        let ready = self.conditions.iter().flatten().find(|c| c.r#type == "Ready");
        self.holds("ContainersReady").is_some()
            && ready.is_some_and(|c| c.status != "True" && c.reason.as_deref() != Some(GATES_NOT_READY))
    }

    /// Since when the container of that name runs.
    fn running(&self, container: Option<&str>) -> Option<Timestamp> {
        let status = self.container_statuses.iter().flatten().find(|status| container == Some(&*status.name))?;
        status.state.running.as_ref()?.started_at
    }
}

impl Wire {
    pub(super) fn decode(self, gpu_resources: &[String]) -> Result<Pod, String> {
        let Self { metadata, spec, status } = self;
        let uid = metadata.uid.clone().ok_or("metadata.uid is missing")?;
        let phase = match status.phase.as_deref() {
            None | Some("Pending") => Phase::Pending,
            Some("Running") => Phase::Running,
            Some("Succeeded" | "Failed") => Phase::Finished,
            Some(_) => Phase::Unknown,
        };
        let ready = status.holds("Ready");
        let scheduled = status.holds("PodScheduled");
        let state = if metadata.deletion_timestamp.is_some() || phase == Phase::Finished {
            PodState::Leaving
        } else if ready.is_some() && phase == Phase::Running {
            PodState::Ready
        } else if phase == Phase::Running && status.cut_off() || phase == Phase::Unknown && ready.is_some() {
            PodState::CutOff
        } else if spec.node_name.is_some() || scheduled.is_some() {
            PodState::Starting
        } else {
            PodState::Pending
        };
        let ports = spec.lasting().flat_map(Container::tcp_ports);
        let serving = spec.serving(gpu_resources);
        let running = status.running(serving.and_then(|container| container.name.as_deref()));
        Ok(Pod {
            key: metadata.key(),
            uid,
            ports: ports.map(|port| (port.name.clone(), port.number)).collect(),
            gpus: spec.gpu_limits(gpu_resources)?,
            requests: spec.requests(gpu_resources)?,
            deletion_cost: metadata.annotations.as_ref().and_then(page::Annotations::deletion_cost),
            page: page::hint(metadata.annotations.as_ref(), serving),
            node: spec.node_name.filter(|node| !node.is_empty()),
            ip: status.pod_ip.clone().filter(|ip| !ip.is_empty()),
            phase,
            state,
            created: metadata.creation_timestamp,
            scheduled: scheduled.and_then(|c| c.last_transition_time),
            started: status.start_time,
            running,
            ready_since: ready.and_then(|c| c.last_transition_time).map(|at| at + RESOLUTION),
            labels: metadata.labels.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::{Kind, PageHint, Resources, decode, decode::Object};

    fn gpu_resources() -> Vec<String> {
        crate::config::Aggregate::default().gpu_resources
    }

    fn decode(json: &Value) -> Pod {
        match decode::object(Kind::Pods, &json.to_string(), &gpu_resources()).unwrap() {
            Object::Pod(pod) => pod,
            other => panic!("{other:?}"),
        }
    }

    /// A predictor pod as KServe, the scheduler and a kubelet leave it, shortened where nothing is read.
    fn predictor() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "qwen-chat-predictor-7c9f-x2x", "namespace": "default", "uid": "u-1", "resourceVersion": "812",
                "creationTimestamp": "2026-01-02T03:00:00Z", "generateName": "qwen-chat-predictor-7c9f-",
                "labels": {"app": "isvc.qwen-chat-predictor", "component": "predictor", "serving.kserve.io/inferenceservice": "qwen-chat"},
                "annotations": {"serving.kserve.io/autoscalerClass": "external"},
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:podIP": {}}}}],
            },
            "spec": {
                "nodeName": "gpu-1",
                "initContainers": [{"name": "storage-initializer", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
                "containers": [{
                    "name": "kserve-container", "image": "vllm",
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"containerPort": 9000, "protocol": "UDP"}],
                    "command": ["sh", "-c", "python3 -m vllm.entrypoints.openai.api_server --port 8081"],
                    "resources": {"limits": {"cpu": "4", "memory": "12Gi", "nvidia.com/gpu": "2"}, "requests": {"cpu": "3500m"}},
                }],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-01-02T03:00:02Z",
                "containerStatuses": [
                    {"name": "queue-proxy", "state": {"running": {"startedAt": "2026-01-02T03:00:03Z"}}},
                    {"name": "kserve-container", "ready": true, "state": {"running": {"startedAt": "2026-01-02T03:00:40Z"}}},
                ],
                "conditions": [
                    {"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:00:01Z"},
                    {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:01:40Z"},
                ],
            },
        })
    }

    #[test]
    fn a_predictor_pod_keeps_the_fields_that_are_used() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let pod = decode(&predictor());
        assert_eq!(
            (&*pod.key.namespace, &*pod.key.name, &*pod.uid),
            ("default", "qwen-chat-predictor-7c9f-x2x", "u-1")
        );
        assert_eq!((pod.node.as_deref(), pod.ip.as_deref()), (Some("gpu-1"), Some("10.0.0.7")));
        assert_eq!(pod.ports, [(Some("http".into()), 8080)], "a UDP port is nothing to scrape");
        assert_eq!((pod.phase, pod.state, pod.gpus), (Phase::Running, PodState::Ready, 2));
        assert_eq!(pod.created, at("2026-01-02T03:00:00Z"));
        assert_eq!(pod.scheduled, at("2026-01-02T03:00:01Z"));
        assert_eq!(pod.started, at("2026-01-02T03:00:02Z"));
        assert_eq!(pod.ready_since, at("2026-01-02T03:01:41Z"), "at the latest: the API cuts times to seconds");
        assert_eq!(pod.running, at("2026-01-02T03:00:40Z"), "the model server's container, not its neighbour's");
        assert_eq!(pod.labels.len(), 3);
        assert_eq!(pod.page, PageHint { port: Some(8081), path: None, declined: false });
    }

    #[test]
    fn a_container_that_waits_or_has_ended_does_not_run() {
        for state in
            [json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": {"exitCode": 1}}), json!({})]
        {
            let mut pod = predictor();
            pod["status"]["containerStatuses"][1]["state"] = state;
            assert_eq!(decode(&pod).running, None, "{pod}");
        }
    }

    fn requests(spec: &Value) -> Resources {
        let pod = decode(&json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec}));
        assert_eq!(pod.requests.pods, 1);
        pod.requests
    }

    #[test]
    fn a_pod_takes_what_its_containers_request_and_what_only_has_a_limit_requests_that() {
        let taken = decode(&predictor()).requests;
        assert_eq!((taken.cpu_millis, taken.memory_bytes), (3500, 12 << 30));
        // The init container wants more of one resource than all containers that last.
        assert_eq!(taken.gpus, [("nvidia.com/gpu".into(), 8)]);
        assert_eq!(requests(&json!({"containers": [{}]})), Resources { pods: 1, ..Resources::default() });
    }

    #[test]
    fn init_containers_sidecars_and_overhead_count_as_the_scheduler_counts_them() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (init, containers, overhead, millis) in [
            (json!([]), json!([asks("1"), asks("500m")]), json!(null), 1500),
            (json!([asks("3")]), json!([asks("1"), asks("1")]), json!(null), 3000),
            (json!([asks("3"), asks("2")]), json!([asks("1")]), json!(null), 3000),
            (json!([sidecar("1")]), json!([asks("1")]), json!(null), 2000),
            (json!([sidecar("1"), asks("3")]), json!([asks("1")]), json!(null), 4000),
            (json!([asks("3"), sidecar("1")]), json!([asks("1")]), json!(null), 3000),
            (json!([]), json!([asks("1")]), json!({"cpu": "250m"}), 1250),
        ] {
            let spec = json!({"initContainers": init, "containers": containers, "overhead": overhead});
            assert_eq!(requests(&spec).cpu_millis, millis, "{spec}");
        }
    }

    #[test]
    fn a_pod_stands_where_its_conditions_phase_and_deletion_say() {
        let with = |pointer: &str, value: Value| {
            let mut pod = predictor();
            *pod.pointer_mut(pointer).unwrap() = value;
            pod
        };
        let mut unscheduled = with("/status", json!({"phase": "Pending"}));
        unscheduled["spec"].as_object_mut().unwrap().remove("nodeName");
        let mut leaving = predictor();
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T04:00:00Z");
        for (pod, state, phase) in [
            (predictor(), PodState::Ready, Phase::Running),
            (with("/status/conditions/1/status", json!("False")), PodState::Starting, Phase::Running),
            (with("/status/conditions/1/status", json!("Unknown")), PodState::Starting, Phase::Running),
            (with("/status", json!({"phase": "Pending"})), PodState::Starting, Phase::Pending),
            (unscheduled, PodState::Pending, Phase::Pending),
            (leaving, PodState::Leaving, Phase::Running),
            (with("/status/phase", json!("Succeeded")), PodState::Leaving, Phase::Finished),
            (with("/status/phase", json!("Failed")), PodState::Leaving, Phase::Finished),
            (with("/status/phase", json!("Unknown")), PodState::CutOff, Phase::Unknown),
        ] {
            let decoded = decode(&pod);
            assert_eq!((decoded.state, decoded.phase), (state, phase), "{pod}");
        }
    }

    /// As the node lifecycle controller of Kubernetes 1.36 leaves the pods of a node whose kubelet is silent.
    #[test]
    fn a_pod_that_its_kubelet_did_not_declare_unready_is_cut_off() {
        for (ready, containers, reason, phase, state) in [
            ("False", "True", json!(null), "Running", PodState::CutOff),
            ("Unknown", "True", json!("NodeStatusUnknown"), "Running", PodState::CutOff),
            ("False", "True", json!("ReadinessGatesNotReady"), "Running", PodState::Starting),
            ("False", "False", json!("ContainersNotReady"), "Running", PodState::Starting),
            ("False", "True", json!(null), "Pending", PodState::Starting),
            ("True", "True", json!(null), "Running", PodState::Ready),
        ] {
            let mut pod = predictor();
            pod["status"]["phase"] = json!(phase);
            pod["status"]["conditions"] = json!([
                {"type": "PodScheduled", "status": "True"},
                {"type": "ContainersReady", "status": containers},
                {"type": "Ready", "status": ready, "reason": reason},
            ]);
            assert_eq!(decode(&pod).state, state, "{}", pod["status"]);
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-02T04:00:00Z");
            assert_eq!(decode(&pod).state, PodState::Leaving, "the cluster has given it up");
        }
    }

    #[test]
    fn gpus_are_summed_over_containers_sidecars_and_resource_names() {
        let limits = |name: &str, n: Value| json!({"resources": {"limits": {name: n}}});
        let mut sidecar = limits("nvidia.com/gpu", json!("1"));
        sidecar["restartPolicy"] = json!("Always");
        for (containers, init, gpus) in [
            (json!([{}]), json!([]), 0),
            (json!([{"resources": {}}]), json!(null), 0),
            (json!([limits("nvidia.com/gpu", json!("1")), limits("nvidia.com/gpu", json!("3"))]), json!([]), 4),
            (json!([limits("alibabacloud.com/ppu", json!(4))]), json!([]), 4),
            (json!([limits("nvidia.com/gpu", json!("1"))]), json!([sidecar]), 2),
            (json!([limits("nvidia.com/gpu", json!("1"))]), json!([limits("nvidia.com/gpu", json!("8"))]), 1),
            (json!([limits("amd.com/gpu", json!("1"))]), json!([]), 0),
        ] {
            let mut pod = predictor();
            pod["spec"]["containers"] = containers;
            pod["spec"]["initContainers"] = init;
            assert_eq!(decode(&pod).gpus, gpus, "{}", pod["spec"]);
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_object_and_the_fault() {
        for (pointer, value, fault) in [
            ("/metadata/uid", json!(null), "metadata.uid is missing"),
            ("/spec/containers", json!("none"), "invalid type: string"),
            ("/spec/containers/0/resources/limits/nvidia.com~1gpu", json!("two"), "expected a quantity"),
            ("/spec/containers/0/ports/0/containerPort", json!(70_000), "invalid value"),
            ("/status/startTime", json!("yesterday"), "as year"),
        ] {
            let mut pod = predictor();
            *pod.pointer_mut(pointer).unwrap() = value;
            let error = decode::object(Kind::Pods, &pod.to_string(), &gpu_resources()).unwrap_err();
            assert!(error.to_string().contains("default/qwen-chat-predictor-7c9f-x2x"), "{error}");
            assert!(error.reason.contains(fault), "{pointer}: {error}");
        }
        for text in ["", "{", "[]", "null", "{}", r#"{"metadata":{}}"#] {
            let error = decode::object(Kind::Pods, text, &gpu_resources()).unwrap_err();
            assert_eq!(error.key, None, "{text}");
        }
    }
}
