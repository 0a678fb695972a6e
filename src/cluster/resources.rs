//! What pods ask of their nodes, and what nodes have to give, as the scheduler counts it.
//!
//! Counted are GPUs by resource name, CPU, memory and the number of pods. Everything else that a scheduler looks at is not
//! here: taints, affinity, topology, volumes, ephemeral storage, other extended resources, dynamic resource claims.

use std::sync::Arc;

/// An amount of each resource that is counted: of one pod, or of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// GPUs by resource name, sorted; none is zero. A list: a pod has one kind, and most pods have none.
    pub gpus: Vec<(Arc<str>, u64)>,
    /// 1 for a pod; for a node the most that its kubelet runs.
    pub pods: u64,
}

impl Resources {
    /// GPUs of that name.
    #[must_use]
    pub fn gpus(&self, name: &str) -> u64 {
        self.gpus.iter().find(|(known, _)| **known == *name).map_or(0, |(_, count)| *count)
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    /// The larger of both, resource by resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, u64::max);
    }

    /// What is left of it; a node that is overcommitted has nothing left.
    pub fn take(&mut self, other: &Self) {
        self.combine(other, u64::saturating_sub);
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let Self { cpu_millis, memory_bytes, gpus, pods } = other;
        self.cpu_millis = with(self.cpu_millis, *cpu_millis);
        self.memory_bytes = with(self.memory_bytes, *memory_bytes);
        self.pods = with(self.pods, *pods);
        for (name, count) in gpus {
            match self.gpus.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => self.gpus[at].1 = with(self.gpus[at].1, *count),
                Err(at) => self.gpus.insert(at, (Arc::clone(name), with(0, *count))),
            }
        }
    }

    /// How often `one` fits whole. What `one` does not ask for is no limit.
    #[must_use]
    pub fn fits(&self, one: &Self) -> u64 {
        let Self { cpu_millis, memory_bytes, gpus, pods } = one;
        let plain =
            [(self.cpu_millis, *cpu_millis), (self.memory_bytes, *memory_bytes), (self.pods, *pods)].into_iter();
        let cards = gpus.iter().map(|(name, count)| (self.gpus(name), *count));
        plain.chain(cards).filter_map(|(have, want)| have.checked_div(want)).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(cpu_millis: u64, memory_bytes: u64, gpus: &[(&str, u64)], pods: u64) -> Resources {
        let gpus = gpus.iter().map(|(name, count)| (Arc::from(*name), *count)).collect();
        Resources { cpu_millis, memory_bytes, gpus, pods }
    }

    #[test]
    fn a_pod_fits_as_often_as_the_scarcest_of_what_it_asks_for_allows() {
        let node = resources(8000, 64, &[("amd.com/gpu", 1), ("nvidia.com/gpu", 4)], 110);
        for (pod, times) in [
            (resources(1000, 1, &[("nvidia.com/gpu", 1)], 1), 4),
            (resources(1000, 1, &[("nvidia.com/gpu", 3)], 1), 1),
            (resources(1000, 1, &[("nvidia.com/gpu", 8)], 1), 0),
            (resources(3000, 1, &[("nvidia.com/gpu", 1)], 1), 2),
            (resources(0, 40, &[("nvidia.com/gpu", 1)], 1), 1),
            (resources(0, 0, &[("aliyun.com/gpu", 1)], 1), 0),
            (resources(0, 0, &[("amd.com/gpu", 1), ("nvidia.com/gpu", 1)], 1), 1),
            (resources(0, 0, &[], 1), 110),
        ] {
            assert_eq!(node.fits(&pod), times, "{pod:?}");
        }
    }

    #[test]
    fn what_pods_take_is_gone_and_an_overcommitted_node_has_nothing_left() {
        let mut free = resources(8000, 64, &[("nvidia.com/gpu", 4)], 110);
        let pod = resources(3000, 16, &[("nvidia.com/gpu", 3)], 1);
        free.take(&pod);
        assert_eq!(free, resources(5000, 48, &[("nvidia.com/gpu", 1)], 109));
        free.take(&pod);
        assert_eq!(free, resources(2000, 32, &[("nvidia.com/gpu", 0)], 108));
        assert_eq!(free.fits(&pod), 0);
    }

    #[test]
    fn a_kind_of_gpu_that_only_one_side_has_is_kept() {
        let mut sum = resources(1, 1, &[("b", 1)], 1);
        sum.add(&resources(1, 1, &[("a", 2), ("b", 2)], 0));
        assert_eq!(sum, resources(2, 2, &[("a", 2), ("b", 3)], 1));
        sum.raise_to(&resources(0, 5, &[("c", 1)], 0));
        assert_eq!(sum, resources(2, 5, &[("a", 2), ("b", 3), ("c", 1)], 1));
    }
}
