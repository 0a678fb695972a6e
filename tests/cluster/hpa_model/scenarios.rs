//! The timelines. Windows and periods are odd seconds, so that they end between two syncs, which are a little more than 2 s
//! apart.

use std::time::Duration;

use tidegate::sim::hpa::{
    Behavior, Metric, Spec, Target, Tolerance,
    pace::{Amount, Policy, Rules, Select},
};

use super::scenario::{Pods, Reply, Scenario, Step, spec};

/// Syncs of each scenario.
const SYNCS: usize = 24;

/// Two of them are more than the HPA can count.
const HUGE: i64 = 6_000_000_000_000_000_000;

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![
        load("steps", 10, &[(30.0, 2), (120.0, 4), (30.0, 6), (300.0, 2), (2000.0, 4), (20.0, 6)]),
        listed("noise", 4, &["r49 r51", "r45 r45", "r55 r55", "r44.9 r44.9", "r55.1 r55", "r55.1 r55.1", "r50 r50"]),
        listed("some", 3, SOME),
        listed("strangers", 3, &["x90", "x0 r100", "x100 r100 r100", "r90 x_", "", "x20 p"]),
        unknown(),
        average(
            "sum",
            3,
            40,
            &[&[30_000], &[15_000, 16_000], &[400_000], &[400_000], &[900_000, 1], &[HUGE, HUGE], &[5_000], &[0]],
        ),
        value(),
        exact(),
        pair(),
        objects("object", Target::Value(50_000)),
        objects("object-each", Target::Average(50_000)),
    ];
    all.extend(paced());
    all.extend([random_pods("chance", 7), random_pods("chance-again", 11)]);
    all
}

/// Pods that are missing, pending, leaving or failed: the cases of the replica calculator.
const SOME: &[&str] = &[
    "r50 r_",
    "r100 s_",
    "r46.7 r46.7 r_",
    "r46.7 r_ r_",
    "r5 r5 r_",
    "r5 s_ s_",
    "r100 r100 r_",
    "r60 r_",
    "r100 p_",
    "r20 r20 p_",
    "r50 p0",
    "r80 d0",
    "r80 f_ d90",
    "r100 s0",
    "p90",
    "r55.1 p_ r_",
    "r30 p_ d_",
    "r0 r0",
    "d100 f100",
    "r100 r100 r100 p_ p_ r_",
];

fn pods(name: &'static str) -> Metric {
    Metric::Pods { name: format!("{name}-0"), average: 50_000 }
}

fn external(name: &'static str, index: usize, target: Target) -> Metric {
    Metric::External { name: format!("{name}-{index}"), selector: String::new(), target }
}

/// The pattern over and over, to its length.
fn cycle(steps: impl IntoIterator<Item = Step, IntoIter: Clone>) -> Vec<Step> {
    steps.into_iter().cycle().take(SYNCS).collect()
}

/// Load that the replicas share, each for so many syncs.
fn load(name: &'static str, max: i32, loads: &[(f64, usize)]) -> Scenario {
    let steps = loads.iter().flat_map(|(load, syncs)| {
        std::iter::repeat_n(Step { pods: Pods::Sharing(*load), replies: vec![Reply::Items] }, *syncs)
    });
    Scenario { name, spec: spec(name, max, vec![pods(name)]), initial: 1, steps: steps.collect() }
}

/// Pods as listed, twice each: with what was proposed before, and again.
fn listed(name: &'static str, initial: i32, lists: &[&str]) -> Scenario {
    let step = |list: &&str| Step { pods: Pods::Listed((*list).into()), replies: vec![Reply::Items] };
    Scenario { name, spec: spec(name, 10, vec![pods(name)]), initial, steps: cycle(lists.iter().map(step)) }
}

/// Unknown at the peak, while it falls, and for longer than the window.
fn unknown() -> Scenario {
    let name = "unknown";
    let step = |load, reply: &Reply| Step { pods: Pods::Sharing(load), replies: vec![reply.clone()] };
    let mut steps = Vec::new();
    for (load, reply, syncs) in [
        (140.0, Reply::Items, 3),
        (140.0, Reply::Unknown, 3),
        (20.0, Reply::Items, 2),
        (20.0, Reply::Unknown, 6),
        (20.0, Reply::Items, 3),
        (90.0, Reply::Unknown, 2),
        (90.0, Reply::Items, 5),
    ] {
        steps.extend(std::iter::repeat_n(step(load, &reply), syncs));
    }
    Scenario { name, spec: spec(name, 6, vec![pods(name)]), initial: 1, steps }
}

