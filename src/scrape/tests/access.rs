//! How targets are spoken to: CAs, tokens, passwords, and their files.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{
    exporter::{Act, Exporter, Request, ok},
    *,
};
use crate::config::BasicAuth;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("tidegate-scrape-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate authority, as PEM, and a server's side of a certificate that it has issued for 127.0.0.1.
fn authority() -> (String, Arc<rustls::ServerConfig>) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (ca.pem(), Arc::new(config))
}

fn page(_: &Request) -> Vec<Act> {
    vec![Act::Send(ok("", PAGE))]
}

/// Lets in whoever sends that header.
fn guarded(header: &'static str) -> impl Fn(&Request) -> Vec<Act> + Send + Sync {
    move |request| {
        let refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec();
        let known = request.head.to_ascii_lowercase().contains(&format!("\r\n{}\r\n", header.to_ascii_lowercase()));
        vec![Act::Send(if known { ok("", PAGE) } else { refused })]
    }
}

fn ca(path: &Path) -> Access {
    Access { ca_file: Some(path.into()), ..Access::default() }
}

fn token(path: &Path) -> Access {
    Access { bearer_token_file: Some(path.into()), ..Access::default() }
}

fn password(username: &str, path: &Path) -> Access {
    Access {
        basic_auth: Some(BasicAuth { username: username.into(), password_file: path.into() }),
        ..Access::default()
    }
}

/// The first scrape's error; `None` if it succeeded.
async fn first_error(exporter: &Exporter, access: Access) -> Option<String> {
    let rig = Rig::start(&with_access(exporter.url(), access));
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.status.last_attempt.is_some()).await;
    rig.stop().await;
    tracked.status.last_error.clone()
}

