//! Timelines: what the engine does as time goes by, through [`decide`] alone.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::signal::{Observation, Pod as SeenPod, Room, Signal, Stage, Work};

mod utilization;

const STEP: i64 = 10;

/// A service with pods that say what they are told to say, and a clock.
struct Scene {
    now: Timestamp,
    policy: Policy,
    state: State,
    seen: Observation,
    made: u32,
}

/// The server of these tests is full at 70 running requests, with the default objective, and then finishes 1.75 a second.
/// Its load is 0.06 at 1 running request, 0.21 at 4, 0.43 at 10, 0.64 at 20, 0.86 at 40, 0.96 at 60.
fn seconds_per_token(running: f64) -> f64 {
    0.002 * (running + 20.0)
}

impl Scene {
    /// So many ready replicas on premises.
    fn new(policy: Policy, ready: u32) -> Self {
        let now = Timestamp::from_second(1_767_571_200).unwrap();
        let room = vec![Room::Fixed(0), Room::Elastic(0)];
        let seen = Observation { replicas: ready, pods: Vec::new(), room, cluster_unknown: None };
        let mut scene = Self { now, policy, state: State::default(), seen, made: 0 };
        for i in 0..240 {
            let running = 5.0 + f64::from(i % 40);
            scene.state.durable.capacity.learn(&capacity::Minute {
                running,
                shared: running,
                load: 1.0,
                generated: Some(running / seconds_per_token(running)),
                finished: Some(1.75),
                cache: None,
                replicas: 4.0,
                calm: true,
            });
        }
        for _ in 0..ready {
            scene.pod(Stage::Ready, Some(0));
        }
        scene
    }

    fn pod(&mut self, stage: Stage, pool: Option<usize>) -> &mut SeenPod {
        self.made += 1;
        let name: Arc<str> = format!("pod-{:04}", self.made).into();
        let since = |known: bool| known.then_some(self.now);
        self.seen.pods.push(SeenPod {
            uid: Arc::clone(&name),
            name,
            pool,
            stage,
            created: self.now,
            scheduled: since(stage != Stage::Pending),
            running: since(stage == Stage::Ready),
            ready_since: since(stage == Stage::Ready),
            work: Work::default(),
        });
        self.seen.pods.last_mut().unwrap()
    }

    fn known(&self, value: f64) -> Signal {
        Signal::Known { value, at: self.now }
    }

    /// Each ready pod runs and queues so many.
    fn work(&mut self, running: f64, waiting: f64) {
        let work = Work {
            utilization: self.known(50.0),
            running: self.known(running),
            waiting: self.known(waiting),
            generated_tokens: self.known(running / seconds_per_token(running)),
            finished: self.known(running / seconds_per_token(running) / 222.0),
            ..Work::default()
        };
        self.each_ready(|pod| pod.work = work.clone());
    }

    fn each_ready(&mut self, change: impl Fn(&mut SeenPod)) {
        self.seen.pods.iter_mut().filter(|pod| pod.stage == Stage::Ready).for_each(change);
    }

    /// Decides, without doing it, and lets a step of time pass.
    fn decide(&mut self) -> Decision {
        let (state, decision) = decide(std::mem::take(&mut self.state), &self.seen, &self.policy, self.now);
        self.state = state;
        self.now = self.now.checked_add(SignedDuration::from_secs(STEP)).unwrap();
        decision
    }

    /// Decides for some time with the same work for each ready pod.
    fn settle(&mut self, minutes: u32, running: f64, waiting: f64) -> Decision {
        let steps = minutes * 60 / STEP as u32;
        for _ in 1..steps {
            self.work(running, waiting);
            self.decide();
        }
        self.work(running, waiting);
        self.decide()
    }
}

fn pools() -> Policy {
    let pool = |name: &str, cost, elastic| Pool { name: name.into(), cost, elastic, ..Pool::default() };
    Policy { max: 40, pools: vec![pool("on-premises", 1.0, false), pool("cloud", 3.0, true)], ..Policy::default() }
}

/// Like [`pools`], with room on premises.
fn roomy(ready: u32) -> Scene {
    let mut scene = Scene::new(pools(), ready);
    scene.seen.room[0] = Room::Fixed(20);
    scene
}

