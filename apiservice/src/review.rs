//! Posts a review object to the Kubernetes API server and reads it back with its status filled in.

use http::{Request, header};
use kube::Client;
use serde::de::DeserializeOwned;

use crate::decision_cache::LookupError;

/// Own request instead of `kube::Api::create`: reviews are not stored and have no metadata.
pub(crate) async fn post<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    body: &serde_json::Value,
) -> Result<T, LookupError> {
    let body = serde_json::to_vec(body).map_err(|error| LookupError::failed(&error))?;
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| LookupError::failed(&error))?;
    // Not `Client::request`: it logs an unreadable answer in full, and a TokenReview echoes the token.
    let answer = client.request_text(request).await.map_err(|error| LookupError::failed(&error))?;
    serde_json::from_str(&answer).map_err(|error| LookupError::failed(&error))
}
