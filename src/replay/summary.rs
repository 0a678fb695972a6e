//! Several seeds of one contender as one line: medians with the least and the most.

use serde_json::{Map, Value};

use super::outcome::{Figures, Outcome};

/// A figure over the seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; the mean of the two in the middle if their number is even.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of some values, not empty.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self { median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), min: at(0), max: at(last) }
    }
}

/// A figure's name in the JSON and how it is read.
pub type Figure = (&'static str, fn(&Figures) -> f64);

/// The figures of the table and of the JSON, in order.
pub const FIGURES: [Figure; 9] = [
    ("slo_attainment", |figures| figures.slo_attainment),
    ("time_without_violation", |figures| figures.time_without_violation),
    ("gpu_hours", |figures| figures.gpu_hours),
    ("cloud_gpu_hours", |figures| figures.cloud_gpu_hours),
    ("cost", |figures| figures.cost),
    ("scale_events", |figures| figures.scale_events as f64),
    ("direction_reversals", |figures| figures.direction_reversals as f64),
    ("undone_scale_downs", |figures| figures.undone_scale_downs as f64),
    ("worst_queue", |figures| figures.worst_queue as f64),
];

/// One contender over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary<'a> {
    /// Name.
    pub name: &'a str,
    /// Settings in words.
    pub settings: &'a str,
    /// Its outcomes.
    pub outcomes: Vec<&'a Outcome>,
}

impl Summary<'_> {
    /// A figure over the seeds.
    #[must_use]
    pub fn spread(&self, figure: fn(&Figures) -> f64) -> Spread {
        Spread::of(self.outcomes.iter().map(|outcome| figure(&outcome.figures)))
    }
}

/// One summary for each name, in the order in which the names come first.
#[must_use]
pub fn summarize(outcomes: &[Outcome]) -> Vec<Summary<'_>> {
    let mut summaries: Vec<Summary<'_>> = Vec::new();
    for outcome in outcomes {
        match summaries.iter_mut().find(|summary| summary.name == outcome.name) {
            Some(summary) => summary.outcomes.push(outcome),
            None => {
                summaries.push(Summary { name: &outcome.name, settings: &outcome.settings, outcomes: vec![outcome] });
            }
        }
    }
    summaries
}

/// `{"trace", "seeds", "policies": [{"name", "slo_attainment", "slo_attainment_min", "slo_attainment_max", …}]}`.
#[must_use]
pub fn json(trace: &str, seeds: u64, outcomes: &[Outcome]) -> Value {
    let policies = summarize(outcomes).into_iter().map(|summary| {
        let mut policy = Map::new();
        policy.insert("name".to_owned(), summary.name.into());
        policy.extend(figures(&FIGURES, |figure| summary.spread(figure)));
        Value::Object(policy)
    });
    serde_json::json!({ "trace": trace, "seeds": seeds, "policies": policies.collect::<Vec<_>>() })
}

/// Of each figure the median by its name, and the ends as `…_min` and `…_max`.
pub fn figures(
    figures: &[Figure],
    spread: impl Fn(fn(&Figures) -> f64) -> Spread,
) -> impl Iterator<Item = (String, Value)> {
    figures.iter().flat_map(move |(name, figure)| {
        let Spread { median, min, max } = spread(*figure);
        [((*name).to_owned(), median), (format!("{name}_min"), min), (format!("{name}_max"), max)]
            .map(|(name, value)| (name, value.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_value_with_both_ends() {
        for (values, median, min, max) in
            [(vec![3.0], 3.0, 3.0, 3.0), (vec![4.0, 1.0], 2.5, 1.0, 4.0), (vec![9.0, 1.0, 2.0], 2.0, 1.0, 9.0)]
        {
            assert_eq!(Spread::of(values), Spread { median, min, max });
        }
    }
}
