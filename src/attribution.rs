//! Sample → card → pod → service, by the rules R1–R9. Pure: batches, view and `now` in, readings out.
//!
//! The steps, each in a file of its own:
//!
//! 1. `page`: the lines of one page become *claims*: what this page says of one family on one card of one pod
//!    (R1, R2, R4, R5). Lines that name no existing pod are counted and go no further (R6).
//! 2. `heard`: where several targets claim the same pod, card and family, exactly one of them is heard: a known claim
//!    before an unknown one, a fresh one before a stale one, then the lower [`Batch::rank`], then the smaller
//!    [`TargetId`]. Values of two targets are never mixed on one card.
//! 3. `pods`: a pod is the mean over its cards (percent) or their sum (mebibytes); one unknown card, or fewer cards than
//!    the pod was given, and the pod is unknown (R1, R7).
//! 4. `services` and `group`: ready pods become a service's statistics, by the rules for missing pods (R8, R9) and for
//!    pools of which nothing is heard (`silence`).
//!
//! Results depend on the *sets* of lines, targets and pods, never on their order: sums are taken in a sorted order, and
//! of several reasons for an unknown always the same one is reported.
//!
//! What losing a line can do to a pod's value that was known: nothing (another line says the same), or make it unknown.
//! A process that disappears from *every* family of a page has ended as far as the page tells, and no longer counts;
//! a target with [`Batch::absent_means_idle`] declares that a process may be left out of a utilization family when idle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    cluster::{Kind, ObjectKey, View},
    config,
    gpu::{CardId, Family, FamilyId, Unit, Vocabulary},
    reading::{Reading, Unknown},
    scrape::{Batch, TargetId},
};

mod group;
mod heard;
mod page;
mod pods;
mod readers;
mod servers;
mod services;
mod silence;

pub(crate) use readers::highest_target;
pub use silence::Seat;
pub(crate) use silence::{Sight, cut_off};

#[cfg(test)]
pub(crate) mod scene;
#[cfg(test)]
mod tests;

/// A pod's reading of one family and the cards it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PodReading {
    /// The pod's value by R7, or why it has none.
    pub reading: Reading,
    /// Each card's value, sorted by card. A list: a pod has one card or few, and a map of each would cost a kilobyte.
    pub cards: Vec<(CardId, Reading)>,
}

/// Statistics of a service over its ready pods, by the name under which they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statistic {
    /// The plain family name. With missing pods: the value that cannot cause a wrong move (R9).
    Mean,
    /// `…_sum`. This and the following are known only while every ready pod reports.
    Sum,
    /// `…_max`.
    Max,
    /// `…_p50`. Quantiles are the median-unbiased estimate (Hyndman and Fan's type 8).
    P50,
    /// `…_p90`.
    P90,
    /// `…_p99`.
    P99,
}

impl Statistic {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 6] = [Self::Mean, Self::Sum, Self::Max, Self::P50, Self::P90, Self::P99];

    /// What is appended to the family's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Mean => "",
            Self::Sum => "_sum",
            Self::Max => "_max",
            Self::P50 => "_p50",
            Self::P90 => "_p90",
            Self::P99 => "_p99",
        }
    }
}

/// What a set of ready pods reads in one family.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupReading {
    /// One reading per statistic.
    pub statistics: BTreeMap<Statistic, Reading>,
    /// Ready pods with a value.
    pub known: usize,
    /// Pods that are ready, or were when their node was last heard of, without one, with the reason of each.
    pub missing: BTreeMap<ObjectKey, Unknown>,
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
    /// Ready when their nodes were last heard of.
    pub cut_off: usize,
}

/// One service: a Deployment and, for KServe, the InferenceService it serves. A Deployment is a service if it serves an
/// InferenceService, if one of its pods was given a GPU, if one of them has or once had a reading, or if an HPA that scales it
/// reads one of our metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceReadings {
    /// The Deployment.
    pub deployment: ObjectKey,
    /// The InferenceService whose predictor it is.
    pub inference_service: Option<Arc<str>>,
    /// Pods by state.
    pub pods: PodCounts,
    /// Readings by family. A family that no exporter reports for any of the service's pods is absent.
    pub families: BTreeMap<FamilyId, GroupReading>,
}

/// Everything that is known at one moment, ready to be published.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Every family that some fresh sample reports.
    pub seen: BTreeSet<FamilyId>,
    /// Pods that exist (R6) and have not finished, by family: ready ones and others.
    pub pods: BTreeMap<ObjectKey, Arc<BTreeMap<FamilyId, PodReading>>>,
    /// Services by Deployment.
    pub services: BTreeMap<ObjectKey, ServiceReadings>,
    /// Core Services' pods, by the Service's selector.
    pub core_services: BTreeMap<ObjectKey, BTreeMap<FamilyId, GroupReading>>,
    /// Nodes: mean (or sum, by unit) over the node's cards.
    pub nodes: BTreeMap<Arc<str>, BTreeMap<FamilyId, Reading>>,
    /// The ordered pool in which a ready or cut-off pod sits, of services whose pools are ordered and known.
    pub seats: BTreeMap<ObjectKey, Seat>,
    /// Pods whose model server was asked for its page and has none, or none with a known family, and why.
    pub offer_nothing: BTreeMap<ObjectKey, Arc<str>>,
    /// Samples that name a pod which does not exist, or name none.
    pub unattributed: u64,
    /// The least share of ready pods with a value that was asked for (R9).
    pub coverage: f64,
    /// Attribution failures by R5: target and card.
    pub attribution_failures: BTreeMap<(TargetId, CardId), f64>,
}

