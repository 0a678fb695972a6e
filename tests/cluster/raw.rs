//! Plain GETs, through the API server and straight at the adapter.

use std::fs;

use kube::Client;
use reqwest::{Certificate, ClientBuilder, Identity};
use serde_json::Value;

use super::{adapter::Adapter, controlplane::ControlPlane};

/// The path by which the HPA asks for the pods that a selector matches.
pub fn pods_path(version: &str, namespace: &str, metric: &str, selector: &str) -> String {
    let selector = selector.replace('=', "%3D");
    format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/pods/%2A/{metric}?labelSelector={selector}")
}

/// GETs a path of the API server as JSON. `Err` holds code, reason and message of the `Status`.
pub async fn get(client: &Client, path: &str) -> Result<Value, String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request(request).await.map_err(|error| match error {
        kube::Error::Api(status) => format!("{} {}: {}", status.code, status.reason, status.message),
        other => other.to_string(),
    })
}

/// A builder of clients that trust the cluster's authority and see the server's certificate.
pub fn direct(plane: &ControlPlane) -> ClientBuilder {
    let authority = Certificate::from_pem(plane.authority.pem().as_bytes()).expect("we made it");
    reqwest::Client::builder().tls_certs_only([authority]).tls_info(true).no_proxy()
}

/// The administrator's client certificate.
pub fn administrator(plane: &ControlPlane) -> Identity {
    let read = |file: &str| fs::read(plane.folder().join(file)).expect("the control plane has written it");
    Identity::from_pem(&[read("admin.crt"), read("admin.key")].concat()).expect("we made it")
}

/// `https://…` of a path of the adapter itself.
pub fn direct_url(adapter: &Adapter, path: &str) -> String {
    format!("https://localhost:{}{path}", adapter.port)
}
