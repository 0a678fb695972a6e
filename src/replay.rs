//! What a policy would have done: the engine and its rivals over a trace of load, faster than real time.
//!
//! ```text
//! trace ─▶ arrivals ─▶ replicas ─▶ exporter ─▶ autoscaler ─▶ fleet
//! file     requests    queue,      what is     tidegate,     pods, nodes, boot,
//!                      batches     seen        HPA, …        load, drain, cost
//! ```
//!
//! - [`trace`] reads load from files, [`arrivals`] turns it into requests for a fleet of a given size;
//! - [`serving`] is one replica (continuous batching), [`exporter`] what of it is seen, [`fleet`] pods and nodes;
//! - [`policy::Autoscaler`] is all that a contender is: [`tidegate`] and the [`baselines`] implement it, and the
//!   [`simulation`] does not know which one it runs;
//! - [`outcome`] is what came of it; [`contest`] runs contenders and seeds side by side, [`sweep`] and [`suite`] many of
//!   them.
//!
//! Everything here is pure: simulated time is an argument, randomness comes from a seed, files are read by the command line.
//! Every number of the model is a named parameter of [`model::Model`] with its source.

pub mod arrivals;
pub mod baselines;
pub mod calibrate;
pub mod contest;
pub mod exporter;
pub mod fleet;
pub mod model;
pub mod outcome;
pub mod policy;
pub mod random;
pub mod report;
pub mod serving;
pub mod simulation;
pub mod suite;
pub mod summary;
pub mod sweep;
pub mod tidegate;
pub mod trace;
pub mod tune;

pub use model::{Model, Slo};
pub use outcome::Outcome;
pub use policy::{Autoscaler, Release, Seen, Wanted};
pub use simulation::{Scenario, simulate};
pub use trace::Trace;
