use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    exposition::{Format, Limits},
    gpu::{Sample, Vocabulary, page::Page},
    reading::Unknown,
};

/// No test waits longer for what it expects.
const LIMIT: Duration = Duration::from_mins(1);
const PROCESS: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const DEVICE: &str = "DCGM_FI_DEV_GPU_UTIL";

fn node() -> GpuNode {
    let mut node = GpuNode::new("node-a", 2);
    node.pods = vec![
        GpuPod { percent: 80.0, ..GpuPod::new("default", "llm-0", "uid-0", [0]) },
        GpuPod { percent: 10.0, processes_per_card: 2, ..GpuPod::new("default", "llm-1", "uid-1", [1]) },
    ];
    node
}

async fn started() -> Exporter {
    Exporter::start(([127, 0, 0, 1], 0).into(), node(), Dialect::Ack).await.expect("a loopback port")
}

/// Sends one request and reads until the connection ends.
async fn get(exporter: &Exporter, headers: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(exporter.address()).await?;
    stream
        .write_all(format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await??;
    Ok(answer)
}

async fn text(exporter: &Exporter) -> String {
    String::from_utf8_lossy(&get(exporter, "").await.expect("an answer")).into_owned()
}

fn values<'a>(page: &'a str, family: &str, with: &str) -> Vec<&'a str> {
    let lines = page.lines().filter(|line| line.starts_with(&format!("{family}{{")) && line.contains(with));
    lines.filter_map(|line| line.split_once("} ")).map(|(_, value)| value).collect()
}

