//! What no order and no loss can do.

use proptest::prelude::*;

use super::super::{
    Readings, Statistic,
    scene::{SM, Scene, page},
};
use crate::{
    cluster::PodState,
    scrape::{Batch, TargetId},
};

const PODS: usize = 4;
const TARGET: f64 = 50.0;

/// One process of a pod: on which of its two cards, what it uses.
type Process = (usize, usize, f64);

/// Pages as ACK's exporter writes them: each process has a line in each family.
fn lines(processes: &[Process]) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, (pod, card, value)) in processes.iter().enumerate() {
        lines.push(format!("SM llm-{pod} card{pod}{card}#{number} {value}"));
        lines.push(format!("MEM llm-{pod} card{pod}{card}#{number} {}", value * 10.0));
    }
    lines
}

fn scene(targets: &[Vec<String>]) -> Scene {
    let mut scene = Scene::new().service("llm").hpa("h", "llm", SM, TARGET);
    for pod in 0..PODS {
        scene = scene.pod(&format!("llm-{pod}"), PodState::Ready, 2);
    }
    for (number, lines) in targets.iter().enumerate() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        scene.pages.push(Batch { target: TargetId(format!("t{number}").into()), rank: 1, ..page(&lines) });
    }
    scene
}

/// At least one process on each card of each pod, some more, with values that are not exact in binary.
fn processes() -> impl Strategy<Value = Vec<Process>> {
    let value = || prop_oneof![Just(0.0), 0.0..=100.0_f64];
    let each = prop::collection::vec(value(), PODS * 2).prop_map(|values| {
        values.into_iter().enumerate().map(|(index, value)| (index / 2, index % 2, value)).collect::<Vec<_>>()
    });
    let more = prop::collection::vec((0..PODS, 0..2_usize, value()), 0..8);
    (each, more).prop_map(|(each, more)| [each, more].concat())
}

/// Lines of two targets, unknown values and device lines among them.
fn targets() -> impl Strategy<Value = Vec<Vec<String>>> {
    let odd = || {
        prop_oneof![
            (0..PODS, 0..2_usize).prop_map(|(pod, card)| format!("SM llm-{pod} card{pod}{card}#1 NaN")),
            (0..PODS, 0..2_usize).prop_map(|(pod, card)| format!("SM llm-{pod} card{pod}{card}#77 3.3 age=40")),
            (0..PODS, 0..2_usize, 0.0..100.0).prop_map(|(pod, card, value)| format!("GPU - card{pod}{card} {value}")),
            (0..PODS).prop_map(|pod| format!("GPU llm-{pod} card{pod}0 0")),
            Just("SM gone card00#5 12".to_owned()),
            Just("SM llm-0@old card00#5 12".to_owned()),
        ]
    };
    let page = (processes(), prop::collection::vec(odd(), 0..6));
    prop::collection::vec(page.prop_map(|(processes, odd)| [lines(&processes), odd].concat()), 1..3)
}

fn picture(readings: &Readings) -> String {
    format!("{readings:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_lines_and_of_targets_never_changes_a_result(
        (ordered, shuffled) in targets().prop_flat_map(|targets| {
            let lines: Vec<_> = targets.iter().map(|lines| Just(lines.clone()).prop_shuffle()).collect();
            (Just(targets), lines)
        }),
        reverse in any::<bool>(),
    ) {
        let mut other = scene(&shuffled);
        if reverse {
            other.pages.reverse();
        }
        prop_assert_eq!(picture(&scene(&ordered).readings()), picture(&other.readings()));
    }

    /// Which pod has which values does not matter to the service: the pods' names are permuted.
    #[test]
    fn the_order_of_pods_never_changes_a_service(
        processes in processes(),
        names in Just((0..PODS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let renamed: Vec<Process> =
            processes.iter().map(|(pod, card, value)| (names[*pod], *card, *value)).collect();
        for statistic in Statistic::ALL {
            prop_assert_eq!(
                scene(&[lines(&processes)]).service_reading("llm", "SM", statistic),
                scene(&[lines(&renamed)]).service_reading("llm", "SM", statistic)
            );
        }
    }

    /// A pod is then as it was or unknown. The service is as it was, or unknown, or the safe value of the pods that are
    /// left: on their side of the target, between it and their mean, and so never lower through a zero that nobody
    /// measured.
    #[test]
    fn a_line_that_is_lost_makes_a_pod_unknown_and_never_smaller(
        processes in processes(),
        lost in any::<prop::sample::Index>(),
    ) {
        let whole = lines(&processes);
        let mut rest = whole.clone();
        rest.remove(lost.index(whole.len()));
        let (before, after) = (scene(&[whole]), scene(&[rest]));
        let mut left = Vec::new();
        for pod in 0..PODS {
            let name = format!("llm-{pod}");
            for family in ["SM", "MEM"] {
                let (old, new) = (before.pod_value(&name, family), after.pod_value(&name, family));
                prop_assert!(old.is_some());
                prop_assert!(new.is_none() || new == old, "{} {} {:?} -> {:?}", name, family, old, new);
            }
            left.extend(after.pod_value(&name, "SM"));
        }
        let mean = left.iter().sum::<f64>() / left.len() as f64;
        let served = after.service_reading("llm", "SM", Statistic::Mean).map(|measured| measured.value);
        match served {
            Err(_) => {}
            Ok(value) if left.len() == PODS => prop_assert!((value - mean).abs() < 1e-9),
            Ok(value) => {
                let (low, high) = if mean > TARGET { (TARGET, mean) } else { (mean, TARGET) };
                prop_assert!(low - 1e-9 <= value && value <= high + 1e-9, "{} not in {}..{}", value, low, high);
            }
        }
    }

    /// Whatever the missing pods would have said, the HPA's direction for the served value is one that the known pods ask
    /// for, and adding what is missing back never turns "more" into "fewer than now" by our doing.
    #[test]
    fn a_service_with_missing_pods_never_crosses_the_target(values in prop::collection::vec(0.0..100.0_f64, 2..PODS)) {
        let processes: Vec<Process> =
            values.iter().enumerate().flat_map(|(pod, value)| [(pod, 0, *value), (pod, 1, *value)]).collect();
        let served = scene(&[lines(&processes)]).service_reading("llm", "SM", Statistic::Mean).unwrap().value;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let stays = if mean > TARGET { served >= TARGET } else { served <= TARGET && served >= mean - 1e-9 };
        prop_assert!(stays, "mean {} of the known pods, served {}", mean, served);
    }
}
