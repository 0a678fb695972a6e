//! Which cards the kubelet gave to which pods: its pod-resources socket, gRPC over HTTP/2 on a Unix socket.
//!
//! `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`, of which one call and the fields that are used are spelled out
//! here. The call names pods by namespace and name, not by UID.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    path::Path,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, Version, header};
use prost::Message;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

/// Where the kubelet listens.
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// Between two questions: pods come and go in seconds, and the kubelet allows a hundred questions a second for all.
const INTERVAL: Duration = Duration::from_secs(10);
/// For one question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What was last heard is believed for so long.
const BELIEVED: Duration = Duration::from_mins(1);
/// Longest answer: a node has some hundred pods of some hundred bytes (R22).
const MAX_BYTES: usize = 16 << 20;
/// Of a gRPC message: not compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX: usize = 5;

#[derive(Clone, PartialEq, Message)]
pub struct ListPodResourcesResponse {
    #[prost(message, repeated, tag = "1")]
    pub pod_resources: Vec<PodResources>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodResources {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(message, repeated, tag = "3")]
    pub containers: Vec<ContainerResources>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerResources {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub devices: Vec<ContainerDevices>,
    /// Claims of dynamic resource allocation; only whether there are any is looked at.
    #[prost(message, repeated, tag = "5")]
    pub dynamic_resources: Vec<DynamicResource>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerDevices {
    #[prost(string, tag = "1")]
    pub resource_name: String,
    #[prost(string, repeated, tag = "2")]
    pub device_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DynamicResource {}

/// Why the kubelet did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PodResourcesError {
    /// No socket, or not allowed.
    #[error("cannot connect: {0} (is the kubelet's folder mounted?)")]
    Connect(#[from] std::io::Error),
    /// HTTP/2.
    #[error("HTTP/2: {0}")]
    Http(#[from] h2::Error),
    /// Not gRPC.
    #[error("HTTP status {0}, expected 200")]
    Status(StatusCode),
    /// The kubelet refuses.
    #[error("gRPC status {code}: {message}")]
    Refused {
        /// `grpc-status`; 12: the kubelet does not know the call.
        code: String,
        /// `grpc-message`.
        message: String,
    },
    /// Not the message that was asked for.
    #[error("the answer is no ListPodResourcesResponse: {0}")]
    Garbled(String),
    /// Nothing came.
    #[error("no answer within {}s", TIMEOUT.as_secs())]
    Timeout,
}

/// A container that was given a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Namespace of its pod.
    pub namespace: Arc<str>,
    /// Name of its pod.
    pub pod: Arc<str>,
    /// Its name.
    pub container: Arc<str>,
    /// It was given a share (time slicing, MPS), not the whole card.
    pub shared: bool,
}

/// Who was given what.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocations {
    heard: Instant,
    by_card: HashMap<String, Vec<Holder>>,
    with_devices: BTreeSet<(String, String)>,
}

impl Allocations {
    fn new(response: ListPodResourcesResponse, heard: Instant) -> Self {
        let mut this = Self { heard, by_card: HashMap::new(), with_devices: BTreeSet::new() };
        for PodResources { name, namespace, containers } in response.pod_resources {
            for ContainerResources { name: container, devices, dynamic_resources } in containers {
                if !(devices.is_empty() && dynamic_resources.is_empty()) {
                    this.with_devices.insert((namespace.clone(), name.clone()));
                }
                for id in devices.iter().flat_map(|devices| &devices.device_ids) {
                    // NVIDIA's device plugin: the card's UUID, with the share's number where cards are shared.
                    let (uuid, shared) = id.split_once("::").map_or((&**id, false), |(uuid, _)| (uuid, true));
                    if uuid.starts_with("GPU-") {
                        this.by_card.entry(uuid.into()).or_default().push(Holder {
                            namespace: namespace.as_str().into(),
                            pod: name.as_str().into(),
                            container: container.as_str().into(),
                            shared,
                        });
                    }
                }
            }
        }
        this
    }

    /// The containers that were given the card or a share of it.
    pub fn of_card(&self, uuid: &str) -> &[Holder] {
        self.by_card.get(uuid).map_or(&[], Vec::as_slice)
    }

    /// Whether the pod was given any device at all.
    pub fn has_devices(&self, namespace: &str, pod: &str) -> bool {
        self.with_devices.contains(&(namespace.to_owned(), pod.to_owned()))
    }
}

/// What the kubelet last said.
#[derive(Debug, Default)]
pub struct Kubelet {
    allocations: ArcSwapOption<Allocations>,
    problem: ArcSwapOption<String>,
}

impl Kubelet {
    /// `None` if the kubelet has not answered lately: nothing may be concluded from a pod's absence.
    pub fn allocations(&self) -> Option<Arc<Allocations>> {
        self.allocations.load_full().filter(|allocations| allocations.heard.elapsed() < BELIEVED)
    }

    /// `Err` with the reason while the kubelet does not answer.
    pub fn health(&self) -> Result<(), String> {
        match self.problem.load_full() {
            Some(problem) => Err(problem.to_string()),
            None if self.allocations().is_some() => Ok(()),
            None => Err("the kubelet has not been asked yet".into()),
        }
    }

    /// Takes in an answer.
    pub(super) fn hear(&self, response: ListPodResourcesResponse, heard: Instant) {
        self.allocations.store(Some(Arc::new(Allocations::new(response, heard))));
    }

    /// Asks now and again, for ever.
    pub async fn follow(&self, socket: &Path) -> Infallible {
        loop {
            match list(socket).await {
                Ok(response) => {
                    self.hear(response, Instant::now());
                    if self.problem.swap(None).is_some() {
                        tracing::info!("the kubelet's pod-resources socket answers again");
                    }
                }
                Err(error) => {
                    let problem = format!("{}: {error}", socket.display());
                    if self.problem.swap(Some(Arc::new(problem.clone()))).is_none_or(|before| *before != problem) {
                        tracing::warn!(%problem, "the kubelet does not say which cards pods were given");
                    }
                }
            }
            sleep(INTERVAL).await;
        }
    }
}

/// Asks the kubelet for the devices of all containers.
///
/// # Errors
/// [`PodResourcesError`].
pub async fn list(socket: &Path) -> Result<ListPodResourcesResponse, PodResourcesError> {
    timeout(TIMEOUT, call(socket)).await.map_err(|_| PodResourcesError::Timeout)?
}

async fn call(socket: &Path) -> Result<ListPodResourcesResponse, PodResourcesError> {
    let stream = UnixStream::connect(socket).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let exchange = async {
        let mut client = client.ready().await?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = http::Uri::from_static("http://localhost/v1.PodResourcesLister/List");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
        let (response, mut body) = client.send_request(request, false)?;
        // The request has no fields: a prefix that says "0 bytes".
        body.send_data(Bytes::from_static(&[0; PREFIX]), true)?;
        read(response.await?).await
    };
    tokio::select! {
        answer = exchange => answer,
        // The connection works only while it is polled; if it ends first, the exchange cannot go on.
        ended = connection => {
            let problem = ended.err().map_or_else(|| "the connection was closed".into(), |error| error.to_string());
            Err(PodResourcesError::Garbled(problem))
        }
    }
}

async fn read(response: http::Response<h2::RecvStream>) -> Result<ListPodResourcesResponse, PodResourcesError> {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(PodResourcesError::Status(head.status));
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(PodResourcesError::Garbled(format!("longer than {MAX_BYTES} bytes")));
        }
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    // A call that fails at once says so in the head.
    let ends = body.trailers().await?.unwrap_or(head.headers);
    let told = |name: &str| ends.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match told("grpc-status").as_deref() {
        Some("0") => {}
        code => {
            let code = code.unwrap_or("missing").into();
            return Err(PodResourcesError::Refused { code, message: told("grpc-message").unwrap_or_default() });
        }
    }
    let garbled = |why: &str| PodResourcesError::Garbled(why.into());
    let (prefix, message) = bytes.split_at_checked(PREFIX).ok_or_else(|| garbled("it has no prefix"))?;
    let &[compressed, a, b, c, d] = prefix else { return Err(garbled("it has no prefix")) };
    if compressed != 0 {
        return Err(garbled("it is compressed, which was not offered"));
    }
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(garbled("its length is another than it says"));
    }
    ListPodResourcesResponse::decode(message).map_err(|error| garbled(&error.to_string()))
}

#[cfg(test)]
pub(super) mod tests;
