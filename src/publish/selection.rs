//! R5 and R9 for the pods that an HPA selects: when an answer may leave out pods that have no value.
//!
//! The HPA fills in what is missing: 0 while the mean of the pods that it knows asks for more than the target, the target
//! itself while it asks for less (kubernetes, `podautoscaler/replica_calculator.go`, `calcPlainMetricReplicas`). So an answer
//! that leaves pods out may add replicas, and may remove them on the word of the others. That is fair where a pod is merely
//! silent, as long as enough of them speak. It is not where a pod is busy with nobody knows how much, because it cannot be
//! attributed (R5), or because it is out of sight with its whole site: then the others may be answered only if they can do
//! nothing but add. Their pods are asked about when the query comes, and not when the snapshot was built: a value may have
//! become too old since.

use apiservice::{MetricValue, Selector};

use super::{Snapshot, custom::Query};
use crate::{
    attribution::{Sight, highest_target},
    cluster::Pod,
    reading::Unknown,
};

impl Snapshot {
    /// `Err` with the reason if answering `known` alone could move an HPA the wrong way. `missing`: ready pods that should
    /// have a value and have none.
    pub(super) fn may_leave_out(
        &self,
        query: Query<'_>,
        objects: &Selector,
        known: &[MetricValue],
        mut missing: Vec<(&Pod, Unknown)>,
    ) -> Result<(), Unknown> {
        let by_server = self.vocabulary.family(query.family).by_server;
        let sight = Sight { view: &self.view, readings: &self.readings, by_server };
        sight.mark(known.iter().map(|value| (query.namespace, &*value.object.name)), &mut missing);
        let (values, ready) = (known.len(), known.len() + missing.len());
        let failed = missing.iter().find(|(_, unknown)| unknown.forbids_removal());
        let Some((pod, unknown)) = failed.or(missing.first()) else { return Ok(()) };
        let example = format!("{}: {unknown}", pod.key.name);
        let coverage = self.readings.coverage;
        if (values as f64) < coverage * ready as f64 {
            return Err(Unknown::Coverage { known: values, ready, coverage, example });
        }
        if failed.is_none() {
            return Ok(());
        }
        let family = &self.vocabulary.family(query.family).name;
        let why = match highest_target(&self.view, query.namespace, objects, family) {
            Some(target) if is_above(known, target) => return Ok(()),
            Some(target) => {
                format!("the others do not read more than the target {target}: alone they could remove replicas")
            }
            None => "no HPA is known that reads it, and so no target above which the others could only add".to_owned(),
        };
        Err(Unknown::BlindSelection { example, why })
    }
}

/// Whether the mean is above the target as the HPA computes it: in whole thousandths, cut off. At the target exactly it
/// counts missing pods as 0 and then removes.
fn is_above(known: &[MetricValue], target: f64) -> bool {
    let sum: i128 = known.iter().map(|value| i128::from(value.value.millis())).sum();
    let mean = sum.checked_div(known.len() as i128).unwrap_or(0);
    mean as f64 > (target * 1000.0).ceil()
}

#[cfg(test)]
mod tests;
