//! What several seeds came to together: medians with their spread, as `--json` prints them and the report shows them.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::outcome::Outcome;

/// All contenders on one trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the trace.
    pub trace: String,
    /// How many seeds were played.
    pub seeds: usize,
    /// In the order in which they were given.
    pub policies: Vec<Standing>,
}

/// One contender over all seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its settings in words.
    pub settings: String,
    /// By the name of the figure, in the order of [`Figures`](super::outcome::Figures).
    pub figures: Vec<(String, Spread)>,
}

/// A figure over all seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Outcomes of one name belong together.
    #[must_use]
    pub fn of(trace: &str, outcomes: &[Outcome]) -> Self {
        let mut policies: Vec<Standing> = Vec::new();
        let mut seeds: Vec<u64> = outcomes.iter().map(|outcome| outcome.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        for outcome in outcomes {
            if policies.iter().all(|policy| policy.name != outcome.name) {
                policies.push(Standing::of(outcome, outcomes));
            }
        }
        Self { trace: trace.to_owned(), seeds: seeds.len(), policies }
    }

    /// The contender of that name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Standing> {
        self.policies.iter().find(|policy| policy.name == name)
    }
}

impl Standing {
    fn of(first: &Outcome, outcomes: &[Outcome]) -> Self {
        let all: Vec<_> = outcomes.iter().filter(|outcome| outcome.name == first.name).map(figures).collect();
        let names = all.first().into_iter().flatten().map(|(name, _)| name);
        let figures = names.map(|name| {
            let values = all.iter().flatten().filter(|(other, _)| other == name).map(|(_, value)| *value);
            (name.clone(), Spread::of(values.collect()))
        });
        let figures = figures.collect();
        Self { name: first.name.clone(), settings: first.settings.clone(), figures }
    }

    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<Spread> {
        self.figures.iter().find(|(other, _)| other == name).map(|(_, spread)| *spread)
    }

    /// The median of a figure; not a number if there is none of that name.
    #[must_use]
    pub fn median(&self, name: &str) -> f64 {
        self.figure(name).map_or(f64::NAN, |spread| spread.median)
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { median, min: at(0), max: at(last) }
    }
}

impl Serialize for Standing {
    /// Flat: `gpu_hours`, `gpu_hours_min`, `gpu_hours_max`, ….
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("settings", &self.settings)?;
        for (name, Spread { median, min, max }) in &self.figures {
            map.serialize_entry(name, &number(*median))?;
            map.serialize_entry(&format!("{name}_min"), &number(*min))?;
            map.serialize_entry(&format!("{name}_max"), &number(*max))?;
        }
        map.end()
    }
}

/// Counts stay whole numbers.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { Value::from(value as i64) } else { Value::from(value) }
}

/// An outcome's figures by name.
fn figures(outcome: &Outcome) -> Vec<(String, f64)> {
    match serde_json::to_value(outcome.figures) {
        Ok(Value::Object(map)) => map.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::replay::outcome::{Figures, Timeline};

    fn outcome(name: &str, seed: u64, gpu_hours: f64, scale_events: u64) -> Outcome {
        let figures = Figures { gpu_hours, scale_events, ..Figures::default() };
        let timeline = Timeline::default();
        Outcome { name: name.into(), settings: "as is".into(), seed, figures, timeline, moves: Vec::new() }
    }

    #[test]
    fn seeds_come_together_as_median_and_spread_and_counts_stay_whole() {
        let outcomes = [
            outcome("hpa", 1, 10.5, 3),
            outcome("tidegate", 1, 7.0, 1),
            outcome("hpa", 2, 12.0, 5),
            outcome("hpa", 3, 11.0, 9),
        ];
        let summary = Summary::of("week", &outcomes);
        assert_eq!((summary.seeds, summary.policies.len()), (3, 2));
        let json = serde_json::to_value(&summary).expect("plain data");
        let hpa = &json["policies"][0];
        assert_eq!(
            (&hpa["name"], &hpa["gpu_hours"], &hpa["gpu_hours_min"], &hpa["gpu_hours_max"]),
            (&json!("hpa"), &json!(11), &json!(10.5), &json!(12))
        );
        assert_eq!((&hpa["scale_events"], &hpa["scale_events_max"]), (&json!(5), &json!(9)));
        assert_eq!(json["policies"][1]["name"], "tidegate");
    }

    #[test]
    fn of_an_even_number_the_median_is_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(vec![4.0]), Spread { median: 4.0, min: 4.0, max: 4.0 });
    }
}