#[test]
fn steady_work_moves_nothing() {
    let mut scene = roomy(4);
    for _ in 0..360 {
        scene.work(25.0, 0.0);
        let decision = scene.decide();
        assert_eq!(decision.desired, 4, "{}", decision.sentence());
    }
}

#[test]
fn one_rise_is_one_addition_and_what_is_on_its_way_counts() {
    let mut scene = roomy(4);
    scene.settle(30, 25.0, 0.0);
    let mut moves = Vec::new();
    for _ in 0..60 {
        scene.work(70.0, 2.0);
        let decision = scene.decide();
        if decision.desired != scene.seen.replicas {
            moves.push(decision.desired);
        }
        for _ in scene.seen.replicas..decision.desired {
            scene.pod(Stage::Starting, Some(0));
        }
        scene.seen.replicas = decision.desired;
    }
    assert!(moves.len() == 1 && (5..=7).contains(&moves[0]), "{moves:?}");
    scene.work(70.0, 2.0);
    let decision = scene.decide();
    assert!(decision.reasons.iter().any(|reason| matches!(reason, Reason::OnItsWay { .. })), "{}", decision.sentence());
}

#[test]
fn a_queue_that_grows_while_nodes_boot_does_not_ask_for_more_and_more() {
    let mut scene = Scene::new(pools(), 4);
    scene.settle(30, 25.0, 0.0);
    let mut asked = Vec::new();
    for step in 0..30 {
        // Half as much again as four replicas can do piles up for five minutes: 3.5 requests a second in four queues.
        scene.work(70.0, f64::from(step) * 8.75);
        let decision = scene.decide();
        if decision.desired > scene.seen.replicas {
            asked.push(decision.desired);
        }
        scene.seen.replicas = decision.desired;
    }
    assert!(
        asked.len() == 1 && (7..=12).contains(&asked[0]),
        "six are needed, and some more for what waits: {asked:?}"
    );
}

#[test]
fn a_rise_that_goes_on_after_it_was_answered_is_answered_again() {
    let mut scene = roomy(4);
    scene.settle(30, 25.0, 0.0);
    let mut asked = Vec::new();
    for step in 0..60_u32 {
        // What six replicas can do, and after three minutes ten: none of the new ones is ready yet.
        let rate = if step < 18 { 3.5 } else { 10.5 };
        let waiting = scene.seen.pods[0].work.waiting.value().unwrap_or(0.0);
        scene.work(70.0, waiting + rate * STEP as f64 / 4.0);
        let decision = scene.decide();
        if decision.desired > scene.seen.replicas {
            asked.push((step, decision.desired));
        }
        for _ in scene.seen.replicas..decision.desired {
            scene.pod(Stage::Starting, Some(0));
        }
        scene.seen.replicas = decision.desired;
    }
    assert!(asked.iter().any(|(step, _)| *step < 18) && asked.iter().any(|(step, _)| *step >= 18), "{asked:?}");
}

#[test]
fn a_replica_goes_when_the_others_would_do_with_margin_and_not_before_the_window_is_over() {
    let mut scene = roomy(4);
    scene.settle(30, 35.0, 0.0);
    let mut held = 0;
    loop {
        scene.work(4.0, 0.0);
        let decision = scene.decide();
        if decision.desired == 3 {
            assert_eq!(decision.down, Verdict::Done);
            break;
        }
        held += 1;
        assert!(held < 300, "{}", decision.sentence());
    }
    assert!(held >= 6, "gone after {held} decisions");
}

#[test]
fn a_move_is_advised_until_somebody_makes_it_and_its_cooldown_begins_then() {
    let mut scene = roomy(4);
    scene.policy.behavior.down.cooldown_seconds = Some(60.0);
    scene.settle(20, 4.0, 0.0);
    let wanted = scene.settle(1, 4.0, 0.0);
    assert_eq!(wanted.desired, 3, "{}", wanted.sentence());
    // An HPA that looks at long intervals, or is not there at all.
    for _ in 0..12 {
        scene.work(4.0, 0.0);
        let again = scene.decide();
        assert_eq!(again.desired, 3, "{}", again.sentence());
    }
    scene.seen.replicas = 3;
    scene.seen.pods.pop();
    scene.work(5.0, 0.0);
    let held = scene.decide();
    assert_eq!((held.desired, held.down), (3, Verdict::Held), "{}", held.sentence());
    assert!(held.sentence().contains("down waits"), "{}", held.sentence());
}

