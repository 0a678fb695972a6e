//! What processes use, and what machine this is: from `/proc`, as proc(5) describes it.

use std::{fs, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    cluster::process::Part,
    contender::{Contender, Kind},
};

/// Length of a tick of `utime` and `stime`, milliseconds: USER_HZ is 100 wherever Linux runs today.
const TICK_MS: f64 = 10.0;
const KIB_PER_MIB: f64 = 1024.0;

/// The processes that answer queries or are asked for them.
#[derive(Debug, Clone)]
pub struct Processes {
    /// kube-apiserver.
    pub apiserver: u32,
    /// Prometheus.
    pub prometheus: u32,
    /// The adapters.
    pub adapters: Vec<(Kind, u32)>,
}

/// What a process uses when nobody asks, and what it holds after all queries.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Which.
    pub name: String,
    /// CPU with nobody asking, percent of one core.
    pub idle_cpu_percent: f64,
    /// Resident memory after the queries, MiB.
    pub rss_mib: f64,
    /// Most resident memory so far, MiB.
    pub peak_rss_mib: f64,
}

/// CPU that processes use with nobody asking, milliseconds per second.
#[derive(Debug, Clone, Default)]
pub struct Idle(Vec<(u32, f64)>);

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of its CPU.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, GiB.
    pub memory_gib: f64,
    /// Load average over a minute when the run began: what else it was busy with.
    pub load_before: f64,
}

impl Processes {
    /// Finds them.
    pub fn of(prometheus: &Part, contenders: &[Contender]) -> Result<Self, String> {
        let apiserver = children().into_iter().find(|child| child.name == "kube-apiserver");
        Ok(Self {
            apiserver: apiserver.ok_or("kube-apiserver is not among our processes")?.pid,
            prometheus: prometheus.pid(),
            adapters: contenders.iter().map(|contender| (contender.kind, contender.pid())).collect(),
        })
    }

    fn named(&self) -> Vec<(String, u32)> {
        let mut all = vec![("kube-apiserver".to_owned(), self.apiserver), ("Prometheus".to_owned(), self.prometheus)];
        all.extend(self.adapters.iter().map(|(kind, pid)| (kind.label().to_owned(), *pid)));
        all
    }

    /// Watches them for that long.
    pub async fn idle(&self, duration: Duration) -> Result<Idle, String> {
        let all = self.named();
        let read = || all.iter().map(|(_, pid)| Ok((*pid, cpu_ms(*pid)?))).collect::<Result<Vec<_>, String>>();
        let (start, before) = (Instant::now(), read()?);
        tokio::time::sleep(duration).await;
        let (seconds, after) = (start.elapsed().as_secs_f64(), read()?);
        Ok(Idle(before.iter().zip(&after).map(|(before, after)| (before.0, (after.1 - before.1) / seconds)).collect()))
    }

    /// What they use and hold.
    pub fn report(&self, idle: &Idle) -> Result<Vec<Process>, String> {
        let process = |(name, pid): (String, u32)| {
            let (rss_mib, peak_rss_mib) = (status_mib(pid, "VmRSS")?, status_mib(pid, "VmHWM")?);
            Ok(Process { name, idle_cpu_percent: idle.ms_per_second(pid) / 10.0, rss_mib, peak_rss_mib })
        };
        self.named().into_iter().map(process).collect()
    }
}

impl Idle {
    /// Of that process.
    pub fn ms_per_second(&self, pid: u32) -> f64 {
        self.0.iter().find(|(known, _)| *known == pid).map_or(0.0, |(_, ms)| *ms)
    }
}

impl Machine {
    /// This one.
    pub fn here() -> Result<Self, String> {
        let cpu = read("/proc/cpuinfo")?;
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let memory = read("/proc/meminfo")?;
        let load = read("/proc/loadavg")?;
        Ok(Self {
            cpu: cpu.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_err(|error| error.to_string())?.get(),
            memory_gib: kib(&memory, "MemTotal").unwrap_or(0.0) / KIB_PER_MIB / KIB_PER_MIB,
            load_before: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
        })
    }
}

/// CPU time that a process has used so far, all threads that it has or had, user and system, milliseconds.
pub fn cpu_ms(pid: u32) -> Result<f64, String> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets, and may hold anything; utime and stime are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|word| word.parse::<f64>().ok());
    let (user, system) =
        ticks(14).zip(ticks(15)).ok_or_else(|| format!("/proc/{pid}/stat is not understood: {stat}"))?;
    Ok((user + system) * TICK_MS)
}

/// Resident memory of all programs that we have started, MiB.
pub fn memory_of_children() -> f64 {
    children().iter().filter_map(|child| status_mib(child.pid, "VmRSS").ok()).sum()
}

struct Child {
    pid: u32,
    name: String,
}

/// The processes whose parent we are.
fn children() -> Vec<Child> {
    let parent = format!("{}", std::process::id());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        (tail.split(' ').nth(1) == Some(&parent)).then_some(Child { pid, name })
    };
    pids.filter_map(child).collect()
}

fn status_mib(pid: u32, field: &str) -> Result<f64, String> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kib = kib(&status, field).ok_or_else(|| format!("/proc/{pid}/status has no {field}"))?;
    Ok(kib / KIB_PER_MIB)
}

fn kib(text: &str, field: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    rest.trim().strip_suffix(" kB")?.parse().ok()
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}
