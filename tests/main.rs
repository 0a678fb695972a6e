//! The one integration binary; a module per surface.

mod cli;
mod cluster;
mod dashboards;
