//! The one integration binary; a module per surface.

mod agent;
mod browser;
mod chart;
mod cli;
mod cluster;
mod dashboards;
mod walk;

/// What `tests/gpu/run` needs no card for.
#[expect(dead_code, reason = "only the reading of nvidia-smi's table runs here")]
#[path = "gpu"]
mod gpu {
    mod pmon;
    mod pmon_tests;
}
