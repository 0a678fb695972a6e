//! How a trace is fitted to a fleet.
//!
//! - **Capacity** of one replica: the highest Poisson rate of the trace's requests with which one replica alone keeps the
//!   bounds for the share that the SLO asks for, found by running it.
//! - **Scale** of the trace: the most load with which `--peak-replicas` replicas, always there, keep the bounds for that
//!   share in the trace's busiest hour. So "14 replicas at the peak" means that 14 would do.
//! - **On premises**: as many replicas as the median load needs, by capacity.

use std::sync::Arc;

use super::{
    arrivals::Workload,
    baselines::fixed::Fixed,
    exporter::Signals,
    model::{Model, Slo},
    random::Random,
    serving::{Rates, Request},
    simulation::{Scenario, simulate},
    trace::{BadRows, Format, Load, Trace},
};

/// How a trace is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Replicas that just do in the busiest hour.
    pub peak_replicas: u32,
    /// Replicas that fit on premises; by the median load if not given.
    pub on_premises: Option<u32>,
    /// Least replicas.
    pub min: u32,
    /// Most replicas; three times the peak if not given.
    pub max: Option<u32>,
    /// The part of the trace that is played, seconds.
    pub span: (f64, f64),
}

/// Seconds of warm-up, or the whole trace if it is shorter: longer than a cloud node boots, a model loads, and the HPA's
/// down window.
pub const WARMUP: f64 = 900.0;

/// Length of the trace's busiest stretch, seconds.
const HOUR: f64 = 3_600.0;
/// Length of the test in which one replica shows its capacity, seconds: near saturation an hour or two say little.
const TEST: f64 = 14_400.0;
/// Windows over which load is averaged, seconds.
const WINDOW: f64 = 300.0;
/// Halvings of an interval: to one part in 1,024.
const HALVINGS: u32 = 10;
/// Seed of the fit, whatever seeds are played later.
const SEED: u64 = 0x5eed;
/// Requests of a log from which the test of one replica draws.
const DRAWN: usize = 200_000;
/// A fleet that is allowed to grow may grow to so many times the peak.
const HEADROOM: u32 = 3;

/// Fits a trace.
#[must_use]
pub fn fit(trace: &Arc<Trace>, model: &Model, slo: Slo, fit: Fit) -> Scenario {
    let whole = Workload {
        trace: Arc::clone(trace),
        scale: 1.0,
        requests: model.requests.clone(),
        from: fit.span.0.clamp(0.0, trace.seconds),
        until: fit.span.1.clamp(0.0, trace.seconds),
        warmup: 0.0,
    };
    let mut scenario = Scenario {
        workload: whole,
        model: model.clone(),
        slo,
        on_premises: 1,
        min: fit.min,
        max: fit.max.unwrap_or(fit.peak_replicas * HEADROOM).max(fit.min),
        signals: Signals::Queue,
        capacity: 1.0,
    };
    scenario.capacity = capacity(&scenario);
    let offered = windows(&scenario);
    scenario.workload.scale = scale(&scenario, &offered, fit.peak_replicas);
    let mut loads: Vec<f64> = offered.iter().map(|work| work * scenario.workload.scale / scenario.capacity).collect();
    loads.sort_by(f64::total_cmp);
    let median = loads.get(loads.len() / 2).map_or(1.0, |median| median.ceil().max(1.0));
    scenario.on_premises = fit.on_premises.unwrap_or(median as u32);
    scenario.workload.warmup = WARMUP.min(scenario.workload.seconds());
    scenario
}

/// Work, in seconds of a full replica per second, of one replica that just keeps the bounds.
fn capacity(scenario: &Scenario) -> f64 {
    let rates = Rates::new(&scenario.model);
    let sample: Vec<Request> = scenario.workload.arrivals(SEED).take(DRAWN).collect();
    let work = sample.iter().map(|request| rates.work(request)).sum::<f64>() / sample.len().max(1) as f64;
    let mut random = Random::new(SEED, 0);
    // The same requests at the same relative times for every rate, so that more is more.
    let drawn: Vec<Request> = {
        let mut at = 0.0;
        std::iter::from_fn(|| {
            at += random.exponential();
            sample.get(random.below(sample.len())).map(|request| Request { at, ..*request })
        })
        .take_while(|request| request.at * work < TEST * 2.0)
        .collect()
    };
    let keeps = |load: f64| {
        let rate = load / work;
        let requests: Vec<Request> = drawn
            .iter()
            .map(|request| Request { at: request.at / rate, ..*request })
            .take_while(|request| request.at < TEST)
            .collect();
        keeps_bounds(scenario, 1, Load::Requests(requests), 1.0, (0.0, TEST))
    };
    bisect(0.01, 2.0, keeps)
}

/// Mean work per second in each window of the unscaled trace.
fn windows(scenario: &Scenario) -> Vec<f64> {
    let rates = Rates::new(&scenario.model);
    let workload = &scenario.workload;
    let count = (workload.seconds() / WINDOW).ceil().max(1.0) as usize;
    let mut work = vec![0.0; count];
    match &workload.trace.load {
        Load::Requests(_) => {
            for request in workload.arrivals(SEED) {
                work[((request.at / WINDOW) as usize).min(count - 1)] += rates.work(&request) / WINDOW;
            }
            // The last window may be a part of one.
            let last = workload.seconds() - (count - 1) as f64 * WINDOW;
            work[count - 1] *= WINDOW / last.max(1.0);
        }
        Load::Rates(points) => {
            let some: Vec<Request> = workload.arrivals(SEED).take(DRAWN).collect();
            let mean = some.iter().map(|request| rates.work(request)).sum::<f64>() / some.len().max(1) as f64;
            for (i, window) in work.iter_mut().enumerate() {
                let at = workload.from + (i as f64 + 0.5) * WINDOW;
                let rate = super::model::interpolate(points, at.clamp(points[0].0, points[points.len() - 1].0));
                *window = mean * rate;
            }
        }
    }
    work
}

