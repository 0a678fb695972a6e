//! What one sync of the HPA saw and did: a line of the demo's output, and at the end the summary.

use std::time::Duration;

use serde::Serialize;

/// One sync of the HPA model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tick {
    /// Scene time, seconds.
    pub time: f64,
    /// Offered load, in replicas kept fully busy.
    pub offered: f64,
    /// Replicas that the load warrants at the target and its tolerance.
    pub warranted: usize,
    /// The service's utilization as it is served, percent; `null` while unknown.
    pub utilization: Option<f64>,
    /// Why it is unknown.
    pub unknown: Option<String>,
    /// The pods, oldest first.
    pub pods: Vec<PodTick>,
    /// Ready pods.
    pub ready: usize,
    /// Replicas that the HPA has set, after this sync.
    pub desired: usize,
    /// Values that the HPA was answered, by pod, in percent.
    pub answered: usize,
    /// What held the HPA back or bounded it.
    pub limit: Option<&'static str>,
    /// Why the HPA has no value: its condition's message.
    pub invalid: Option<String>,
    /// What the same HPA, at the same moment, would have wanted, had each unknown pod been answered as 0.
    pub desired_if_unknown_were_zero: usize,
    /// What has happened since the last one.
    pub events: Vec<String>,
}

/// One pod at a sync.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PodTick {
    /// Name.
    pub name: String,
    /// Its node, once it has one.
    pub node: Option<&'static str>,
    /// Whether it serves.
    pub ready: bool,
    /// Its value as it is served, percent; `null` while unknown.
    pub value: Option<f64>,
    /// Why it is unknown.
    pub unknown: Option<String>,
}

/// What the scene came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Most ready replicas at once.
    pub max_replicas: usize,
    /// Ready replicas at the end.
    pub final_replicas: usize,
    /// Syncs at which the HPA removed a replica that the offered load warranted.
    pub wrong_scale_downs: usize,
    /// Wall time.
    pub seconds: f64,
    /// Faults during which the pod was unknown and was never answered as a number, after the age limit.
    pub faults_seen_as_unknown: usize,
    /// Syncs at which an HPA that is answered 0 for unknown would have removed a warranted replica.
    pub wrong_scale_downs_if_unknown_were_zero: usize,
}

/// The scene did not play as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flop {
    /// It did not go up as far as it should.
    #[error("the service reached {0} ready replicas, not {expected}", expected = super::script::MAX_REPLICAS)]
    Max(usize),
    /// It did not come down, or not as far.
    #[error("the service ended with {0} ready replicas, not {expected}", expected = super::script::MIN_REPLICAS)]
    Final(usize),
    /// It shrank while it should not.
    #[error("the autoscaler removed replicas {0} times that the load warranted")]
    WrongScaleDowns(usize),
    /// A fault went by unnoticed.
    #[error("{0} of {expected} faults were seen as unknown", expected = super::script::MISHAPS.len())]
    Faults(usize),
}

impl Summary {
    /// Whether the scene played as described.
    ///
    /// # Errors
    /// The first thing that did not.
    pub fn judge(&self) -> Result<(), Flop> {
        let Self { max_replicas, final_replicas, wrong_scale_downs, faults_seen_as_unknown, .. } = *self;
        match () {
            () if max_replicas != super::script::MAX_REPLICAS as usize => Err(Flop::Max(max_replicas)),
            () if final_replicas != super::script::MIN_REPLICAS as usize => Err(Flop::Final(final_replicas)),
            () if wrong_scale_downs > 0 => Err(Flop::WrongScaleDowns(wrong_scale_downs)),
            () if faults_seen_as_unknown != super::script::MISHAPS.len() => Err(Flop::Faults(faults_seen_as_unknown)),
            () => Ok(()),
        }
    }
}

/// Watches the scene from the seats, and counts.
#[derive(Debug, Clone, Default)]
pub struct Critic {
    summary: Summary,
    /// Per mishap: syncs at which its pod was unknown, and at which it was answered as a number.
    faults: [(usize, usize); super::script::MISHAPS.len()],
}