#[test]
fn what_was_let_go_is_asked_back_for_demand_and_not_for_headroom() {
    // Nearly full, with a margin for what is not known yet of its forecasts; so many seconds after a removal.
    let asked = |since: Option<f64>, waiting: f64| {
        let mut scene = roomy(4);
        scene.state.durable.last_down = since.map(|since| demand::seconds(scene.now) - since);
        let decisions: Vec<Decision> = (0..12)
            .map(|_| {
                scene.work(60.0, waiting);
                scene.decide()
            })
            .collect();
        decisions.into_iter().max_by_key(|decision| decision.desired).unwrap()
    };
    assert_eq!(asked(None, 0.0).desired, 5);
    assert_eq!(asked(Some(1_800.0), 0.0).desired, 5);
    let held = asked(Some(60.0), 0.0);
    assert_eq!(held.desired, 4);
    assert!(held.sentence().contains("only headroom asks for 5, "), "{}", held.sentence());
    assert!(asked(Some(60.0), 60.0).desired > 4, "what waits is no headroom");
}

#[test]
fn pods_that_are_not_ready_are_neither_idle_nor_busy() {
    let mut scene = roomy(4);
    let before = scene.settle(30, 20.0, 0.0).demand.unwrap();
    for _ in 0..4 {
        scene.pod(Stage::Starting, Some(0));
        scene.pod(Stage::Pending, None);
    }
    let after = scene.settle(2, 20.0, 0.0).demand.unwrap();
    assert!((after - before).abs() < 0.01, "{after} instead of {before}");
}

#[test]
fn what_is_unknown_holds_each_direction_that_depends_on_it_and_says_so() {
    let settled = || {
        let mut scene = roomy(4);
        scene.settle(30, 4.0, 0.0);
        scene.work(4.0, 0.0);
        scene
    };
    let why: Arc<str> = "stale".into();

    let mut cluster = settled();
    cluster.seen.cluster_unknown = Some("pods are not listed".into());
    let decision = cluster.decide();
    assert_eq!((decision.desired, decision.up, decision.down), (4, Verdict::Unknown, Verdict::Unknown));
    assert_eq!(decision.flags.unknown.as_deref(), Some("pods are not listed"));

    let mut all = settled();
    all.each_ready(|pod| pod.work.running = Signal::Unknown(Arc::clone(&why)));
    let decision = all.decide();
    assert_eq!((decision.desired, decision.demand, decision.up), (4, None, Verdict::Unknown));

    let mut one = settled();
    one.seen.pods[2].work.running = Signal::Unknown(Arc::clone(&why));
    let decision = one.decide();
    assert_eq!((decision.desired, decision.down), (4, Verdict::Unknown));
    assert_eq!(decision.flags.unknown.as_deref(), Some("1 of 4 ready pods have no fresh value"));
}

#[test]
fn growth_rests_on_what_is_known_while_a_pod_is_missing() {
    let mut scene = roomy(4);
    scene.settle(30, 16.0, 0.0);
    let grown = (0..30).any(|_| {
        scene.work(60.0, 40.0);
        scene.seen.pods[0].work = Work { running: Signal::Unknown("stale".into()), ..scene.seen.pods[0].work.clone() };
        scene.decide().desired > 4
    });
    assert!(grown);
}

