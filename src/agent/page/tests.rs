use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{
    agent::{
        pod_resources::tests::{pod, response},
        testing::{Node as TestNode, card},
    },
    attribution::scene::{Scene, ago},
    exposition::{self, Limits},
    gpu::{self, Sample, Vocabulary},
    reading::{Measured, Unknown},
    scrape::{Batch, TargetId},
};

const LIMITS: Limits = Limits { line_bytes: 64 << 10, labels: 64, samples: 50_000 };

fn node() -> Node {
    Node { name: "n1".into(), pool: None }
}

/// What the adapter makes of our page.
fn scraped(text: &str) -> gpu::page::Page {
    let page =
        gpu::page::read(&Vocabulary::default(), text.as_bytes(), exposition::Format::Text, true, ago(1), &LIMITS)
            .expect("our page is one");
    assert_eq!((page.bad_lines, page.unplaced), (BTreeMap::new(), false), "{text}");
    gpu::page::read(&Vocabulary::default(), text.as_bytes(), exposition::Format::Text, true, ago(1), &LIMITS).unwrap()
}

/// Our page as the adapter's batch, with the preset's rank.
fn batch(snapshot: &Snapshot) -> Batch {
    Batch {
        target: TargetId("tidegate-agent".into()),
        rank: 10,
        node: Some("n1".into()),
        measured: ago(1),
        samples: scraped(&render(snapshot, &node(), Format::Text)).samples,
        sample_times: [].into(),
        absent_means_idle: false,
        own: None,
    }
}

#[test]
fn a_process_has_aliyuns_names_labels_and_units() {
    let mut test = TestNode::new([card(0)]);
    test.allocate(response([pod("llm-1", &[("nvidia.com/gpu", &["GPU-0"])])]));
    test.run(0, &[(100, 1, Some(60)), (200, 0, None)]);
    let pool = Node { pool: Some("np1".into()), ..node() };
    let text = render(&test.read(), &pool, Format::Text);
    let labels = "UUID=\"GPU-0\",device=\"nvidia0\",gpu=\"0\",modelName=\"Tesla V100-SXM2-32GB\"}";
    for line in [
        "# TYPE DCGM_CUSTOM_PROCESS_SM_UTIL gauge".to_owned(),
        format!(
            "DCGM_CUSTOM_PROCESS_SM_UTIL{{AllocateMode=\"exclusive\",ContainerName=\"kserve-container\",NamespaceName=\"prod\",\
             NodeName=\"n1\",NodePoolId=\"np1\",PodName=\"llm-1\",ProcessId=\"100\",ProcessName=\"python3\",ProcessType=\"C\",{labels} 60"
        ),
        format!(
            "DCGM_CUSTOM_PROCESS_SM_UTIL{{AllocateMode=\"none\",ContainerName=\"\",NamespaceName=\"\",NodeName=\"n1\",\
             NodePoolId=\"np1\",PodName=\"\",ProcessId=\"200\",ProcessName=\"python3\",ProcessType=\"C\",{labels} 0"
        ),
        format!("DCGM_FI_DEV_FB_FREE{{Hostname=\"n1\",NodeName=\"n1\",NodePoolId=\"np1\",{labels} 32768"),
        format!("DCGM_FI_DEV_GPU_UTIL{{Hostname=\"n1\",NodeName=\"n1\",NodePoolId=\"np1\",{labels} 0"),
        "DCGM_FI_DEV_COUNT 1".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
    }
    assert!(text.contains("PROCESS_MEM_USED{") && text.contains(" 1024\n"), "{text}");
}

#[test]
fn r1_what_is_unknown_has_no_line_and_an_empty_node_no_family() {
    let mut test = TestNode::new([card(0)]);
    test.run(0, &[(100, 1, Some(101))]);
    let text = render(&test.read(), &node(), Format::Text);
    assert!(!text.contains("PROCESS_SM_UTIL"), "{text}");
    assert!(text.contains("DCGM_CUSTOM_PROCESS_MEM_USED{"), "{text}");
    assert_eq!(render(&Snapshot::default(), &node(), Format::Text), "");
}

#[test]
fn openmetrics_carries_the_time_of_the_read_and_text_does_not() {
    let mut test = TestNode::new([card(0)]);
    test.run(0, &[(100, 1, Some(60))]);
    let at = Timestamp::constant(1_800_000_000, 5_000_000);
    let snapshot = Snapshot { at: Some(at), ..test.read() };
    let open = render(&snapshot, &node(), Format::OpenMetrics);
    let samples =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert!(samples(&open).iter().all(|line| line.ends_with(" 1800000000.005")), "{open}");
    let vocabulary = Vocabulary::default();
    let complete = format!("{open}# EOF\n");
    let read = |format| gpu::page::read(&vocabulary, complete.as_bytes(), format, true, ago(1), &LIMITS);
    let page = read(exposition::Format::OpenMetrics).expect("OpenMetrics");
    assert_eq!(page.timestamps.len(), page.samples.len());
    assert!(page.timestamps.values().all(|time| *time == at), "{:?}", page.timestamps);
    let text = render(&snapshot, &node(), Format::Text);
    assert!(samples(&text).iter().all(|line| !line.contains("1800000000")), "{text}");
}

