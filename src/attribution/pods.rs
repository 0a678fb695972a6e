//! Cards → pods and nodes (R6, R7).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Families, PodReading, clamp, foremost, heard::Claim, sum};
use crate::{
    cluster::{self, ObjectKey, Phase, Pod, PodState, View},
    gpu::{CardId, FamilyId, Unit},
    reading::{Measured, Reading, Unknown},
};

/// The pods that can be a source of readings, numbered in the order of their keys. Exporters name pods; only the cluster
/// says which there are (R6), and of a namespace whose pods are not listed it says nothing.
#[derive(Debug)]
pub(super) struct Roster<'a> {
    pods: Vec<&'a Pod>,
    by_name: HashMap<(&'a str, &'a str), u32>,
}

impl<'a> Roster<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let is_source =
            |pod: &&Pod| pod.phase != Phase::Finished && view.knows(cluster::Kind::Pods, &pod.key.namespace);
        let pods: Vec<&Pod> = view.pods.values().map(|pod| &**pod).filter(is_source).collect();
        let by_name =
            pods.iter().zip(0..).map(|(pod, number)| ((&*pod.key.namespace, &*pod.key.name), number)).collect();
        Self { pods, by_name }
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<(u32, &'a Pod)> {
        self.by_name.get(&(namespace, name)).map(|number| (*number, self.pods[*number as usize]))
    }
}

/// Claims, sorted and one per place, → pods.
pub(super) fn pods(
    claims: Vec<Claim<'_, u32>>,
    roster: &Roster<'_>,
    families: &Families<'_>,
) -> BTreeMap<ObjectKey, Arc<BTreeMap<FamilyId, PodReading>>> {
    let mut all = Vec::new();
    let mut claims = claims.into_iter().peekable();
    while let Some(number) = claims.peek().map(|claim| claim.place) {
        let pod = roster.pods[number as usize];
        let mut readings = Vec::new();
        while let Some(first) = claims.next_if(|claim| claim.place == number) {
            let family = first.family;
            let mut cards = vec![(first.card.clone(), first.reading)];
            while let Some(claim) = claims.next_if(|claim| claim.place == number && claim.family == family) {
                cards.push((claim.card.clone(), claim.reading));
            }
            without_namesakes(&mut cards);
            let reading = pod_reading(&cards, pod.gpus, families.unit(family)).and_then(|measured| own(measured, pod));
            readings.push((family, PodReading { reading, cards }));
        }
        all.push((pod.key.clone(), Arc::new(readings.into_iter().collect())));
    }
    all.into_iter().collect()
}

/// Cards that only a namesake of the pod was on are not its own. They tell why nothing is known while the pod has no
/// other; beside its own they say nothing, or the last page of a dead node would silence the pod that moved away from it
/// for as long as that page is kept.
fn without_namesakes(cards: &mut Vec<(CardId, Reading)>) {
    if cards.iter().any(|(_, reading)| *reading != Err(Unknown::BeforeStart)) {
        cards.retain(|(_, reading)| *reading != Err(Unknown::BeforeStart));
    }
}

/// R7 and R1: every card of the pod, or nothing. Where the cluster does not say how many cards the pod has (a device
/// plugin that shares cards by memory), those that report are its cards.
fn pod_reading(cards: &[(CardId, Reading)], requested: u32, unit: Unit) -> Reading {
    let reading = over_cards(cards.iter().map(|(_, reading)| reading), unit)?;
    let reported = cards.len() as u32;
    if reported < requested { Err(Unknown::CardsMissing { reported, requested }) } else { Ok(reading) }
}

/// What a pod did while it loaded its model says nothing about the replica that it has become: it would be averaged in as
/// an idle one (R8).
pub(super) fn own(measured: Measured, pod: &Pod) -> Reading {
    match pod.ready_since {
        Some(since) if pod.state == PodState::Ready && measured.at < since => Err(Unknown::BeforeReady),
        _ => Ok(measured),
    }
}

/// Claims, sorted and one per place, → nodes.
pub(super) fn nodes(
    claims: &[Claim<'_, u32>],
    names: &[&Arc<str>],
    families: &Families<'_>,
) -> BTreeMap<Arc<str>, BTreeMap<FamilyId, Reading>> {
    let mut all: BTreeMap<Arc<str>, BTreeMap<FamilyId, Reading>> = BTreeMap::new();
    for claims in claims.chunk_by(|a, b| a.place == b.place) {
        let readings = claims.chunk_by(|a, b| a.family == b.family).map(|claims| {
            let family = claims[0].family;
            (family, over_cards(claims.iter().map(|claim| &claim.reading), families.unit(family)))
        });
        all.insert(Arc::clone(names[claims[0].place as usize]), readings.collect());
    }
    all
}

/// Mean or sum over cards, by unit; unknown if one of them is.
fn over_cards<'a>(cards: impl Iterator<Item = &'a Reading>, unit: Unit) -> Reading {
    let mut values = Vec::new();
    let mut oldest = None;
    let mut trouble: Option<Unknown> = None;
    for reading in cards {
        match reading {
            Ok(Measured { value, at }) => {
                values.push(*value);
                oldest = Some(oldest.map_or(*at, |oldest| (*at).min(oldest)));
            }
            Err(unknown) => {
                trouble = Some(match trouble {
                    Some(other) => foremost(other, unknown.clone()),
                    None => unknown.clone(),
                });
            }
        }
    }
    if let Some(unknown) = trouble {
        return Err(unknown);
    }
    let at = oldest.ok_or(Unknown::Absent)?;
    let total = sum(&mut values);
    let value = match unit {
        Unit::Percent => clamp(total / values.len() as f64, unit),
        // Families of model servers are not about cards.
        Unit::Mebibytes | Unit::Count | Unit::Share | Unit::PerSecond | Unit::Seconds => total,
    };
    Ok(Measured { value, at })
}
