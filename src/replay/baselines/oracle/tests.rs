use super::{
    schedule::{Costs, Load, cheapest},
    *,
};

const COSTS: Costs = Costs {
    on_premises: 2,
    replicas: (1, 6),
    initial: 1,
    cloud_price: 3.0,
    on_premises_start: 30.0,
    cloud_start: 300.0,
    cloud_release: 60.0,
    drain: 10.0,
    capacity: 1.0,
    patience: 5.0,
};

/// Work per second, for so many buckets of 10 s each.
fn load(stretches: &[(f64, usize)]) -> Load {
    let work: Vec<f64> =
        stretches.iter().flat_map(|(rate, buckets)| std::iter::repeat_n(rate * 10.0, *buckets)).collect();
    Load { seconds: 10.0, count: work.clone(), work }
}

fn paid(load: &Load, ready: &[u32], price: f64) -> f64 {
    let split = |n: u32| (f64::from(n.min(2)), f64::from(n.saturating_sub(2)));
    let mut cost = 0.0;
    let mut backlog = 0.0_f64;
    let mut before = COSTS.initial;
    for (now, work) in ready.iter().zip(&load.work) {
        let ((home, cloud), (home_before, cloud_before)) = (split(*now), split(before));
        cost += (home - home_before).max(0.0) * 30.0 + (cloud - cloud_before).max(0.0) * 900.0;
        cost += (home_before - home).max(0.0) * 10.0 + (cloud_before - cloud).max(0.0) * 210.0;
        cost += (home + 3.0 * cloud) * 10.0;
        let done = f64::from(*now);
        let after = (backlog + work - done * 10.0).max(0.0);
        let (first, last) = (backlog / done, after / done);
        let late = |wait: f64| wait > 5.0;
        let share = match (late(first), late(last)) {
            (false, false) => 0.0,
            (true, true) => 1.0,
            _ => (first.max(last) - 5.0) / (first - last).abs(),
        };
        cost += price * work * share;
        backlog = after;
        before = *now;
    }
    cost
}

#[test]
fn it_has_as_many_replicas_as_the_load_needs_and_no_more() {
    let load = load(&[(0.9, 60), (1.8, 60), (0.9, 60)]);
    let (ready, missed) = cheapest(&load, &COSTS, 1e6);
    assert_eq!((ready[0], ready[90], ready[179]), (1, 2, 1));
    assert!(missed.abs() < 1e-9, "{missed}");
}

#[test]
fn a_gap_shorter_than_giving_back_and_starting_again_costs_is_kept_through() {
    // Between two hills of three: giving the cloud replica back and starting anew costs 370 seconds of it.
    for (gap, kept) in [(20, true), (60, false)] {
        let load = load(&[(2.5, 60), (1.5, gap), (2.5, 60)]);
        let (ready, _) = cheapest(&load, &COSTS, 1e6);
        assert_eq!(ready[60 + gap / 2] == 3, kept, "a gap of {gap}0 s");
    }
}

#[test]
fn a_short_peak_is_missed_if_that_is_cheaper_than_a_node() {
    let load = load(&[(1.5, 100), (2.6, 3), (1.5, 100)]);
    let (ready, missed) = cheapest(&load, &COSTS, 1.0);
    assert!(ready.iter().all(|replicas| *replicas <= 2) && missed > 0.0);
    let (ready, missed) = cheapest(&load, &COSTS, 1e6);
    assert!(ready.contains(&3) && missed.abs() < 1e-9, "{missed}");
}

/// Against all schedules of a few buckets: none is cheaper by more than what carrying one backlog may cost.
#[test]
fn no_schedule_of_a_short_load_is_cheaper() {
    let mut random = 7_u64;
    for _ in 0..60 {
        let mut rate = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 40) as f64 / f64::from(1 << 24) * 4.0
        };
        let stretches: Vec<(f64, usize)> = (0..5).map(|_| (rate(), 12)).collect();
        let load = load(&stretches);
        // Prices at which nothing is worth missing: then no backlog is carried that matters.
        let price = 1e5;
        let (ready, _) = cheapest(&load, &COSTS, price);
        let ours = paid(&load, &ready, price);
        let mut best = f64::INFINITY;
        for code in 0..6_u32.pow(5) {
            let schedule: Vec<u32> = (0..60).map(|bucket| 1 + code / 6_u32.pow(bucket / 12) % 6).collect();
            best = best.min(paid(&load, &schedule, price));
        }
        assert!(ours <= best * (1.0 + 1e-9), "{ours} is more than {best} on {stretches:?}");
    }
}

#[test]
fn replicas_are_asked_for_before_they_are_needed() {
    assert_eq!(most_within(&[0, 0, 3, 0, 0, 1], 2), [3, 3, 3, 1, 1, 1]);
    assert_eq!(most_within(&[5, 1, 1, 1], 0), [5, 1, 1, 1]);
    assert_eq!(most_within(&[], 3), Vec::<u32>::new());
}