#[test]
fn pods_that_run_requests_while_their_counters_stand_still_are_unknown_and_none_of_them_is_spare() {
    let mut scene = roomy(3);
    scene.settle(20, 10.0, 0.0);
    let still = |scene: &mut Scene, pods: usize| {
        scene.work(10.0, 0.0);
        for pod in 0..pods {
            let Work { generated_tokens, finished, .. } = &mut scene.seen.pods[pod].work;
            (*generated_tokens, *finished) =
                (Signal::Known { value: 0.0, at: scene.now }, Signal::Known { value: 0.0, at: scene.now });
        }
        scene.decide()
    };
    // One page proves nothing; three in a row do.
    assert_eq!([0; 3].map(|_| still(&mut scene, 1).down == Verdict::Unknown), [false, false, true]);
    let one = still(&mut scene, 1);
    assert!(one.sentence().contains("1 of 3 ready pods run requests while their counters stand still"), "{one:?}");
    let all: Vec<Decision> = (0..120).map(|_| still(&mut scene, 3)).collect();
    assert!(all.iter().all(|decision| decision.desired == 3));
    let last = &all[119];
    assert_eq!((last.demand, last.up, last.down), (None, Verdict::Unknown, Verdict::Unknown));
    let why = "all 3 ready pods run requests while their counters stand still";
    assert_eq!(last.flags.unknown.as_deref(), Some(why));
    // They go on: the next page is believed.
    assert!(scene.settle(1, 10.0, 0.0).demand.is_some());
}

#[test]
fn counters_that_stand_still_say_nothing_where_nothing_runs_or_answers_are_merely_long() {
    let idle = roomy(3).settle(30, 0.0, 0.0);
    assert_eq!((idle.demand, idle.down), (Some(0.0), Verdict::Done));
    let mut scene = roomy(3);
    scene.settle(10, 10.0, 0.0);
    // Tokens come and nothing finishes; tokens are not counted and nothing finishes.
    for tokens in [Signal::Known { value: 300.0, at: scene.now }, Signal::NotOffered] {
        for _ in 0..12 {
            scene.work(10.0, 0.0);
            let finished = scene.known(0.0);
            scene.each_ready(|pod| {
                (pod.work.generated_tokens, pod.work.finished) = (tokens.clone(), finished.clone());
            });
            assert!(scene.decide().demand.is_some(), "{tokens:?}");
        }
    }
}

#[test]
fn after_a_restart_nothing_goes_before_a_whole_window_was_measured_and_growth_waits_for_nothing() {
    let mut scene = roomy(6);
    scene.policy.behavior.down.window_seconds = Some(60.0);
    scene.settle(30, 1.0, 0.0);
    let kept = scene.state.to_json().unwrap();
    scene.state = State::restore(&kept).unwrap();
    let mut quiet = 0;
    loop {
        scene.work(1.0, 0.0);
        let decision = scene.decide();
        if decision.desired < 6 {
            break;
        }
        let warms_up = |reason: &Reason| matches!(reason, Reason::WarmUp { .. });
        assert!(decision.reasons.iter().any(warms_up), "{}", decision.sentence());
        quiet += 1;
    }
    assert!((6..=7).contains(&quiet), "{quiet}");
    scene.state = State::restore(&kept).unwrap();
    scene.work(60.0, 60.0);
    assert!(scene.decide().desired > 6);
}

#[test]
fn a_cooldown_outlives_a_restart() {
    let mut scene = roomy(6);
    scene.policy.behavior.down.cooldown_seconds = Some(1_800.0);
    let first = scene.settle(30, 1.0, 0.0);
    assert_eq!(first.desired, 5, "{}", first.sentence());
    scene.seen.replicas = 5;
    scene.seen.pods.pop();
    let gone = scene.settle(1, 1.0, 0.0);
    assert_eq!((gone.desired, gone.down), (5, Verdict::Held), "the first one is gone: {}", gone.sentence());
    scene.state = State::restore(&scene.state.to_json().unwrap()).unwrap();
    let decision = scene.settle(5, 1.0, 0.0);
    let waits = |reason: &Reason| matches!(reason, Reason::Cooldown { direction: Direction::Down, .. });
    assert!(decision.reasons.iter().any(waits), "{}", decision.sentence());
}

