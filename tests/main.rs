//! The one integration binary; a module per surface.

mod cluster;
mod dashboards;
