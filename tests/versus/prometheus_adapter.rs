//! How prometheus-adapter is started, the same for every comparison.

use std::{fs, path::PathBuf};

use super::cluster::{controlplane::ControlPlane, pki::Pair};

/// Program, flags and files of one that is called `name`, with further flags.
pub fn command(
    plane: &ControlPlane,
    name: &str,
    port: u16,
    prometheus: &str,
    certificate: &Pair,
    more: &[&str],
) -> Result<(PathBuf, Vec<String>), String> {
    let program = plane.program("prometheus-adapter/adapter");
    if !program.exists() {
        return Err(format!("{} is missing; tests/controlplane/build versus makes it", program.display()));
    }
    let rules = plane.folder().join("adapter_rules.yaml");
    fs::write(&rules, include_str!("adapter_rules.yaml")).map_err(|error| error.to_string())?;
    // It takes the pair `apiserver` of that folder if there is one, and makes one otherwise. Ours is trusted by the client.
    let certificates = plane.folder().join(format!("{name}-certificates"));
    fs::create_dir_all(&certificates).map_err(|error| error.to_string())?;
    certificate.write(&certificates, "apiserver");
    // An administrator: it is spared the questions of authorization that others cost.
    let kubeconfig = plane.kubeconfig(name, name, &["system:masters"]);
    let kubeconfig = kubeconfig.display();
    let mut arguments = vec![
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".into(),
        format!("--cert-dir={}", certificates.display()),
        format!("--lister-kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--prometheus-url={prometheus}"),
        format!("--config={}", rules.display()),
        "--metrics-relist-interval=30s".into(),
        "--metrics-max-age=10m".into(),
    ];
    arguments.extend(more.iter().map(|&flag| flag.to_owned()));
    Ok((program, arguments))
}
