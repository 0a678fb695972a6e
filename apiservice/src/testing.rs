//! What the tests of this crate stand on: certificates, a Kubernetes API server that answers as told and counts, and a
//! client that sends exactly the bytes it is given.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use prometheus_client::registry::Registry;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    metrics::Metrics,
    server::{Limits, serve},
    tls::{SelfMade, ServiceName, Tls},
};

pub(crate) mod kube_api;
pub(crate) mod pki;

/// The longest that a test waits for something that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `happened`, and fails the test if it does not.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !happened() {
        assert!(started.elapsed() < PATIENCE, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn service() -> ServiceName {
    ServiceName { namespace: "tidegate".into(), name: "adapter".into() }
}

/// A server under test on a free port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    /// What the accept loop counted.
    pub(crate) registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(app: Router, limits: Limits) -> Self {
        let made = SelfMade::new(&service(), crate::tls::self_made::wall_clock()).unwrap();
        Self::start_with(app, limits, made.tls().unwrap(), made.ca_bundle().to_owned()).await
    }

    pub(crate) async fn start_with(app: Router, limits: Limits, tls: Tls, ca: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let task = tokio::spawn(serve(listener, tls, app, metrics, limits, shutdown));
        Self { address, ca, registry, stop: Some(stop), task }
    }

    pub(crate) fn client(&self) -> Client {
        Client { address: self.address, ca: self.ca.clone(), identity: None }
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the end of the shutdown.
    pub(crate) async fn ended(&mut self) {
        tokio::time::timeout(PATIENCE, &mut self.task).await.unwrap().unwrap().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Speaks HTTP/1.1 over TLS, byte by byte.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    identity: Option<pki::Issued>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { code, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }
}

impl Client {
    /// Shows this certificate.
    pub(crate) fn with(&self, identity: &pki::Issued) -> Self {
        Self { identity: Some(identity.clone()), ..self.clone() }
    }

    pub(crate) fn config(&self, alpn: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(self.ca.as_bytes()) {
            roots.add(der.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(pki::Issued { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    pub(crate) async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_alpn(&[b"http/1.1"]).await
    }

    pub(crate) async fn connect_alpn(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.handshake(TcpStream::connect(self.address).await?, alpn).await
    }

    /// The handshake on a connection that is there already.
    pub(crate) async fn handshake(&self, stream: TcpStream, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("adapter.tidegate.svc").unwrap();
        TlsConnector::from(Arc::new(self.config(alpn))).connect(name, stream).await
    }

    /// `GET path` with more header lines.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", path, headers).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: adapter\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text += "\r\n";
        let mut stream = self.connect().await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        read(&mut stream).await.unwrap()
    }
}

/// Reads to the end of the connection.
pub(crate) async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Answer> {
    let mut bytes = Vec::new();
    // An end without TLS' goodbye is an error after the bytes have arrived.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    Answer::parse(&bytes)
}
