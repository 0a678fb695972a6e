//! Writing a Deployment's replicas, through its scale subresource: KServe owns the rest of the object, and its field manager
//! would fight a write to `spec.replicas` itself.
//!
//! A move is made from the number that it was decided on, or not at all: if the Deployment has another number by now,
//! somebody else has moved (a leader before us, an operator), and the next decision sees that. The write carries the version
//! that was read a moment ago, so that of two writers one is refused.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};

use super::lease::{Leadership, is_conflict};
use crate::cluster::said::said;

/// Longest time for one request. A write begins only if the Lease lasts longer.
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// A Deployment's version changes with its status too, and does so while pods come and go: so often it is read again.
const ATTEMPTS: u32 = 4;

/// What became of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The Deployment now asks for the new number.
    Done,
    /// It asks for another number than the one that was decided on.
    Elsewhere(u32),
    /// It changes faster than it can be written; the next decision tries again.
    Contended,
    /// The Lease has run out, or is about to.
    NotLeading,
}

/// Why a move was not made.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// The API server refused.
    #[error("{}", said(.0))]
    Api(#[from] kube::Error),
    /// It did not answer in time; whether the write arrived is seen at the next look.
    #[error("no answer from the API server within {}s", TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// Moves `name` from `from` to `to` replicas.
///
/// # Errors
/// [`ScaleError`].
pub async fn scale(
    deployments: &Api<Deployment>,
    name: &str,
    from: u32,
    to: u32,
    leadership: &Leadership,
) -> Result<Moved, ScaleError> {
    for _ in 0..ATTEMPTS {
        let mut scale = tokio::time::timeout(TIMEOUT, deployments.get_scale(name)).await??;
        let spec = scale.spec.get_or_insert_default();
        let current = u32::try_from(spec.replicas.unwrap_or(0)).unwrap_or(0);
        if current != from {
            return Ok(Moved::Elsewhere(current));
        }
        if leadership.time_left().is_none_or(|left| left <= TIMEOUT) {
            return Ok(Moved::NotLeading);
        }
        spec.replicas = Some(i32::try_from(to).unwrap_or(i32::MAX));
        let parameters = PostParams::default();
        let write = deployments.replace_scale(name, &parameters, &scale);
        match tokio::time::timeout(TIMEOUT, write).await? {
            Ok(_) => return Ok(Moved::Done),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Moved::Contended)
}
