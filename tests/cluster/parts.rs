//! Which programs make up the control plane, and with which flags they run on one machine without a network.

use std::{fs, path::Path};

/// The flags of each part, for one data folder. Files that they name are written by `controlplane`.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// etcd for clients.
    pub etcd: u16,
    /// etcd for peers: there are none, and the flag cannot be left out.
    pub etcd_peer: u16,
    /// kube-apiserver.
    pub api: u16,
    /// kube-controller-manager's own health page.
    pub controllers: u16,
    /// kube-scheduler's own health page.
    pub scheduler: u16,
}

fn flags(folder: &Path, list: &[&str]) -> Vec<String> {
    list.iter().map(|flag| format!("--{}", flag.replace("DIR", &folder.display().to_string()))).collect()
}

/// A store that may forget everything at a power cut, and is fast for it.
pub fn etcd(folder: &Path, ports: Ports) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peer));
    flags(
        folder,
        &[
            "data-dir=DIR/etcd",
            &format!("listen-client-urls={client}"),
            &format!("advertise-client-urls={client}"),
            &format!("listen-peer-urls={peer}"),
            &format!("initial-advertise-peer-urls={peer}"),
            &format!("initial-cluster=default={peer}"),
            "unsafe-no-fsync",
            "log-level=warn",
        ],
    )
}

/// With the aggregation layer. `--enable-aggregator-routing` stays off: then an APIService whose Service is an
/// `ExternalName` is reached at that name, which is how a server on this machine stands in for pods.
pub fn kube_apiserver(folder: &Path, ports: Ports) -> Vec<String> {
    flags(
        folder,
        &[
            &format!("etcd-servers=http://127.0.0.1:{}", ports.etcd),
            &format!("secure-port={}", ports.api),
            "bind-address=127.0.0.1",
            "advertise-address=127.0.0.1",
            "tls-cert-file=DIR/apiserver.crt",
            "tls-private-key-file=DIR/apiserver.key",
            "client-ca-file=DIR/ca.crt",
            "service-account-key-file=DIR/sa.pub",
            "service-account-signing-key-file=DIR/sa.key",
            "service-account-issuer=https://kubernetes.default.svc",
            "service-cluster-ip-range=10.96.0.0/16",
            "authorization-mode=Node,RBAC",
            "endpoint-reconciler-type=none",
            "requestheader-client-ca-file=DIR/front-proxy-ca.crt",
            "requestheader-allowed-names=front-proxy-client",
            "requestheader-username-headers=X-Remote-User",
            "requestheader-group-headers=X-Remote-Group",
            "requestheader-extra-headers-prefix=X-Remote-Extra-",
            "proxy-client-cert-file=DIR/front-proxy-client.crt",
            "proxy-client-key-file=DIR/front-proxy-client.key",
            "allow-privileged",
        ],
    )
}

/// Every request of a service account goes to `audit.log`, without bodies, once it is answered; long ones once they begin.
pub fn audit(folder: &Path) -> Result<Vec<String>, String> {
    const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
                          - {level: Metadata, userGroups: ['system:serviceaccounts']}\n- {level: None}\n";
    let policy = folder.join("audit-policy.yaml");
    fs::write(&policy, POLICY).map_err(|error| format!("{}: {error}", policy.display()))?;
    Ok(flags(folder, &["audit-policy-file=DIR/audit-policy.yaml", "audit-log-path=DIR/audit.log"]))
}

/// The HPA looks every 2 s and forgets a peak after 10 s, instead of 15 s and 300 s: the same code, in a test's time.
/// The raised client limits keep two dozen HPAs at that pace, also while a test lets each wait for its answer.
pub fn kube_controller_manager(folder: &Path, ports: Ports) -> Vec<String> {
    flags(
        folder,
        &[
            "kubeconfig=DIR/controller-manager.yaml",
            "authentication-kubeconfig=DIR/controller-manager.yaml",
            "authorization-kubeconfig=DIR/controller-manager.yaml",
            "service-account-private-key-file=DIR/sa.key",
            "root-ca-file=DIR/ca.crt",
            "use-service-account-credentials",
            "leader-elect=false",
            "bind-address=127.0.0.1",
            &format!("secure-port={}", ports.controllers),
            "kube-api-qps=500",
            "kube-api-burst=1000",
            "horizontal-pod-autoscaler-sync-period=2s",
            "horizontal-pod-autoscaler-downscale-stabilization=10s",
            "concurrent-horizontal-pod-autoscaler-syncs=40",
        ],
    )
}

/// The ordinary scheduler.
pub fn kube_scheduler(folder: &Path, ports: Ports) -> Vec<String> {
    flags(
        folder,
        &[
            "kubeconfig=DIR/scheduler.yaml",
            "authentication-kubeconfig=DIR/scheduler.yaml",
            "authorization-kubeconfig=DIR/scheduler.yaml",
            "leader-elect=false",
            "bind-address=127.0.0.1",
            &format!("secure-port={}", ports.scheduler),
        ],
    )
}

/// kwok plays the nodes that carry its annotation. Pods with `hostNetwork` get their node's address.
pub fn kwok(folder: &Path) -> Vec<String> {
    flags(
        folder,
        &[
            "kubeconfig=DIR/admin.yaml",
            "config=DIR/stages.yaml",
            "manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "node-lease-duration-seconds=40",
            "cidr=10.0.0.1/16",
            "node-ip=127.0.0.1",
            "v=WARN",
        ],
    )
}
