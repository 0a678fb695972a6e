//! `deploy/`: the Helm chart, the manifest that is rendered from it, and the Dockerfile.
//!
//! Helm and the API server are the real ones. What is simulated: nothing runs the Deployment's pods, so the adapter is started
//! here as a process, with the rendered configuration and a token of the rendered service account.

mod admission;
pub mod helm;
mod image;
pub mod release;
mod rendering;
mod rights;
mod server;
