use super::*;
use crate::replay::{
    model::{Exporter, Model},
    random::Random,
    serving::{Ledger, Rates, Replica, Request, Served},
};
use crate::signal::Signal;

struct Nobody;

impl Ledger for Nobody {
    fn ended(&mut self, _: Served) {}
    fn waiting(&mut self, _: i64) {}
}

/// `vllm_load_curve.csv`: range of running requests and the mean utilization in it.
#[test]
fn the_falling_curve_follows_the_log_of_a_real_server() {
    for (low, high, measured) in
        [(1, 1, 53.9), (2, 3, 71.3), (4, 7, 67.8), (8, 15, 61.7), (16, 31, 52.9), (32, 63, 44.8), (64, 64, 31.0)]
    {
        let mean =
            (low..=high).map(|batch| Curve::Fall.utilization(batch, 64)).sum::<f64>() / f64::from(high - low + 1);
        assert!((mean - measured).abs() < 2.0, "{low} to {high} running: {mean} against {measured}");
    }
}

#[test]
fn the_other_curves_have_the_stated_values_and_idle_is_a_true_zero() {
    for (curve, batch, expected) in [
        (Curve::Mono, 64, 80.0),
        (Curve::Mono, 16, 57.5),
        (Curve::Lin, 64, 75.0),
        (Curve::Lin, 1, 13.54),
        (Curve::Flat, 1, 97.0),
        (Curve::Flat, 64, 97.0),
    ] {
        let percent = curve.utilization(batch, 64);
        assert!((percent - expected).abs() < 0.01, "{curve:?} at {batch}: {percent}");
    }
    assert!(Curve::ALL.iter().all(|curve| curve.utilization(0, 64) == 0.0));
}

/// Reads a replica that computes one endless answer for so many scrapes.
fn readings(exporter: &Exporter, scrapes: usize) -> Vec<Option<f64>> {
    let model = Model { exporter: exporter.clone(), ..Model::default() };
    let rates = Rates::new(&model);
    let mut random = Random::new(11, 0);
    let mut replica = Replica::new(0.0);
    replica.enqueue(Request { at: 0.0, prompt: 1, output: u32::MAX }, 0.0, &rates, &mut Nobody);
    let mut probe = Probe::new(0.0, exporter, &mut random);
    let words = Words::new(exporter);
    let mut readings = Vec::new();
    while readings.len() < scrapes {
        let now = probe.next_event(exporter);
        replica.advance(now, &rates, &mut Nobody);
        let scrape = probe.look(now, &mut replica, exporter, &rates, &mut random, &mut Nobody);
        if scrape {
            let time = |at: f64| jiff::Timestamp::from_millisecond((at * 1e3) as i64).unwrap();
            let work = probe.work(now, exporter, Signals::Queue, &words, time);
            readings.push(match work.utilization {
                Signal::Known { value, at } if at == time(now) => Some(value),
                _ => None,
            });
        }
    }
    readings
}

#[test]
fn samples_lie_around_the_curve_with_the_stated_noise_and_holes() {
    let exporter = Exporter::default();
    let readings = readings(&exporter, 50_000);
    let known: Vec<f64> = readings.iter().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let deviation = (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / known.len() as f64).sqrt();
    let expected = Curve::Mono.utilization(1, 64);
    assert!((mean - expected).abs() < 0.3, "mean {mean}, the curve says {expected}");
    assert!((deviation - exporter.noise_points).abs() < 0.2, "deviation {deviation}");
    let holes = 1.0 - known.len() as f64 / readings.len() as f64;
    assert!((holes - 0.03).abs() < 0.005, "share of holes {holes}");
    let begun = readings.windows(2).filter(|pair| pair[0].is_some() && pair[1].is_none()).count() as f64;
    let length = holes * readings.len() as f64 / begun;
    assert!((length - exporter.hole_samples).abs() < 0.15, "holes of {length} samples");
}

#[test]
fn a_value_outlives_a_short_hole_and_is_unknown_after_max_age() {
    let exporter = Exporter { hole_share: 0.0, ..Exporter::default() };
    let mut random = Random::new(1, 0);
    let rates = Rates::new(&Model::default());
    let mut replica = Replica::new(0.0);
    let mut probe = Probe::new(0.0, &exporter, &mut random);
    let words = Words::new(&exporter);
    let time = |at: f64| jiff::Timestamp::from_millisecond((at * 1e3) as i64).unwrap();
    let work = |probe: &Probe, now| probe.work(now, &exporter, Signals::Queue, &words, time);
    assert!(matches!(work(&probe, 0.5).utilization, Signal::Unknown(_)), "nothing has been measured");
    let mut at = 0.0;
    for _ in 0..4 {
        at = probe.next_event(&exporter);
        probe.look(at, &mut replica, &exporter, &rates, &mut random, &mut Nobody);
    }
    let measured = Signal::Known { value: 0.0, at: time(at) };
    assert_eq!(work(&probe, at + 30.0).utilization, measured);
    assert!(matches!(work(&probe, at + 30.1).utilization, Signal::Unknown(_)));
    assert!(matches!(work(&probe, at + 1.0).prompt_tokens, Signal::Known { value: 0.0, .. }));
    let only = probe.work(at, &exporter, Signals::Utilization, &words, time);
    assert_eq!((only.running, only.kv_cache), (Signal::NotOffered, Signal::NotOffered));
}
