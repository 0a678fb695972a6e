//! Everything of the scene that is simulated: nodes and pods, their GPU exporters, their model servers, and the load on them.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::script::{self, NODES, Part};
use crate::{
    cluster::{Autoscaler, ObjectKey, ScalingPolicy},
    replay::Model,
    sim::{
        cluster::{Cluster, Event, Node, Settings},
        exporter::{Dialect, Exporter, Fault},
        fleet::{Fleet, Tally},
        gpus::{GpuNode, GpuPod},
        hpa::PodPhase,
        load::Noise,
        server::{ModelServer, Vllm},
    },
};

/// A server and what of its work was seen last.
struct Server {
    page: ModelServer,
    /// Integral of its utilization, percent seconds, at that second.
    busy: (f64, f64),
}

/// The simulated world.
pub(super) struct World {
    pub(super) cluster: Cluster,
    exporters: Vec<Exporter>,
    servers: BTreeMap<ObjectKey, Server>,
    fleet: Fleet,
    noise: Noise,
    events: Vec<String>,
    /// When each cloud node that is paid for was bought.
    bought: BTreeMap<usize, Timestamp>,
    /// Seconds of those that were given back.
    cloud_seconds: f64,
}

impl World {
    /// Nodes with their exporters; no pods yet.
    pub(super) async fn start(policy: Arc<ScalingPolicy>, hpa: Autoscaler, seed: u64) -> io::Result<Self> {
        let mut exporters = Vec::with_capacity(NODES.len());
        for node in NODES {
            let gpus = GpuNode::new(node.name, 1);
            exporters.push(Exporter::start(([127, 0, 0, 1], 0).into(), gpus, Dialect::Ack).await?);
        }
        let settings = Settings {
            namespace: script::NAMESPACE.into(),
            service: script::SERVICE.into(),
            gpus: 1,
            scheduling: script::SCHEDULING,
            load: script::MODEL_LOAD,
            autoscaler: Some(hpa),
            policy: Some(policy),
        };
        let nodes = NODES.map(|place| {
            let node = Node::fixed(place.name, 1).in_pool(script::POOLS[place.pool]);
            if place.pool == 0 { node } else { node.elastic(script::NODE_BOOT, script::NODE_RELEASE) }
        });
        Ok(Self {
            cluster: Cluster::new(settings, nodes),
            exporters,
            servers: BTreeMap::new(),
            fleet: Fleet::new(&Model::default(), script::BOUNDS, seed),
            noise: Noise::new(seed),
            events: Vec::new(),
            bought: BTreeMap::new(),
            cloud_seconds: 0.0,
        })
    }

    /// URLs of the exporters with their nodes.
    pub(super) fn exporters(&self) -> impl Iterator<Item = (String, &'static str)> {
        self.exporters.iter().map(Exporter::url).zip(NODES.map(|node| node.name))
    }

    /// The replicas of the beginning have been there for a while.
    pub(super) async fn settle_in(&mut self, now: Timestamp, replicas: u32) -> io::Result<()> {
        for ago in [script::SCHEDULING + script::MODEL_LOAD, script::MODEL_LOAD, Duration::ZERO] {
            self.move_pods(now - ago, replicas, Duration::ZERO).await?;
        }
        self.events.clear();
        Ok(())
    }

    /// Moves everything to `time`. Gives the pool of each pod that was removed, and how many were left in the cloud.
    pub(super) async fn act(
        &mut self,
        time: Duration,
        now: Timestamp,
        replicas: u32,
    ) -> io::Result<Vec<(usize, usize)>> {
        self.fleet.advance(time.as_secs_f64(), script::load().at(time));
        let removed = self.move_pods(now, replicas, time).await?;
        self.misbehave(time);
        self.show(time);
        Ok(removed)
    }

    async fn move_pods(&mut self, now: Timestamp, replicas: u32, time: Duration) -> io::Result<Vec<(usize, usize)>> {
        let mut removed = Vec::new();
        let name = |node: usize| NODES[node].name;
        for event in self.cluster.step(now, replicas as usize) {
            let told = match event {
                Event::Created(_) => None,
                Event::Scheduled { pod: ObjectKey { namespace, name: pod }, uid, node, cards } => {
                    self.exporters[node].add_pod(GpuPod::new(&namespace, &pod, &uid, cards));
                    Some(format!("a pod starts on {} and loads its model", name(node)))
                }
                Event::Ready(pod) => {
                    let page = ModelServer::serve(([127, 0, 0, 1], 0).into(), Vllm::new(script::SERVICE)).await?;
                    self.cluster.tell_page(&pod, page.address().port());
                    self.fleet.add(&pod);
                    let node = self.node_of(&pod).map_or("no node", name);
                    self.servers.insert(pod, Server { page, busy: (0.0, time.as_secs_f64()) });
                    Some(format!("the pod on {node} is ready"))
                }
                Event::Removed { pod, node } => {
                    self.fleet.remove(&pod);
                    self.servers.remove(&pod);
                    node.map(|node| {
                        self.exporters[node].remove_pod(&pod.namespace, &pod.name);
                        removed.push((NODES[node].pool, self.in_cloud()));
                        format!("the pod on {} is removed", name(node))
                    })
                }
                Event::NodeOrdered(node) => {
                    self.bought.insert(node, now);
                    Some(format!("a pod finds no place: {} is bought", name(node)))
                }
                Event::NodeUp(node) => Some(format!("{} is there", name(node))),
                Event::NodeReturned(node) => {
                    let since = self.bought.remove(&node);
                    self.cloud_seconds += since.map_or(0.0, |since| now.duration_since(since).as_secs_f64());
                    Some(format!("{} is empty and given back", name(node)))
                }
            };
            self.events.extend(told);
        }
        Ok(removed)
    }