impl Critic {
    /// Takes a sync into account. `before`: the replicas set before it. `late`: how long after a fault's begin the pod may
    /// still be answered with what was measured before.
    pub fn watch(&mut self, tick: &Tick, before: usize, late: Duration) {
        let summary = &mut self.summary;
        summary.max_replicas = summary.max_replicas.max(tick.ready);
        summary.final_replicas = tick.ready;
        let removed = |desired: usize| usize::from(desired < before && desired < tick.warranted);
        summary.wrong_scale_downs += removed(tick.desired);
        summary.wrong_scale_downs_if_unknown_were_zero += removed(tick.desired_if_unknown_were_zero);
        let time = Duration::from_secs_f64(tick.time);
        for (mishap, (unknown, numbers)) in super::script::MISHAPS.iter().zip(&mut self.faults) {
            let node = super::script::NODES[mishap.node];
            let pod = tick.pods.iter().find(|pod| pod.node == Some(node) && pod.ready);
            match pod {
                Some(pod) if mishap.from + late <= time && time < mishap.until => match pod.value {
                    None => *unknown += 1,
                    Some(_) => *numbers += 1,
                },
                _ => {}
            }
        }
    }

    /// The verdict.
    #[must_use]
    pub fn summary(&self, wall: Duration) -> Summary {
        let faults_seen_as_unknown =
            self.faults.iter().filter(|(unknown, numbers)| *unknown > 0 && *numbers == 0).count();
        Summary { seconds: (wall.as_secs_f64() * 10.0).round() / 10.0, faults_seen_as_unknown, ..self.summary.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scene::script;

    fn tick(seconds: u64, desired: usize, warranted: usize, value: Option<f64>) -> Tick {
        let pod =
            |node, value| PodTick { name: format!("on-{node}"), node: Some(node), ready: true, value, unknown: None };
        Tick {
            time: seconds as f64,
            offered: 1.4,
            warranted,
            utilization: value,
            unknown: None,
            pods: vec![pod("onprem-1", Some(47.0)), pod("cloud-1", value), pod("cloud-2", Some(47.0))],
            ready: desired,
            desired,
            answered: 3,
            limit: None,
            invalid: None,
            desired_if_unknown_were_zero: desired,
            events: Vec::new(),
        }
    }

    const LATE: Duration = Duration::from_secs(45);

    #[test]
    fn a_scale_down_is_wrong_exactly_if_the_load_warranted_more() {
        let wrong = |before, desired, warranted| {
            let mut critic = Critic::default();
            critic.watch(&tick(100, desired, warranted, None), before, LATE);
            critic.summary(LATE).wrong_scale_downs
        };
        for (before, desired, warranted, expected) in
            [(3, 2, 3, 1), (3, 3, 3, 0), (2, 2, 3, 0), (3, 1, 1, 0), (3, 1, 2, 1), (1, 2, 3, 0)]
        {
            assert_eq!(wrong(before, desired, warranted), expected, "{before} to {desired}, warranted {warranted}");
        }
    }

    #[test]
    fn a_fault_counts_as_seen_if_its_pod_is_unknown_and_never_a_number_once_it_is_late() {
        let during = |values: &[Option<f64>]| {
            let mut critic = Critic::default();
            for mishap in script::MISHAPS {
                let from = mishap.from.as_secs();
                critic.watch(&tick(from, 3, 3, Some(47.0)), 3, LATE);
                for (i, value) in values.iter().enumerate() {
                    critic.watch(&tick(from + 50 + i as u64, 3, 3, *value), 3, LATE);
                }
            }
            critic.summary(LATE).faults_seen_as_unknown
        };
        assert_eq!(during(&[None, None]), 2);
        assert_eq!(during(&[None, Some(0.0)]), 0);
        assert_eq!(during(&[]), 0);
    }

    #[test]
    fn the_scene_is_judged_by_what_it_promised() {
        let good = Summary { max_replicas: 3, final_replicas: 1, faults_seen_as_unknown: 2, ..Summary::default() };
        assert_eq!(good.judge(), Ok(()));
        for (summary, flop) in [
            (Summary { max_replicas: 2, ..good.clone() }, Flop::Max(2)),
            (Summary { final_replicas: 3, ..good.clone() }, Flop::Final(3)),
            (Summary { wrong_scale_downs: 1, ..good.clone() }, Flop::WrongScaleDowns(1)),
            (Summary { faults_seen_as_unknown: 1, ..good }, Flop::Faults(1)),
        ] {
            assert_eq!(summary.judge(), Err(flop));
        }
    }
}
