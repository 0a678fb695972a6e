//! Two exporters on one node: of all claims on one pod (or node), family and card, exactly one is heard.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    gpu::{CardId, FamilyId},
    reading::{Reading, Unknown},
    scrape::Batch,
};

/// What one page says of one family on one card of one pod or node.
#[derive(Debug)]
pub(super) struct Claim<'a, Place> {
    /// Pod or node.
    pub place: Place,
    pub family: FamilyId,
    pub card: &'a CardId,
    /// Number of the batch.
    pub batch: u32,
    pub reading: Reading,
}

impl<Place: Ord> Claim<'_, Place> {
    /// The order of claims: by place, family and card.
    pub fn by_place(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place).then(self.family.cmp(&other.family)).then_with(|| self.card.cmp(other.card))
    }
}

/// Sorts claims by place, family and card, and keeps one of each: a known one before an unknown one, a fresh one before a
/// stale one, then the lower rank, then the smaller target id.
pub(super) fn one_per_place<'a, Place: Ord>(
    mut claims: Vec<Claim<'a, Place>>,
    batches: &[Arc<Batch>],
) -> Vec<Claim<'a, Place>> {
    claims.sort_by(|a, b| {
        a.by_place(b).then_with(|| {
            let (one, other) = (&batches[a.batch as usize], &batches[b.batch as usize]);
            class(&a.reading)
                .cmp(&class(&b.reading))
                .then(one.rank.cmp(&other.rank))
                .then_with(|| one.target.cmp(&other.target))
        })
    });
    claims.dedup_by(|later, kept| later.by_place(kept).is_eq());
    claims
}

fn class(reading: &Reading) -> u8 {
    match reading {
        Ok(_) => 0,
        Err(Unknown::Stale { .. }) => 2,
        Err(_) => 1,
    }
}