    fn node_of(&self, pod: &ObjectKey) -> Option<usize> {
        self.cluster.pods().find(|(key, ..)| *key == pod).and_then(|(_, node, _)| node)
    }

    /// Pods on cloud nodes.
    fn in_cloud(&self) -> usize {
        self.cluster.pods().filter(|(_, node, _)| node.is_some_and(|node| NODES[node].pool > 0)).count()
    }

    /// Breaks and heals what the script says.
    fn misbehave(&mut self, time: Duration) {
        for mishap in script::MISHAPS {
            let now = mishap.from <= time && time < mishap.until;
            let fault = if now { Fault::Dead } else { Fault::None };
            let nodes = self.cluster.pods().filter(|(_, node, _)| *node == Some(mishap.node));
            let pods: Vec<&ObjectKey> = nodes.map(|(pod, ..)| pod).collect();
            let changed = match mishap.part {
                Part::Exporter => {
                    let exporter = &self.exporters[mishap.node];
                    let changed = exporter.fault() != fault;
                    if changed {
                        exporter.set_fault(fault);
                    }
                    changed
                }
                Part::ModelServer => {
                    let pages = pods.into_iter().filter_map(|pod| self.servers.get(pod));
                    // A node has one GPU, and so one pod at most.
                    let changed = pages.into_iter().find(|Server { page, .. }| page.fault() != fault);
                    changed.is_some_and(|Server { page, .. }| {
                        page.set_fault(fault);
                        true
                    })
                }
            };
            if changed {
                let part = match mishap.part {
                    Part::Exporter => "GPU exporter",
                    Part::ModelServer => "model server's page",
                };
                let healed = || format!("the {part} of {} is back", NODES[mishap.node].name);
                self.events.push(if now { mishap.story.to_owned() } else { healed() });
            }
        }
    }

    /// Lets the pages say how it stands.
    fn show(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (pod, node, _) in self.cluster.pods() {
            let Some(node) = node else { continue };
            let mut percent = 0.0;
            if let (Some(server), Some(page)) = (self.servers.get_mut(pod), self.fleet.page(pod)) {
                let (before, at) = std::mem::replace(&mut server.busy, (page.busy, seconds));
                let mean = (page.busy - before) / (seconds - at).max(f64::MIN_POSITIVE);
                percent = if mean > 0.0 { (mean + script::NOISE * self.noise.draw()).clamp(0.0, 100.0) } else { 0.0 };
                server.page.change(|vllm| {
                    (vllm.running, vllm.waiting) = (page.running.into(), page.waiting.into());
                    vllm.kv_cache = page.kv_cache;
                    vllm.count(page.prompt_tokens as u64, page.generated_tokens as u64, page.finished);
                });
            }
            self.exporters[node].set_load(&pod.namespace, &pod.name, (percent * 10.0).round() / 10.0);
        }
    }

    /// What the HPA sees of the pods.
    pub(super) fn phases(&self) -> BTreeMap<String, PodPhase> {
        let phase = |node: Option<usize>, ready| node.map_or(PodPhase::Pending, |_| PodPhase::Running { ready });
        self.cluster.pods().map(|(pod, node, ready)| (pod.name.to_string(), phase(node, ready))).collect()
    }

    pub(super) fn deployment(&self) -> ObjectKey {
        ObjectKey { namespace: script::NAMESPACE.into(), name: self.cluster.deployment().into() }
    }

    /// Requests that wait.
    pub(super) fn queued(&mut self) -> u64 {
        self.fleet.queued()
    }

    pub(super) fn tally(&self) -> Tally {
        self.fleet.tally()
    }

    /// Seconds of cloud nodes, those that are still there included.
    pub(super) fn cloud_seconds(&self, now: Timestamp) -> f64 {
        let held = self.bought.values().map(|since| now.duration_since(*since).as_secs_f64());
        self.cloud_seconds + held.sum::<f64>()
    }

    /// Whether a cloud node is bought and not given back.
    pub(super) fn pays_for_cloud(&self) -> bool {
        !self.bought.is_empty()
    }

    /// What has happened since the last time.
    pub(super) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    pub(super) async fn stop(self) {
        for exporter in self.exporters {
            exporter.stop().await;
        }
        for Server { page, .. } in self.servers.into_values() {
            page.stop().await;
        }
    }
}
