//! Tidegate: a GPU autoscaler for LLM inference on Kubernetes.
//!
//! Data flows one way:
//!
//! ```text
//! scrape ─▶ attribute ─▶ aggregate ─▶ decide ─▶ serve
//! pages     pods, cards   services    (engine)   metrics APIs
//! ```
//!
//! [`agent`] stands before it all: on a node, it makes one of the pages that are scraped.
//!
//! A module knows the stages before it by their types only.

pub mod adapter;
pub mod agent;
pub mod attribution;
pub mod burst;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod engine;
pub mod exposition;
pub mod gpu;
pub mod policy;
pub mod publish;
pub mod reading;
pub mod replay;
pub mod scrape;
pub mod serving;
pub mod signal;
pub mod sim;
pub mod telemetry;
