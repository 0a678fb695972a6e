//! The seed's scene on real parts, there and back: on-premises first, the cloud for the overflow, the cloud given back first.
//!
//! Real: etcd, kube-apiserver, controller-manager, scheduler, KServe's controller, Karpenter, `hey`, `tidegate adapter`.
//! Simulated: kubelets (kwok), GPUs and their exporters, gateway and vLLM. One scene at a time: they share the cloud pool.

/// The harness of the cluster tests, of which these scenes need a part.
#[expect(dead_code, reason = "the cluster tests use the rest of their harness")]
#[path = "../cluster"]
mod cluster {
    pub mod account;
    pub mod adapter;
    pub mod controlplane;
    pub mod kubectl;
    pub mod kwok;
    pub mod namespace;
    pub mod parts;
    pub mod pki;
    pub mod process;
    pub mod raw;
    pub mod timeline;
    pub mod wait;
    pub mod workload;
}

mod chart;
mod course;
mod drift_home;
mod fleet;
mod gateway;
mod karpenter;
mod kserve;
mod ledger;
mod link_loss;
mod load;
mod mistake;
mod node_loss;
mod prometheus;
mod quota;
mod record;
mod release;
mod release_order;
mod rollout;
mod service;
mod site;
mod stage;
mod there_and_back;
mod told;
mod way;
