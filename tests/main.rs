//! The one integration binary; a module per surface.

mod browser;
mod cluster;
mod dashboards;
