use super::*;

fn cluster(nodes: &[(&str, usize)]) -> Cluster {
    let settings = Settings {
        namespace: "default".into(),
        service: "qwen-chat".into(),
        gpus: 1,
        scheduling: Duration::from_secs(2),
        load: Duration::from_mins(1),
        autoscaler: None,
        policy: None,
    };
    Cluster::new(settings, nodes.iter().map(|(name, gpus)| Node::fixed(name, *gpus)).collect::<Vec<_>>())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("in range")
}

fn states(cluster: &Cluster) -> Vec<PodState> {
    let mut states: Vec<_> = cluster.view().pods.values().map(|pod| pod.state).collect();
    states.sort();
    states
}

#[test]
fn a_pod_is_pending_then_starting_then_ready() {
    use PodState::{Pending, Ready, Starting};
    let mut cluster = cluster(&[("a", 1)]);
    for (second, expected) in [(0, Pending), (1, Pending), (2, Starting), (61, Starting), (62, Ready)] {
        cluster.step(at(second), 1);
        assert_eq!(states(&cluster), [expected], "at {second}");
    }
}

#[test]
fn pods_spread_over_free_cards_and_wait_where_there_is_none() {
    let mut cluster = cluster(&[("a", 1), ("b", 2)]);
    cluster.step(at(0), 4);
    let events = cluster.step(at(2), 4);
    let placed: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Scheduled { node, cards, .. } => Some((*node, cards.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(placed, [(0, vec![0]), (1, vec![0]), (1, vec![1])]);
    assert_eq!(states(&cluster), [PodState::Starting, PodState::Starting, PodState::Starting, PodState::Pending]);
    cluster.step(at(70), 3);
    assert_eq!(states(&cluster), [PodState::Ready; 3], "the pending pod goes first");
}

#[test]
fn of_ready_pods_the_youngest_goes_first_and_its_card_is_free_again() {
    let mut cluster = cluster(&[("a", 1), ("b", 1)]);
    cluster.step(at(0), 1);
    cluster.step(at(2), 2);
    cluster.step(at(4), 2);
    cluster.step(at(70), 2);
    let oldest = cluster.pods().next().expect("two pods").0.clone();
    let events = cluster.step(at(71), 1);
    assert!(matches!(&events[..], [Event::Removed { node: Some(1), .. }]), "{events:?}");
    assert_eq!(*cluster.pods().next().expect("one pod").0, oldest);
    cluster.step(at(72), 2);
    let events = cluster.step(at(74), 2);
    assert!(matches!(&events[..], [Event::Scheduled { node: 1, .. }]), "{events:?}");
}

#[test]
fn the_view_has_what_kserve_makes() {
    let mut cluster = cluster(&[("a", 1)]);
    cluster.step(at(0), 1);
    let view = cluster.view();
    let deployment = view.deployments.values().next().expect("one");
    assert_eq!(&*deployment.key.name, "qwen-chat-predictor");
    assert_eq!(deployment.inference_service.as_deref(), Some("qwen-chat"));
    let pod = view.pods.values().next().expect("one");
    assert!(deployment.selector.matches(|label| pod.labels.get(label).map(|value| &**value)));
    assert_eq!(pod.labels.get("app").map(|app| &**app), Some("isvc.qwen-chat-predictor"));
    assert!(view.unsynced.is_empty());
}

#[test]
fn no_two_pods_share_a_name() {
    let names: std::collections::BTreeSet<_> = (0..10_000).map(suffix).collect();
    assert_eq!(names.len(), 10_000);
}

/// One node on premises, and two in the cloud that take a minute to come and are given back after half of one.
fn elastic() -> Cluster {
    let mut cluster = cluster(&[]);
    let cloud = |name| Node::fixed(name, 1).in_pool("cloud").elastic(Duration::from_mins(1), Duration::from_secs(30));
    cluster.nodes = Nodes::new([Node::fixed("onprem", 1).in_pool("onprem"), cloud("cloud-1"), cloud("cloud-2")]);
    cluster
}

#[test]
fn an_elastic_node_comes_for_a_pod_that_finds_no_place_and_goes_once_it_has_been_empty() {
    let mut cluster = elastic();
    let mut story = Vec::new();
    for second in 0..300 {
        let desired = if (10..150).contains(&second) { 2 } else { 1 };
        for event in cluster.step(at(second), desired) {
            let told = match event {
                Event::NodeOrdered(node) => format!("{second} ordered {node}"),
                Event::NodeUp(node) => format!("{second} up {node}"),
                Event::NodeReturned(node) => format!("{second} returned {node}"),
                Event::Scheduled { node, .. } => format!("{second} scheduled {node}"),
                Event::Ready(_) | Event::Created(_) | Event::Removed { .. } => continue,
            };
            story.push(told);
        }
    }
    assert_eq!(
        story,
        ["2 scheduled 0", "12 ordered 1", "72 up 1", "72 scheduled 1", "180 returned 1"],
        "the second pod is asked for at 10 and taken back at 150; one node is enough"
    );
}

#[test]
fn a_node_that_is_not_there_is_not_in_the_view_and_one_that_is_has_its_pools_label() {
    let mut cluster = elastic();
    let pools = |cluster: &Cluster| {
        let view = cluster.view();
        let pools = view.nodes.values().map(|node| node.labels.get("pool").map(ToString::to_string));
        pools.flatten().collect::<Vec<_>>()
    };
    cluster.step(at(0), 2);
    assert_eq!(pools(&cluster), ["onprem"]);
    (1..100).for_each(|second| drop(cluster.step(at(second), 2)));
    assert_eq!(pools(&cluster), ["cloud", "onprem"]);
}

#[test]
fn of_ready_pods_the_one_with_the_lowest_deletion_cost_goes_first_however_old() {
    let mut cluster = cluster(&[("a", 1), ("b", 1)]);
    cluster.step(at(0), 1);
    cluster.step(at(2), 2);
    cluster.step(at(4), 2);
    cluster.step(at(70), 2);
    let view = cluster.view();
    let oldest = view.pods.values().min_by_key(|pod| pod.created).expect("two pods");
    cluster.annotate(&[(Arc::clone(&oldest.uid), -1)].into());
    let annotated = cluster.view();
    assert_eq!(annotated.pods[&oldest.key].deletion_cost, Some(-1));
    assert!(matches!(&cluster.step(at(71), 1)[..], [Event::Removed { pod, .. }] if *pod == oldest.key));
}
