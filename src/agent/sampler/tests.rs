use super::*;
use crate::agent::{
    nvml::{DeviceUtilization, InstanceAnswer, Memory, Samples},
    pod_resources::tests::{pod, response},
    testing::{MIB, Node, card, fault, running},
};

/// Pod and SM utilization of each process on the first card.
fn sm(snapshot: &Snapshot) -> Vec<(u32, Option<&str>, Option<f64>)> {
    let of = |one: &'_ CardProcess| one.utilization.and_then(|all| all[0]);
    let processes = snapshot.cards[0].processes.iter();
    processes.map(|one| (one.pid, one.owner.as_ref().map(|owner| &*owner.pod), of(one))).collect()
}

fn unknown(snapshot: &Snapshot) -> Vec<(&str, &str, &str)> {
    snapshot.unknown.iter().map(|one| (&*one.card, one.what, &*one.reason)).collect()
}

#[test]
fn a_process_has_its_pod_and_its_mean_since_the_last_read() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, Some(60)), (200, 2, Some(25))]);
    let snapshot = node.read();
    assert_eq!(sm(&snapshot), [(100, Some("llm-1"), Some(60.0)), (200, Some("llm-2"), Some(25.0))]);
    let first = &snapshot.cards[0].processes[0];
    assert_eq!(
        (first.owner.as_ref().unwrap().container.as_deref(), &*first.name),
        (Some("kserve-container"), "python3")
    );
    assert_eq!(unknown(&snapshot), []);
}

#[test]
fn r1_a_process_that_lives_while_nvml_has_no_samples_reads_a_true_zero() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, None)]);
    assert_eq!(sm(&node.read()), [(100, Some("llm-1"), Some(0.0))]);
}

#[test]
fn r1_the_first_read_of_a_card_says_nothing_of_its_processes() {
    let mut node = Node::new([card(0)]);
    node.change(|cards| cards.push(card(1)));
    node.run(1, &[(100, 1, Some(60))]);
    let snapshot = node.read();
    assert_eq!(snapshot.cards[1].processes[0].utilization, None);
    assert_eq!(snapshot.cards[1].processes[0].memory, Some(1024 * MIB), "what it holds is known");
    assert_eq!(unknown(&snapshot), [("GPU-1", "process_utilization", "first_read")]);
    assert_eq!(node.read().cards[1].processes[0].utilization, Some([Some(0.0); 4]));
}

#[test]
fn r1_what_nvml_cannot_say_is_unknown_with_its_reason_and_nothing_else_is() {
    type Change = fn(&mut CardAnswer);
    for (what, reason, change) in [
        ("process_utilization", "unknown", (|card| card.samples = Err(fault("unknown"))) as Change),
        ("process_utilization", "not_supported", |card| card.samples = Err(fault("not_supported"))),
        ("process_utilization", "mig", |card| card.mig = Ok(true)),
        ("mig", "timeout", |card| card.mig = Err(fault("timeout"))),
        ("processes", "insufficient_size", |card| card.processes = Err(fault("insufficient_size"))),
        ("utilization", "not_supported", |card| card.utilization = Err(fault("not_supported"))),
        ("memory", "gpu_lost", |card| card.memory = Err(fault("gpu_lost"))),
    ] {
        let mut node = Node::new([card(0), card(1)]);
        node.run(0, &[(100, 1, Some(60))]);
        node.run(1, &[(200, 2, Some(30))]);
        node.change(|cards| change(&mut cards[0]));
        let snapshot = node.read();
        assert!(unknown(&snapshot).contains(&("GPU-0", what, reason)), "{what} {reason}: {:?}", snapshot.unknown);
        let silent = !matches!(what, "utilization" | "memory");
        let known = sm(&snapshot).iter().any(|(.., sm)| sm.is_some());
        assert_eq!(known, !silent, "{what} {reason}");
        let other = &snapshot.cards[1];
        assert_eq!(other.processes[0].utilization.unwrap()[0], Some(30.0), "the other card is as known as before");
    }
}

