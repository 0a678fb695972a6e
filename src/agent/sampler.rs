//! One read of everything: NVML's answer, the processes and their pods → a [`Snapshot`].
//!
//! Blocking, and without a clock of its own. It keeps what has to be kept from read to read: each card's window, who had
//! which process id, and what a process's cgroup says (which does not change while it lives).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use super::{
    MAX_CARDS, MAX_LABEL_BYTES, MAX_PROCESSES,
    cgroup::Place,
    nvml::{Answer, CardAnswer, Driver, Fault, Identity, RunningProcess},
    pod_resources::{Allocations, Kubelet},
    pods::{Owner, Pods},
    process::{Life, Lives, Process, Processes},
    snapshot::{Card, CardProcess, Instance, Missing, Mode, Snapshot, Unknown},
    window::{Buffer, ReadTime, Window},
};

/// What is kept between reads.
pub struct Sampler {
    driver: Box<dyn Driver>,
    processes: Processes,
    pods: Arc<Pods>,
    kubelet: Arc<Kubelet>,
    buffers: HashMap<Arc<str>, Buffer>,
    /// The last known UUID of each index: a lost card cannot say it.
    uuids: HashMap<u32, Arc<str>>,
    lives: Lives,
    places: HashMap<(u32, u64), Vec<Place>>,
    dropped: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Cow<'static, str>, u64>,
    reads: u64,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").field("buffers", &self.buffers).field("reads", &self.reads).finish_non_exhaustive()
    }
}

/// Reasons for which something is thrown away, all of them, so that a rate exists before the first.
pub const DROPPED: [&str; 5] = ["zombie", "gone", "unreadable", "above_100", "out_of_time"];

/// A process as the kernel shows it in this read.
struct Seen {
    process: Process,
    life: Life,
    owner: Option<Owner>,
}

impl Sampler {
    /// Reads with `driver`, and finds processes and pods with the others.
    pub fn new(driver: Box<dyn Driver>, processes: Processes, pods: Arc<Pods>, kubelet: Arc<Kubelet>) -> Self {
        Self {
            driver,
            processes,
            pods,
            kubelet,
            buffers: HashMap::new(),
            uuids: HashMap::new(),
            lives: Lives::default(),
            places: HashMap::new(),
            dropped: DROPPED.map(|reason| (reason, 0)).into(),
            faults: BTreeMap::new(),
            reads: 0,
        }
    }

    /// Reads everything once. The times of the snapshot itself are the caller's.
    pub fn read(&mut self, now: ReadTime) -> Snapshot {
        self.reads += 1;
        let buffers = &self.buffers;
        // A card that is new to us has a buffer with no beginning.
        let since = |uuid: &str| buffers.get(uuid).cloned().unwrap_or_default().since(now);
        let mut snapshot = match self.driver.read(now, &since) {
            Ok(answer) => self.cards(now, answer),
            Err(fault) => {
                self.count_fault(&fault);
                // Whatever comes next is another driver's.
                self.buffers.clear();
                self.uuids.clear();
                let missing = Missing { reason: fault.reason, message: fault.message.into() };
                Snapshot { driver: Err(missing), ..Snapshot::default() }
            }
        };
        snapshot.reads = self.reads;
        snapshot.dropped.clone_from(&self.dropped);
        snapshot.faults.clone_from(&self.faults);
        snapshot
    }