/// An External metric per replica, target 10; each value twice.
fn average(name: &'static str, initial: i32, max: i32, values: &[&[i64]]) -> Scenario {
    let metric = external(name, 0, Target::Average(10_000));
    let step = |values: &[i64]| Step { pods: Pods::Sharing(0.0), replies: vec![Reply::Values(values.to_vec())] };
    let twice = values.iter().flat_map(|values| [step(values), step(values)]);
    Scenario { name, spec: spec(name, max, vec![metric]), initial, steps: cycle(twice.collect::<Vec<_>>()) }
}

/// An External metric as it is: ready pods count, those that leave among them, and none is no proposal.
fn value() -> Scenario {
    let name = "value";
    let step = |(list, value): (&str, i64)| Step {
        pods: Pods::Listed(list.into()),
        replies: vec![Reply::Values(vec![value])],
    };
    let steps = [
        ("r r", 75_000),
        ("r s p", 120_000),
        ("r d", 75_000),
        ("r r r f", 54_000),
        ("", 52_000),
        ("", 90_000),
        ("p", 90_000),
        ("r r r", 0),
        ("r r r", 20_000),
        ("d", 260_000),
    ];
    let metric = external(name, 0, Target::Value(50_000));
    Scenario { name, spec: spec(name, 20, vec![metric]), initial: 2, steps: cycle(steps.map(step)) }
}

/// What an HPA that follows `tidegate_desired_replicas` is made of: no window, no limit and no tolerance.
fn exact() -> Scenario {
    let name = "exact";
    let free = |select| Rules {
        window: Duration::ZERO,
        policies: vec![Policy { amount: Amount::Percent(1000), period: Duration::from_secs(1) }],
        select,
    };
    let wishes = [10, 11, 12, 11, 10, 9, 10, 25, 24, 1, 2, 1];
    let step = |wish: i64| Step { pods: Pods::Sharing(0.0), replies: vec![Reply::Values(vec![wish * 1000])] };
    let spec = Spec {
        behavior: Some(Behavior { up: free(Select::Max), down: free(Select::Max) }),
        tolerance: Tolerance { up: 0.0, down: 0.0 },
        ..spec(name, 30, vec![external(name, 0, Target::Average(1000))])
    };
    Scenario { name, spec, initial: 10, steps: cycle(wishes.map(step)) }
}

/// Two metrics, of which one or both are unknown at times.
fn pair() -> Scenario {
    let name = "pair";
    let metrics = vec![pods(name), external(name, 1, Target::Average(10_000))];
    let step = |(list, known, other): (&str, bool, Option<i64>)| Step {
        pods: Pods::Listed(list.into()),
        replies: vec![
            if known { Reply::Items } else { Reply::Unknown },
            other.map_or(Reply::Unknown, |value| Reply::Values(vec![value])),
        ],
    };
    let steps = [
        ("r60 r60", true, Some(35_000)),
        ("r60 r60", false, Some(35_000)),
        ("r60 r60", false, Some(5_000)),
        ("r10 r10 r10", true, Some(5_000)),
        ("r10 r10 r10", true, None),
        ("r100 r100 r100", true, None),
        ("r10", false, None),
        ("p_", true, Some(20_000)),
        ("p_", true, Some(90_000)),
    ];
    Scenario { name, spec: spec(name, 12, metrics), initial: 2, steps: cycle(steps.map(step)) }
}

/// An Object metric.
fn objects(name: &'static str, target: Target) -> Scenario {
    let metric = Metric::Object { resource: "services".into(), object: name.into(), name: format!("{name}-0"), target };
    let step = |value: i64| Step { pods: Pods::Listed("r r s".into()), replies: vec![Reply::Values(vec![value])] };
    let steps = [52_000, 80_000, 160_000, 330_000, 20_000, 20_000, 20_000, 20_000].map(step);
    Scenario { name, spec: spec(name, 8, vec![metric]), initial: 2, steps: cycle(steps) }
}

