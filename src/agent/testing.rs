//! A node with cards in a few words, for tests: what NVML, `/proc`, the API server and the kubelet say is set by hand.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::{
    nvml::{
        Answer, CardAnswer, DeviceUtilization, Driver, Fault, Identity, Memory, ProcessKind, ProcessSample,
        RunningProcess, Samples,
    },
    pod_resources::{Kubelet, ListPodResourcesResponse},
    pods::Pods,
    process::Processes,
    sampler::Sampler,
    snapshot::Snapshot,
    window::ReadTime,
};

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MIB: u64 = 1 << 20;
const START: u64 = 1_790_000_000 * SECOND;

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("tidegate-agent-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Gives the same answer until another is set; rows are asked for from then on only, as NVML does.
#[derive(Clone)]
pub(crate) struct Said(pub Arc<Mutex<Result<Answer, Fault>>>);

impl Driver for Said {
    fn read(&mut self, _: ReadTime, since: &dyn Fn(&str) -> u64) -> Result<Answer, Fault> {
        let mut answer = self.0.lock().clone()?;
        for card in &mut answer.cards {
            let Ok(Identity { uuid, .. }) = &card.identity else { continue };
            if let Ok(samples) = &mut card.samples {
                samples.rows.retain(|row| row.at > since(uuid));
            }
        }
        Ok(answer)
    }
}

/// The node.
pub(crate) struct Node {
    pub said: Said,
    pub pods: Arc<Pods>,
    pub kubelet: Arc<Kubelet>,
    pub proc: Folder,
    sampler: Sampler,
    seconds: u64,
}

pub(crate) fn fault(reason: &'static str) -> Fault {
    Fault { reason: reason.into(), message: format!("NVML: {reason}") }
}

/// `/proc/PID/cgroup` of a process in the pod with that number.
pub(crate) fn cgroup(pod: u32) -> String {
    format!("0::/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{pod:064x}.scope\n", uid(pod).replace('-', "_"))
}

pub(crate) fn uid(pod: u32) -> String {
    format!("{pod:08x}-0000-4000-8000-000000000000")
}

/// The pod `llm-N` in namespace `prod`.
pub(crate) fn pod(number: u32) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"namespace": "prod", "name": format!("llm-{number}"), "uid": uid(number)},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "kserve-container", "containerID": format!("containerd://{number:064x}"),
            "image": "", "imageID": "", "ready": true, "restartCount": 0,
        }]},
    }))
    .unwrap()
}

/// An idle card without processes.
pub(crate) fn card(index: u32) -> CardAnswer {
    CardAnswer {
        index,
        identity: Ok(Identity { uuid: format!("GPU-{index}"), model: "Tesla V100-SXM2-32GB".into(), minor: index }),
        mig: Ok(false),
        utilization: Ok(DeviceUtilization { gpu: 0, memory: 0 }),
        memory: Ok(Memory { total: 32_768 * MIB, used: 0, free: 32_768 * MIB }),
        processes: Ok(Vec::new()),
        samples: Ok(Samples::default()),
        instances: Vec::new(),
    }
}

pub(crate) fn running(pid: u32) -> RunningProcess {
    RunningProcess { pid, kind: ProcessKind::Compute, memory: Some(1024 * MIB), instance: None }
}

impl Node {
    /// A node with these cards, a pod `llm-N` for each N of 1..=4, and the kubelet silent. One read has been made, so that
    /// the next one has a window of a second.
    pub fn new(cards: impl IntoIterator<Item = CardAnswer>) -> Self {
        let answer = Answer { driver: "550.144.03".into(), cards: cards.into_iter().collect() };
        let said = Said(Arc::new(Mutex::new(Ok(answer))));
        let (pods, kubelet, proc) = (Arc::new(Pods::default()), Arc::new(Kubelet::default()), Folder::new());
        pods.replace(&(1..=4).map(pod).collect::<Vec<_>>());
        let processes = Processes::new(proc.0.clone());
        let sampler = Sampler::new(Box::new(said.clone()), processes, Arc::clone(&pods), Arc::clone(&kubelet));
        let mut this = Self { said, pods, kubelet, proc, sampler, seconds: 10 };
        this.read();
        this
    }

    /// A process that lives, in the pod of that number; 0: in none.
    pub fn process(&self, pid: u32, pod: u32) {
        self.process_as(pid, "S", 1000 + u64::from(pid));
        let text = if pod == 0 { "0::/system.slice/sshd.service\n".into() } else { cgroup(pod) };
        self.proc.file(&format!("{pid}/cgroup"), text);
    }

    /// The same with a state and a start time.
    pub fn process_as(&self, pid: u32, state: &str, started: u64) {
        let fields = "1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0";
        self.proc.file(&format!("{pid}/stat"), format!("{pid} (python3) {state} {fields} {started} 0 0\n"));
    }

    /// Changes what NVML says from the next read on.
    pub fn change(&self, change: impl FnOnce(&mut Vec<CardAnswer>)) {
        change(&mut self.said.0.lock().as_mut().unwrap().cards);
    }

    /// NVML lists these processes on a card, each in its pod, and reports of each what it used; `None`: nothing.
    pub fn run(&self, index: usize, processes: &[(u32, u32, Option<u32>)]) {
        for (pid, pod, _) in processes {
            self.process(*pid, *pod);
        }
        let at = self.now() + SECOND - 1000;
        let row = |(pid, _, sm): &(u32, u32, Option<u32>)| {
            Some(ProcessSample { pid: *pid, at, sm: (*sm)?, memory: 0, encoder: 0, decoder: 0 })
        };
        self.change(|cards| {
            cards[index].processes = Ok(processes.iter().map(|(pid, ..)| running(*pid)).collect());
            cards[index].samples = Ok(Samples { rows: processes.iter().filter_map(row).collect(), full: false });
        });
    }

    /// The kubelet answers.
    pub fn allocate(&self, response: ListPodResourcesResponse) {
        self.kubelet.hear(response, Instant::now());
    }

    /// The time of the last read.
    fn now(&self) -> u64 {
        START + self.seconds * SECOND
    }

    /// Reads a second after the last time.
    pub fn read(&mut self) -> Snapshot {
        self.seconds += 1;
        let now = ReadTime { wall: self.now(), monotonic: Duration::from_secs(self.seconds) };
        self.sampler.read(now)
    }
}