#[test]
fn ack_pages_list_processes_in_camel_case_and_devices() {
    let page = render(&node(), Dialect::Ack, Fault::None);
    let uuid = node().uuid(0);
    assert!(
        page.contains(&format!(
            "DCGM_CUSTOM_PROCESS_SM_UTIL{{AllocateMode=\"exclusive\",ContainerName=\"kserve-container\",NamespaceName=\"default\",\
             NodeName=\"node-a\",NodePoolId=\"default\",PodName=\"llm-0\",PodSource=\"ecs\",ProcessId=\"10000\",\
             ProcessName=\"python3\",ProcessType=\"C\",UUID=\"{uuid}\",device=\"nvidia0\",gpu=\"0\",\
             modelName=\"Tesla V100-SXM2-32GB\"}} 80\n"
        )),
        "{page}"
    );
    assert_eq!(values(&page, "DCGM_CUSTOM_PROCESS_SM_UTIL", "llm-1"), ["5", "5"], "two processes share the pod's load");
    assert_eq!(values(&page, "DCGM_CUSTOM_PROCESS_MEM_USED", "llm-0"), ["24576"]);
    assert_eq!(values(&page, "DCGM_FI_DEV_GPU_UTIL", "Hostname=\"node-a\""), ["80", "10"]);
    assert_eq!(values(&page, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", ""), ["0.8", "0.1"]);
}

#[test]
fn dcgm_pages_label_devices_with_their_pod() {
    let page = render(&node(), Dialect::Dcgm, Fault::None);
    assert_eq!(values(&page, "DCGM_FI_DEV_GPU_UTIL", ",namespace=\"default\",pod=\"llm-0\""), ["80"]);
    assert_eq!(values(&page, "DCGM_FI_DEV_GPU_UTIL", ""), ["80", "10"]);
}

#[test]
fn dcgm_virtual_gpu_pages_repeat_the_pods_total_for_each_container_beside_the_device() {
    let mut node = node();
    node.pods[0].containers.push("sidecar".into());
    let page = render(&node, Dialect::DcgmVirtualGpus, Fault::None);
    assert_eq!(values(&page, "DCGM_FI_DEV_GPU_UTIL", "pod_uid=\"uid-0\""), ["80", "80"]);
    assert_eq!(values(&page, "DCGM_FI_DEV_GPU_UTIL", "{gpu=\"0\""), ["80", "80", "80"], "device, and two containers");
    assert!(!page.contains("ProcessId"));
}

#[test]
fn faults_of_the_page_change_what_they_name_and_nothing_else() {
    let page = |fault| render(&node(), Dialect::Ack, fault);
    for odd in OddValue::ALL {
        let page = page(Fault::Values(odd));
        assert_eq!(values(&page, PROCESS, ""), [odd.text(); 3]);
        assert_eq!(values(&page, DEVICE, ""), [odd.text(); 2]);
    }
    let zero = page(Fault::ZeroAttribution);
    assert_eq!(values(&zero, PROCESS, ""), ["0", "0", "0"]);
    assert_eq!(values(&zero, DEVICE, ""), ["95", "95"]);
    assert_eq!(values(&zero, "DCGM_CUSTOM_PROCESS_MEM_USED", "llm-0"), ["24576"]);
    let absent = page(Fault::SeriesAbsent);
    assert!(values(&absent, PROCESS, "").is_empty() && values(&absent, "DCGM_CUSTOM_PROCESS_MEM_USED", "").is_empty());
    assert_eq!(values(&absent, DEVICE, ""), ["80", "10"]);
    let idle = page(Fault::UtilizationAbsent);
    assert!(values(&idle, PROCESS, "").is_empty());
    assert_eq!(values(&idle, "DCGM_CUSTOM_PROCESS_MEM_USED", "").len(), 3);
    let frozen = page(Fault::Frozen(Timestamp::from_second(1_700_000_000).expect("in range")));
    assert_eq!(values(&frozen, PROCESS, "llm-0"), ["80 1700000000000"]);
}

#[tokio::test]
async fn a_healthy_exporter_serves_what_was_set() {
    let exporter = started().await;
    assert!(exporter.set_load("default", "llm-0", 33.5));
    assert!(!exporter.set_load("default", "nobody", 1.0));
    assert!(exporter.remove_pod("default", "llm-1"));
    exporter.add_pod(GpuPod::new("default", "llm-2", "uid-2", [1]));
    let answer = text(&exporter).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{answer}"
    );
    assert_eq!(values(&answer, "DCGM_CUSTOM_PROCESS_SM_UTIL", "llm-0"), ["33.5"]);
    assert_eq!(values(&answer, "DCGM_CUSTOM_PROCESS_SM_UTIL", "llm-2"), ["0"]);
    assert!(!answer.contains("llm-1"));
    assert_eq!(exporter.requests(), 1);
    exporter.stop().await;
}

#[tokio::test]
async fn gzip_is_used_when_it_is_asked_for() {
    let exporter = started().await;
    let answer = get(&exporter, "Accept-Encoding: gzip\r\n").await.expect("an answer");
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    assert!(String::from_utf8_lossy(&answer[..body]).contains("Content-Encoding: gzip"));
    let mut page = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer[body..]), &mut page).expect("gzip");
    assert_eq!(page, exporter.page());
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let exporter = started().await;
    let mut stream = TcpStream::connect(exporter.address()).await.expect("connects");
    for _ in 0..3 {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("writes");
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(&exporter.page()) {
            let read =
                tokio::time::timeout(LIMIT, stream.read_buf(&mut answer)).await.expect("in time").expect("reads");
            assert!(read > 0, "closed early");
        }
    }
    assert_eq!(exporter.requests(), 3);
}