/// `behavior`: windows both ways, policies of both kinds, each way to choose among them.
fn paced() -> Vec<Scenario> {
    let seconds = Duration::from_secs;
    let pods = |pods, period| Policy { amount: Amount::Pods(pods), period: seconds(period) };
    let percent = |percent, period| Policy { amount: Amount::Percent(percent), period: seconds(period) };
    let rules =
        |window, select, policies: &[Policy]| Rules { window: seconds(window), policies: policies.to_vec(), select };
    let free = percent(1000, 1);
    let behaviors = [
        ("default", Behavior::default()),
        ("windows", Behavior { up: rules(5, Select::Max, &[free]), down: rules(7, Select::Max, &[free]) }),
        ("long-up", Behavior { up: rules(11, Select::Max, &[free]), down: rules(0, Select::Max, &[free]) }),
        (
            "policies",
            Behavior {
                up: rules(0, Select::Max, &[pods(2, 7), percent(50, 3)]),
                down: rules(0, Select::Min, &[pods(1, 5), percent(50, 11)]),
            },
        ),
        (
            "least",
            Behavior {
                up: rules(0, Select::Min, &[pods(5, 9), percent(40, 7)]),
                down: rules(5, Select::Max, &[pods(2, 7), percent(30, 11)]),
            },
        ),
        // A rise is forgotten after 3 s, while the policy for falls would look back 15 s.
        (
            "forgotten",
            Behavior { up: rules(0, Select::Max, &[pods(3, 3)]), down: rules(0, Select::Max, &[pods(1, 15)]) },
        ),
        ("up-only", Behavior { up: rules(0, Select::Max, &[pods(4, 7)]), down: rules(0, Select::Disabled, &[free]) }),
        ("down-only", Behavior { up: rules(0, Select::Disabled, &[free]), down: rules(0, Select::Max, &[pods(3, 5)]) }),
    ];
    let mut all = Vec::new();
    for (seed, (name, behavior)) in behaviors.into_iter().enumerate() {
        let mut chance = Chance(seed as u64 + 1);
        let steps = (0..SYNCS).map(|sync| {
            // Long rises and falls with noise on them, and now and then a jump.
            let wave = if sync % 12 < 6 { 9_000 } else { 2_000 };
            let value = match chance.below(5) {
                0 => 60_000,
                1 => 0,
                _ => wave * (1 + i64::from(chance.below(8))) / 4,
            };
            Step { pods: Pods::Sharing(0.0), replies: vec![Reply::Values(vec![value])] }
        });
        let steps = steps.collect();
        let tolerance = if seed % 2 == 0 { Tolerance::default() } else { Tolerance { up: 0.3, down: 0.05 } };
        let metrics = vec![external(name, 0, Target::Average(1000))];
        let spec = Spec { behavior: Some(behavior), tolerance, ..spec(name, 20, metrics) };
        all.push(Scenario { name, spec, initial: 6, steps });
    }
    all
}

/// Up to six pods in any state with any value, with and without behavior.
fn random_pods(name: &'static str, seed: u64) -> Scenario {
    let mut chance = Chance(seed);
    let mut steps = Vec::new();
    while steps.len() < SYNCS {
        let busy = [5, 30, 48, 52, 70, 100][chance.below(6) as usize];
        let list: Vec<String> = (0..chance.below(7))
            .map(|_| {
                let letter = ['r', 'r', 'r', 's', 'p', 'd', 'f', 'x'][chance.below(8) as usize];
                let item = chance.below(4) > 0;
                let value = f64::from(busy) * f64::from(80 + chance.below(41)) / 100.0;
                if item { format!("{letter}{value:.3}") } else { format!("{letter}_") }
            })
            .collect();
        // Held for a while, so that something comes of it.
        let reply = if chance.below(12) == 0 { Reply::Unknown } else { Reply::Items };
        let step = Step { pods: Pods::Listed(list.join(" ")), replies: vec![reply] };
        steps.extend(std::iter::repeat_n(step, 1 + chance.below(2) as usize));
    }
    steps.truncate(SYNCS);
    Scenario { name, spec: spec(name, 9, vec![pods(name)]), initial: 3, steps }
}

/// A linear congruential generator (Knuth's MMIX constants): the same timelines on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 33) * u64::from(bound)) >> 31) as u32
    }
}
