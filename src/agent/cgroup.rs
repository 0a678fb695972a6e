//! `/proc/PID/cgroup` → the pod and container that a process runs in. Pure.
//!
//! Each line of the file ends in a path (cgroups(7)). The kubelet makes one folder for each pod and the runtime one for
//! each container in it; how they are called depends on the cgroup driver and on the runtime:
//!
//! | driver | pod | container |
//! |---|---|---|
//! | cgroupfs | `pod` UID | 64 hexadecimal digits |
//! | systemd | `…-pod` UID `.slice`, `_` for `-` | `cri-containerd-`, `crio-`, `docker-` and the digits, `.scope` |
//! | kubelet systemd, runtime cgroupfs | one folder: `…-pod` UID `.slice:cri-containerd:` and the digits | |
//!
//! Whatever stands before (the QoS class, a kubelet's own root as in kind, a container that the whole node is) and behind
//! (what the workload itself makes) says nothing. In a cluster inside of a pod there are two pods in one path: which of
//! them is a pod of this cluster is not for the path to say, so all are named, the outermost first.

/// A pod, and a container in it if the path names one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The pod's UID as the API writes it; of a static pod, the hash of its manifest.
    pub pod_uid: String,
    /// The runtime's id of the container.
    pub container: Option<String>,
}

/// The pods that the file names. Lines that name several in another way than the others make them all doubtful: none.
pub fn places(text: &str) -> Vec<Place> {
    let mut found: Option<Vec<Place>> = None;
    for line in text.lines() {
        // hierarchy:controllers:path
        let Some(path) = line.splitn(3, ':').nth(2) else { continue };
        let here = of_path(path);
        if here.is_empty() {
            continue; // a hierarchy that the kubelet does not use
        }
        match &found {
            Some(other) if *other != here => return Vec::new(),
            _ => found = Some(here),
        }
    }
    found.unwrap_or_default()
}

fn of_path(path: &str) -> Vec<Place> {
    let mut all = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if let Some((uid, rest)) = pod(segment) {
            let container = rest.map_or_else(|| segments.peek().and_then(|next| container(next)), container);
            all.push(Place { pod_uid: uid, container });
        }
    }
    all
}

/// A folder of a pod: its UID, and what follows it in the same name.
fn pod(segment: &str) -> Option<(String, Option<&str>)> {
    if let Some(uid) = segment.strip_prefix("pod").and_then(uid) {
        return Some((uid, None));
    }
    let (slice, rest) = segment.split_once(".slice")?;
    let rest = match rest {
        "" => None,
        rest => Some(rest.strip_prefix(':')?),
    };
    if !slice.contains("kubepods") {
        return None;
    }
    let (_, name) = slice.rsplit_once("-pod")?;
    Some((uid(name)?, rest))
}

/// A UID in either spelling: five groups of hexadecimal digits, or 32 of them without a break (static pods).
fn uid(text: &str) -> Option<String> {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.len() == 32 && is_hex(text) {
        return Some(text.into());
    }
    let mark = if text.contains('_') { '_' } else { '-' };
    let groups: Vec<&str> = text.split(mark).collect();
    let valid = groups.len() == GROUPS.len()
        && groups.iter().zip(GROUPS).all(|(group, length)| group.len() == length && is_hex(group));
    valid.then(|| groups.join("-"))
}

/// A folder of a container: its id, without the runtime's prefix and systemd's suffix.
fn container(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    // CRI-O's own helper for the container is not in it.
    if name.starts_with("crio-conmon-") {
        return None;
    }
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.into())
}

#[cfg(test)]
mod tests;
