use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::Router;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{CertificateFiles, SelfMade, Tls, TlsError, self_made::wall_clock};
use crate::{
    server::Limits,
    testing::{Server, eventually, service},
};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("apiservice-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn made() -> SelfMade {
    SelfMade::new(&service(), wall_clock()).unwrap()
}

fn write(path: &Path, content: &str) {
    // As kubelet does it: never half a file under the name.
    let next = path.with_extension("next");
    std::fs::write(&next, content).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// The certificate that a new connection sees.
async fn shown(server: &Server) -> CertificateDer<'static> {
    let stream = server.client().connect().await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn leaf(made: &SelfMade) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let (one, two) = (made(), made());
    let pair = |certificate: &str, key: &str| Tls::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(pair("", &one.key), TlsError::Certificate(_)));
    assert!(matches!(pair("nonsense", &one.key), TlsError::Certificate(_)));
    assert!(matches!(pair(&one.certificate[..200], &one.key), TlsError::Certificate(_)));
    assert!(matches!(pair(&one.certificate, ""), TlsError::Key(_)));
    assert!(matches!(pair(&one.certificate, &one.certificate), TlsError::Key(_)));
    assert!(matches!(pair(&one.certificate, &two.key), TlsError::Pair(_)));
    let files = CertificateFiles { certificate: "/nonexistent/tls.crt".into(), key: "/nonexistent/tls.key".into() };
    let Err(error) = files.load(std::future::pending()) else { panic!("there is no such file") };
    assert!(error.to_string().contains("/nonexistent/tls.crt"), "{error}");
}

#[tokio::test]
async fn files_are_replaced_while_requests_run_and_none_fails() {
    let folder = Folder::new("reload");
    let files = CertificateFiles { certificate: folder.0.join("tls.crt"), key: folder.0.join("tls.key") };
    let (old, new) = (made(), made());
    write(&files.certificate, &old.certificate);
    write(&files.key, &old.key);
    let (tls, keep_fresh) = files.clone().load(std::future::pending()).unwrap();
    let keep_fresh = tokio::spawn(keep_fresh);
    let bundle = format!("{}{}", old.ca_bundle, new.ca_bundle);
    let server = Server::start_with(Router::new().fallback(|| async { "ok" }), Limits::default(), tls, bundle).await;
    assert_eq!(shown(&server).await, leaf(&old));

    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, stop, count) = (server.client(), Arc::clone(&stop), Arc::clone(&count));
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.get("/", &[]).await.code, 200);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Half of the new pair, nonsense, nothing: the old one stays through several looks at the files.
    write(&files.certificate, &new.certificate);
    tokio::time::sleep(crate::files::LOOK * 2).await;
    assert_eq!(shown(&server).await, leaf(&old));
    write(&files.certificate, "nonsense");
    tokio::time::sleep(crate::files::LOOK * 2).await;
    std::fs::remove_file(&files.certificate).unwrap();
    tokio::time::sleep(crate::files::LOOK * 2).await;
    assert_eq!(shown(&server).await, leaf(&old));

    write(&files.certificate, &new.certificate);
    write(&files.key, &new.key);
    let wanted = leaf(&new);
    let started = tokio::time::Instant::now();
    while shown(&server).await != wanted {
        assert!(started.elapsed() < crate::testing::PATIENCE, "the new certificate is not shown");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let before = count.load(Ordering::Relaxed);
    eventually("requests go on", || count.load(Ordering::Relaxed) > before + 4).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
    keep_fresh.abort();
}

#[tokio::test]
async fn tls_1_1_and_older_is_not_spoken() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(Router::new(), Limits::default()).await;
    // A ClientHello of TLS 1.1 (RFC 4346): version 3.2, one cipher suite, and signature algorithms, so that nothing but
    // the version is wrong with it.
    let mut hello = vec![0x16, 3, 1, 0, 55, 1, 0, 0, 51, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).await.unwrap();
    // Alert record, fatal, protocol_version (70) (RFC 8446, 6.2).
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]), "{alert:?}");
}
