//! The one integration binary; a module per surface.

mod chart;
mod cluster;
mod dashboards;