#[tokio::test]
async fn a_dead_exporter_refuses_connections_cuts_open_ones_and_comes_back_on_its_port() {
    let exporter = started().await;
    let mut open = TcpStream::connect(exporter.address()).await.expect("connects");
    open.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("writes");
    let mut first = [0; 1];
    open.read_exact(&mut first).await.expect("served");
    exporter.set_fault(Fault::Dead);
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LIMIT, open.read_to_end(&mut rest)).await.expect("the open connection is cut");
    let refused = async {
        while TcpStream::connect(exporter.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.expect("connections are refused");
    exporter.set_fault(Fault::None);
    let back = async {
        while get(&exporter, "").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, back).await.expect("it listens again on the same port");
}

#[tokio::test]
async fn hanging_exporters_send_nothing_or_half_until_they_are_healed() {
    for (fault, expected_empty) in [(Fault::HangBeforeHeaders, true), (Fault::HangMidBody, false)] {
        let exporter = Arc::new(started().await);
        exporter.set_fault(fault);
        let mut stream = TcpStream::connect(exporter.address()).await.expect("connects");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("writes");
        let mut answer = Vec::new();
        let expected = exporter.page().len() / 2;
        while !expected_empty && !String::from_utf8_lossy(&answer).contains(&exporter.page()[..expected]) {
            assert!(stream.read_buf(&mut answer).await.expect("reads") > 0, "closed early");
        }
        let more = tokio::time::timeout(Duration::from_millis(100), stream.read_buf(&mut answer)).await;
        assert!(more.is_err(), "{fault:?} sends nothing more");
        assert_eq!(answer.is_empty(), expected_empty);
        exporter.set_fault(Fault::None);
        let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{fault:?} lets go when healed");
    }
}

#[tokio::test]
async fn a_page_can_be_cut_short_or_never_end_or_be_an_error_or_garbage() {
    let exporter = started().await;
    exporter.set_fault(Fault::CutShort);
    let cut = text(&exporter).await;
    assert!(cut.contains(&format!("Content-Length: {}\r\n", exporter.page().len())));
    assert!(cut.ends_with(&exporter.page()[..exporter.page().len() / 2]));

    exporter.set_fault(Fault::NeverEnds);
    let mut stream = TcpStream::connect(exporter.address()).await.expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("writes");
    let mut megabytes = vec![0; 4 << 20];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut megabytes)).await.expect("in time").expect("goes on and on");
    drop(stream);

    exporter.set_fault(Fault::InternalError);
    assert!(text(&exporter).await.starts_with("HTTP/1.1 500 "));
    exporter.set_fault(Fault::Garbage);
    let garbage = text(&exporter).await;
    assert!(garbage.starts_with("HTTP/1.1 200 ") && garbage.contains("<!DOCTYPE html>"));
    exporter.set_fault(Fault::None);
    assert!(text(&exporter).await.ends_with(&exporter.page()));
}

#[tokio::test]
async fn a_frozen_page_keeps_the_values_of_its_moment() {
    let exporter = started().await;
    exporter.set_fault(Fault::Frozen(Timestamp::from_second(1_700_000_000).expect("in range")));
    exporter.set_load("default", "llm-0", 1.0);
    assert_eq!(values(&text(&exporter).await, "DCGM_CUSTOM_PROCESS_SM_UTIL", "llm-0"), ["80 1700000000000"]);
    exporter.set_fault(Fault::None);
    assert_eq!(values(&text(&exporter).await, "DCGM_CUSTOM_PROCESS_SM_UTIL", "llm-0"), ["1"]);
}

/// The page as our own reader sees it.
fn read(text: &str, complete: bool) -> Page {
    let limits = Limits::from(&crate::config::Scrape::default());
    let body = text.split_once("\r\n\r\n").map_or(text, |(_, body)| body);
    let read = crate::gpu::page::read(&Vocabulary::default(), body.as_bytes(), Format::Text, complete, NOW, &limits);
    read.expect("a small text page")
}

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// Samples of that family that name that pod; of the device, if none.
fn samples(page: &Page, family: &str, pod: Option<&str>) -> Vec<Sample> {
    let family = Vocabulary::default().by_name(family).expect("a known family");
    let of = |sample: &&Sample| sample.family == family && sample.owner.as_ref().map(|owner| &*owner.pod) == pod;
    page.samples.iter().filter(of).cloned().collect()
}

fn numbers(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.reading.as_ref().expect("a value").value).collect()
}

