//! The parts that all scenes share, started once, and the services that a scene puts on them.

use std::sync::{Arc, OnceLock};

use kube::Client;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::{
    cluster::{
        adapter,
        controlplane::{ControlPlane, shared},
        kubectl::{create, kubectl},
        namespace::Namespace,
        process::{Part, free_ports},
        timeline::Timeline,
        workload::{AUTOSCALER, DEPLOYMENT},
    },
    fleet::{Fleet, ONPREM},
    karpenter::{self, CLOUD, POOL},
    kserve,
    ledger::Ledger,
};

/// GPUs that the cloud gives at most.
pub const CLOUD_GPUS: usize = 100;

/// Label by which a namespace opts into the webhook.
const OPT_IN: &str = "tidegate.dev/burst";
/// Alibaba's ResourcePolicy, with as much of a schema as its users' objects need.
const RESOURCE_POLICY: &str = include_str!("resourcepolicy_crd.yaml");

/// What the chart gives the adapter for `config.burst.enabled`.
const RIGHTS: &str = include_str!("rights.yaml");

/// Programs that run while this binary does.
struct Parts {
    _kserve: Part,
    _karpenter: Part,
}

/// One scene's hold of the stage; scenes wait for each other.
pub struct Stage {
    /// The control plane.
    pub plane: &'static ControlPlane,
    /// A client of this test's runtime.
    pub client: Client,
    /// GPUs, exporters, gateway.
    pub fleet: Arc<Fleet>,
    /// When pods and nodes came and went.
    pub ledger: Arc<Ledger>,
    adapter: adapter::Running,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for the stage to be free, and starts what is not there yet. `onprem` nodes with one GPU each are there, and no
    /// cloud node.
    pub async fn take(onprem: usize) -> Self {
        static PARTS: OnceCell<Parts> = OnceCell::const_new();
        static WEBHOOK_PORT: OnceLock<u16> = OnceLock::new();
        static WEBHOOK: OnceCell<()> = OnceCell::const_new();
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let plane = shared();
        let client = plane.client().await.unwrap();
        PARTS
            .get_or_init(|| async {
                let kserve = kserve::start(plane).await.unwrap_or_else(|error| panic!("{error}"));
                let karpenter = karpenter::start(plane, CLOUD_GPUS).await.unwrap_or_else(|error| panic!("{error}"));
                for objects in [RESOURCE_POLICY, RIGHTS] {
                    create(plane, objects).await.unwrap_or_else(|error| panic!("{error}"));
                }
                Parts { _kserve: kserve, _karpenter: karpenter }
            })
            .await;
        let fleet = Fleet::start(plane, &client, onprem).await.unwrap_or_else(|error| panic!("{error}"));
        // A cloud node that is left of the scene before would take the first replica of the next.
        let empty = fleet.until("the cloud nodes of the scene before to go", |now| now.machines(CLOUD) == 0).await;
        empty.unwrap_or_else(|error| panic!("{error}"));
        let webhook_port = *WEBHOOK_PORT.get_or_init(|| {
            let [port] = free_ports();
            port
        });
        adapter::MORE.get_or_init(|| format!("burst:\n  enabled: true\n  webhookListen: 127.0.0.1:{webhook_port}\n"));
        let adapter = adapter::running().await;
        WEBHOOK
            .get_or_init(|| async {
                let webhook = webhook(plane, webhook_port);
                create(plane, &webhook).await.unwrap_or_else(|error| panic!("{error}"));
            })
            .await;
        let ledger = Arc::new(Ledger::follow(&client));
        Self { plane, client, fleet: Arc::new(fleet), ledger, adapter, _turn: turn }
    }

    /// The adapter that all scenes share.
    pub fn adapter(&self) -> &'static adapter::Adapter {
        self.adapter.adapter
    }

    /// What `arena serve kserve` creates for the seed's command, in this namespace; KServe does the rest.
    pub async fn serve(&self, namespace: &Namespace) -> Result<(), String> {
        let volume = format!(
            "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: llm-model-{0}}}, spec: {{capacity: {{storage: 1Gi}}, \
             accessModes: [ReadOnlyMany], storageClassName: '', hostPath: {{path: /models}}, claimRef: {{namespace: {0}, name: llm-model}}}}}}\n---\n\
             {{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: llm-model, namespace: {0}}}, spec: {{accessModes: [ReadOnlyMany], \
             storageClassName: '', resources: {{requests: {{storage: 1Gi}}}}}}}}\n",
            namespace.name
        );
        create(self.plane, &volume).await?;
        let objects = include_str!("../cluster/arena_qwen_chat.yaml")
            .replace("namespace: default", &format!("namespace: {}", namespace.name));
        create(self.plane, &objects).await.map(drop)
    }

    /// Opts a namespace into the webhook that lets new pods prefer their pools.
    pub async fn opt_in(&self, namespace: &Namespace) -> Result<(), String> {
        let label = format!("{OPT_IN}=enabled");
        kubectl(self.plane, &["label", "namespace", &namespace.name, &label]).await.map(drop)
    }

    /// The seed's ResourcePolicy with this selector: on premises first, then the cloud.
    pub async fn order(&self, namespace: &Namespace, app: &str) -> Result<(), String> {
        let policy = format!(
            "{{apiVersion: scheduling.alibabacloud.com/v1alpha1, kind: ResourcePolicy, metadata: {{name: qwen-chat, namespace: {}}}, \
             spec: {{selector: {{app: {app}}}, strategy: prefer, units: [{{resource: ecs, nodeSelector: {{{POOL}: {ONPREM}}}}}, \
             {{resource: elastic, nodeSelector: {{{POOL}: {CLOUD}}}}}]}}}}",
            namespace.name
        );
        create(self.plane, &policy).await.map(drop)
    }

    /// The Deployment that KServe makes, and arena's HPA, from now on.
    pub fn timeline(&self, namespace: &Namespace) -> Timeline {
        self.timeline_with(namespace, AUTOSCALER)
    }

    /// As [`timeline`](Self::timeline), with the HPA of that name.
    pub fn timeline_with(&self, namespace: &Namespace, autoscaler: &str) -> Timeline {
        Timeline::watch(&self.client, &namespace.name, DEPLOYMENT, autoscaler)
    }
}

/// The registration of the adapter's webhook, as the chart makes it but for the address.
fn webhook(plane: &ControlPlane, port: u16) -> String {
    let bundle = serde_json::json!(k8s_openapi::ByteString(plane.authority.pem().into_bytes()));
    serde_json::json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "tidegate-burst"},
        "webhooks": [{
            "name": "burst.tidegate.dev",
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/mutate-pods"), "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
            "namespaceSelector": {"matchLabels": {OPT_IN: "enabled"}},
            "failurePolicy": "Ignore", "timeoutSeconds": 2, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    })
    .to_string()
}
