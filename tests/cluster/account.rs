//! The adapter's service account: the rights that `deploy/tidegate.yaml` gives it, and no others.

use std::path::PathBuf;

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::{controlplane::ControlPlane, kubectl};

const MANIFEST: &str = include_str!("../../deploy/tidegate.yaml");
/// What of it the account and its rights consist of.
const KINDS: [&str; 6] = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// Namespace of the account.
pub const NAMESPACE: &str = "tidegate";
/// Its name.
pub const NAME: &str = "tidegate";

/// Creates the account with its rights, and returns a kubeconfig with a token of it.
pub async fn create(plane: &ControlPlane) -> Result<PathBuf, String> {
    let ours = |document: &&str| document.lines().any(|line| KINDS.iter().any(|kind| line == format!("kind: {kind}")));
    let objects: Vec<&str> = MANIFEST.split("\n---\n").filter(ours).collect();
    kubectl::create(plane, &objects.join("\n---\n")).await?;
    let token = token(&plane.client().await?, NAMESPACE, NAME).await?;
    Ok(plane.token_kubeconfig("tidegate-adapter", &token))
}

/// A token of that service account, good for the API server.
pub async fn token(client: &Client, namespace: &str, name: &str) -> Result<String, String> {
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": []}})).map_err(|error| error.to_string())?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .map_err(|error| format!("a token of {namespace}/{name}: {error}"))?;
    answer.status.and_then(|status| status.token).ok_or_else(|| format!("no token of {namespace}/{name}"))
}
