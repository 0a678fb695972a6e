//! The example as a process of its own: its flags, its files, its sockets and its end. No cluster is asked: the caller's
//! certificate says `system:masters`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The file that documents the format.
const FIXTURE: &str = r#"
now: 2026-01-02T03:04:10Z      # optional fixed clock for ages
maxAge: 60s
namespaces: [prod, empty]
objects:                        # what selectors select on
- {apiVersion: v1, kind: Pod, resource: pods, namespace: prod, name: llm-0, labels: {app: llm}}
- {apiVersion: v1, kind: Node, resource: nodes, name: gpu-1}
custom:                         # windowSeconds and labels optional; value may be .nan, .inf
- {metric: "vllm:num_requests_running", resource: pods, namespace: prod, name: llm-0, value: 33.5, time: 2026-01-02T03:04:05.678Z, windowSeconds: 30, labels: {model: qwen}}
external:
- {metric: queue_depth, namespace: prod, labels: {queue: a}, value: 42, time: 2026-01-02T03:04:05Z}
"#;

const CUSTOM: &str =
    "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/vllm:num_requests_running?labelSelector=app%3Dllm";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth?labelSelector=queue%3Da";

/// A client that can do everything waits no longer than this for an answer.
const PATIENCE: Duration = Duration::from_mins(2);

/// Cargo builds examples with the tests, beside the folder of this binary, unless it is asked for this binary alone.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its program");
    let profile = this.parent().and_then(Path::parent).expect("cargo puts tests into target/PROFILE/deps");
    let program = profile.join("examples/fixture");
    let changed = |file: &Path| fs::metadata(file).and_then(|file| file.modified()).ok();
    let sources = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let newer = sources.split_ascii_whitespace().find(|source| changed(Path::new(source)) > changed(&program));
    assert!(
        program.exists() && newer.is_none(),
        "{} is missing, or older than {newer:?}: cargo build -p apiservice --example fixture",
        program.display()
    );
    program
}

/// Certificates, kubeconfig and fixture of one test; gone with it.
struct Files {
    folder: PathBuf,
    authority: String,
    master: String,
}

