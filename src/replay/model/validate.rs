//! What a model must fulfil beyond its types.

use super::{Exporter, Model, Pools, Requests, Serving, Slo, Startup};
use crate::engine::Invalid;

/// Longest time in a model, seconds: a day.
const LONGEST_SECONDS: f64 = 86_400.0;
/// Most requests in a batch: tables are made for each size.
const MOST_RUNNING: u32 = 4_096;

fn require(holds: bool, field: &str, rule: &'static str, value: impl std::fmt::Debug) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field: field.to_owned(), rule, value: format!("{value:?}") }) }
}

fn seconds(value: f64, field: &str) -> Result<(), Invalid> {
    // NaN is in no range.
    require((0.0..=LONGEST_SECONDS).contains(&value), field, "must be 0 to 86400 seconds", value)
}

fn positive(value: f64, field: &str) -> Result<(), Invalid> {
    require(value > 0.0 && value <= 1e9, field, "must be above 0 and at most 1e9", value)
}

fn table(points: &[(f64, f64)], field: &str) -> Result<(), Invalid> {
    let sound = points.iter().all(|(x, y)| x.is_finite() && *x >= 0.0 && y.is_finite() && *y > 0.0);
    require(sound, field, "must hold pairs of finite numbers, the second above 0", points)?;
    require(points.len() >= 2, field, "must hold at least two pairs", points)?;
    require(points.is_sorted_by(|a, b| a.0 < b.0), field, "must rise in the first number", points)
}

impl Model {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self { serving, startup, exporter, pools, requests } = self;
        serving.validate()?;
        startup.validate()?;
        exporter.validate()?;
        pools.validate()?;
        requests.validate()
    }
}

impl Serving {
    fn validate(&self) -> Result<(), Invalid> {
        let Self {
            prefill_ms,
            decode_step_ms,
            chunk_tokens: _,
            max_running,
            kv_cache_tokens,
            give_up_seconds,
            drain_grace_seconds,
            gpus_per_replica,
        } = self;
        table(prefill_ms, "serving.prefillMs")?;
        table(decode_step_ms, "serving.decodeStepMs")?;
        require((1..=MOST_RUNNING).contains(max_running), "serving.maxRunning", "must be 1 to 4096", max_running)?;
        require(*kv_cache_tokens > 0, "serving.kvCacheTokens", "must be above 0", kv_cache_tokens)?;
        seconds(*give_up_seconds, "serving.giveUpSeconds")?;
        seconds(*drain_grace_seconds, "serving.drainGraceSeconds")?;
        require(*gpus_per_replica > 0, "serving.gpusPerReplica", "must be above 0", gpus_per_replica)
    }
}

impl Startup {
    fn validate(&self) -> Result<(), Invalid> {
        const FIELD: &str = "startup.modelLoadQuantiles";
        let Self { container_start_seconds, model_load_quantiles } = self;
        seconds(*container_start_seconds, "startup.containerStartSeconds")?;
        table(model_load_quantiles, FIELD)?;
        let whole = model_load_quantiles.first().is_some_and(|(first, _)| *first == 0.0)
            && model_load_quantiles.last().is_some_and(|(last, _)| (*last - 1.0).abs() < f64::EPSILON);
        require(whole, FIELD, "must go from 0 to 1", model_load_quantiles)
    }
}

impl Exporter {
    fn validate(&self) -> Result<(), Invalid> {
        let Self {
            curve: _,
            interval_seconds,
            window_seconds,
            noise_points,
            hole_share,
            hole_samples,
            max_age_seconds,
        } = *self;
        seconds(interval_seconds, "exporter.intervalSeconds")?;
        require(
            window_seconds > 0.0 && window_seconds < interval_seconds,
            "exporter.windowSeconds",
            "must be above 0 and below intervalSeconds",
            window_seconds,
        )?;
        require((0.0..=100.0).contains(&noise_points), "exporter.noisePoints", "must be 0 to 100", noise_points)?;
        require((0.0..1.0).contains(&hole_share), "exporter.holeShare", "must be at least 0 and below 1", hole_share)?;
        require((1.0..=1e6).contains(&hole_samples), "exporter.holeSamples", "must be at least 1", hole_samples)?;
        seconds(max_age_seconds, "exporter.maxAgeSeconds")
    }
}