#[test]
fn the_adapter_attributes_our_page() {
    let mut test = TestNode::new([card(0), card(1)]);
    test.run(0, &[(100, 1, Some(60)), (101, 1, Some(15)), (200, 2, None)]);
    test.run(1, &[(300, 3, Some(101))]);
    let scene = Scene::new().service("llm").ready(&["llm-1", "llm-2", "llm-3"]);
    let scene = Scene { pages: vec![batch(&test.read())], ..scene };
    assert_eq!(scene.pod_value("llm-1", "SM"), Some(75.0), "its processes on the card add up");
    assert_eq!(scene.pod_value("llm-2", "SM"), Some(0.0), "idle is a true 0");
    assert!(matches!(scene.pod_reading("llm-3", "SM"), Err(Unknown::ProcessMissing { .. })), "no figure is no 0");
    assert_eq!(scene.pod_value("llm-3", "MEM"), Some(1024.0));
}

#[test]
fn a_pod_with_an_unused_card_of_two_is_the_mean_of_both() {
    let mut test = TestNode::new([card(0), card(1)]);
    test.run(0, &[(100, 1, Some(60))]);
    let scene = Scene::new().service("llm").pod("llm-1", crate::cluster::PodState::Ready, 2);
    let snapshot = test.read();
    let silent = Scene { pages: vec![batch(&snapshot)], ..scene.clone() };
    assert_eq!(silent.pod_reading("llm-1", "SM"), Err(Unknown::CardsMissing { reported: 1, requested: 2 }));
    test.allocate(response([pod("llm-1", &[("nvidia.com/gpu", &["GPU-0", "GPU-1"])])]));
    test.run(0, &[(100, 1, Some(60))]);
    let told = Scene { pages: vec![batch(&test.read())], ..scene };
    assert_eq!(told.pod_value("llm-1", "SM"), Some(30.0));
}

#[test]
fn beside_other_exporters_on_the_node_each_process_counts_once() {
    let mut test = TestNode::new([card(0)]);
    test.run(0, &[(100, 1, Some(60)), (101, 1, Some(15))]);
    let ours = batch(&test.read());
    // The others saw the same processes at other moments: adding up would give 70 % and 75 % once more.
    let scene = Scene::new()
        .service("llm")
        .ready(&["llm-1"])
        .other_page("ack-gpu-exporter", 20, &["SM llm-1 GPU-0#100 55", "SM llm-1 GPU-0#101 15", "GPU - GPU-0 80"])
        .other_page("dcgm-exporter", 30, &["GPU llm-1 GPU-0 66", "GPU - GPU-0 66"]);
    let with = |pages: Vec<Batch>| Scene { pages, ..scene.clone() };
    let mut all = scene.pages.clone();
    all.insert(1, ours.clone());
    assert_eq!(with(all.clone()).pod_value("llm-1", "SM"), Some(75.0), "the agent ranks first");
    assert_eq!(with(all.clone()).pod_value("llm-1", "GPU"), Some(66.0), "what only the other says is the other's");
    all.remove(1);
    assert_eq!(with(all).pod_value("llm-1", "SM"), Some(70.0), "without the agent, ACK's exporter is heard");
    let stale = Batch { measured: ago(1) - SignedDuration::from_secs(60), ..ours };
    let mut old = scene.pages.clone();
    let aged = stale.samples.into_iter().map(|sample| Sample {
        reading: sample.reading.map(|known| Measured { at: stale.measured, ..known }),
        ..sample
    });
    old.push(Batch {
        samples: aged.collect(),
        target: stale.target,
        rank: 10,
        node: stale.node,
        measured: stale.measured,
        sample_times: stale.sample_times,
        absent_means_idle: false,
        own: None,
    });
    assert_eq!(with(old).pod_value("llm-1", "SM"), Some(70.0), "an agent that hangs is not heard");
}

proptest! {
    #[test]
    fn every_name_comes_through_as_it_is(name in "\\PC{0,40}|[\"\\\\\n a{}=,]{0,20}", model in "\\PC{1,40}") {
        let mut test = TestNode::new([card(0)]);
        test.change(|cards| cards[0].identity.as_mut().unwrap().model = model.clone());
        test.run(0, &[(100, 1, Some(60))]);
        let mut snapshot = test.read();
        snapshot.cards[0].processes[0].name = name.as_str().into();
        snapshot.cards[0].uuid = format!("GPU-{name}").into();
        let page = scraped(&render(&snapshot, &node(), Format::Text));
        let sample = page.samples.iter().find(|sample| sample.process.is_some()).unwrap();
        prop_assert_eq!(&*sample.card.uuid, format!("GPU-{name}"));
        prop_assert_eq!(sample.reading.clone().map(|reading| reading.value), Ok(60.0));
        prop_assert_eq!(&*sample.owner.as_ref().unwrap().pod, "llm-1");
    }
}