/// A certificate authority that signs as many as are wanted.
struct Signer(CertifiedIssuer<'static, KeyPair>);

impl Signer {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    /// Certificate and key.
    fn issue(&self, name: &str, group: Option<&str>, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }
}

impl Files {
    fn new(fixture: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("fixture-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("cargo's folder for tests can be written");
        let authority = Signer::new();
        let (certificate, key) = authority.issue("server", None, ExtendedKeyUsagePurpose::ServerAuth);
        let (master, master_key) = authority.issue("root", Some("system:masters"), ExtendedKeyUsagePurpose::ClientAuth);
        // Port 1 of loopback: nobody listens, and nobody is asked.
        let kubeconfig = "{apiVersion: v1, kind: Config, current-context: a, users: [{name: a, user: {}}], \
            clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}], \
            contexts: [{name: a, context: {cluster: a, user: a}}]}";
        for (name, text) in [
            ("tls.crt", &*certificate),
            ("tls.key", &key),
            ("ca.crt", &authority.0.pem()),
            ("kubeconfig", kubeconfig),
            ("fixture.yaml", fixture),
        ] {
            fs::write(folder.join(name), text).expect("the folder can be written");
        }
        Self { folder, authority: authority.0.pem(), master: master + &master_key }
    }

    /// The example with its needed flags; `more` win over them by coming last.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        for (flag, file) in [
            ("--fixture", "fixture.yaml"),
            ("--tls-cert", "tls.crt"),
            ("--tls-key", "tls.key"),
            ("--kubeconfig", "kubeconfig"),
            ("--client-ca", "ca.crt"),
            ("--requestheader-ca", "ca.crt"),
        ] {
            command.arg(flag).arg(self.folder.join(file));
        }
        command.args(more).env_remove("RUST_BACKTRACE").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left over is in cargo's own folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The running example and a client of it.
struct Running {
    child: Child,
    metrics: String,
    control: String,
    client: reqwest::Client,
    files: Files,
}

impl Running {
    fn start(fixture: &str) -> Self {
        let files = Files::new(fixture);
        let mut child = files.command(&[]).stderr(Stdio::inherit()).spawn().expect("the example starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut announced = |what: &str| {
            let line = lines.next().expect("the example says where it listens").expect("text");
            line.strip_prefix(what).unwrap_or_else(|| panic!("{what} expected: {line}")).to_owned()
        };
        let control = announced("control: ");
        let metrics = announced("metrics API: ").replace("127.0.0.1", "localhost");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = reqwest::Certificate::from_pem(files.authority.as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .identity(reqwest::Identity::from_pem(files.master.as_bytes()).expect("an identity"))
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Self { child, metrics, control, client, files }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.metrics)).send().await.expect("an answer");
        assert!(!answer.headers().contains_key("retry-after"), "{answer:?}");
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
    }

    /// A connection whose TLS handshake is through and on which nothing has been asked.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.files.authority.as_bytes()).expect("PEM")).expect("a CA");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.metrics.trim_start_matches("https://")).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
    }

    async fn put(&self, path: &str, body: &str) -> (u16, String) {
        let request = self.client.put(format!("{}{path}", self.control)).body(body.to_owned());
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "nothing is announced: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_fixture_file_that_is_malformed_is_refused_at_the_start_with_line_field_and_what_was_expected() {
    let line = "- {metric: \"vllm:num_requests_running\", resource: pods, namespace: prod, name: llm-0, value: 33.5,";
    for (good, bad, parts) in [
        ("now: 2026-01-02T03:04:10Z", "now: noon", ["line 2", "field now", "expected a time"]),
        ("maxAge: 60s", "maxAge: 60", ["line 3", "field maxAge", "expected a duration"]),
        ("namespaces: [prod, empty]", "namespaces: prod", ["line 4", "field namespaces", "expected a list of names"]),
        ("resource: nodes, ", "", ["line 7", "field resource", "missing field `resource`; expected a string"]),
        ("labels: {app: llm}", "labels: [app]", ["line 6", "field labels", "expected a map of strings"]),
        ("value: 33.5", "value: lots", ["line 9", "field value", "expected a number"]),
        ("windowSeconds: 30", "windowSeconds: -1", ["line 9", "field windowSeconds", "expected a whole number"]),
        ("value: 42, time: 2026-01-02T03:04:05Z", "value: 42", ["line 11", "field time", "expected a time"]),
        ("external:", "extrenal:", ["line 10", "field extrenal", "expected one of now, maxAge"]),
        (line, "- {metric: [", ["line 9", "field", "expected"]),
    ] {
        assert!(FIXTURE.contains(good), "{good}");
        let files = Files::new(&FIXTURE.replacen(good, bad, 1));
        let message = refused(&files.command(&[]).output().expect("the example starts"));
        let file = files.folder.join("fixture.yaml").display().to_string();
        for part in parts.iter().copied().chain(["--fixture", &*file, "malformed"]) {
            assert!(message.contains(part), "{bad:?}: {part:?} expected in: {message}");
        }
    }
}

#[test]
fn flags_that_cannot_be_meant_are_refused_by_their_names() {
    let files = Files::new(FIXTURE);
    for (flag, value, says) in [
        ("--fixture", "/none.yaml", "--fixture /none.yaml: cannot be read"),
        ("--tls-cert", "/none.crt", "/none.crt"),
        ("--kubeconfig", "/none", "--kubeconfig /none: cannot be read"),
        ("--client-ca", "/none.crt", "/none.crt"),
        ("--control", "0.0.0.0:0", "--control 0.0.0.0:0: expected a loopback address"),
    ] {
        let folder = files.folder.display().to_string();
        let mut command = Command::new(program());
        for (name, default) in [
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--control", "127.0.0.1:0".to_owned()),
            ("--fixture", format!("{folder}/fixture.yaml")),
            ("--tls-cert", format!("{folder}/tls.crt")),
            ("--tls-key", format!("{folder}/tls.key")),
            ("--kubeconfig", format!("{folder}/kubeconfig")),
            ("--client-ca", format!("{folder}/ca.crt")),
        ] {
            command.arg(name).arg(if name == flag { value } else { &default });
        }
        let message = refused(&command.output().expect("the example starts"));
        assert!(message.contains(says), "{flag} {value}: {message}");
    }
    let unknown = files.command(&["--fixtrue", "x"]).output().expect("the example starts");
    assert!(refused(&unknown).contains("--fixtrue"));
}

#[tokio::test]
async fn the_documented_file_is_served_and_every_fault_passes() {
    let running = Running::start(FIXTURE);
    for _ in 0..2 {
        let (code, list) = running.get(CUSTOM).await;
        assert_eq!(code, 200, "{list}");
        let item = &list["items"][0];
        assert_eq!(item["describedObject"]["name"], "llm-0", "{list}");
        assert_eq!(item["value"], "33500m", "{list}");
        assert_eq!(item["timestamp"], "2026-01-02T03:04:05Z", "{list}");
        assert_eq!(item["windowSeconds"], 30, "{list}");
        let (code, list) = running.get(EXTERNAL).await;
        assert_eq!((code, &list["items"][0]["value"]), (200, &"42".into()), "{list}");

        // Only the slow one is to run into its time limit, whatever else the machine does.
        for (fault, timeout, code, reason) in [
            ("down", "30s", 500, "InternalError"),
            ("slow", "200ms", 504, "Timeout"),
            ("throttled", "30s", 429, "TooManyRequests"),
            ("panic", "30s", 500, "InternalError"),
        ] {
            assert_eq!(running.put(&format!("/fault/{fault}"), "").await.0, 200, "{fault}");
            for path in [CUSTOM, EXTERNAL] {
                let (answered, status) = running.get(&format!("{path}&timeout={timeout}")).await;
                assert_eq!((answered, &status["reason"]), (code, &reason.into()), "{fault}: {status}");
                assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &code.into()), "{status}");
            }
            let (code, discovery) = running.get("/apis/custom.metrics.k8s.io/v1beta2").await;
            assert_eq!(code, 200, "{fault}: {discovery}");
            assert!(discovery.to_string().contains("pods/vllm:num_requests_running"), "{discovery}");
        }
        assert_eq!(running.put("/fault/none", "").await.0, 200);
    }
    let (code, message) = running.put("/fault/odd", "").await;
    assert!(code == 400 && message.contains("none, down, slow, throttled or panic"), "{message}");
    let (code, message) = running.put("/fixture", &FIXTURE.replace("value: 42", "value: many")).await;
    assert_eq!(code, 400);
    assert!(message.contains("line 11, field value") && message.contains("expected a number"), "{message}");
    assert_eq!(running.get(EXTERNAL).await.1["items"][0]["value"], "42", "a malformed file changes nothing");
    assert_eq!(running.put("/fixture", &FIXTURE.replace("value: 42", "value: .inf")).await.0, 200);
    assert_eq!(running.get(EXTERNAL).await.1["items"], Value::Array(Vec::new()), "infinity is no number");
}

