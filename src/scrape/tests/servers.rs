//! Model servers over real sockets: their pages, their counters, and pods that offer nothing.

use jiff::Timestamp;

use super::{
    exporter::{Act, Exporter, ok},
    *,
};
use crate::{
    cluster::{ObjectKey, PageHint, Phase, Pod, PodState, Resources},
    config::Serving,
    reading::{NoRate, Unknown},
    sim::{
        exporter::{Fault, OddValue},
        server::{ModelServer, Vllm},
    },
};

const ID: &str = "server:prod/llm-0/u-1";

/// A cluster with one ready predictor whose page is at that port of this machine.
fn cluster(port: u16) -> View {
    let key = ObjectKey { namespace: "prod".into(), name: "llm-0".into() };
    let labels = [("serving.kserve.io/inferenceservice", "qwen"), ("component", "predictor")];
    let pod = Pod {
        key: key.clone(),
        uid: "u-1".into(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        node: Some("n1".into()),
        ip: Some("127.0.0.1".into()),
        ports: Vec::new(),
        phase: Phase::Running,
        state: PodState::Ready,
        created: None,
        scheduled: None,
        started: None,
        running: None,
        ready_since: None,
        gpus: 1,
        requests: Resources::default(),
        deletion_cost: None,
        page: PageHint { port: Some(port), ..PageHint::default() },
    };
    View { pods: [(key, Arc::new(pod))].into(), ..View::default() }
}

fn start(port: u16, retry: Duration) -> Rig {
    start_with(settings([]), port, retry)
}

fn start_with(settings: config::Scrape, port: u16, retry: Duration) -> Rig {
    let serving = Serving { retry: config::Duration(retry), ..Serving::default() };
    let config = config::Scrape { serving, ..settings };
    let rig = Rig::start(&config);
    rig.set.send_replace(Arc::new(targets(&config, &cluster(port))));
    rig
}

fn port(exporter: &Exporter) -> u16 {
    reqwest::Url::parse(&exporter.url()).unwrap().port().unwrap()
}

/// The page's value of a family, by the name under which it is served.
fn reading(tracked: &Tracked, name: &str) -> crate::reading::Reading {
    let family = Vocabulary::default().by_name(name).unwrap();
    let own = tracked.batch.as_ref().and_then(|batch| batch.own.as_ref()).unwrap();
    own.readings.as_ref().ok().and_then(|readings| readings.get(&family).cloned()).unwrap_or(Err(Unknown::Absent))
}

fn value(tracked: &Tracked, name: &str) -> Option<f64> {
    reading(tracked, name).ok().map(|measured| measured.value)
}

fn measured(tracked: &Tracked) -> Option<Timestamp> {
    tracked.batch.as_ref().map(|batch| batch.measured)
}

/// The first state of the server's target after that time which is as expected.
async fn after(rig: &Rig, time: Option<Timestamp>, expected: impl Fn(&Tracked) -> bool) -> Arc<Tracked> {
    rig.target_until(ID, |tracked| tracked.batch.is_some() && measured(tracked) > time && expected(tracked)).await
}

#[tokio::test]
async fn a_vllm_servers_page_becomes_readings_of_its_pod() {
    let server = ModelServer::serve(([127, 0, 0, 1], 0).into(), Vllm::new("qwen")).await.unwrap();
    server.change(|vllm| (vllm.running, vllm.waiting, vllm.kv_cache) = (64, 33, 0.29));
    let rig = start(server.address().port(), Duration::from_mins(1));
    let first = after(&rig, None, |_| true).await;
    let own = first.batch.as_ref().and_then(|batch| batch.own.clone()).unwrap();
    assert_eq!((&*own.subject.pod.name, &*own.subject.uid), ("llm-0", "u-1"), "the pod that was asked");
    assert_eq!(value(&first, "vllm:num_requests_running"), Some(64.0));
    assert_eq!(value(&first, "vllm:num_requests_waiting"), Some(33.0));
    assert_eq!(value(&first, "vllm:kv_cache_usage_perc"), Some(0.29));

    // Whatever was counted before we came is not of this moment; what is counted from now on is.
    let quiet = after(&rig, measured(&first), |_| true).await;
    assert_eq!(value(&quiet, "vllm:generation_tokens_per_second"), Some(0.0));
    assert_eq!(reading(&quiet, "vllm:time_to_first_token_seconds_mean"), Err(NoRate::Nothing.into()));
    server.change(|vllm| vllm.finish(4, 1000, 250, 1.5));
    let busy = after(&rig, measured(&quiet), |tracked| {
        value(tracked, "vllm:generation_tokens_per_second").is_some_and(|rate| rate > 0.0)
    })
    .await;
    let per_second = |name| value(&busy, name).unwrap();
    let ratio = per_second("vllm:prompt_tokens_per_second") / per_second("vllm:generation_tokens_per_second");
    assert!((ratio - 4.0).abs() < 1e-9, "1,000 to 250: {ratio}");
    let ratio = per_second("vllm:generation_tokens_per_second") / per_second("vllm:request_success_per_second");
    assert!((ratio - 250.0).abs() < 1e-9, "tokens a request: {ratio}");
    assert_eq!(value(&busy, "vllm:time_to_first_token_seconds_mean"), Some(1.5));
    let inter_token = value(&busy, "vllm:inter_token_latency_seconds_mean").unwrap();
    assert!((inter_token - 0.02).abs() < 1e-9, "{inter_token}");

    // A restart is a hole and no number.
    let time = measured(&*rig.target_until(ID, |_| true).await);
    server.change(|vllm| *vllm = Vllm::new("qwen"));
    let fell = |tracked: &Tracked| reading(tracked, "vllm:prompt_tokens_per_second") == Err(NoRate::Fell.into());
    after(&rig, time, fell).await;
    rig.stop().await;
}

#[tokio::test]
async fn r1_a_server_that_fails_after_it_had_a_page_keeps_its_last_one_which_ages() {
    let server = ModelServer::serve(([127, 0, 0, 1], 0).into(), Vllm::new("qwen")).await.unwrap();
    let settings = config::Scrape { timeout: config::Duration(Duration::from_secs(2)), ..settings([]) };
    let rig = start_with(settings, server.address().port(), Duration::from_mins(1));
    after(&rig, None, |_| true).await;
    for fault in [Fault::Dead, Fault::InternalError, Fault::CutShort, Fault::Garbage, Fault::HangBeforeHeaders] {
        let before = rig.target_until(ID, |tracked| tracked.status.last_error.is_none()).await.status.failures;
        server.set_fault(fault);
        let failing = rig.target_until(ID, |tracked| tracked.status.failures > before + 1).await;
        assert!(failing.status.last_error.is_some() && failing.status.offers_nothing.is_none(), "{fault:?}");
        assert_eq!(value(&failing, "vllm:num_requests_waiting"), Some(0.0), "{fault:?}: the last page, with its time");
        server.set_fault(Fault::None);
        after(&rig, measured(&failing), |tracked| tracked.status.last_error.is_none()).await;
    }
    server.set_fault(Fault::Values(OddValue::NotANumber));
    let odd = after(&rig, None, |tracked| value(tracked, "vllm:num_requests_waiting").is_none()).await;
    assert_eq!(reading(&odd, "vllm:num_requests_waiting"), Err(Unknown::Malformed));
    rig.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_page_offers_nothing_is_asked_again_seldom_and_is_no_failure() {
    let not_found = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    let redirect = b"HTTP/1.1 307 No\r\nLocation: http://169.254.169.254/metrics\r\nContent-Length: 0\r\n\r\n".to_vec();
    let html = ok("Content-Type: text/html\r\n", "<html></html>");
    for (answer, word, requests) in [
        (not_found, "404", 1),
        (ok("", "process_cpu_seconds_total 3\n"), "no family of a model server", 1),
        (ok("", PAGE), "no family of a model server", 1),
        (html, "not a page of metrics", 1),
        // These may pass, and are tried a few times before.
        (redirect, "redirect to http://169.254.169.254/metrics refused", 3),
        (ok("", "}{\n"), "no usable sample", 3),
    ] {
        let exporter = Exporter::always(answer);
        let rig = start(port(&exporter), Duration::from_mins(1));
        let tracked = rig.target_until(ID, |tracked| tracked.status.offers_nothing.is_some()).await;
        assert!(tracked.status.offers_nothing.as_ref().unwrap().contains(word), "{:?}", tracked.status);
        let own = tracked.batch.as_ref().and_then(|batch| batch.own.as_ref()).expect("the answer is known");
        assert!(own.readings.is_err() && tracked.status.last_error.is_none());
        // Ten intervals later it has not been asked again, and no tick of them counts as missed.
        let missed = tracked.status.missed;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(exporter.requests(), requests, "{word}");
        assert_eq!(rig.store.snapshot().targets[&TargetId(ID.into())].status.missed, missed);
        assert_eq!(rig.store.snapshot().totals.failures.values().sum::<u64>(), requests as u64 - 1, "{word}");
        rig.stop().await;
    }
}

/// R22: a tenant writes these pages, and all that are read at once have to fit into memory.
#[tokio::test]
async fn a_servers_page_has_a_limit_of_its_own() {
    let vllm = format!("vllm:num_requests_waiting 3\n{}", "# filling\n".repeat(200));
    let exporter = Exporter::always(ok("", &vllm));
    let serving = Serving { page_bytes: config::Bytes(1 << 10), ..Serving::default() };
    let config = config::Scrape { serving, ..settings([]) };
    assert!(config.page_bytes.0 > vllm.len() as u64, "an exporter's may be larger");
    let rig = Rig::start(&config);
    rig.set.send_replace(Arc::new(targets(&config, &cluster(port(&exporter)))));
    let tracked = rig.target_until(ID, |tracked| tracked.status.offers_nothing.is_some()).await;
    assert_eq!(tracked.status.offers_nothing.as_deref(), Some("page larger than 1KiB (scrape.serving.pageBytes)"));
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_connection_offers_nothing_until_a_server_listens_there() {
    let server = ModelServer::serve(([127, 0, 0, 1], 0).into(), Vllm::new("qwen")).await.unwrap();
    server.set_fault(Fault::Dead);
    // The port is reserved and refuses once the listener has been closed.
    let address = server.address();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rig = start(address.port(), Duration::from_millis(80));
    let tracked = rig.target_until(ID, |tracked| tracked.status.offers_nothing.is_some()).await;
    assert_eq!(tracked.status.offers_nothing.as_deref(), Some("connection refused"));
    server.set_fault(Fault::None);
    let found = rig.target_until(ID, |tracked| tracked.status.offers_nothing.is_none()).await;
    assert_eq!(value(&found, "vllm:num_requests_waiting"), Some(0.0));
    rig.stop().await;
}

#[tokio::test]
async fn servers_that_hang_do_not_hold_up_exporters() {
    let hanging = Exporter::new(|_| vec![Act::Hang]);
    let living = Exporter::always(ok("", PAGE));
    let timeout = config::Duration(Duration::from_secs(3));
    let config = config::Scrape { concurrency: 1, timeout, ..settings([living.url()]) };
    let mut view = cluster(port(&hanging));
    let one = view.pods.values().next().unwrap().clone();
    for n in 1..20 {
        let key = ObjectKey { name: format!("llm-{n}").into(), ..one.key.clone() };
        view.pods.insert(key.clone(), Arc::new(Pod { key, ..(*one).clone() }));
    }
    let rig = Rig::start(&config);
    rig.set.send_replace(Arc::new(targets(&config, &view)));
    rig.until(|snapshot| snapshot.totals.failures.get("timeout").is_some_and(|failures| *failures > 0)).await;
    let snapshot = rig.store.snapshot();
    let status = &snapshot.targets[&TargetId(living.url().into())].status;
    // One place for each kind: the servers used up theirs for one timeout, 75 intervals, at least.
    assert!(status.last_success.is_some() && status.failures == 0);
    assert!(snapshot.totals.successes >= 5, "{:?}", snapshot.totals);
    rig.stop().await;
}