#[test]
fn our_reader_finds_on_each_page_what_was_set() {
    for dialect in [Dialect::Ack, Dialect::Dcgm, Dialect::DcgmVirtualGpus] {
        let page = read(&render(&node(), dialect, Fault::None), true);
        assert!(page.bad_lines.is_empty(), "{dialect:?}: {:?}", page.bad_lines);
        let (pods, devices) = match dialect {
            Dialect::Ack => (samples(&page, PROCESS, Some("llm-1")), samples(&page, DEVICE, None)),
            Dialect::Dcgm => (samples(&page, DEVICE, Some("llm-1")), vec![]),
            Dialect::DcgmVirtualGpus => (samples(&page, DEVICE, Some("llm-1")), samples(&page, DEVICE, None)),
        };
        assert!((numbers(&pods).iter().sum::<f64>() - 10.0).abs() < 1e-9, "{dialect:?}: {pods:?}");
        assert!(pods.iter().all(|sample| *sample.card.uuid == *node().uuid(1)), "{dialect:?}: {pods:?}");
        assert!(devices.is_empty() || numbers(&devices) == [80.0, 10.0], "{dialect:?}: {devices:?}");
        let ids: Vec<_> = pods.iter().map(|sample| sample.process.as_deref()).collect();
        assert_eq!(ids, if dialect == Dialect::Ack { vec![Some("10110"), Some("10111")] } else { vec![None] });
    }
}

#[tokio::test]
async fn over_the_socket_our_reader_finds_no_number_on_a_page_of_odd_values() {
    let exporter = started().await;
    for odd in OddValue::ALL {
        exporter.set_fault(Fault::Values(odd));
        let page = read(&text(&exporter).await, true);
        let readings: Vec<_> =
            samples(&page, PROCESS, Some("llm-0")).into_iter().map(|sample| sample.reading.map(|m| m.value)).collect();
        let expected = match odd {
            OddValue::Tiny => matches!(&readings[..], [Ok(value)] if (value - 0.0004).abs() < 1e-12),
            OddValue::Text => matches!(&readings[..], [Err(Unknown::Malformed)]),
            OddValue::BlankInt32 | OddValue::BlankFp64 | OddValue::BlankInt64 => {
                matches!(&readings[..], [Err(Unknown::Blank { .. })])
            }
            OddValue::NotANumber | OddValue::Infinite | OddValue::Negative | OddValue::Huge => {
                matches!(&readings[..], [Err(Unknown::OutOfRange { .. })])
            }
        };
        assert!(expected, "{odd:?}: {readings:?}");
    }
}

#[tokio::test]
async fn over_the_socket_page_faults_read_as_what_they_are() {
    let exporter = started().await;
    let at = Timestamp::constant(1_700_000_000, 0);
    let page_under = async |fault| {
        exporter.set_fault(fault);
        read(&text(&exporter).await, fault != Fault::CutShort)
    };
    let zero = page_under(Fault::ZeroAttribution).await;
    assert_eq!(numbers(&samples(&zero, PROCESS, Some("llm-0"))), [0.0]);
    assert_eq!(numbers(&samples(&zero, DEVICE, None)), [95.0, 95.0]);
    let absent = page_under(Fault::SeriesAbsent).await;
    assert!(samples(&absent, PROCESS, Some("llm-0")).is_empty() && !samples(&absent, DEVICE, None).is_empty());
    let idle = page_under(Fault::UtilizationAbsent).await;
    assert!(samples(&idle, PROCESS, Some("llm-0")).is_empty());
    assert_eq!(numbers(&samples(&idle, "DCGM_CUSTOM_PROCESS_MEM_USED", Some("llm-0"))), [24_576.0]);
    let frozen = page_under(Fault::Frozen(at)).await;
    assert_eq!(numbers(&samples(&frozen, PROCESS, Some("llm-0"))), [80.0]);
    assert!(!frozen.timestamps.is_empty() && frozen.timestamps.values().all(|time| *time == at));
    let garbage = page_under(Fault::Garbage).await;
    assert!(garbage.samples.is_empty() && !garbage.bad_lines.is_empty());
    let cut = page_under(Fault::CutShort).await;
    assert!(cut.samples.len() < page_under(Fault::None).await.samples.len());
}