    fn cards(&mut self, now: ReadTime, answer: Answer) -> Snapshot {
        let Answer { driver, mut cards } = answer;
        cards.truncate(MAX_CARDS);
        let rows: usize = cards.iter().filter_map(|card| card.processes.as_ref().ok()).map(Vec::len).sum();
        if rows > MAX_PROCESSES {
            // Leaving some out would make a sum of a part.
            let message = format!("{rows} processes on the cards: more than {MAX_PROCESSES}");
            let fault = Fault { reason: "too_many_processes".into(), message };
            for card in &mut cards {
                card.processes = Err(fault.clone());
            }
        }
        let mut unknown = Vec::new();
        let allocations = self.kubelet.allocations();
        let seen = self.look(&cards);
        let mut known = Vec::with_capacity(cards.len());
        for card in cards {
            known.extend(self.card(now, card, &seen, allocations.as_deref(), &mut unknown));
        }
        let listed: BTreeSet<&Arc<str>> = known.iter().map(|card: &Card| &card.uuid).collect();
        self.buffers.retain(|uuid, _| listed.contains(uuid));
        let without_devices = allocations.map_or(0, |allocations| {
            let owners = seen.values().filter_map(|seen| seen.owner.as_ref());
            owners.filter(|owner| !allocations.has_devices(&owner.namespace, &owner.pod)).count() as u64
        });
        unknown.sort();
        Snapshot { driver: Ok(driver.into()), cards: known, unknown, without_devices, ..Snapshot::default() }
    }

    /// Looks at every process once, on however many cards it is.
    fn look(&mut self, cards: &[CardAnswer]) -> HashMap<u32, Seen> {
        self.lives.begin();
        let lists = cards.iter().filter_map(|card| card.processes.as_ref().ok());
        let pids: BTreeSet<u32> = lists.flatten().map(|one| one.pid).collect();
        let mut seen = HashMap::with_capacity(pids.len());
        let mut places = HashMap::with_capacity(pids.len());
        for pid in pids {
            let process = match self.processes.look(pid) {
                Ok(process) => process,
                Err(error) => {
                    self.drop_one(if error.kind() == io::ErrorKind::NotFound { "gone" } else { "unreadable" });
                    continue;
                }
            };
            if process.zombie {
                self.drop_one("zombie");
                continue;
            }
            let life = self.lives.meet(pid, process.started);
            let key = (pid, process.started);
            // A process that is in no pod is looked at again: it may be on its way into one.
            let place = self.places.remove(&key).filter(|places| !places.is_empty());
            let place = place.unwrap_or_else(|| self.processes.places(pid).unwrap_or_default());
            let owner = self.pods.owner(&place);
            places.insert(key, place);
            seen.insert(pid, Seen { process, life, owner });
        }
        self.places = places;
        seen
    }

    fn card(
        &mut self,
        now: ReadTime,
        answer: CardAnswer,
        seen: &HashMap<u32, Seen>,
        allocations: Option<&Allocations>,
        unknown: &mut Vec<Unknown>,
    ) -> Option<Card> {
        let CardAnswer { index, identity, mig, utilization, memory, processes, samples, instances } = answer;
        let Identity { uuid, model, minor } = match identity {
            Ok(identity) => identity,
            Err(fault) => {
                self.count_fault(&fault);
                let card = self.uuids.remove(&index).unwrap_or_else(|| format!("index {index}").into());
                unknown.push(Unknown { card, what: "card", reason: fault.reason });
                return None;
            }
        };
        let uuid = self.named(index, &uuid);
        let mut tell = |what, reason| unknown.push(Unknown { card: Arc::clone(&uuid), what, reason });

        let mig = mig.unwrap_or_else(|fault| {
            // Who does not know whether it is divided must not read it as one.
            self.count_fault(&fault);
            tell("mig", fault.reason);
            true
        });
        let window = match samples {
            _ if mig => {
                self.buffers.remove(&uuid);
                tell("process_utilization", "mig".into());
                None
            }
            Ok(samples) => {
                let buffer = self.buffers.entry(Arc::clone(&uuid)).or_default();
                match buffer.take(now, &samples.rows, samples.full) {
                    Ok(window) => {
                        *self.dropped.entry("above_100").or_default() += window.above_full;
                        *self.dropped.entry("out_of_time").or_default() += window.out_of_time;
                        Some(window)
                    }
                    Err(gap) => {
                        tell("process_utilization", gap.reason().into());
                        None
                    }
                }
            }
            Err(fault) => {
                self.buffers.remove(&uuid);
                self.count_fault(&fault);
                tell("process_utilization", fault.reason);
                None
            }
        };
        // A divided card has no utilization of its own: that its driver says so is no fault.
        let utilization = utilization.map_err(|fault| {
            if !mig {
                self.count_fault(&fault);
            }
            tell("utilization", fault.reason);
        });
        let memory = memory.map_err(|fault| {
            self.count_fault(&fault);
            tell("memory", fault.reason);
        });
        let processes = match processes {
            Ok(list) => Some(list),
            Err(fault) => {
                self.count_fault(&fault);
                tell("processes", fault.reason);
                None
            }
        };
        let utilization = utilization.ok();
        let nobody = processes.as_ref().is_some_and(Vec::is_empty);
        let is_idle = nobody && window.is_some() && utilization.is_some_and(|now| now.gpu == 0);
        let idle = allocations.filter(|_| is_idle).map(|all| self.idle(all, &uuid)).unwrap_or_default();
        let listed = processes.unwrap_or_default().into_iter();
        let processes: Vec<_> =
            listed.filter_map(|one| process(&one, seen, window.as_ref(), allocations, &uuid, &mut tell)).collect();
        let parts = instances.into_iter().filter_map(|part| match part.memory {
            Ok(memory) => Some(Instance { id: part.id, model: bounded(&part.model), memory }),
            Err(fault) => {
                tell("instance_memory", fault.reason);
                None
            }
        });
        let instances = parts.collect();
        let (model, memory) = (bounded(&model), memory.ok());
        Some(Card { index, uuid, model, minor, utilization, memory, processes, idle, instances })
    }