/// The most load that so many replicas bear in the busiest hour.
fn scale(scenario: &Scenario, offered: &[f64], replicas: u32) -> f64 {
    let hour = ((HOUR / WINDOW) as usize).min(offered.len());
    let sums: Vec<f64> = offered.windows(hour).map(|windows| windows.iter().sum::<f64>()).collect();
    let busiest = (0..sums.len()).max_by(|a, b| sums[*a].total_cmp(&sums[*b])).unwrap_or(0);
    let from = scenario.workload.from + busiest as f64 * WINDOW;
    let until = (from + HOUR).min(scenario.workload.until);
    let mean = sums.get(busiest).map_or(1.0, |sum| sum / hour as f64).max(1e-9);
    // So many times the load would keep the fleet just busy, were there no bursts.
    let even = f64::from(replicas) * scenario.capacity / mean;
    let keeps = |scale: f64| {
        let load = scenario.workload.trace.load.clone();
        keeps_bounds(scenario, replicas, load, scale, (from, until))
    };
    bisect(even / 64.0, even * 2.0, keeps)
}

fn keeps_bounds(scenario: &Scenario, replicas: u32, load: Load, scale: f64, (from, until): (f64, f64)) -> bool {
    let trace =
        Trace { name: String::new(), format: Format::Csv, start: None, seconds: until, load, bad: BadRows::default() };
    let workload = Workload { trace: Arc::new(trace), scale, from, until, ..scenario.workload.clone() };
    let test = Scenario { workload, on_premises: replicas, min: replicas, max: replicas, ..scenario.clone() };
    let outcome = simulate(&test, "", "", &mut Fixed(replicas), SEED);
    outcome.figures.slo_attainment >= scenario.slo.attainment
}

/// The highest value of the interval that holds, if all below one that holds do; its low end if none does.
fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::replay::{baselines::fixed::Fixed, exporter::Curve};

    /// Two hours, the second of them four times as busy.
    const TEXT: &str = "time,rate\n0,10\n1200,10\n2400,10\n3600,40\n4800,40\n6000,40\n";

    fn fitted(peak_replicas: u32, on_premises: Option<u32>) -> Scenario {
        let trace = Arc::new(Trace::parse("t", TEXT, None).expect("a trace"));
        let wanted = Fit { peak_replicas, on_premises, min: 1, max: None, span: (0.0, f64::MAX) };
        fit(&trace, &Model::default(), Slo::default(), wanted)
    }

    fn attained(scenario: &Scenario, replicas: u32, scale: f64) -> f64 {
        let mut hour = scenario.clone();
        (hour.on_premises, hour.min, hour.max) = (replicas, replicas, replicas);
        (hour.workload.from, hour.workload.warmup) = (3_600.0, 0.0);
        hour.workload.scale *= scale;
        simulate(&hour, "", "", &mut Fixed(replicas), SEED).figures.slo_attainment
    }

    /// Fitting takes its time, and the answer is always the same.
    static FIVE: LazyLock<Scenario> = LazyLock::new(|| fitted(5, None));

    #[test]
    fn the_peak_replicas_just_do_in_the_busiest_hour() {
        let scenario = &*FIVE;
        let (fits, more) = (attained(scenario, 5, 1.0), attained(scenario, 5, 1.05));
        assert!(fits >= 0.99 && more < 0.99, "{fits}, and {more} with 5 % more load");
        assert!(attained(scenario, 4, 1.0) < 0.9, "one less does not do");
    }

    #[test]
    fn the_median_load_is_covered_on_premises_unless_it_is_said_otherwise() {
        let scenario = &*FIVE;
        // A quarter of the time on the slope, half above it: the median lies on the high side, or low by as little.
        assert!((2..=5).contains(&scenario.on_premises), "{}", scenario.on_premises);
        assert_eq!(fitted(5, Some(0)).on_premises, 0);
        assert_eq!((scenario.max, scenario.workload.warmup), (15, WARMUP));
    }

    #[test]
    fn a_replica_bears_less_where_the_bounds_are_tighter_and_the_curve_changes_nothing() {
        let trace = Arc::new(Trace::parse("t", TEXT, None).expect("a trace"));
        let wanted = Fit { peak_replicas: 2, on_premises: None, min: 1, max: None, span: (0.0, f64::MAX) };
        let capacity = |ttft_seconds, curve| {
            let mut model = Model::default();
            model.exporter.curve = curve;
            fit(&trace, &model, Slo { ttft_seconds, ..Slo::default() }, wanted).capacity
        };
        let (tight, usual) = (capacity(3.0, Curve::Mono), capacity(5.0, Curve::Mono));
        assert!(tight < 0.95 * usual && tight > 0.2 * usual, "{tight} and {usual}");
        assert!((capacity(5.0, Curve::Fall) - usual).abs() < 1e-12);
    }
}