/// Turns the newest batch of each target into readings.
///
/// `remembered` names Deployments that are services because their pods once had readings (see [`remember`]).
/// `max_age` is the age beyond which a sample is unknown (R2). Samples from the future are fresh: their times come from
/// this process's own clock, or from one that the configuration says to trust.
#[must_use]
pub fn attribute(
    batches: &[Arc<Batch>],
    view: &View,
    vocabulary: &Vocabulary,
    settings: &config::Aggregate,
    remembered: &BTreeSet<ObjectKey>,
    now: Timestamp,
    max_age: Duration,
) -> Readings {
    let config::Aggregate { coverage, busy_percent, gpu_resources: _, namespaces: _ } = settings;
    let families = Families::of(vocabulary);
    let roster = pods::Roster::of(view);
    let mut reader = page::Reader::new(page::Rules {
        families: &families,
        roster: &roster,
        nodes: &view.nodes,
        busy_percent: *busy_percent,
        now,
        max_age,
    });
    for (index, batch) in batches.iter().enumerate() {
        reader.read(index, batch);
    }
    let page::Claims { pods, nodes, node_names, seen, unattributed, failures } = reader.finish();
    let mut readings =
        Readings { seen, unattributed, attribution_failures: failures, coverage: coverage.0, ..Readings::default() };
    readings.nodes = pods::nodes(&heard::one_per_place(nodes, batches), &node_names, &families);
    readings.pods = pods::pods(heard::one_per_place(pods, batches), &roster, &families);
    servers::add(batches, view, &families, now, max_age, &mut readings);
    services::aggregate(view, &families, remembered, coverage.0, &mut readings);
    readings
}

/// Keeps in mind which Deployments have had readings, for as long as they exist: a service that nothing else makes one must
/// not drop out of an external list when its exporter restarts, because the HPA would take the smaller sum for a fall. As
/// many as there are Deployments at most.
pub fn remember(remembered: &mut BTreeSet<ObjectKey>, readings: &Readings, view: &View) {
    let gone = |key: &ObjectKey| view.knows(Kind::Deployments, &key.namespace) && !view.deployments.contains_key(key);
    remembered.retain(|deployment| !gone(deployment));
    let measured = readings.services.values().filter(|service| !service.families.is_empty());
    remembered.extend(measured.map(|service| service.deployment.clone()));
}

/// The vocabulary, with the families that have a part to play found once.
#[derive(Debug)]
struct Families<'a> {
    all: &'a [Family],
    /// Utilization of a process: a witness for R5.
    process_sm: Option<FamilyId>,
    /// Utilization of a device, and its stand-in on MIG (`DCGM_FI_DEV_GPU_UTIL` is not reported there): the judges of R5.
    device: [Option<FamilyId>; 2],
    /// Utilization families that are about processes by their name.
    process_utilization: Vec<FamilyId>,
}

/// Families of ACK's exporter whose lines are about one process each.
const PROCESS_PREFIX: &str = "DCGM_CUSTOM_PROCESS_";

impl<'a> Families<'a> {
    fn of(vocabulary: &'a Vocabulary) -> Self {
        let named = |name: &str| vocabulary.by_name(name);
        Self {
            all: &vocabulary.families,
            process_sm: named("DCGM_CUSTOM_PROCESS_SM_UTIL"),
            device: [named("DCGM_FI_DEV_GPU_UTIL"), named("DCGM_FI_PROF_GR_ENGINE_ACTIVE")],
            process_utilization: (0..vocabulary.families.len())
                .map(|index| FamilyId(index as u16))
                .zip(&vocabulary.families)
                .filter(|(_, family)| family.unit == Unit::Percent && family.name.starts_with(PROCESS_PREFIX))
                .map(|(id, _)| id)
                .collect(),
        }
    }

    /// `None` for an id of another vocabulary, whose lines are passed over.
    fn get(&self, id: FamilyId) -> Option<&'a Family> {
        self.all.get(usize::from(id.0))
    }

    fn unit(&self, id: FamilyId) -> Unit {
        self.get(id).map_or(Unit::Percent, |family| family.unit)
    }
}

/// Of two reasons the one to report: the same whatever their order.
fn foremost(a: Unknown, b: Unknown) -> Unknown {
    if a == b || a.to_string() <= b.to_string() { a } else { b }
}

/// The sum in a fixed order, so that it does not depend on that of the lines. `values` are finite.
fn sum(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.iter().sum()
}

/// Largest utilization of a card, percent: several processes' samples are not taken at one instant and may add up to more.
const FULL: f64 = 100.0;

fn clamp(value: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Percent => value.min(FULL),
        Unit::Mebibytes | Unit::Count | Unit::Share | Unit::PerSecond | Unit::Seconds => value,
    }
}
