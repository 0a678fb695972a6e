//! The node under the agent: processes that exist, cgroups that do not, and a recording of NVML that is made up.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tidegate::agent::nvml::{
    Answer, CardAnswer, DeviceUtilization, Identity, Memory, ProcessKind, ProcessSample, RunningProcess, Samples,
    recording::{Entry, FORMAT, Header},
};

use super::Children;

const SECOND: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
/// Reads in the recording; played again and again.
const READS: u64 = 30;

/// A folder that is gone with the value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tidegate-agent-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// So many processes that do nothing.
pub fn sleepers(count: usize) -> std::io::Result<Children> {
    let mut all = Children(Vec::new());
    for _ in 0..count {
        all.0.push(Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn()?);
    }
    Ok(all)
}

/// UID of the pod of that number.
pub fn uid(pod: usize) -> String {
    format!("{pod:08x}-0000-4000-8000-000000000000")
}

pub fn uuid(card: usize) -> String {
    format!("GPU-{card:08x}-0000-4000-8000-000000000000")
}

/// The recording, and a `/proc` in which each process's `stat` is the kernel's and its cgroup that of a pod.
pub fn write(folder: &Path, cards: usize, pids: &[u32]) -> std::io::Result<()> {
    for (pod, pid) in pids.iter().enumerate() {
        let own = folder.join(format!("proc/{pid}"));
        fs::create_dir_all(&own)?;
        symlink(format!("/proc/{pid}/stat"), own.join("stat"))?;
        let uid = uid(pod).replace('-', "_");
        let path = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{pod:064x}.scope\n"
        );
        fs::write(own.join("cgroup"), path)?;
    }
    let header = Header {
        format: FORMAT.into(),
        synthetic: true,
        about: format!("made up for a benchmark: {cards} cards, {} processes", pids.len()),
        date: "2026-11-24".into(),
    };
    let mut text = serde_json::to_string(&header)? + "\n";
    for read in 0..READS {
        let wall = 1_790_000_000 * SECOND + read * SECOND;
        let cards = (0..cards).map(|card| answer(card, cards, pids, wall, read)).collect();
        let entry = Entry { wall, answer: Ok(Answer { driver: "550.144.03".into(), cards }) };
        text += &(serde_json::to_string(&entry)? + "\n");
    }
    fs::write(folder.join("nvml.jsonl"), text)
}

fn answer(index: usize, cards: usize, pids: &[u32], wall: u64, read: u64) -> CardAnswer {
    let own: Vec<u32> = pids.iter().copied().skip(index).step_by(cards).collect();
    let share = 100 / own.len().max(1) as u32;
    let used = own.len() as u64 * 1500 * MIB;
    // Each process's use moves between nothing and its share.
    let sample = |(nth, pid): (usize, &u32)| ProcessSample {
        pid: *pid,
        at: wall - 10_000 - nth as u64,
        sm: (read as u32 * 7 + nth as u32 * 13) % (share + 1),
        memory: share / 2,
        encoder: 0,
        decoder: 0,
    };
    let running = |pid| RunningProcess { pid, kind: ProcessKind::Compute, memory: Some(1500 * MIB), instance: None };
    CardAnswer {
        index: index as u32,
        identity: Ok(Identity { uuid: uuid(index), model: "NVIDIA H100 80GB HBM3".into(), minor: index as u32 }),
        mig: Ok(false),
        utilization: Ok(DeviceUtilization { gpu: 60, memory: 20 }),
        memory: Ok(Memory { total: 81_559 * MIB, used, free: (81_559 * MIB).saturating_sub(used) }),
        samples: Ok(Samples { rows: own.iter().enumerate().map(sample).collect(), full: false }),
        processes: Ok(own.into_iter().map(running).collect()),
        instances: Vec::new(),
    }
}
