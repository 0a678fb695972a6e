//! The pods of a snapshot, laid out so that a list of a service's pods touches these pods and no others (R11).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use apiservice::{Selector, selector::Condition};

use crate::{
    attribution::{PodReading, Readings},
    cluster::{Pod, View},
    gpu::FamilyId,
};

/// A pod and what it reads.
#[derive(Debug)]
pub(super) struct PodRow {
    pub(super) pod: Arc<Pod>,
    pub(super) families: Option<Arc<BTreeMap<FamilyId, PodReading>>>,
}

/// All pods in the order of their keys.
#[derive(Debug)]
pub(super) struct PodRows {
    rows: Vec<PodRow>,
    namespaces: HashMap<Arc<str>, Namespace>,
}

/// One namespace's part of the rows.
#[derive(Debug)]
struct Namespace {
    range: Range<usize>,
    /// Rows by label, for the keys of which Deployments demand an exact value: what an HPA asks by.
    by_label: HashMap<Arc<str>, HashMap<Arc<str>, Vec<usize>>>,
}

impl PodRows {
    pub(super) fn new(view: &View, readings: &Readings) -> Self {
        let keys: BTreeSet<Arc<str>> = view
            .deployments
            .values()
            .flat_map(|deployment| exact(&deployment.selector))
            .map(|(key, _)| Arc::from(key))
            .collect();
        let mut rows: Vec<PodRow> = Vec::with_capacity(view.pods.len());
        let mut namespaces: HashMap<Arc<str>, Namespace> = HashMap::new();
        // Two maps sorted by the same key, walked side by side.
        let mut measured = readings.pods.iter().peekable();
        for (key, pod) in &view.pods {
            while measured.next_if(|(other, _)| *other < key).is_some() {}
            let families = measured.next_if(|(other, _)| *other == key).map(|(_, families)| Arc::clone(families));
            let number = rows.len();
            rows.push(PodRow { pod: Arc::clone(pod), families });
            if !namespaces.contains_key(&key.namespace) {
                let by_label = keys.iter().map(|key| (Arc::clone(key), HashMap::new())).collect();
                namespaces.insert(Arc::clone(&key.namespace), Namespace { range: number..number, by_label });
            }
            let Some(namespace) = namespaces.get_mut(&key.namespace) else { continue };
            namespace.range.end = number + 1;
            for (key, by_value) in &mut namespace.by_label {
                if let Some(value) = pod.labels.get(key) {
                    by_value.entry(Arc::clone(value)).or_default().push(number);
                }
            }
        }
        Self { rows, namespaces }
    }

    /// The namespace's pods that `selector` selects, sorted by name.
    pub(super) fn selected<'a>(&'a self, namespace: &str, selector: &'a Selector) -> Vec<&'a PodRow> {
        let Some(namespace) = self.namespaces.get(namespace) else { return Vec::new() };
        let listed = exact(selector)
            .filter_map(|(key, value)| Some(namespace.by_label.get(key)?.get(value).map_or(&[][..], Vec::as_slice)));
        let shortest = listed.min_by_key(|rows| rows.len());
        let selects = |row: &&PodRow| row.pod.selected_by(selector);
        match shortest {
            // The one requirement is what the rows are listed by.
            Some(numbers) if selector.requirements().len() == 1 => numbers.iter().map(|i| &self.rows[*i]).collect(),
            Some(numbers) => numbers.iter().map(|i| &self.rows[*i]).filter(selects).collect(),
            None => self.rows[namespace.range.clone()].iter().filter(selects).collect(),
        }
    }
}

/// The labels that have to have one exact value.
fn exact(selector: &Selector) -> impl Iterator<Item = (&str, &str)> {
    selector.requirements().iter().filter_map(|requirement| match requirement.condition() {
        Condition::Equals(value) => Some((requirement.key(), value.as_str())),
        _ => None,
    })
}