    /// The containers that have the whole card to themselves and do not use it. The kubelet may name pods that have ended.
    fn idle(&self, allocations: &Allocations, uuid: &str) -> Vec<Owner> {
        let holders = allocations.of_card(uuid).iter().filter(|holder| !holder.shared);
        let running = holders.filter(|holder| self.pods.is_running(&holder.namespace, &holder.pod));
        let owner = |holder: &super::pod_resources::Holder| Owner {
            namespace: Arc::clone(&holder.namespace),
            pod: Arc::clone(&holder.pod),
            container: Some(Arc::clone(&holder.container)),
        };
        running.map(owner).collect()
    }

    /// The shared form of a card's UUID.
    fn named(&mut self, index: u32, uuid: &str) -> Arc<str> {
        let known = self.uuids.entry(index).or_insert_with(|| bounded(uuid));
        if **known != *uuid {
            *known = bounded(uuid);
        }
        Arc::clone(known)
    }

    fn drop_one(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    fn count_fault(&mut self, fault: &Fault) {
        *self.faults.entry(fault.reason.clone()).or_default() += 1;
    }
}

fn process(
    running: &RunningProcess,
    seen: &HashMap<u32, Seen>,
    window: Option<&Window>,
    allocations: Option<&Allocations>,
    uuid: &str,
    tell: &mut impl FnMut(&'static str, Cow<'static, str>),
) -> Option<CardProcess> {
    let Seen { process, life, owner } = seen.get(&running.pid)?;
    let utilization = match life {
        Life::Itself => window.map(|window| window.of(running.pid)),
        Life::Reused => {
            tell("process", "pid_reused".into());
            None
        }
    };
    if utilization.is_some_and(|all| all.contains(&None)) {
        tell("process", "above_100".into());
    }
    let mode = owner.as_ref().zip(allocations).and_then(|(owner, allocations)| {
        let mut holders = allocations.of_card(uuid).iter();
        let own = holders.find(|holder| holder.namespace == owner.namespace && holder.pod == owner.pod)?;
        Some(if own.shared { Mode::Share } else { Mode::Exclusive })
    });
    Some(CardProcess {
        pid: running.pid,
        name: bounded(&process.name),
        kind: running.kind,
        instance: running.instance,
        owner: owner.clone(),
        mode,
        utilization,
        memory: running.memory,
    })
}

/// As much of a name as becomes a label (R22).
fn bounded(text: &str) -> Arc<str> {
    let mut end = text.len().min(MAX_LABEL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests;
