//! A stage for the real code: simulated GPU nodes, pods, load and autoscaler, for `demo` and for tests.
//!
//! Simulated is what a laptop lacks: GPUs ([`gpus`]), a cluster ([`cluster`]), users ([`load`]), what model servers do with
//! their requests ([`fleet`]) and the controller manager ([`hpa`]). Real is what lies between: exporters and model servers
//! ([`server`]) speak their true formats over true sockets ([`exporter`]), and the autoscaler asks a true server over TLS.
//! [`scene`] brings them together for an ordinary HPA, [`overflow`] for the engine. Nothing here is reached from `tidegate
//! adapter`.

pub mod cluster;
pub mod exporter;
pub mod fleet;
pub mod gpus;
pub mod hpa;
pub mod load;
pub mod overflow;
pub mod scene;
pub mod server;