impl Pools {
    fn validate(&self) -> Result<(), Invalid> {
        let Self {
            cloud_boot_seconds,
            cloud_boot_sigma,
            cloud_release_seconds,
            cloud_max: _,
            on_premises_price,
            cloud_price,
        } = *self;
        seconds(cloud_boot_seconds, "pools.cloudBootSeconds")?;
        require((0.0..=3.0).contains(&cloud_boot_sigma), "pools.cloudBootSigma", "must be 0 to 3", cloud_boot_sigma)?;
        seconds(cloud_release_seconds, "pools.cloudReleaseSeconds")?;
        positive(on_premises_price, "pools.onPremisesPrice")?;
        positive(cloud_price, "pools.cloudPrice")
    }
}

impl Requests {
    fn validate(&self) -> Result<(), Invalid> {
        let Self {
            prompt_median,
            prompt_sigma,
            prompt_max,
            output_median,
            output_sigma,
            output_max,
            arrival_cv,
            copy_jitter_seconds,
        } = *self;
        positive(prompt_median, "requests.promptMedian")?;
        positive(prompt_max, "requests.promptMax")?;
        positive(output_median, "requests.outputMedian")?;
        positive(output_max, "requests.outputMax")?;
        for (sigma, field) in [(prompt_sigma, "requests.promptSigma"), (output_sigma, "requests.outputSigma")] {
            require((0.0..=5.0).contains(&sigma), field, "must be 0 to 5", sigma)?;
        }
        require((0.01..=100.0).contains(&arrival_cv), "requests.arrivalCv", "must be 0.01 to 100", arrival_cv)?;
        seconds(copy_jitter_seconds, "requests.copyJitterSeconds")
    }
}

impl Slo {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self { ttft_seconds, tpot_seconds, attainment } = *self;
        positive(ttft_seconds, "ttft")?;
        positive(tpot_seconds, "tpot")?;
        require(attainment > 0.0 && attainment < 1.0, "attainment", "must be between 0 and 1", attainment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Model::default().validate(), Ok(()));
        assert_eq!(Slo::default().validate(), Ok(()));
    }

    #[test]
    fn what_cannot_be_names_the_field_the_rule_and_the_value() {
        let invalid = |change: fn(&mut Model)| {
            let mut model = Model::default();
            change(&mut model);
            model.validate().expect_err("invalid").to_string()
        };
        for (message, expected) in [
            (
                invalid(|model| model.serving.prefill_ms = vec![(1.0, 2.0)]),
                "serving.prefillMs: must hold at least two pairs",
            ),
            (
                invalid(|model| model.serving.decode_step_ms = vec![(2.0, 2.0), (1.0, 3.0)]),
                "serving.decodeStepMs: must rise in the first number, got [(2.0, 2.0), (1.0, 3.0)]",
            ),
            (
                invalid(|model| model.startup.model_load_quantiles = vec![(0.5, 2.0), (1.0, 3.0)]),
                "startup.modelLoadQuantiles: must go from 0 to 1",
            ),
            (
                invalid(|model| model.exporter.window_seconds = 10.0),
                "exporter.windowSeconds: must be above 0 and below intervalSeconds, got 10.0",
            ),
            (invalid(|model| model.pools.cloud_price = f64::NAN), "pools.cloudPrice: must be above 0"),
            (invalid(|model| model.requests.arrival_cv = 0.0), "requests.arrivalCv: must be 0.01 to 100, got 0.0"),
        ] {
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
