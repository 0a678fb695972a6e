//! `tidegate agent` on every kwok node, each its own process with its own page, and the GPUs under them.
//!
//! Simulated are what a node has: NVML's answers, as a recording that is replaced when the load changes, and `/proc`, as a
//! folder. The rest is real: the agent, its watch with the rights of deploy/agent.yaml, and its page over a socket.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, reflector, watcher},
};
use parking_lot::Mutex;
use serde_json::json;
use tidegate::agent::nvml::{
    Answer, CardAnswer, DeviceUtilization, Fault, Identity, Memory, ProcessKind, ProcessSample, RunningProcess,
    Samples,
    recording::{Entry, FORMAT, Header},
};
use tokio::task::JoinHandle;

use super::{
    kubectl,
    kwok::NODES,
    namespace::Namespace,
    process::{Part, free_ports},
    workload::{SELECTOR, is_ready},
};

/// Cards of each node.
const CARDS: usize = 4;
const MIB: u64 = 1 << 20;
/// Of the recording's one read: agents move it to the present.
const WALL: u64 = 1_000_000_000;

/// The agents of all nodes. They end with it.
pub struct Agents<'a> {
    namespace: &'a Namespace,
    stage: Arc<Stage>,
    processes: Mutex<Vec<Part>>,
    follow: JoinHandle<()>,
}

struct Stage {
    namespace: String,
    folders: Vec<PathBuf>,
    scene: Mutex<Scene>,
}

#[derive(Default)]
struct Scene {
    /// Percent of one GPU that the ready pods share.
    demand: f64,
    broken: bool,
    /// Ready pods by name: UID, node and process id.
    pods: BTreeMap<String, (String, usize, u32)>,
    pids: u32,
}

impl<'a> Agents<'a> {
    /// One on each node, and the manifest's objects, so that their rights are the manifest's.
    pub async fn start(namespace: &'a Namespace, program: &Path, demand: f64) -> Result<Agents<'a>, String> {
        let plane = namespace.plane;
        kubectl::create(plane, include_str!("../../deploy/agent.yaml")).await?;
        let token =
            kubectl::kubectl(plane, &["create", "token", "tidegate-agent", "--namespace", "tidegate-agent"]).await?;
        let kubeconfig = plane.token_kubeconfig("agent-account", token.trim());
        let folder = plane.folder().join(&namespace.name);
        let folders: Vec<PathBuf> = (0..NODES).map(|node| folder.join(format!("gpu-{node}"))).collect();
        for folder in &folders {
            fs::create_dir_all(folder.join("proc")).map_err(|error| error.to_string())?;
        }
        let scene = Mutex::new(Scene { demand, pids: 1000, ..Scene::default() });
        let stage = Arc::new(Stage { namespace: namespace.name.clone(), folders, scene });
        stage.show();
        let ports = free_ports::<NODES>();
        let mut processes = Vec::new();
        for (node, port) in ports.into_iter().enumerate() {
            processes.push(start_agent(&stage.folders[node], program, node, port, &kubeconfig)?);
            announce(namespace, node, port).await;
        }
        let follow = tokio::spawn(follow(namespace.api(), Arc::clone(&stage)));
        Ok(Self { namespace, stage, processes: Mutex::new(processes), follow })
    }

    /// Changes the load.
    pub fn set_demand(&self, demand: f64) {
        self.stage.scene.lock().demand = demand;
        self.stage.show();
    }

    /// Makes every driver fail, or answer.
    pub fn set_broken(&self, broken: bool) {
        self.stage.scene.lock().broken = broken;
        self.stage.show();
    }

    /// `Err` with its last words if an agent has ended.
    pub fn alive(&self) -> Result<(), String> {
        self.processes.lock().iter_mut().try_for_each(Part::alive)
    }

    /// Takes away what is not in the namespace.
    pub async fn finish(self) -> Result<(), String> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/agent.yaml");
        kubectl::kubectl(self.namespace.plane, &["delete", "--wait=false", "-f", manifest]).await.map(drop)
    }
}

impl Drop for Agents<'_> {
    fn drop(&mut self) {
        self.follow.abort();
        if std::thread::panicking() {
            for process in self.processes.lock().iter() {
                eprintln!("--- {}\n{}", process.name, process.tail(10));
            }
        }
    }
}

fn start_agent(folder: &Path, program: &Path, node: usize, port: u16, kubeconfig: &Path) -> Result<Part, String> {
    let arguments = [
        "agent".into(),
        format!("--node-name=gpu-{node}"),
        format!("--listen=127.0.0.1:{port}"),
        "--interval=500ms".into(),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--replay-nvml={}", folder.join("nvml.jsonl").display()),
        format!("--proc-root={}", folder.join("proc").display()),
        format!("--pod-resources-socket={}", folder.join("no-kubelet.sock").display()),
    ];
    Part::start("agent", folder, program, &arguments)
}

/// The agent's pod, as its DaemonSet makes it but for the network: this machine's address is the pod's.
async fn announce(namespace: &Namespace, node: usize, port: u16) {
    namespace
        .create::<Pod>(json!({
            "metadata": {"name": format!("tidegate-agent-{node}"), "labels": {"app.kubernetes.io/name": "tidegate-agent"}},
            "spec": {
                "hostNetwork": true,
                "nodeName": format!("gpu-{node}"),
                "containers": [{
                    "name": "agent", "image": "none",
                    "ports": [{"name": "metrics", "containerPort": port}],
                }],
            },
        }))
        .await;
}

