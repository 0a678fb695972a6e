//! Serving pods as targets: whose page of their own is asked for, and where it is. Pure.
//!
//! Asked are ready pods of KServe predictors, and ready pods with a GPU of a Deployment that tell a port (annotation,
//! `--port`, container port; see [`crate::cluster::decode`]). Pods that are not ready are left alone: until its model is
//! loaded a server would refuse each connection, and what it said would not count (R8).
//!
//! The address is the pod's own and no credential goes with the request, so that what a tenant writes into annotations
//! leads to nothing but a GET at that tenant's pod.

use std::{net::IpAddr, sync::Arc};

use reqwest::Url;

use super::{ScrapeError, TargetId, targets::Target};
use crate::{
    cluster::{ObjectKey, Pod, PodState},
    config::{Access, Serving},
};

/// Label that KServe puts on the pods of an InferenceService's components, and the one that tells the predictor's.
const INFERENCE_SERVICE: &str = "serving.kserve.io/inferenceservice";
const COMPONENT: &str = "component";
/// Label that Deployments put on their pods.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// A server that has never had a page and fails in a manner that may pass is taken for one without a page after so many
/// attempts: long enough for a server that is slow under load, and soon enough that a network policy which swallows our
/// packets does not hold up the service for ever.
const PATIENCE: u32 = 3;

/// The pod that a page is about, whatever stands on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Namespace and name.
    pub pod: ObjectKey,
    /// UID: a pod recreated under the same name is a different pod.
    pub uid: Arc<str>,
}

/// Where the pod's own page is, if it is to be asked for one.
#[must_use]
pub fn serving_url(config: &Serving, pod: &Pod) -> Option<Url> {
    let Serving { enabled, port, path, targets: _, page_bytes: _, samples: _, retry: _ } = config;
    if !enabled || pod.page.declined || pod.state != PodState::Ready {
        return None;
    }
    let label = |name: &str| pod.labels.get(name).map(|value| &**value);
    let predictor = label(INFERENCE_SERVICE).is_some() && label(COMPONENT) == Some("predictor");
    let port = match pod.page.port {
        Some(port) if predictor || pod.gpus > 0 && label(POD_TEMPLATE_HASH).is_some() => port,
        None if predictor => *port,
        _ => return None,
    };
    let host = match pod.ip.as_deref()?.parse().ok()? {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let path = pod.page.path.as_deref().unwrap_or(path);
    Url::parse(&format!("http://{host}:{port}{path}")).ok()
}

/// The pod as a target. Its name cannot be that of an exporter, which has no colon.
pub(super) fn target(config: &Serving, pod: &Pod) -> Option<Target> {
    let url = serving_url(config, pod)?;
    let ObjectKey { namespace, name } = &pod.key;
    Some(Target {
        id: TargetId(format!("server:{namespace}/{name}/{}", pod.uid).into()),
        url,
        node: pod.node.clone(),
        rank: 0,
        access: Arc::new(Access::default()),
        subject: Some(Subject { pod: pod.key.clone(), uid: Arc::clone(&pod.uid) }),
    })
}

/// Whether a server that has failed `attempts` times, and has never had a page, offers none.
pub(super) fn offers_nothing(error: &ScrapeError, attempts: u32) -> bool {
    let for_good = match error {
        ScrapeError::ConnectionRefused | ScrapeError::ContentType(_) | ScrapeError::NoFamily => true,
        // Not there, not allowed, or not with this method: the server has understood.
        ScrapeError::Status { status, .. } => status.starts_with('4'),
        _ => false,
    };
    for_good || attempts >= PATIENCE
}

#[cfg(test)]
mod tests;
