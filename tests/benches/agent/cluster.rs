//! The cluster around the node: an API server that knows the node's pods, and a kubelet that knows who has which card.

use std::{net::SocketAddr, path::Path, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::Query,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::StreamExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use tidegate::agent::pod_resources::{ContainerDevices, ContainerResources, ListPodResourcesResponse, PodResources};
use tokio::net::{TcpListener, UnixListener};

use crate::node::{uid, uuid};

pub fn kubeconfig(server: &SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: bench\n\
         clusters: [{{name: bench, cluster: {{server: 'http://{server}'}}}}]\n\
         users: [{{name: bench, user: {{}}}}]\n\
         contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]\n"
    )
}

/// Lists the pods, and holds watches open with a bookmark a minute, as an API server does where nothing happens.
pub async fn serve_pods(count: usize) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let items: Vec<Value> = (0..count).map(pod).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
    let pods = move |Query(query): Query<Vec<(String, String)>>| {
        let list = list.clone();
        async move { if query.iter().any(|(name, _)| name == "watch") { watch() } else { Json(list).into_response() } }
    };
    let app = Router::new().route("/api/v1/pods", get(pods));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

fn watch() -> Response {
    let bookmarks = futures::stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}});
        Ok::<_, std::io::Error>(format!("{}\n", json!({"type": "BOOKMARK", "object": object})))
    });
    Body::from_stream(bookmarks).into_response()
}

/// As large as a served model's pod is.
fn pod(number: usize) -> Value {
    let environment: Vec<Value> =
        (0..40).map(|n| json!({"name": format!("SETTING_{n}"), "value": "x".repeat(40)})).collect();
    json!({
        "metadata": {
            "namespace": "prod", "name": format!("llm-{number}"), "uid": uid(number), "resourceVersion": "1",
            "labels": {"app": "isvc.llm-predictor", "component": "predictor"},
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "kserve-container", "image": "vllm", "env": environment}],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [{
                "name": "kserve-container", "containerID": format!("containerd://{number:064x}"),
                "image": "vllm", "imageID": "vllm@sha256:0", "ready": true, "restartCount": 0,
            }],
        },
    })
}

/// Answers every call with the same list: the first pods have a card each.
pub fn serve_kubelet(socket: &Path, cards: usize) -> std::io::Result<()> {
    let holder = |card: usize| PodResources {
        name: format!("llm-{card}"),
        namespace: "prod".into(),
        containers: vec![ContainerResources {
            name: "kserve-container".into(),
            devices: vec![ContainerDevices { resource_name: "nvidia.com/gpu".into(), device_ids: vec![uuid(card)] }],
            dynamic_resources: Vec::new(),
        }],
    };
    let message = ListPodResourcesResponse { pod_resources: (0..cards).map(holder).collect() }.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    let answer = Bytes::from(bytes);
    let listener = UnixListener::bind(socket)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(call) = connection.accept().await {
                    let (_, mut respond) = call?;
                    let mut body = respond.send_response(http::Response::new(()), false)?;
                    body.send_data(answer.clone(), false)?;
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    body.send_trailers(trailers)?;
                }
                Ok::<_, h2::Error>(())
            });
        }
    });
    Ok(())
}