#[test]
fn r1_a_lost_card_disappears_and_is_called_by_the_name_it_had() {
    let mut node = Node::new([card(0), card(1)]);
    node.change(|cards| cards[0].identity = Err(fault("gpu_lost")));
    let snapshot = node.read();
    assert_eq!(snapshot.cards.iter().map(|card| &*card.uuid).collect::<Vec<_>>(), ["GPU-1"]);
    assert_eq!(unknown(&snapshot), [("GPU-0", "card", "gpu_lost")]);
    assert_eq!(snapshot.faults.get("gpu_lost"), Some(&1));
}

#[test]
fn r1_a_driver_that_was_restarted_has_to_be_read_twice_before_anything_is_known() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, Some(60))]);
    let before = node.said.0.lock().clone();
    *node.said.0.lock() = Err(fault("driver_not_loaded"));
    let snapshot = node.read();
    assert!(snapshot.cards.is_empty());
    assert_eq!(snapshot.driver.unwrap_err().reason, "driver_not_loaded");
    *node.said.0.lock() = before;
    node.run(0, &[(100, 1, Some(60))]);
    assert_eq!(sm(&node.read()), [(100, Some("llm-1"), None)]);
    node.run(0, &[(100, 1, Some(60))]);
    assert_eq!(sm(&node.read()), [(100, Some("llm-1"), Some(60.0))]);
}

#[test]
fn zombies_and_the_dead_are_left_out_and_counted() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, Some(60)), (200, 1, Some(37_100)), (300, 1, Some(10))]);
    node.process_as(200, "Z", 1200);
    std::fs::remove_dir_all(node.proc.0.join("300")).unwrap();
    let snapshot = node.read();
    assert_eq!(sm(&snapshot), [(100, Some("llm-1"), Some(60.0))]);
    assert_eq!((snapshot.dropped["zombie"], snapshot.dropped["gone"]), (1, 1));
}

#[test]
fn r1_a_figure_above_100_is_no_figure() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, Some(101))]);
    let snapshot = node.read();
    assert_eq!(sm(&snapshot), [(100, Some("llm-1"), None)]);
    assert_eq!(snapshot.cards[0].processes[0].utilization, Some([None, Some(0.0), Some(0.0), Some(0.0)]));
    assert_eq!(unknown(&snapshot), [("GPU-0", "process", "above_100")]);
    assert_eq!(snapshot.dropped["above_100"], 1);
}

#[test]
fn r1_a_process_id_that_is_another_processs_now_reads_nothing_of_the_others() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, Some(90))]);
    node.read();
    node.run(0, &[(100, 2, Some(90))]);
    node.process_as(100, "S", 999_999);
    let snapshot = node.read();
    assert_eq!(sm(&snapshot), [(100, Some("llm-2"), None)], "a new process, in another pod");
    assert_eq!(unknown(&snapshot), [("GPU-0", "process", "pid_reused")]);
    node.change(|cards| cards[0].samples = Ok(Samples::default()));
    assert_eq!(sm(&node.read()), [(100, Some("llm-2"), Some(0.0))]);
}

#[test]
fn a_process_of_no_known_pod_stays_without_one_until_the_pod_is_known() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 0, Some(10)), (200, 9, Some(20))]);
    assert_eq!(sm(&node.read()), [(100, None, Some(10.0)), (200, None, Some(20.0))]);
    node.pods.replace(&[crate::agent::testing::pod(9)]);
    node.run(0, &[(100, 0, Some(10)), (200, 9, Some(20))]);
    assert_eq!(sm(&node.read()), [(100, None, Some(10.0)), (200, Some("llm-9"), Some(20.0))]);
}

#[test]
fn how_a_card_is_given_out_is_told_where_the_kubelet_says_it() {
    let mut node = Node::new([card(0), card(1)]);
    node.allocate(response([
        pod("llm-1", &[("nvidia.com/gpu", &["GPU-0"])]),
        pod("llm-2", &[("nvidia.com/gpu.shared", &["GPU-1::0"])]),
        pod("llm-3", &[]),
    ]));
    node.run(0, &[(100, 1, Some(10)), (300, 3, Some(10))]);
    node.run(1, &[(200, 2, Some(10))]);
    let snapshot = node.read();
    let modes: Vec<_> = snapshot.cards.iter().flat_map(|card| &card.processes).map(|one| (one.pid, one.mode)).collect();
    assert_eq!(modes, [(100, Some(Mode::Exclusive)), (300, None), (200, Some(Mode::Share))]);
    assert_eq!(snapshot.without_devices, 1, "llm-3 uses a card that it was not given");
}

