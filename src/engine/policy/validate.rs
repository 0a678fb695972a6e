//! What a policy must fulfil beyond its types. The CRD's schema says the same where a schema can say it.

use super::{Behavior, Boot, Down, Headroom, Objective, Policy, Pool, Up};

/// A field that cannot work: which, what must hold, what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}, got {value}")]
pub struct Invalid {
    /// Path of the field as it is written, e.g. `pools[1].cost`.
    pub field: String,
    /// What must hold.
    pub rule: &'static str,
    /// What was given.
    pub value: String,
}

/// Most replicas that a policy may allow: more is a slip of the pen, and the engine's work grows with it.
pub const MOST_REPLICAS: u32 = 10_000;
/// Most pools.
pub const MOST_POOLS: usize = 16;
/// Longest time in a policy, seconds: a day.
pub const LONGEST_SECONDS: f64 = 86_400.0;

fn require(holds: bool, field: &str, rule: &'static str, value: impl std::fmt::Display) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field: field.to_owned(), rule, value: value.to_string() }) }
}

fn seconds(value: f64, field: &str) -> Result<(), Invalid> {
    // NaN is in no range.
    require((0.0..=LONGEST_SECONDS).contains(&value), field, "must be 0 to 86400 seconds", value)
}

impl Policy {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self { min, max, signals: _, target_utilization, objective, pools, behavior } = self;
        require(*max >= 1, "max", "must be at least 1", max)?;
        require(*max <= MOST_REPLICAS, "max", "must be at most 10000", max)?;
        require(min <= max, "min", "must be at most max", min)?;
        let target = *target_utilization;
        require(target > 0.0 && target <= 100.0, "targetUtilization", "must be above 0 and at most 100", target)?;
        objective.validate()?;
        require(pools.len() <= MOST_POOLS, "pools", "must be at most 16", pools.len())?;
        for (i, pool) in pools.iter().enumerate() {
            pool.validate(&format!("pools[{i}]"))?;
            let leaves = pool.return_after_seconds.filter(|_| i == 0);
            let field = "pools[0].returnAfter";
            require(
                leaves.is_none(),
                field,
                "must be left out: there is no pool before the first",
                leaves.unwrap_or(0.0),
            )?;
            let twin = pools[..i].iter().any(|other| other.name == pool.name);
            require(!twin, &format!("pools[{i}].name"), "must differ from the other pools' names", &pool.name)?;
        }
        behavior.validate()
    }
}

impl Objective {
    fn validate(&self) -> Result<(), Invalid> {
        let Self { time_to_first_token_seconds, time_per_output_token_seconds } = *self;
        for (value, field) in [
            (time_to_first_token_seconds, "objective.timeToFirstTokenSeconds"),
            (time_per_output_token_seconds, "objective.timePerOutputTokenSeconds"),
        ] {
            require(value > 0.0, field, "must be above 0", value)?;
            seconds(value, field)?;
        }
        Ok(())
    }
}

impl Pool {
    fn validate(&self, at: &str) -> Result<(), Invalid> {
        let Self { name, cost, max: _, elastic: _, boot, return_after_seconds, node_release_seconds } = self;
        require(!name.is_empty(), &format!("{at}.name"), "must not be empty", "\"\"")?;
        require(*cost > 0.0 && cost.is_finite(), &format!("{at}.cost"), "must be above 0", cost)?;
        let Boot { node_seconds, image_seconds, load_seconds } = *boot;
        seconds(node_seconds, &format!("{at}.boot.nodeSeconds"))?;
        seconds(image_seconds, &format!("{at}.boot.imageSeconds"))?;
        seconds(load_seconds, &format!("{at}.boot.loadSeconds"))?;
        if let Some(after) = *return_after_seconds {
            seconds(after, &format!("{at}.returnAfterSeconds"))?;
        }
        seconds(*node_release_seconds, &format!("{at}.nodeReleaseSeconds"))
    }
}