#[tokio::test]
async fn certificate_authorities_in_files_are_replaced_while_it_runs_and_a_broken_file_changes_nothing() {
    let running = Running::start(FIXTURE);
    let code = async || running.get("/apis/custom.metrics.k8s.io/v1beta2").await.0;
    assert_eq!(code().await, 200);
    let file = running.files.folder.join("ca.crt");
    let replace = |pem: &str| {
        let next = file.with_extension("next");
        fs::write(&next, pem).expect("the folder can be written");
        fs::rename(&next, &file).expect("the folder can be written");
    };
    let becomes = async |wanted: u16| {
        let change = async { while code().await != wanted {} };
        tokio::time::timeout(PATIENCE, change).await.unwrap_or_else(|_| panic!("{wanted} is never answered"));
    };
    // Another authority than the one that signed the client: on the same connection it is nobody any more.
    replace(&Signer::new().0.pem());
    becomes(401).await;
    replace("half a certif");
    let several_looks = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < several_looks {
        assert_eq!(code().await, 401);
    }
    replace(&running.files.authority);
    becomes(200).await;
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut running = Running::start(FIXTURE);
    running.put("/fault/slow", "").await;
    let (client, url) = (running.client.clone(), format!("{}{CUSTOM}&timeout=8s", running.metrics));
    let under_way = tokio::spawn(async move { client.get(url).send().await.map(|answer| answer.status().as_u16()) });
    // The page itself is the second request.
    let page = format!("{}/metrics", running.metrics);
    let begun = async {
        while !running
            .client
            .get(&page)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text")
            .lines()
            .any(|line| line == "apiserver_current_inflight_requests 2")
        {}
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("the slow request is under way");
    let mut late = running.connect().await;
    let killed = Command::new("kill").args(["-TERM", &running.child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let address = running.metrics.rsplit_once(':').map(|(_, port)| format!("127.0.0.1:{port}")).expect("a port");
    let refused = async { while TcpStream::connect(&address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.expect("nobody listens any more");
    late.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request that was on its way");
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.expect("an answer, and then an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(!under_way.is_finished(), "what is under way goes on");
    assert_eq!(under_way.await.expect("no panic").expect("an answer, not a broken connection"), 504);
    let ended = tokio::task::spawn_blocking(move || running.child.wait());
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").expect("no panic").expect("a status");
    assert_eq!(ended.code(), Some(0));
}