const BUSY: DeviceUtilization = DeviceUtilization { gpu: 1, memory: 0 };

#[test]
fn r1_a_pod_whose_whole_card_nobody_uses_reads_a_true_zero_and_only_if_that_is_certain() {
    let idle = |change: fn(&mut Node)| {
        let mut node = Node::new([card(0)]);
        node.allocate(response([pod("llm-1", &[("nvidia.com/gpu", &["GPU-0"])])]));
        change(&mut node);
        let snapshot = node.read();
        snapshot.cards[0].idle.iter().map(|owner| owner.pod.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(idle(|_| ()), ["llm-1"]);
    assert!(idle(|node| node.run(0, &[(100, 0, Some(1))])).is_empty(), "somebody's process may be the pod's");
    assert!(idle(|node| node.change(|cards| cards[0].processes = Ok(vec![running(7)]))).is_empty(), "nor a dead one");
    assert!(idle(|node| node.change(|cards| cards[0].processes = Err(fault("unknown")))).is_empty());
    assert!(idle(|node| node.change(|cards| cards[0].samples = Err(fault("unknown")))).is_empty());
    assert!(idle(|node| node.change(|cards| cards[0].utilization = Err(fault("unknown")))).is_empty());
    assert!(idle(|node| node.change(|cards| cards[0].utilization = Ok(BUSY))).is_empty(), "somebody is there");
    assert!(idle(|node| node.pods.replace(&[])).is_empty(), "the kubelet speaks of a pod that is gone");
    let shared = |node: &mut Node| node.allocate(response([pod("llm-1", &[("nvidia.com/gpu", &["GPU-0::1"])])]));
    assert!(idle(shared).is_empty(), "a share of a card is not a card");
}

#[test]
fn a_divided_card_tells_memory_by_instance_and_no_utilization() {
    let mut node = Node::new([card(0)]);
    node.run(0, &[(100, 1, Some(60))]);
    let memory = Memory { total: 5000 * MIB, used: 1000 * MIB, free: 4000 * MIB };
    let instance = |id, memory| InstanceAnswer { id, uuid: format!("MIG-{id}"), model: "MIG 1g.5gb".into(), memory };
    node.change(|cards| {
        cards[0].mig = Ok(true);
        cards[0].utilization = Err(fault("not_supported"));
        cards[0].processes = Ok(vec![RunningProcess { instance: Some(3), ..running(100) }]);
        cards[0].instances = vec![instance(3, Ok(memory)), instance(4, Err(fault("unknown")))];
    });
    let snapshot = node.read();
    let first = &snapshot.cards[0];
    assert_eq!((first.processes[0].instance, first.processes[0].utilization), (Some(3), None));
    assert_eq!(first.instances.iter().map(|part| (part.id, part.memory)).collect::<Vec<_>>(), [(3, memory)]);
    assert!(snapshot.faults.is_empty(), "that it is divided is no fault: {:?}", snapshot.faults);
}

#[test]
fn r22_more_processes_than_fit_on_a_page_are_not_reported_in_part() {
    let mut node = Node::new([card(0), card(1)]);
    let many = |first: u32| Ok((first..=first + MAX_PROCESSES as u32 / 2).map(running).collect());
    node.change(|cards| {
        cards[0].processes = many(1);
        cards[1].processes = many(5000);
    });
    let snapshot = node.read();
    assert!(snapshot.cards.iter().all(|card| card.processes.is_empty()));
    let reasons = [("GPU-0", "processes", "too_many_processes"), ("GPU-1", "processes", "too_many_processes")];
    assert_eq!(unknown(&snapshot), reasons);
}

#[test]
fn r22_cards_beyond_the_limit_are_not_read_and_long_names_are_cut_at_a_letter() {
    let mut node = Node::new((0..MAX_CARDS as u32 + 5).map(card));
    assert_eq!(node.read().cards.len(), MAX_CARDS);
    let name = "é".repeat(MAX_LABEL_BYTES);
    assert_eq!(*bounded(&name), *"é".repeat(MAX_LABEL_BYTES / 2));
}
