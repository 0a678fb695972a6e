//! The three states of a quantity (R1): a value with the time it was measured, or unknown with a reason.
//!
//! A true zero is a value. Nothing in this crate turns an [`Unknown`] into a number.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

/// What is known about a quantity.
pub type Reading = Result<Measured, Unknown>;

/// A value and the time of the *oldest* sample in it (R2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Finite, in the unit of its family.
    pub value: f64,
    /// When the oldest sample in `value` was measured.
    pub at: Timestamp,
}

/// Why a quantity has no value. The message is shown to operators, in HPA conditions among other places.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unknown {
    /// No exporter reports it.
    #[error("no exporter reports it")]
    Absent,
    /// The newest sample is older than `maxAge`.
    #[error("last measured {}s ago, more than maxAge {}s", age.as_secs(), max_age.as_secs())]
    Stale {
        /// How old the newest sample is.
        age: Duration,
        /// The configured limit.
        max_age: Duration,
    },
    /// The line's own time lies too far in the future, so that nothing tells how old it is.
    #[error("its timestamp is {}s in the future: the exporter's clock is wrong; set it, or unset honorTimestamps", ahead.as_secs())]
    ClockAhead {
        /// How far ahead of its arrival.
        ahead: Duration,
    },
    /// The exporter's text is not a number.
    #[error("the exporter's value is not a number")]
    Malformed,
    /// NaN, infinite, negative or above the family's range.
    #[error("the exporter reports {value}, outside of the family's range 0..{max}")]
    OutOfRange {
        /// What the page said.
        value: f64,
        /// The family's upper bound, in the family's unit.
        max: f64,
    },
    /// One of DCGM's blank values: "not supported", "not found", "not permissioned" and the like.
    #[error("the exporter reports DCGM's blank value {value}")]
    Blank {
        /// What the page said.
        value: f64,
    },
    /// The page ended before it was whole.
    #[error("the exporter's page was cut off")]
    PageIncomplete,
    /// The card is busy while every pod on it reads 0 (R5).
    #[error(
        "attribution failed: card {card} is {device:.0}% busy while every pod on it reads 0; the exporter cannot map processes to pods (hostPID?)"
    )]
    AttributionFailed {
        /// UUID of the card.
        card: String,
        /// The device's own utilization, percent.
        device: f64,
    },
    /// The page lists a process, but not in this family, so that the card's sum would be a part of the truth.
    #[error(
        "process {process} on card {card} is on the exporter's page, but not in this family (if the exporter leaves idle processes out, set absentMeansIdle for it)"
    )]
    ProcessMissing {
        /// The process id, in the exporter's words.
        process: String,
        /// UUID of the card.
        card: String,
    },
    /// Fewer cards report than the pod was given.
    #[error("{reported} of the pod's {requested} GPUs report")]
    CardsMissing {
        /// Cards with a reading.
        reported: u32,
        /// GPUs in the pod's resource limits.
        requested: u32,
    },
    /// The samples are from before the pod was started: they belong to its namesake (R9).
    #[error("measured before the pod started")]
    BeforeStart,
    /// The samples are from while the pod was starting (R8).
    #[error("measured before the pod was ready")]
    BeforeReady,
    /// The pod does not serve yet (R8).
    #[error("the pod is not ready")]
    NotReady,
    /// Its node's kubelet is no longer heard of. It was ready before.
    #[error("node {node} is not heard of: it was ready there, and nobody knows what it does now")]
    CutOff {
        /// The node.
        node: Arc<str>,
    },
    /// Nothing is heard of an ordered pool, as when a site has lost its link.
    #[error("{why}; none of the {ready} ready pods in pool {pool} reports, as when the link to a site is lost")]
    PoolSilent {
        /// Name of the pool.
        pool: Arc<str>,
        /// Ready pods of the service in it.
        ready: usize,
        /// Why one of them has no value.
        why: Box<Unknown>,
    },
    /// The service has no ready pod.
    #[error("no ready pod")]
    NoReadyPods,
    /// Too few of the ready pods report (R9).
    #[error(
        "only {known} of {ready} ready pods report, below the coverage of {coverage:.2} that is required; {example}"
    )]
    Coverage {
        /// Ready pods with a value.
        known: usize,
        /// Ready pods.
        ready: usize,
        /// The configured least share.
        coverage: f64,
        /// One missing pod and its reason.
        example: String,
    },
    /// Some ready pods do not report, and autoscalers with different targets read this value, so no single number is safe for all (R9).
    #[error(
        "{missing} of {ready} ready pods do not report and HPAs with different targets read this metric; {example}"
    )]
    AmbiguousTarget {
        /// Ready pods without a value.
        missing: usize,
        /// Ready pods.
        ready: usize,
        /// One missing pod and its reason.
        example: String,
    },
    /// A pod that cannot be attributed (R5) or is out of sight is busy with nobody knows how much, and the others alone could
    /// remove replicas.
    #[error("{example}; {why}")]
    BlindSelection {
        /// The pod and its reason.
        example: String,
        /// What an answer without it could do.
        why: String,
    },
    /// A watch of the cluster has not delivered its first list, or has been broken for too long.
    #[error("the cluster's state is not known yet: {0}")]
    ClusterUnknown(String),
    /// The pod's model server has no page, or nobody knows where.
    #[error("its model server offers no page of metrics: {0}")]
    NoPage(Arc<str>),
    /// A counter has not told yet what it gained.
    #[error(transparent)]
    NoRate(#[from] NoRate),
    /// It can be read in more than one way: a name that stands for several Deployments, or a value that may be a ratio or a
    /// percentage.
    #[error("{0}")]
    Ambiguous(String),
}

/// Why two pages of counters give no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRate {
    /// There is no page before this one.
    #[error("a rate needs two pages, and this is the first")]
    First,
    /// A counter is smaller than on the page before.
    #[error("a counter fell: the model server was restarted between the last two pages")]
    Fell,
    /// Counters came or went.
    #[error("the page before had other counters: the model server was restarted or changed between the last two pages")]
    Changed,
    /// The pages are too far apart.
    #[error("the last two pages are {}s apart, more than maxAge {}s", elapsed.as_secs(), longest.as_secs())]
    Gap {
        /// How far.
        elapsed: Duration,
        /// The configured limit.
        longest: Duration,
    },
    /// A mean of nothing.
    #[error("no request was measured between the last two pages")]
    Nothing,
}

impl Unknown {
    /// The card is busy and nobody can say for whom, or replicas are out of sight that may be as busy as they were: nothing may
    /// be scaled down on account of the others (R5).
    #[must_use]
    pub fn forbids_removal(&self) -> bool {
        matches!(self, Self::AttributionFailed { .. } | Self::CutOff { .. } | Self::PoolSilent { .. })
    }
}

/// `Err(Stale)` if `measured` lies further back than `max_age` (R2). Times in the future are fresh: they come from this
/// process's own clock.
///
/// # Errors
/// [`Unknown::Stale`].
pub fn fresh(measured: Measured, now: Timestamp, max_age: Duration) -> Reading {
    let age = Duration::try_from(now.duration_since(measured.at)).unwrap_or(Duration::ZERO);
    if age > max_age { Err(Unknown::Stale { age, max_age }) } else { Ok(measured) }
}
