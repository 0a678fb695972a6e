use std::path::PathBuf;

use http::Response;
use proptest::prelude::*;
use tokio::net::UnixListener;

use super::*;

/// A kubelet: HTTP/2 on a Unix socket, one answer for every call, in the way gRPC writes it.
struct FakeKubelet {
    socket: PathBuf,
    _task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Reply {
    status: StatusCode,
    body: Vec<Bytes>,
    grpc_status: Option<&'static str>,
}

impl FakeKubelet {
    fn start(name: &str, reply: Reply) -> Self {
        let socket = std::env::temp_dir().join(format!("tidegate-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond, reply.clone()));
                }
            }
        });
        Self { socket, _task: task }
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>, reply: Reply) {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri().path(), "/v1.PodResourcesLister/List");
    assert_eq!(
        (&request.headers()["content-type"], &request.headers()["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    let mut sent = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = sent.data().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(&bytes[..], [0; PREFIX], "an empty message");
    let mut response = Response::new(());
    *response.status_mut() = reply.status;
    let mut body = respond.send_response(response, false).unwrap();
    for chunk in reply.body {
        body.send_data(chunk, false).unwrap();
    }
    let mut trailers = http::HeaderMap::new();
    if let Some(code) = reply.grpc_status {
        trailers.insert("grpc-status", code.parse().unwrap());
        trailers.insert("grpc-message", "words".parse().unwrap());
    }
    body.send_trailers(trailers).unwrap();
}

fn message(response: &ListPodResourcesResponse) -> Bytes {
    let message = response.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

fn ok(body: Vec<Bytes>) -> Reply {
    Reply { status: StatusCode::OK, body, grpc_status: Some("0") }
}

pub(crate) fn pod(name: &str, devices: &[(&str, &[&str])]) -> PodResources {
    let devices = devices.iter().map(|(resource, ids)| ContainerDevices {
        resource_name: (*resource).into(),
        device_ids: ids.iter().map(|id| (*id).into()).collect(),
    });
    let container = ContainerResources {
        name: "kserve-container".into(),
        devices: devices.collect(),
        dynamic_resources: Vec::new(),
    };
    PodResources { name: name.into(), namespace: "prod".into(), containers: vec![container] }
}

pub(crate) fn response(pods: impl IntoIterator<Item = PodResources>) -> ListPodResourcesResponse {
    ListPodResourcesResponse { pod_resources: pods.into_iter().collect() }
}

#[tokio::test]
async fn a_kubelet_that_speaks_grpc_on_its_socket_is_understood() {
    // More than one HTTP/2 window of 64 KiB, cut up as it comes.
    let expected = response((0..2000).map(|n| pod(&format!("llm-{n}"), &[("nvidia.com/gpu", &["GPU-1"])])));
    let whole = message(&expected);
    let chunks = whole.chunks(10_000).map(Bytes::copy_from_slice).collect();
    let kubelet = FakeKubelet::start("whole", ok(chunks));
    assert_eq!(list(&kubelet.socket).await.unwrap(), expected);
}

#[tokio::test]
async fn whatever_else_comes_is_an_error_that_says_what() {
    let whole = message(&response([pod("llm-0", &[])]));
    let half = whole.slice(..whole.len() - 1);
    for (name, reply, problem) in [
        ("refused", Reply { grpc_status: Some("12"), ..ok(Vec::new()) }, "gRPC status 12: words"),
        ("no-status", Reply { grpc_status: None, ..ok(vec![whole.clone()]) }, "gRPC status missing"),
        ("not-grpc", Reply { status: StatusCode::NOT_FOUND, ..ok(Vec::new()) }, "HTTP status 404"),
        ("half", ok(vec![half]), "its length is another"),
        ("empty", ok(Vec::new()), "it has no prefix"),
        ("compressed", ok(vec![Bytes::from_static(&[1, 0, 0, 0, 0])]), "it is compressed"),
        ("garbage", ok(vec![Bytes::from_static(&[0, 0, 0, 0, 1, 0xff])]), "no ListPodResourcesResponse"),
    ] {
        let kubelet = FakeKubelet::start(name, reply);
        let error = list(&kubelet.socket).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
    let error = list(Path::new("/no/such/kubelet.sock")).await.unwrap_err().to_string();
    assert!(error.contains("cannot connect") && error.contains("mounted"), "{error}");
}

#[tokio::test]
async fn cards_are_found_by_their_uuid_whole_or_shared() {
    let mut claimed = pod("claimed", &[]);
    claimed.containers[0].dynamic_resources.push(DynamicResource {});
    let allocations = Allocations::new(
        response([
            pod("whole", &[("nvidia.com/gpu", &["GPU-1", "GPU-2"]), ("example.com/nic", &["eth1"])]),
            pod("part-a", &[("nvidia.com/gpu.shared", &["GPU-3::0"])]),
            pod("part-b", &[("nvidia.com/gpu.shared", &["GPU-3::1"])]),
            pod("mig", &[("nvidia.com/mig-1g.5gb", &["MIG-1"])]),
            pod("none", &[]),
            claimed,
        ]),
        Instant::now(),
    );
    let of = |uuid| allocations.of_card(uuid).iter().map(|holder| (&*holder.pod, holder.shared)).collect::<Vec<_>>();
    assert_eq!(of("GPU-1"), [("whole", false)]);
    assert_eq!(of("GPU-2"), [("whole", false)]);
    assert_eq!(of("GPU-3"), [("part-a", true), ("part-b", true)]);
    assert_eq!(of("GPU-4"), []);
    let with = ["whole", "part-a", "mig", "claimed", "none"].map(|name| allocations.has_devices("prod", name));
    assert_eq!(with, [true, true, true, true, false]);
}

#[test]
fn r2_what_the_kubelet_said_long_ago_is_not_believed() {
    let kubelet = Kubelet::default();
    kubelet.hear(response([]), Instant::now());
    assert!(kubelet.allocations().is_some());
    kubelet.hear(response([]), Instant::now().checked_sub(BELIEVED).expect("the machine runs for longer than that"));
    assert!(kubelet.allocations().is_none());
}

proptest! {
    #[test]
    fn fields_of_later_versions_are_passed_over(extra in proptest::collection::vec(any::<u8>(), 0..20)) {
        // Field 15, of bytes, behind what is known.
        let known = response([pod("llm-0", &[("nvidia.com/gpu", &["GPU-1"])])]);
        let mut bytes = known.encode_to_vec();
        bytes.extend([15 << 3 | 2, extra.len() as u8]);
        bytes.extend(extra);
        prop_assert_eq!(ListPodResourcesResponse::decode(&bytes[..]).unwrap(), known);
    }
}
