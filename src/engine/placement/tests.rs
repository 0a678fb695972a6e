use jiff::SignedDuration;

use super::*;
use crate::{
    engine::{Decision, Reason, State, burst, decide},
    signal::{Pod, Signal, Work},
};

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn pod(name: &str, stage: Stage, pool: Option<usize>) -> Pod {
    let at = start();
    let there = (stage == Stage::Ready).then_some(at);
    Pod {
        uid: name.into(),
        name: name.into(),
        pool,
        stage,
        created: at,
        scheduled: there,
        running: there,
        ready_since: there,
        work: Work::default(),
    }
}

/// One is Ready in the first pool, one waits since [`start`].
fn seen(room: &[Room]) -> Observation {
    let pods = vec![pod("a", Stage::Ready, Some(0)), pod("b", Stage::Pending, None)];
    Observation { replicas: 2, pods, room: room.into(), cluster_unknown: None }
}

fn policy(cloud: bool) -> Policy {
    let pool = |name: &str, elastic| Pool { name: name.into(), elastic, ..Pool::default() };
    let pools = [Some(pool("onprem", false)), cloud.then(|| pool("cloud", true))].into_iter().flatten().collect();
    Policy { pools, ..Policy::default() }
}

fn told(seen: &Observation, policy: &Policy, seconds: i64) -> Option<(Gate, String)> {
    let pools = burst::pools(seen, policy, &[]);
    unplaced(seen, policy, &pools, after(seconds)).map(|unplaced| (unplaced.gate, unplaced.message.to_string()))
}

#[test]
fn a_full_pool_that_gets_no_nodes_is_told_at_once_and_a_node_is_waited_for() {
    let full = seen(&[Room::Fixed(0), Room::Elastic(0)]);
    assert_eq!(told(&full, &policy(false), 10), None, "the scheduler has a moment");
    let (gate, message) = told(&full, &policy(false), 20).unwrap();
    assert_eq!(gate, Gate::PoolsFull);
    let sentence = "1 replicas without a node, the first since 2027-01-15T08:00:00Z: onprem is full with 1";
    assert_eq!(message, sentence);
    // The prior: nine of ten are Ready after 290 s × 1.3.
    assert_eq!(told(&full, &policy(true), 700), None);
    let (gate, message) = told(&full, &policy(true), 800).unwrap();
    assert_eq!(gate, Gate::NoNode);
    assert!(message.ends_with("onprem is full with 1, cloud got no node"), "{message}");
}

#[test]
fn a_pool_at_its_maximum_waits_for_no_node() {
    let mut policy = policy(true);
    policy.pools[1].max = Some(1);
    let mut seen = seen(&[Room::Fixed(0), Room::Elastic(3)]);
    seen.pods.push(pod("c", Stage::Ready, Some(1)));
    let (gate, message) = told(&seen, &policy, 20).unwrap();
    assert_eq!(gate, Gate::PoolsFull);
    assert!(message.ends_with("onprem is full with 1, cloud is at its maximum of 1"), "{message}");
}

#[test]
fn room_that_the_scheduler_does_not_use_is_no_full_pool() {
    let seen = seen(&[Room::Fixed(2)]);
    assert_eq!(told(&seen, &policy(false), 50), None);
    assert_eq!(told(&seen, &policy(false), 70).unwrap().0, Gate::Unschedulable);
}

#[test]
fn r1_unknown_room_closes_no_gate_and_nobody_waits_without_a_pending_pod() {
    assert_eq!(told(&seen(&[Room::Unknown]), &policy(false), 9_000), None);
    let mut placed = seen(&[Room::Fixed(0)]);
    placed.pods.pop();
    assert_eq!(told(&placed, &policy(false), 9_000), None);
}

#[test]
fn where_no_pools_are_named_a_node_is_waited_for_all_the_same() {
    let anywhere = Policy::default();
    assert_eq!(told(&seen(&[]), &anywhere, 500), None);
    assert_eq!(told(&seen(&[]), &anywhere, 700).unwrap().0, Gate::NoNode);
}

/// The service has more work than it can do, and one replica that finds no place.
fn overloaded(room: &[Room], policy: &Policy, seconds: i64) -> Decision {
    let mut seen = seen(room);
    seen.pods.push(pod("c", Stage::Ready, Some(0)));
    seen.replicas = 3;
    let mut state = State::default();
    let mut last = None;
    for second in (0..=seconds).step_by(10) {
        let at = after(second);
        let work = Work { utilization: Signal::Known { value: 100.0, at }, ..Work::default() };
        seen.pods.iter_mut().filter(|pod| pod.stage == Stage::Ready).for_each(|pod| pod.work = work.clone());
        let (next, decision) = decide(state, &seen, policy, at);
        state = next;
        last = Some(decision);
    }
    last.unwrap()
}

#[test]
fn no_more_are_asked_for_beyond_those_that_find_no_place() {
    let mut policy = Policy { target_utilization: 25.0, ..policy(true) };
    let room = [Room::Fixed(0), Room::Elastic(0)];
    let boots = overloaded(&room, &policy, 600);
    assert!(boots.desired > 3 && boots.flags.unplaced.is_none(), "a node may come yet: {}", boots.sentence());
    let in_vain = overloaded(&room, &policy, 900);
    let held = in_vain.reasons.iter().any(|reason| matches!(reason, Reason::Unplaced { .. }));
    assert!(in_vain.desired == 3 && held, "{}", in_vain.sentence());
    policy.min = 4;
    assert_eq!(overloaded(&room, &policy, 900).desired, 4, "the policy's minimum is asked for whatever happens");
}