#[tokio::test]
async fn a_certificate_must_chain_to_the_ca_of_the_setting() {
    let folder = Folder::new();
    let (right_pem, tls) = authority();
    let (wrong_pem, _) = authority();
    let right = folder.file("right.pem", &right_pem);
    let both = folder.file("both.pem", [wrong_pem.as_str(), &right_pem].concat());
    let wrong = folder.file("wrong.pem", wrong_pem);
    let untrusted = "TLS: the certificate's issuer is not trusted; set access.caFile to its CA";
    let table = [
        ("right CA", ca(&right), None),
        ("bundle", ca(&both), None),
        ("any", Access { insecure_skip_tls_verify: true, ..Access::default() }, None),
        ("wrong CA", ca(&wrong), Some(untrusted)),
        ("the system's roots", Access::default(), Some("TLS: ")),
    ];
    let exporter = Exporter::with_tls(tls, page);
    for (name, access, expected) in table {
        let error = first_error(&exporter, access).await;
        assert_eq!(error.is_some(), expected.is_some(), "{name}: {error:?}");
        assert!(error.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{name}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let folder = Folder::new();
    let (pem, tls) = authority();
    let exporter = Exporter::with_tls(tls, page);
    let url = exporter.url().replace("127.0.0.1", "localhost");
    let config = with_access(url.clone(), ca(&folder.file("ca.pem", pem)));
    let rig = Rig::start(&config);
    let tracked = rig.target_until(&url, |tracked| tracked.status.last_attempt.is_some()).await;
    let error = tracked.status.last_error.clone().unwrap();
    assert!(error.starts_with("TLS: ") && error.contains("localhost"), "{error}");
    rig.stop().await;
}

#[tokio::test]
async fn a_ca_file_that_is_replaced_is_believed_without_a_restart() {
    let folder = Folder::new();
    let (right, tls) = authority();
    let (wrong, _) = authority();
    let path = folder.file("ca.pem", wrong);
    let exporter = Exporter::with_tls(tls, page);
    let rig = Rig::start(&with_access(exporter.url(), ca(&path)));
    rig.target_until(&exporter.url(), |tracked| tracked.status.failures > 0).await;
    folder.file("ca.pem", right);
    rig.target_until(&exporter.url(), |tracked| tracked.batch.is_some()).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_token_is_sent_and_read_anew_when_its_file_changes() {
    let folder = Folder::new();
    let path = folder.file("token", "  before\n");
    let exporter = Exporter::new(guarded("Authorization: Bearer after"));
    let rig = Rig::start(&with_access(exporter.url(), token(&path)));
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.status.failures > 0).await;
    assert!(exporter.heads()[0].contains("Bearer before\r\n"));
    assert!(tracked.status.last_error.as_deref().unwrap().starts_with("HTTP 401"), "{:?}", tracked.status);
    folder.file("token", "after");
    rig.target_until(&exporter.url(), |tracked| tracked.batch.is_some()).await;
    assert_eq!(exporter.connections(), 1, "a new token needs no new connection");
    std::fs::remove_file(&path).unwrap();
    let tracked = rig.target_until(&exporter.url(), |tracked| tracked.status.last_error.is_some()).await;
    assert!(
        tracked.status.last_error.as_deref().unwrap().starts_with("access.bearerTokenFile /"),
        "{:?}",
        tracked.status
    );
    rig.stop().await;
}

#[tokio::test]
async fn basic_authentication_sends_the_file_s_password_without_its_last_newline() {
    let folder = Folder::new();
    // "me: pass word " in base64.
    let exporter = Exporter::new(guarded("Authorization: Basic bWU6IHBhc3Mgd29yZCA="));
    for (name, content) in [("bare", " pass word "), ("unix", " pass word \n"), ("dos", " pass word \r\n")] {
        assert_eq!(first_error(&exporter, password("me", &folder.file(name, content))).await, None, "{name}");
    }
    let wrong = first_error(&exporter, password("me", &folder.file("wrong", "pass"))).await;
    assert!(wrong.unwrap().starts_with("HTTP 401 Unauthorized; check bearerTokenFile or basicAuth"));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_the_setting_and_never_quoted() {
    let folder = Folder::new();
    let missing = folder.0.join("missing");
    let good = folder.file("good", "hunter2");
    let empty = folder.file("empty", "\n");
    let two_lines = folder.file("two", "hunter2\nhunter2");
    let binary = folder.file("binary", b"hunter2\xff");
    let large = folder.file("large", "hunter2".repeat(10_000));
    let both = Access { bearer_token_file: Some(good.clone()), ..password("me", &good) };
    let table = [
        (token(&missing), "access.bearerTokenFile", "No such file or directory"),
        (token(&empty), "access.bearerTokenFile", "is empty"),
        (token(&two_lines), "access.bearerTokenFile", "holds characters that a header cannot carry"),
        (token(&binary), "access.bearerTokenFile", "is not UTF-8"),
        (token(&large), "access.bearerTokenFile", "is larger than 64KiB"),
        (password("me", &missing), "access.basicAuth.passwordFile", "No such file or directory"),
        (password("m:e", &good), "access.basicAuth.username", "cannot hold a colon"),
        (both, "access.bearerTokenFile", "excludes basicAuth; remove one of them"),
    ];
    let exporter = Exporter::new(page);
    for (access, field, reason) in table {
        let error = first_error(&exporter, access).await.unwrap_or_default();
        assert!(error.starts_with(field) && error.contains(reason), "{field} {reason}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert_eq!(exporter.requests(), 0, "nothing is sent without the credential");

    let (_, tls) = authority();
    let exporter = Exporter::with_tls(tls, page);
    for (path, reason) in [
        (missing, "No such file or directory"),
        (good, "holds no certificate; expected PEM"),
        (folder.file("bad.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), ""),
    ] {
        let error = first_error(&exporter, ca(&path)).await.unwrap_or_default();
        assert!(error.starts_with("access.caFile ") && error.contains(reason), "{reason}: {error}");
    }
}

#[tokio::test]
async fn targets_with_the_same_access_share_one_client() {
    let folder = Folder::new();
    let path = folder.file("token", "x");
    let target = |url: &str, access: Access| {
        Arc::clone(targets(&with_access(url.into(), access), &View::default()).targets.values().next().unwrap())
    };
    let mut clients = super::super::access::Clients::new(Duration::from_secs(10));
    let one = clients.of(&target("http://a/", token(&path)));
    let two = clients.of(&target("http://b/", Access { rank: Some(1), honor_timestamps: true, ..token(&path) }));
    let other = clients.of(&target("http://b/", Access::default()));
    let tls = clients.of(&target("https://b/", Access::default()));
    assert!(Arc::ptr_eq(&one, &two), "rank and timestamps do not concern the connection");
    assert!(!Arc::ptr_eq(&one, &other) && !Arc::ptr_eq(&other, &tls));
    let shown = format!("{:?} {:?}", one.ready().await.unwrap(), clients);
    assert!(shown.contains("Bearer(…)") && !shown.contains("Bearer x"), "{shown}");
}
