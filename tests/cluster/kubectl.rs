//! The real kubectl: what an operator sees.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::controlplane::ControlPlane;

/// Runs kubectl as administrator. `Err` holds what it said on standard error.
pub async fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
    kubectl_as(plane, plane.folder().join("admin.yaml"), arguments).await
}

/// Runs kubectl with another kubeconfig.
pub async fn kubectl_as(plane: &ControlPlane, kubeconfig: PathBuf, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(plane.program("kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig).arg("--request-timeout=30s");
    command.args(arguments).env("HOME", plane.folder()).env_remove("KUBECONFIG");
    let said = arguments.join(" ");
    let output: Output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("kubectl cannot be run: {error}; tests/controlplane/build makes it"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("kubectl {said}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// `kubectl create` of everything in a YAML text.
pub async fn create(plane: &ControlPlane, yaml: &str) -> Result<String, String> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let file = plane.folder().join(format!("create-{}.yaml", FILES.fetch_add(1, Ordering::Relaxed)));
    fs::write(&file, yaml).map_err(|error| format!("{}: {error}", file.display()))?;
    kubectl(plane, &["create", "-f", &file.display().to_string()]).await
}

/// Runs our own program as administrator.
pub async fn tidegate(plane: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).arg("--kubeconfig").arg(plane.folder().join("admin.yaml")).env_remove("KUBECONFIG");
    let said = arguments.join(" ");
    let output: Output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("tidegate {said}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
