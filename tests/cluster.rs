//! Against a real control plane: etcd, kube-apiserver with its aggregation layer, kube-controller-manager (the HPA),
//! kube-scheduler, and kwok in place of kubelets. All tests share one, each in a namespace of its own.
//!
//! What is simulated: nodes and pods (kwok plays them), and the GPU exporters and model servers (real sockets and real
//! formats, made-up numbers). A part that is missing or does not start fails the tests that need it.

// The harness.
pub mod account;
mod adapter;
mod agents;
pub mod controlplane;
pub mod kubectl;
mod kwok;
mod model_servers;
mod namespace;
mod parts;
mod pki;
pub mod process;
pub mod raw;
mod timeline;
pub mod wait;
pub mod workload;

// The tests.
mod access;
mod certificates;
mod engine;
mod faults;
mod fixture;
mod groundwork;
mod hpa_model;
mod many_pods;
mod own_metrics;
mod policies;
mod reading;
mod restart;
mod scaling;
mod self_made;
mod servers;
mod some_namespaces;
