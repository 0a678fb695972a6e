//! Timelines of services of which utilization alone is known.

use super::*;

/// Hours of a service that says no more than its utilization: an idle replica reads `floor`, a full one `full`, each sample
/// with noise, and demand is so many full replicas. New pods take a minute. Returns each decision.
fn alone(scene: &mut Scene, hours: u32, demand: f64, (floor, full): (f64, f64)) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = Vec::new();
    for step in 0..hours * 360 {
        let ready = scene.seen.pods.iter().filter(|pod| pod.stage == Stage::Ready).count();
        let load = (demand / ready as f64).min(1.0);
        let now = scene.now;
        for (i, pod) in scene.seen.pods.iter_mut().enumerate() {
            if pod.stage != Stage::Ready && pod.created.duration_since(now).as_secs() <= -60 {
                (pod.stage, pod.running, pod.ready_since) = (Stage::Ready, Some(now), Some(now));
            }
            let noise = f64::from((step * 7 + i as u32 * 5) % 11) - 5.0;
            let value = (floor + (full - floor) * load + noise).clamp(0.0, 100.0);
            pod.work = Work { utilization: Signal::Known { value, at: now }, ..Work::default() };
        }
        let decision = scene.decide();
        for _ in scene.seen.replicas..decision.desired {
            scene.pod(Stage::Starting, Some(0));
        }
        if decision.desired < scene.seen.replicas {
            scene.seen.pods.retain(|pod| Some(&pod.uid) != decision.release.as_ref());
        }
        scene.seen.replicas = scene.seen.pods.len() as u32;
        decisions.push(decision);
    }
    decisions
}

#[test]
fn with_utilization_alone_the_fleet_finds_its_size_whatever_a_full_replica_reads() {
    for (floor, full) in [(0.0, 25.0), (5.0, 75.0), (30.0, 60.0), (35.0, 80.0), (10.0, 97.0)] {
        let mut scene = Scene::new(pools(), 2);
        scene.seen.room[0] = Room::Fixed(40);
        let decisions = alone(&mut scene, 24, 7.5, (floor, full));
        assert!(decisions.iter().all(|decision| decision.source == Some(Source::Utilization)));
        let last = &decisions[23 * 360..];
        let mean = last.iter().map(|decision| f64::from(decision.desired)).sum::<f64>() / last.len() as f64;
        let least = last.iter().map(|decision| decision.desired).min().unwrap();
        // Where noise is a fifth of what a full replica reads, it hides that the last half of a replica is missing.
        assert!(
            f64::from(least) >= 7.5 - 0.5 && mean <= 12.0,
            "{floor} to {full} %: {mean} replicas, at least {least}"
        );
    }
}

#[test]
fn with_utilization_alone_replicas_that_stay_full_are_not_enough() {
    // Three replicas at their limit, far below the target, while demand is four times of that.
    let mut scene = roomy(3);
    alone(&mut scene, 1, 1.5, (0.0, 25.0));
    let decisions = alone(&mut scene, 1, 12.0, (0.0, 25.0));
    let minutes = decisions.iter().position(|decision| decision.desired >= 12).map(|steps| steps / 6);
    assert!(minutes.is_some_and(|minutes| minutes <= 20), "{minutes:?}");
}

#[test]
fn what_utilization_has_taught_outlives_a_restart() {
    let mut scene = roomy(10);
    alone(&mut scene, 6, 7.5, (5.0, 75.0));
    let before = scene.state.durable.utilization.load(40.0, 70.0);
    scene.state = State::restore(&scene.state.to_json().unwrap()).unwrap();
    assert!((scene.state.durable.utilization.load(40.0, 70.0) - before).abs() < 1e-12);
    assert!((before - 0.5).abs() < 0.2, "{before}");
}
