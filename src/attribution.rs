//! Sample → card → pod → service, by the rules R3–R9. Pure: batches, view and `now` in, readings out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    cluster::ObjectKey,
    gpu::{CardId, FamilyId},
    reading::Reading,
};

/// A pod's reading of one family and the cards it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PodReading {
    /// The pod's value by R7, or why it has none.
    pub reading: Reading,
    /// Each card's value.
    pub cards: BTreeMap<CardId, Reading>,
}

/// Statistics of a service over its ready pods, by the name under which they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statistic {
    /// The plain family name.
    Mean,
    /// `…_sum`.
    Sum,
    /// `…_max`.
    Max,
    /// `…_p50`.
    P50,
    /// `…_p90`.
    P90,
    /// `…_p99`.
    P99,
}

/// What a set of ready pods reads in one family.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupReading {
    /// One reading per statistic.
    pub statistics: BTreeMap<Statistic, Reading>,
    /// Ready pods with a value.
    pub known: usize,
    /// Ready pods without one, with the reason of each.
    pub missing: BTreeMap<ObjectKey, crate::reading::Unknown>,
}

/// How many pods of a service stand where (R8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// Kubernetes `Ready`.
    pub ready: usize,
    /// Scheduled but not Ready.
    pub starting: usize,
    /// Not scheduled.
    pub pending: usize,
}

/// One service: a Deployment and, for KServe, the InferenceService it serves.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceReadings {
    /// The Deployment.
    pub deployment: ObjectKey,
    /// The InferenceService whose predictor it is.
    pub inference_service: Option<Arc<str>>,
    /// Pods by state.
    pub pods: PodCounts,
    /// Readings by family; families that no pod of the service has ever a reading for are absent.
    pub families: BTreeMap<FamilyId, GroupReading>,
}

/// Everything that is known at one moment, ready to be published.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Every family that some fresh sample reports.
    pub seen: BTreeSet<FamilyId>,
    /// Pods that exist (R6), by family.
    pub pods: BTreeMap<ObjectKey, BTreeMap<FamilyId, PodReading>>,
    /// Services by Deployment.
    pub services: BTreeMap<ObjectKey, ServiceReadings>,
    /// Core Services' pods, by the Service's selector.
    pub core_services: BTreeMap<ObjectKey, BTreeMap<FamilyId, GroupReading>>,
    /// Nodes: mean (or sum, by unit) over the node's cards.
    pub nodes: BTreeMap<Arc<str>, BTreeMap<FamilyId, Reading>>,
    /// Samples that name a pod which does not exist, or name none.
    pub unattributed: u64,
    /// Attribution failures by R5: target and card.
    pub attribution_failures: BTreeMap<(crate::scrape::TargetId, CardId), f64>,
}