impl Stage {
    /// Writes what each node's driver says from now on.
    fn show(&self) {
        let scene = self.scene.lock();
        let percent = (scene.demand / scene.pods.len().max(1) as f64).min(100.0) as u32;
        for (node, folder) in self.folders.iter().enumerate() {
            let pids: Vec<u32> = scene.pods.values().filter(|(_, on, _)| *on == node).map(|(.., pid)| *pid).collect();
            let answer = if scene.broken {
                Err(Fault { reason: "driver_not_loaded".into(), message: "NVML: the driver is being restarted".into() })
            } else {
                let cards = (0..CARDS).map(|card| self.card(node, card, pids.get(card).copied(), percent));
                Ok(Answer { driver: "550.144.03".into(), cards: cards.collect() })
            };
            let header = Header {
                format: FORMAT.into(),
                synthetic: true,
                about: "made up for a test of scaling".into(),
                date: "2026-11-24".into(),
            };
            let lines = [serde_json::to_string(&header), serde_json::to_string(&Entry { wall: WALL, answer })];
            let text = lines.map(|line| line.expect("plain data") + "\n").concat();
            // Replaced as a whole: the agent never sees half of it.
            let new = folder.join("new");
            fs::write(&new, text).expect("the scratch folder can be written");
            fs::rename(&new, folder.join("nvml.jsonl")).expect("the scratch folder can be written");
        }
    }

    /// One card, and the process on it if there is one.
    fn card(&self, node: usize, index: usize, pid: Option<u32>, percent: u32) -> CardAnswer {
        let used = pid.map_or(0, |_| 20_000 * MIB);
        let memory = Memory { total: 32_768 * MIB, used, free: 32_768 * MIB - used };
        let running = |pid| RunningProcess { pid, kind: ProcessKind::Compute, memory: Some(used), instance: None };
        let sample =
            |pid| ProcessSample { pid, at: WALL - 1000, sm: percent, memory: percent / 2, encoder: 0, decoder: 0 };
        CardAnswer {
            index: index as u32,
            identity: Ok(Identity {
                uuid: format!("GPU-{}-{node}-{index}", self.namespace),
                model: "Tesla V100-SXM2-32GB".into(),
                minor: index as u32,
            }),
            mig: Ok(false),
            utilization: Ok(DeviceUtilization { gpu: pid.map_or(0, |_| percent), memory: 0 }),
            memory: Ok(memory),
            processes: Ok(pid.map(running).into_iter().collect()),
            samples: Ok(Samples { rows: pid.map(sample).into_iter().collect(), full: false }),
            instances: Vec::new(),
        }
    }

    /// Gives each ready pod a process on its node, and takes those of the others away.
    fn seat(&self, ready: impl Iterator<Item = (String, String, usize)>) {
        let mut scene = self.scene.lock();
        let mut before = std::mem::take(&mut scene.pods);
        for (name, uid, node) in ready {
            let seat = before.remove(&name).filter(|(other, ..)| *other == uid).unwrap_or_else(|| {
                scene.pids += 1;
                let pid = scene.pids;
                write_process(&self.folders[node], pid, &uid);
                (uid, node, pid)
            });
            scene.pods.insert(name, seat);
        }
        for (_, node, pid) in before.into_values() {
            let _ = fs::remove_dir_all(self.folders[node].join(format!("proc/{pid}"))); // its folder may be gone already
        }
        drop(scene);
        self.show();
    }
}

/// `/proc/PID` of a process in the pod of that UID, as containerd and systemd make it.
fn write_process(folder: &Path, pid: u32, uid: &str) {
    let path = folder.join(format!("proc/{pid}"));
    fs::create_dir_all(&path).expect("the scratch folder can be written");
    let started = 100_000 + pid;
    let stat = format!("{pid} (python3) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 0\n");
    let pod = uid.replace('-', "_");
    let cgroup = format!("0::/kubepods.slice/kubepods-pod{pod}.slice/cri-containerd-{pid:064x}.scope\n");
    fs::write(path.join("stat"), stat).expect("the scratch folder can be written");
    fs::write(path.join("cgroup"), cgroup).expect("the scratch folder can be written");
}

/// Keeps the drivers' answers about the pods that are ready: a model that still loads has no process.
async fn follow(api: Api<Pod>, stage: Arc<Stage>) {
    let (reader, writer) = reflector::store();
    let events = watcher(api, watcher::Config::default().labels(SELECTOR)).default_backoff().reflect(writer);
    let mut events = events.map_err(|_| ()).boxed();
    while let Some(event) = events.next().await {
        if event.is_err() {
            continue; // the watcher itself starts again
        }
        let pods = reader.state();
        let ready = pods.iter().filter(|pod| is_ready(pod)).filter_map(|pod| {
            let node = pod.spec.as_ref()?.node_name.as_ref()?.strip_prefix("gpu-")?.parse().ok()?;
            Some((pod.name_any(), pod.uid()?, node))
        });
        stage.seat(ready);
    }
}