impl Behavior {
    fn validate(&self) -> Result<(), Invalid> {
        let Self { up, down, headroom } = *self;
        let Up { cooldown_seconds, step, clear_backlog_seconds } = up;
        seconds(cooldown_seconds, "behavior.up.cooldownSeconds")?;
        require(step != Some(0), "behavior.up.step", "must be at least 1", 0)?;
        if let Some(clear) = clear_backlog_seconds {
            let field = "behavior.up.clearBacklogSeconds";
            require(clear > 0.0, field, "must be above 0", clear)?;
            seconds(clear, field)?;
        }
        let Down { window_seconds, cooldown_seconds, step, margin } = down;
        for (value, field) in
            [(window_seconds, "behavior.down.windowSeconds"), (cooldown_seconds, "behavior.down.cooldownSeconds")]
        {
            value.map_or(Ok(()), |value| seconds(value, field))?;
        }
        require(step >= 1, "behavior.down.step", "must be at least 1", step)?;
        require((0.0..=0.5).contains(&margin), "behavior.down.margin", "must be 0 to 0.5", margin)?;
        let Headroom { quantile, burst_quantile } = headroom;
        for (value, field) in
            [(quantile, "behavior.headroom.quantile"), (burst_quantile, "behavior.headroom.burstQuantile")]
        {
            require((0.5..1.0).contains(&value), field, "must be at least 0.5 and below 1", value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Policy::default().validate(), Ok(()));
        let pools = vec![Pool { name: "a".into(), ..Pool::default() }, Pool { name: "b".into(), ..Pool::default() }];
        assert_eq!(Policy { pools, ..Policy::default() }.validate(), Ok(()));
    }

    #[test]
    fn a_bad_policy_is_refused_with_field_rule_and_value() {
        let cases: [(&str, &str); 16] = [
            (r#"{"max": 0}"#, "max: must be at least 1, got 0"),
            (r#"{"max": 10001}"#, "max: must be at most 10000, got 10001"),
            (r#"{"min": 11}"#, "min: must be at most max, got 11"),
            (r#"{"targetUtilization": 0}"#, "targetUtilization: must be above 0 and at most 100, got 0"),
            (
                r#"{"objective": {"timePerOutputTokenSeconds": 0}}"#,
                "objective.timePerOutputTokenSeconds: must be above 0, got 0",
            ),
            (r#"{"pools": [{"name": ""}]}"#, "pools[0].name: must not be empty, got \"\""),
            (
                r#"{"pools": [{"name": "a"}, {"name": "a"}]}"#,
                "pools[1].name: must differ from the other pools' names, got a",
            ),
            (r#"{"pools": [{"cost": -1}]}"#, "pools[0].cost: must be above 0, got -1"),
            (
                r#"{"pools": [{"boot": {"loadSeconds": -1}}]}"#,
                "pools[0].boot.loadSeconds: must be 0 to 86400 seconds, got -1",
            ),
            (
                r#"{"pools": [{"returnAfterSeconds": 60}]}"#,
                "pools[0].returnAfter: must be left out: there is no pool before the first, got 60",
            ),
            (
                r#"{"pools": [{"name": "a"}, {"returnAfterSeconds": -1}]}"#,
                "pools[1].returnAfterSeconds: must be 0 to 86400 seconds, got -1",
            ),
            (r#"{"behavior": {"up": {"step": 0}}}"#, "behavior.up.step: must be at least 1, got 0"),
            (r#"{"behavior": {"down": {"step": 0}}}"#, "behavior.down.step: must be at least 1, got 0"),
            (r#"{"behavior": {"down": {"margin": 0.6}}}"#, "behavior.down.margin: must be 0 to 0.5, got 0.6"),
            (
                r#"{"behavior": {"down": {"windowSeconds": 90000}}}"#,
                "behavior.down.windowSeconds: must be 0 to 86400 seconds, got 90000",
            ),
            (
                r#"{"behavior": {"headroom": {"quantile": 1}}}"#,
                "behavior.headroom.quantile: must be at least 0.5 and below 1, got 1",
            ),
        ];
        for (text, expected) in cases {
            let policy: Policy = serde_json::from_str(text).expect(text);
            assert_eq!(policy.validate().expect_err(text).to_string(), expected);
        }
        let policy = Policy { target_utilization: f64::NAN, ..Policy::default() };
        assert!(policy.validate().is_err());
    }
}
