use super::*;
use crate::replay::{
    model::Model,
    trace::{BadRows, Format},
};

fn workload(load: Load, seconds: f64, scale: f64) -> Workload {
    let trace = Trace { name: String::new(), format: Format::Csv, start: None, seconds, load, bad: BadRows::default() };
    let requests = Model::default().requests;
    Workload { trace: Arc::new(trace), scale, requests, from: 0.0, until: seconds, warmup: 0.0 }
}

fn steady(rate: f64, seconds: f64) -> Workload {
    workload(Load::Rates(vec![(0.0, rate), (seconds, rate)]), seconds, 1.0)
}

fn gaps(arrivals: Arrivals) -> Vec<f64> {
    let times: Vec<f64> = arrivals.map(|request| request.at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn rates_become_gaps_with_the_stated_mean_and_variation() {
    for cv in [1.0, 0.5, 2.0] {
        let mut load = steady(20.0, 5_000.0);
        load.requests.arrival_cv = cv;
        let gaps = gaps(load.arrivals(1));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean * 20.0 - 1.0).abs() < 0.02, "cv {cv}: mean gap {mean}");
        assert!((deviation / mean / cv - 1.0).abs() < 0.03, "cv {cv}: {}", deviation / mean);
    }
}

#[test]
fn rates_follow_straight_lines_between_their_points() {
    let load = workload(Load::Rates(vec![(0.0, 0.0), (1_000.0, 20.0), (2_000.0, 0.0)]), 2_000.0, 2.0);
    let mut counts = [0.0_f64; 4];
    load.arrivals(3).for_each(|request| counts[(request.at / 500.0) as usize] += 1.0);
    for (count, expected) in counts.iter().zip([5_000.0, 15_000.0, 15_000.0, 5_000.0]) {
        assert!((count / expected - 1.0).abs() < 0.05, "{counts:?}");
    }
}

/// Means of Azure's conversation trace: 1,155 and 211 tokens. Two moments of the logarithm do not make a law: its longest
/// tail is lighter than log-normal, and so the means lie a little above.
#[test]
fn token_lengths_have_about_the_means_of_the_trace_that_they_stand_for() {
    let drawn: Vec<Request> = steady(50.0, 2_000.0).arrivals(1).collect();
    let mean =
        |of: fn(&Request) -> u32| drawn.iter().map(|request| f64::from(of(request))).sum::<f64>() / drawn.len() as f64;
    let (prompt, output) = (mean(|request| request.prompt), mean(|request| request.output));
    assert!((1.0..1.1).contains(&(prompt / 1_155.0)), "{prompt}");
    assert!((0.97..1.1).contains(&(output / 211.0)), "{output}");
}

#[test]
fn a_log_is_thinned_or_superposed_and_stays_in_order() {
    let requests: Vec<Request> = (0..20_000).map(|i| Request { at: f64::from(i), prompt: 7, output: 3 }).collect();
    for scale in [0.25, 1.0, 2.5] {
        let load = workload(Load::Requests(requests.clone()), 20_000.0, scale);
        let drawn: Vec<Request> = load.arrivals(1).collect();
        assert!((drawn.len() as f64 / 20_000.0 / scale - 1.0).abs() < 0.03, "{scale}: {}", drawn.len());
        assert!(drawn.is_sorted_by(|a, b| a.at <= b.at) && drawn.iter().all(|request| request.prompt == 7));
    }
    let once: Vec<Request> = workload(Load::Requests(requests.clone()), 20_000.0, 1.0).arrivals(1).collect();
    assert_eq!(once, requests, "at scale 1 it is the log itself");
}

#[test]
fn the_warm_up_is_the_beginning_backwards_and_shifts_the_rest() {
    let requests: Vec<Request> = [0.0, 1.0, 4.0, 9.0].map(|at| Request { at, prompt: 1, output: 1 }).into();
    let mut load = workload(Load::Requests(requests), 10.0, 1.0);
    load.warmup = 5.0;
    let times: Vec<f64> = load.arrivals(1).map(|request| request.at).collect();
    assert_eq!(times, [1.0, 4.0, 5.0, 6.0, 9.0, 14.0]);
    let mut ramp = workload(Load::Rates(vec![(0.0, 0.0), (1_000.0, 100.0)]), 1_000.0, 1.0);
    ramp.warmup = 1_000.0;
    let (before, after): (Vec<Request>, Vec<Request>) = ramp.arrivals(1).partition(|request| request.at < 1_000.0);
    assert!((before.len() as f64 / after.len() as f64 - 1.0).abs() < 0.03, "{} and {}", before.len(), after.len());
    let late = before.iter().filter(|request| request.at > 500.0).count() as f64;
    assert!((late / before.len() as f64 - 0.25).abs() < 0.02, "the load falls towards the first second");
}

#[test]
fn the_same_seed_gives_the_same_requests_and_another_one_others() {
    let draw = |seed| steady(5.0, 500.0).arrivals(seed).collect::<Vec<_>>();
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
