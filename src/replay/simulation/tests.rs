use std::sync::Arc;

use super::*;
use crate::replay::{
    baselines::{fixed::Fixed, hpa::Hpa, keda::Keda, kpa::Kpa},
    outcome::Figures,
    policy::{Release, Wanted},
    trace::{BadRows, Format, Load, Trace},
};

fn trace(points: Vec<(f64, f64)>) -> Trace {
    let seconds = points.last().map_or(0.0, |last| last.0);
    Trace {
        name: "t".to_owned(),
        format: Format::Csv,
        start: None,
        seconds,
        load: Load::Rates(points),
        bad: BadRows::default(),
    }
}

fn scenario(points: Vec<(f64, f64)>, on_premises: u32) -> Scenario {
    let trace = Arc::new(trace(points));
    let model = Model::default();
    Scenario {
        workload: Workload {
            until: trace.seconds,
            trace,
            scale: 1.0,
            requests: model.requests.clone(),
            from: 0.0,
            warmup: 900.0,
        },
        model,
        slo: Slo::default(),
        on_premises,
        min: 1,
        max: 30,
        signals: Signals::Queue,
        capacity: 1.0,
    }
}

fn hill() -> Scenario {
    scenario(vec![(0.0, 3.0), (3_600.0, 20.0), (7_200.0, 3.0)], 4)
}

fn figures(scenario: &Scenario, autoscaler: &mut dyn Autoscaler, seed: u64) -> Figures {
    simulate(scenario, "", "", autoscaler, seed).figures
}

#[test]
fn every_request_that_arrives_is_accounted_for_whoever_runs() {
    let scenario = hill();
    let arrived = scenario.workload.arrivals(1).filter(|request| request.at >= scenario.workload.warmup).count() as u64;
    let contenders: [&mut dyn Autoscaler; 5] = [
        &mut Hpa::new(50.0, 1, 30),
        &mut Hpa::new(79.0, 1, 30),
        &mut Keda::new(30.0, 1, 30),
        &mut Kpa::new(30.0),
        &mut Fixed(3),
    ];
    for contender in contenders {
        let outcome = simulate(&scenario, "", "", contender, 1);
        let samples = &outcome.timeline.samples;
        assert_eq!(outcome.figures.requests, arrived);
        assert_eq!(samples.iter().map(|sample| u64::from(sample.requests)).sum::<u64>(), arrived);
        let violations: u64 = samples.iter().map(|sample| u64::from(sample.violations)).sum();
        let met = outcome.figures.slo_attainment * arrived as f64;
        assert!((met + violations as f64 - arrived as f64).abs() < 1e-3, "{met} met, {violations} not, of {arrived}");
    }
}

#[test]
fn the_same_seed_gives_the_same_outcome_and_another_one_another() {
    let run = |seed| simulate(&hill(), "hpa", "", &mut Hpa::new(60.0, 1, 30), seed);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).figures, run(2).figures);
}

#[test]
fn a_constant_fleet_costs_its_size_and_more_of_it_attains_more() {
    let scenario = hill();
    let mut attained = 0.0;
    for replicas in [2, 4, 8, 12] {
        let figures = figures(&scenario, &mut Fixed(replicas), 1);
        let expected = f64::from(replicas) * 4.0 * 2.0;
        assert!((figures.gpu_hours - expected).abs() < 0.05 * expected, "{replicas}: {}", figures.gpu_hours);
        let cloud = f64::from(replicas.saturating_sub(4)) * 8.0;
        assert!((figures.cloud_gpu_hours - cloud).abs() < 0.5, "{replicas}: {}", figures.cloud_gpu_hours);
        assert!(figures.slo_attainment >= attained, "{replicas}: {}", figures.slo_attainment);
        assert_eq!(figures.scale_events, 0, "the change at the beginning is in the warm-up");
        attained = figures.slo_attainment;
    }
    assert!(attained > 0.999, "{attained}");
}

#[test]
fn replicas_that_wait_for_the_least_loaded_queue_less_than_apart_and_more_than_together() {
    // At the same load per replica, four replicas with the shortest queue chosen lie between four M/D/1 and one M/D/4; the
    // share over the bound must fall from one to four.
    let service = Rates::new(&Model::default()).prefill(512);
    let late = |replicas: u32| {
        let rate = 0.85 * f64::from(replicas) / service;
        let mut scenario = scenario(vec![(0.0, rate), (6_000.0, rate)], replicas);
        let requests = &mut scenario.workload.requests;
        (requests.prompt_median, requests.prompt_sigma) = (512.0, 0.0);
        (requests.output_median, requests.output_sigma) = (1.0, 0.0);
        scenario.slo.ttft_seconds = 3.0 * service;
        1.0 - figures(&scenario, &mut Fixed(replicas), 1).slo_attainment
    };
    let (one, four) = (late(1), late(4));
    assert!(four < one / 2.0 && four > one / 100.0, "{one} alone, {four} of four");
}

/// Says what it was shown.
struct Witness {
    desired: Vec<(f64, u32)>,
    seen: Vec<(f64, Observation)>,
    began: Option<Timestamp>,
}

