//! A suite for tests, made up: a trace on which every contender has the figures that a test gives it.

use super::{Case, Common, Line, Suite};
use crate::replay::{contest::Name, exporter::Curve, outcome::Figures};

/// A contender with one seed, whose cost is its GPU hours.
pub(crate) fn line(gpu_hours: f64, cloud_gpu_hours: f64, slo_attainment: f64) -> Line {
    let figures =
        Figures { gpu_hours, cloud_gpu_hours, cost: gpu_hours, slo_attainment, hours: 10.0, ..Figures::default() };
    Line { name: "", settings: String::new(), figures: vec![figures] }
}

/// The same on every curve: the engine with queue signals and with utilization alone, an HPA tuned to the bound and to
/// either, and a recipe that scales too late.
pub(crate) fn suite(engine: &Line, alone: &Line) -> Suite {
    let named = |name: Name, line: Line| Line { name: name.as_str(), ..line };
    let case = |curve| Case {
        trace: 0,
        curve,
        hpa: named(Name::Hpa, line(400.0, 300.0, 0.5)),
        hpa_tuned: named(Name::HpaTuned, line(200.0, 100.0, 0.99)),
        queue: (engine.clone(), line(200.0, 100.0, 0.99)),
        utilization: (alone.clone(), line(200.0, 100.0, 0.99)),
    };
    let lines = [Name::Keda, Name::Kpa, Name::Fixed].map(|name| named(name, line(262.0, 90.0, 0.999)));
    Suite {
        traces: vec![("t".to_owned(), true, 10.0)],
        common: vec![Common { trace: 0, lines: lines.into(), oracle: named(Name::Oracle, line(131.0, 50.0, 1.0)) }],
        cases: Curve::ALL.into_iter().map(case).collect(),
    }
}
