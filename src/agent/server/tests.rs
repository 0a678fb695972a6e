use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use apiservice::tls::CertificateFiles;
use parking_lot::Mutex;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Client, StatusCode};
use tokio::sync::oneshot;

use super::*;
use crate::agent::{
    Settings,
    nvml::{Answer, Driver, library::Library},
    testing::{Folder, Said, card},
};

/// No test waits longer for what it expects.
const PATIENCE: Duration = Duration::from_mins(1);

/// An agent with a driver and no cluster, over its real socket.
struct Agent {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    async fn start(driver: Box<dyn Driver>, change: impl FnOnce(&mut Settings)) -> Self {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut settings = Settings {
            listen: address,
            node: Node { name: "n1".into(), pool: None },
            interval: Duration::from_millis(100),
            proc_root: "/proc".into(),
            pod_resources: "/no/such/kubelet.sock".into(),
            certificate: None,
            token_file: None,
        };
        change(&mut settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(crate::agent::run(settings, driver, None, async { stopped.await.unwrap_or_default() }));
        let listens = async {
            while !task.is_finished() && tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("it listens, or ends");
        Self { address, stop: Some(stop), task }
    }

    /// Asks until the answer is what is waited for.
    async fn until(
        &self,
        what: &str,
        ask: impl Fn(Client) -> reqwest::RequestBuilder,
        want: impl Fn(&str) -> bool,
    ) -> (StatusCode, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let begun = Instant::now();
        loop {
            let answer = ask(Client::new()).send().await.unwrap();
            let last = (answer.status(), answer.text().await.unwrap());
            if want(&last.1) {
                return last;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {last:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, path: &str, want: &str) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.address);
        self.until(want, |client| client.get(&url), |text| text.contains(want)).await
    }

    async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap().unwrap();
    }
}

fn one_card() -> Box<dyn Driver> {
    Box::new(Said(Arc::new(Mutex::new(Ok(Answer { driver: "550.144.03".into(), cards: vec![card(0)] })))))
}

#[tokio::test]
async fn both_pages_are_served_and_the_agents_own_metrics_follow_the_cards() {
    let agent = Agent::start(one_card(), |_| ()).await;
    let (status, text) = agent.get("/metrics", "tidegate_agent_info{version=").await;
    let (_, text) = if text.contains("DCGM_FI_DEV_GPU_UTIL{") {
        (status, text)
    } else {
        agent.get("/metrics", "DCGM_FI_DEV_GPU_UTIL{").await
    };
    assert_eq!(status, StatusCode::OK);
    for line in [
        "tidegate_agent_cards{} 1",
        "tidegate_agent_source_up{source=\"nvml\"} 1",
        "tidegate_agent_source_up{source=\"pod_resources\"} 0",
        "tidegate_agent_dropped_total{reason=\"zombie\"} 0",
        "process_resident_memory_bytes{} ",
    ] {
        assert!(text.lines().any(|other| other.starts_with(line)), "{line} in\n{text}");
    }
    let (status, text) = agent.get("/healthz", "pod_resources: /no/such/kubelet.sock: cannot connect").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.starts_with("ok\nnvml: ok\n"), "{text}");
    agent.stop().await;
}

#[tokio::test]
async fn openmetrics_is_one_page_with_one_end() {
    let agent = Agent::start(one_card(), |_| ()).await;
    let url = format!("http://{}/metrics", agent.address);
    let ask = |client: Client| client.get(&url).header("accept", "application/openmetrics-text; version=1.0.0");
    let (_, text) = agent.until("a card", ask, |text| text.contains("DCGM_FI_DEV_COUNT 1 ")).await;
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    agent.stop().await;
}

#[tokio::test]
async fn without_nvml_it_serves_says_what_is_missing_and_is_well() {
    let library = Box::new(Library::new(Path::new("libnvidia-ml-that-is-not-here.so.1")));
    let agent = Agent::start(library, |_| ()).await;
    let (status, text) = agent.get("/healthz", "nvml: libnvidia-ml-that-is-not-here.so.1 not found").await;
    assert_eq!(status, StatusCode::OK, "a new start would not help: {text}");
    let (_, text) = agent.get("/metrics", "tidegate_agent_nvml_missing{reason=\"library_not_found\"} 1").await;
    assert!(!text.contains("DCGM_"), "{text}");
    assert!(text.contains("tidegate_agent_source_up{source=\"nvml\"} 0"), "{text}");
    agent.stop().await;
}

/// Answers once, then hangs as a broken driver does, for as long as the test has the other end.
struct Hangs(Box<dyn Driver>, bool, mpsc::Receiver<()>);

impl Driver for Hangs {
    fn read(
        &mut self,
        now: crate::agent::window::ReadTime,
        since: &dyn Fn(&str) -> u64,
    ) -> Result<Answer, crate::agent::nvml::Fault> {
        if std::mem::replace(&mut self.1, true) {
            let _ = self.2.recv(); // an error: the test has ended
        }
        self.0.read(now, since)
    }
}

#[tokio::test]
async fn r2_while_the_driver_hangs_nothing_old_is_shown_and_the_agent_is_not_well() {
    let (_hold, held) = mpsc::channel();
    let agent = Agent::start(Box::new(Hangs(one_card(), false, held)), |_| ()).await;
    agent.get("/metrics", "DCGM_FI_DEV_COUNT 1").await;
    tokio::time::sleep(crate::agent::LEAST_STALE).await;
    let (status, _) = agent.get("/healthz", "the loop hangs").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (_, text) = agent.get("/metrics", "tidegate_agent_nvml_missing{reason=\"stale\"} 1").await;
    assert!(!text.contains("DCGM_"), "{text}");
    agent.stop().await;
}

#[tokio::test]
async fn who_bears_no_token_sees_no_metrics_and_a_rotated_token_counts_at_once() {
    let folder = Folder::new();
    let path = folder.file("token", "secret-1\n");
    let agent = Agent::start(one_card(), |settings| settings.token_file = Some(path.clone())).await;
    let url = format!("http://{}/metrics", agent.address);
    let with = |token: &'static str| {
        let url = url.clone();
        move |client: Client| {
            if token.is_empty() { client.get(&url) } else { client.get(&url).header("authorization", token) }
        }
    };
    for wrong in ["", "Bearer secret-2", "Bearer ", "Basic secret-1", "secret-1"] {
        let (status, text) = agent.until(wrong, with(wrong), |_| true).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong:?}");
        assert!(!text.contains("tidegate"), "{wrong:?}: {text}");
    }
    let (status, _) = agent.until("the token", with("Bearer secret-1"), |text| text.contains("tidegate_agent")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(agent.get("/healthz", "ok").await.0, StatusCode::OK, "the kubelet bears none");
    folder.file("token", "secret-3");
    assert_eq!(agent.until("old", with("Bearer secret-1"), |_| true).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(agent.until("new", with("bearer secret-3"), |_| true).await.0, StatusCode::OK);
    folder.file("token", "");
    assert_eq!(agent.until("empty", with("Bearer "), |_| true).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    agent.stop().await;
}

#[tokio::test]
async fn a_token_file_that_is_missing_or_empty_is_told_at_the_start() {
    let folder = Folder::new();
    for (path, problem) in [(folder.file("empty", " \n"), "is empty"), (folder.0.join("absent"), "No such file")] {
        let settings = |settings: &mut Settings| settings.token_file = Some(path.clone());
        let agent = Agent::start(one_card(), settings).await;
        let error = agent.task.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("--bearer-token-file") && error.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls() {
    let folder = Folder::new();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: folder.file("tls.crt", cert.pem()),
        key: folder.file("tls.key", signing_key.serialize_pem()),
    };
    let agent = Agent::start(one_card(), |settings| settings.certificate = Some(files)).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).build().unwrap();
    let answer = client.get(format!("https://{}/metrics", agent.address)).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("tidegate_agent_info{"));
    let plain = Client::new().get(format!("http://{}/metrics", agent.address)).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::BAD_REQUEST);
    agent.stop().await;
}