#[test]
fn state_that_cannot_be_read_is_refused_with_the_reason() {
    let malformed = State::restore("{").unwrap_err();
    assert!(matches!(malformed, Unreadable::Malformed(_)), "{malformed}");
    let version = State::restore(r#"{"version": 99}"#).unwrap_err();
    assert_eq!(version.to_string(), "the kept state is of version 99, this is 1; it is learned anew");
    assert!(State::restore(r#"{"version": 1}"#).is_ok());
}

#[test]
fn saturation_overrides_a_utilization_that_falls() {
    let mut scene = roomy(4);
    let mut last = scene.settle(30, 35.0, 0.0);
    for step in 0..30 {
        scene.work(64.0, 30.0);
        // As on the server of which vllm_load_curve.csv tells.
        let falling = scene.known(70.0 - f64::from(step));
        scene.each_ready(|pod| pod.work.utilization = falling.clone());
        last = scene.decide();
        assert_ne!(last.down, Verdict::Done);
    }
    assert!(last.desired > 4 && last.flags.saturated.is_some(), "{}", last.sentence());
}

#[test]
fn the_first_pool_is_filled_first_and_a_burst_says_what_it_costs() {
    let mut scene = Scene::new(pools(), 4);
    scene.seen.room[0] = Room::Fixed(1);
    let decision = scene.settle(20, 20.0, 0.0);
    assert_eq!(decision.landing.map(|landing| (landing.pool, landing.cost)), Some((0, 1.0)));
    scene.seen.room[0] = Room::Fixed(0);
    let decision = scene.settle(20, 70.0, 20.0);
    let landing = decision.landing.unwrap();
    assert_eq!((landing.pool, landing.cost, landing.in_time), (1, 3.0, true));
    assert!(landing.ready_seconds.0 > 200.0 && landing.ready_seconds.1 > landing.ready_seconds.0);
    assert!(decision.reasons.contains(&Reason::Burst { pool: 1, cost: 3.0 }), "{}", decision.sentence());
}

#[test]
fn who_goes_first_is_not_ready_then_dearest_then_least_busy_then_youngest() {
    let mut scene = Scene::new(pools(), 2);
    let busy = scene.known(9.0);
    scene.work(1.0, 0.0);
    scene.now = scene.now.checked_add(SignedDuration::from_secs(60)).unwrap();
    let young = Arc::clone(&scene.pod(Stage::Ready, Some(0)).uid);
    scene.work(1.0, 0.0);
    assert_eq!(scene.decide().release, Some(young));
    scene.seen.pods[2].work.running = busy.clone();
    scene.seen.pods[1].work.running = busy;
    assert_eq!(scene.decide().release.as_deref(), Some("pod-0001"));
    let cloud = Arc::clone(&scene.pod(Stage::Ready, Some(1)).uid);
    assert_eq!(scene.decide().release, Some(cloud));
    let starting = Arc::clone(&scene.pod(Stage::Starting, Some(0)).uid);
    assert_eq!(scene.decide().release, Some(starting));
    let pending = Arc::clone(&scene.pod(Stage::Pending, None).uid);
    assert_eq!(scene.decide().release, Some(pending));
}

#[test]
fn limits_bind_and_are_told() {
    let mut scene = roomy(4);
    scene.policy.max = 5;
    let decision = scene.settle(10, 70.0, 90.0);
    assert_eq!(decision.desired, 5);
    assert!(decision.flags.limited.is_some_and(|why| why.starts_with("max is 5")));
    scene.policy.max = 3;
    scene.work(60.0, 0.0);
    assert_eq!(scene.decide().desired, 3);
    scene.policy = Policy { min: 6, ..pools() };
    scene.work(1.0, 0.0);
    assert_eq!(scene.decide().desired, 6);
}

#[test]
fn full_pools_ask_for_no_more_than_they_hold() {
    let mut scene = Scene::new(pools(), 4);
    scene.policy.pools[1].max = Some(2);
    let decision = scene.settle(1, 70.0, 200.0);
    assert_eq!(decision.desired, 6);
    assert!(decision.flags.limited.is_some_and(|why| why.starts_with("the pools hold 6")));
}

#[test]
fn the_sentence_says_what_and_why() {
    let mut scene = roomy(2);
    let sentence = scene.settle(30, 25.0, 0.0).sentence();
    assert!(sentence.starts_with("2 stay: requests of 2 of 2 ready pods tell a demand of 1."), "{sentence}");
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_kept_is_small() {
    let mut scene = roomy(14);
    let mut bytes = Vec::new();
    for round in 0..8_u32 {
        for step in 0..360_u32 {
            scene.work(f64::from((step * 7 + round) % 40), f64::from(step % 5));
            // Pods come and go.
            let gone = scene.seen.pods.remove(0);
            scene.pod(Stage::Starting, gone.pool).created = gone.created;
            let (now, last) = (scene.now, scene.seen.pods.len() - 3);
            let pod = &mut scene.seen.pods[last];
            (pod.stage, pod.running, pod.ready_since) = (Stage::Ready, Some(now), Some(now));
            scene.decide();
        }
        bytes.push(serde_json::to_string(&scene.state).unwrap().len());
    }
    assert!(bytes[7] < 400_000 && bytes[7] < bytes[6] + 50_000, "{bytes:?}");
    let kept = scene.state.to_json().unwrap();
    assert!(kept.len() < 16_384, "{} bytes", kept.len());
}

/// One pod's work, wild.
fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![
        Just(Signal::NotOffered),
        Just(Signal::Unknown("stale".into())),
        (0.0..1e6_f64).prop_map(|value| Signal::Known { value, at: Timestamp::UNIX_EPOCH }),
        (0.0..100.0_f64).prop_map(|value| Signal::Known { value, at: Timestamp::UNIX_EPOCH }),
    ]
}

prop_compose! {
    fn observed()(
        replicas in 0_u32..30,
        pods in prop::collection::vec((0_usize..3, 0_usize..4, prop::collection::vec(signals(), 7)), 0..12),
        room in prop::collection::vec(prop_oneof![Just(Room::Unknown), (0_u32..9).prop_map(Room::Fixed), (0_u32..9).prop_map(Room::Elastic)], 0..3),
        unknown in prop::bool::weighted(0.1),
        gap in 0_i64..1_000,
    ) -> (Observation, i64) {
        let pods = pods.into_iter().enumerate().map(|(i, (stage, pool, work))| {
            let mut work = work.into_iter();
            let mut next = || work.next().unwrap();
            let work = Work { utilization: next(), running: next(), waiting: next(), kv_cache: next(), prompt_tokens: next(), generated_tokens: next(), finished: next() };
            let stage = [Stage::Pending, Stage::Starting, Stage::Ready][stage];
            let at = Timestamp::UNIX_EPOCH;
            let name: Arc<str> = format!("{i}").into();
            SeenPod { uid: Arc::clone(&name), name, pool: pool.checked_sub(1), stage, created: at, scheduled: Some(at), running: None, ready_since: Some(at), work }
        });
        let why = unknown.then(|| "not listed".into());
        (Observation { replicas, pods: pods.collect(), room, cluster_unknown: why }, gap)
    }
}

proptest! {
    #[test]
    fn whatever_is_seen_the_bounds_hold_and_a_recording_replays_bit_for_bit(
        seen in prop::collection::vec(observed(), 1..40), min in 0_u32..4, more in 0_u32..20,
    ) {
        let policy = Policy { min, max: (min + more).max(1), ..pools() };
        let (mut state, mut replayed) = (State::default(), State::default());
        let mut now = Timestamp::UNIX_EPOCH;
        for (observation, gap) in seen {
            now = now.checked_add(SignedDuration::from_secs(gap)).unwrap();
            let decision;
            (state, decision) = decide(state, &observation, &policy, now);
            let unknown = observation.cluster_unknown.is_some();
            prop_assert!(unknown || (policy.min..=policy.max).contains(&decision.desired), "{:?}", decision);
            prop_assert!(!unknown || decision.desired == observation.replicas);
            prop_assert!(decision.demand.is_none_or(|demand| demand >= 0.0 && demand.is_finite()));
            // As a recording has it: everything went through JSON.
            let text = |state: &State| serde_json::to_string(state).unwrap();
            let again: Observation = serde_json::from_str(&serde_json::to_string(&observation).unwrap()).unwrap();
            let (next, same) = decide(serde_json::from_str(&text(&replayed)).unwrap(), &again, &policy, now);
            replayed = next;
            prop_assert_eq!(serde_json::to_string(&same).unwrap(), serde_json::to_string(&decision).unwrap());
            prop_assert_eq!(text(&replayed), text(&state));
        }
    }
}
