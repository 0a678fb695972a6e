//! The parts that all scenes share, started once, and the services that a scene puts on them.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::{
    cluster::{
        adapter,
        controlplane::{ControlPlane, shared},
        kubectl::create,
        namespace::Namespace,
        process::Part,
        timeline::Timeline,
        workload::{AUTOSCALER, DEPLOYMENT},
    },
    fleet::Fleet,
    karpenter, kserve,
};

/// On-premises nodes with one GPU each: as many as services burst side by side.
pub const ONPREM_NODES: usize = 1;
/// GPUs that the cloud gives at most.
pub const CLOUD_GPUS: usize = 8;

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
    _adapter: adapter::Running,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for the stage to be free, and starts what is not there yet.
    pub async fn take() -> Self {
        static PARTS: OnceCell<Parts> = OnceCell::const_new();
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let plane = shared();
        let client = plane.client().await.unwrap();
        PARTS
            .get_or_init(|| async {
                let kserve = kserve::start(plane).await.unwrap_or_else(|error| panic!("{error}"));
                let karpenter = karpenter::start(plane, CLOUD_GPUS).await.unwrap_or_else(|error| panic!("{error}"));
                Parts { _kserve: kserve, _karpenter: karpenter }
            })
            .await;
        let fleet = Fleet::start(plane, &client, ONPREM_NODES).await.unwrap_or_else(|error| panic!("{error}"));
        let adapter = adapter::running().await;
        Self { plane, client, fleet: Arc::new(fleet), _adapter: adapter, _turn: turn }
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

    /// The Deployment that KServe makes, and arena's HPA, from now on.
    pub fn timeline(&self, namespace: &Namespace) -> Timeline {
        Timeline::watch(&self.client, &namespace.name, DEPLOYMENT, AUTOSCALER)
    }
}
