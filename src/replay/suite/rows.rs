//! A suite as a list of lines, each with the ones that it is compared with: what the text table, the JSON and the page have
//! in common.

use serde_json::{Map, Value, json as object};

use super::{
    Criterion, Line, Suite, change,
    criteria::{self, asked},
};
use crate::replay::{
    exporter::Curve,
    outcome::Figures,
    summary::{FIGURES, Figure, figures},
};

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Index of the trace.
    pub trace: usize,
    /// The curve; `None` for who does not look at utilization.
    pub curve: Option<Curve>,
    /// Who, and by which signals.
    pub name: &'static str,
    /// The line.
    pub line: &'a Line,
    /// Who knows the future, on the same trace.
    pub oracle: Option<&'a Line>,
    /// The HPA tuned to attain as much, for the engine.
    pub hpa: Option<&'a Line>,
}

impl Row<'_> {
    /// A median relative to the oracle's: `0.2` is a fifth more.
    #[must_use]
    pub fn against_oracle(&self, figure: fn(&Figures) -> f64) -> Option<f64> {
        self.oracle.map(|oracle| change(self.line.median(figure), oracle.median(figure)))
    }

    /// As [`Row::against_oracle`], relative to the HPA at equal attainment.
    #[must_use]
    pub fn against_hpa(&self, figure: fn(&Figures) -> f64) -> Option<f64> {
        self.hpa.map(|hpa| change(self.line.median(figure), hpa.median(figure)))
    }
}

impl Suite {
    /// Everything by trace and curve, then what does not depend on the curve.
    #[must_use]
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for case in &self.cases {
            let (queue, alone) = (&case.queue, &case.utilization);
            for (name, line, hpa) in [
                ("tidegate, queue", &queue.0, Some(&queue.1)),
                ("hpa equal to queue", &queue.1, None),
                ("tidegate, utilization", &alone.0, Some(&alone.1)),
                ("hpa equal to utilization", &alone.1, None),
                (case.hpa.name, &case.hpa, None),
                (case.hpa_tuned.name, &case.hpa_tuned, None),
            ] {
                let (trace, oracle) = (case.trace, self.oracle(case.trace));
                rows.push(Row { trace, curve: Some(case.curve), name, line, oracle, hpa });
            }
        }
        for common in &self.common {
            for line in common.lines.iter().chain([&common.oracle]) {
                let (trace, name, oracle) = (common.trace, line.name, Some(&common.oracle));
                rows.push(Row { trace, curve: None, name, line, oracle, hpa: None });
            }
        }
        rows
    }
}

/// What a suite's line has besides the [`FIGURES`] of a replay.
const MORE: Figure = ("cannot_tell", |figures| figures.cannot_tell);
/// Figures that are compared.
const COMPARED: [Figure; 3] =
    [("gpu_hours", criteria::gpu_hours), ("cloud_gpu_hours", criteria::cloud), ("cost", criteria::cost)];

/// `{"seeds", "criteria": [{"asked", "measured", "met", "remark"}], "traces": [{"name", "smooth", "hours", "attainment_asked",
/// "lines": [{"curve", "name", "settings", "slo_attainment", "slo_attainment_min", …, "against_oracle", "against_hpa"}]}]}`.
/// What does not depend on the curve has `null` for it; a difference that is without end, or to nobody, is `null` too.
#[must_use]
pub fn json(suite: &Suite, criteria: &[Criterion]) -> Value {
    let rows = suite.rows();
    let traces = suite.traces.iter().enumerate().map(|(trace, (name, smooth, hours))| {
        let lines: Vec<Value> = rows.iter().filter(|row| row.trace == trace).map(line).collect();
        object!({
            "name": name, "smooth": smooth, "hours": hours, "attainment_asked": asked(suite, trace), "lines": lines,
        })
    });
    let seeds = rows.first().map_or(0, |row| row.line.figures.len());
    object!({ "seeds": seeds, "criteria": criteria, "traces": traces.collect::<Vec<_>>() })
}

fn line(row: &Row<'_>) -> Value {
    let mut line = Map::new();
    line.insert("curve".to_owned(), row.curve.map(Curve::name).into());
    line.insert("name".to_owned(), row.name.into());
    line.insert("settings".to_owned(), row.line.settings.as_str().into());
    for shown in [&FIGURES[..], &[MORE]] {
        line.extend(figures(shown, |figure| row.line.spread(figure)));
    }
    let all = |against: &dyn Fn(fn(&Figures) -> f64) -> Option<f64>| {
        let compared = COMPARED.iter().map(|(name, figure)| Some(((*name).to_owned(), against(*figure)?.into())));
        compared.collect::<Option<Map<_, _>>>().map_or(Value::Null, Value::Object)
    };
    line.insert("against_oracle".to_owned(), all(&|figure| row.against_oracle(figure)));
    line.insert("against_hpa".to_owned(), all(&|figure| row.against_hpa(figure)));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fixture::{line, suite},
            judge,
        },
        *,
    };

    #[test]
    fn the_json_has_every_line_of_a_trace_with_what_it_is_compared_with() {
        let mut suite = suite(&line(170.0, 70.0, 0.99), &line(187.0, 70.0, 0.985));
        suite.cases[0].utilization.1 = line(200.0, 0.0, 0.99);
        let json = json(&suite, &judge(&suite));
        assert_eq!((&json["seeds"], &json["criteria"][0]["met"]), (&1.into(), &true.into()));
        let trace = &json["traces"][0];
        assert_eq!((&trace["name"], &trace["smooth"], &trace["hours"]), (&"t".into(), &true.into(), &10.0.into()));
        let lines = trace["lines"].as_array().expect("a list");
        let named: Vec<(&str, &str)> = lines
            .iter()
            .map(|line| (line["curve"].as_str().unwrap_or("any"), line["name"].as_str().expect("a name")))
            .collect();
        let by_utilization = [
            "tidegate, queue",
            "hpa equal to queue",
            "tidegate, utilization",
            "hpa equal to utilization",
            "hpa",
            "hpa_tuned",
        ];
        let expected = ["mono", "lin", "flat", "fall"]
            .into_iter()
            .flat_map(|curve| by_utilization.map(|name| (curve, name)))
            .chain(["keda", "kpa", "fixed", "oracle"].map(|name| ("any", name)));
        assert_eq!(named, expected.collect::<Vec<_>>());
        let figure = |line: usize, at: &str| lines[line].pointer(at).and_then(Value::as_f64).expect("a number");
        assert_eq!((figure(0, "/gpu_hours_max"), figure(0, "/slo_attainment")), (170.0, 0.99));
        for (line, at, percent) in [
            (0, "/against_oracle/gpu_hours", "+29.8"),
            (0, "/against_oracle/cloud_gpu_hours", "+40.0"),
            (0, "/against_hpa/cost", "-15.0"),
            (2, "/against_hpa/gpu_hours", "-6.5"),
            (4, "/against_oracle/cloud_gpu_hours", "+500.0"),
        ] {
            assert_eq!(format!("{:+.1}", figure(line, at) * 100.0), percent, "{line} {at}");
        }
        assert_eq!(lines[2].pointer("/against_hpa/cloud_gpu_hours"), Some(&Value::Null), "70 against none at all");
        assert_eq!(lines[1]["against_hpa"], Value::Null, "the HPA is not compared with itself");
    }
}