impl Autoscaler for Witness {
    fn period(&self) -> f64 {
        5.0
    }

    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted {
        let at = now.duration_since(*self.began.get_or_insert(now)).as_secs_f64();
        self.seen.push((at, seen.observation.clone()));
        let desired = self.desired.iter().rev().find(|(from, _)| *from <= at).map_or(1, |(_, desired)| *desired);
        Wanted { desired, release: Release::Ordered(None) }
    }

    fn sentence(&self) -> String {
        "as told".to_owned()
    }
}

#[test]
fn what_a_contender_sees_is_a_pod_from_pending_to_ready_with_work_only_then() {
    let mut witness = Witness { desired: vec![(0.0, 2), (1_000.0, 3), (2_500.0, 2)], seen: Vec::new(), began: None };
    let outcome = simulate(&scenario(vec![(0.0, 3.0), (3_600.0, 3.0)], 2), "", "", &mut witness, 1);
    let third = |at: f64| {
        let (_, observation) = witness.seen.iter().find(|(seen, _)| *seen >= at).expect("seen");
        (observation.replicas, observation.pods.get(2).cloned(), observation.room.clone())
    };
    assert_eq!(third(1_000.0).1, None, "not before it is asked for");
    let (replicas, pod, _) = third(1_005.0);
    assert_eq!((replicas, pod.map(|pod| (pod.stage, pod.pool))), (3, Some((Stage::Pending, None))));
    let stages: Vec<Stage> = (1_005..2_400).step_by(5).filter_map(|at| Some(third(f64::from(at)).1?.stage)).collect();
    assert!(stages.is_sorted() && stages.ends_with(&[Stage::Ready]), "{stages:?}");
    let (_, pod, _) = third(2_400.0);
    let pod = pod.expect("ready");
    assert_eq!(pod.pool, Some(CLOUD));
    assert!(pod.ready_since > pod.running && pod.running > pod.scheduled && pod.scheduled > Some(pod.created));
    assert!(pod.work.utilization.value().is_some_and(|percent| (20.0..80.0).contains(&percent)), "{:?}", pod.work);
    for (_, observation) in &witness.seen {
        for pod in observation.pods.iter().filter(|pod| pod.stage != Stage::Ready) {
            assert_eq!(pod.work, Work::default(), "nothing is offered before it is ready");
        }
    }
    assert_eq!(third(2_505.0).1, None, "a leaving pod is not shown");
    assert_eq!(outcome.moves.iter().map(|step| (step.at, step.to)).collect::<Vec<_>>(), [(100.0, 3), (1_600.0, 2)]);
    assert_eq!(outcome.moves[0].why, "as told");
}

#[test]
fn moves_are_counted_by_direction_and_by_what_undoes_them() {
    let moves = |desired: &[(f64, u32)]| {
        let desired = desired.iter().map(|(at, desired)| (at + 900.0, *desired)).collect();
        let mut witness = Witness { desired, seen: Vec::new(), began: None };
        let figures = figures(&scenario(vec![(0.0, 1.0), (3_600.0, 1.0)], 3), &mut witness, 1);
        (figures.scale_events, figures.direction_reversals, figures.undone_scale_downs)
    };
    // On premises a replica is back within 33 s in the median.
    assert_eq!(moves(&[(-900.0, 3), (100.0, 2), (110.0, 3)]), (2, 1, 1));
    assert_eq!(moves(&[(-900.0, 3), (100.0, 2), (150.0, 3)]), (2, 1, 0));
    assert_eq!(moves(&[(-900.0, 3), (100.0, 2), (200.0, 1), (1_000.0, 2), (1_100.0, 3)]), (4, 1, 0));
    // The cloud takes 240 s more.
    assert_eq!(moves(&[(-900.0, 4), (100.0, 3), (300.0, 4)]), (2, 1, 1));
}

#[test]
fn without_a_ready_replica_requests_wait_for_the_first() {
    let mut scenario = scenario(vec![(0.0, 1.0), (3_600.0, 1.0)], 1);
    scenario.min = 0;
    let mut witness = Witness { desired: vec![(0.0, 1), (1_500.0, 0), (1_700.0, 1)], seen: Vec::new(), began: None };
    let figures = figures(&scenario, &mut witness, 1);
    assert!(figures.worst_queue > 150, "{}", figures.worst_queue);
    assert!(figures.unfinished < 20, "{}", figures.unfinished);
    assert!((0.9..0.96).contains(&figures.slo_attainment), "{}", figures.slo_attainment);
}

#[test]
fn load_and_replicas_are_plotted_in_the_same_unit() {
    let mut scenario = scenario(vec![(0.0, 8.0), (3_600.0, 8.0)], 4);
    scenario.capacity = 1.0;
    let outcome = simulate(&scenario, "", "", &mut Fixed(6), 1);
    let samples = &outcome.timeline.samples;
    let rates = Rates::new(&scenario.model);
    let work: f64 =
        scenario.workload.arrivals(1).filter(|request| request.at >= 900.0).map(|request| rates.work(&request)).sum();
    let mean = samples.iter().map(|sample| sample.load).sum::<f64>() / samples.len() as f64;
    assert!((mean - work / 3_600.0).abs() < 0.01 * mean, "{mean}");
    assert!(
        samples.iter().all(|sample| (sample.ready_on_premises, sample.ready_cloud, sample.cloud_nodes) == (4, 2, 2))
    );
}
