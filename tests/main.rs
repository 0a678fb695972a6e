//! The one integration binary; a module per surface.

mod browser;
mod cli;
mod cluster;
mod dashboards;
