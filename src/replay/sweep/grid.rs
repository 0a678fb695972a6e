//! Which policies a sweep tries: every combination of some settings.

use crate::{
    engine::{Invalid, Policy},
    replay::exporter::Signals,
};

/// Most policies of one sweep: with three seeds each, and a week of trace, an hour on two cores.
pub const MOST_POLICIES: usize = 1_000;

/// The values that each setting takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Headroom quantiles of the first and of the dearer pools, 0.5 to 0.999: what is aimed at where queue signals tell the
    /// load.
    pub headrooms: Vec<(f64, f64)>,
    /// Target utilizations, percent: what is aimed at where utilization is all there is.
    pub targets: Vec<u32>,
    /// Windows within which nothing may have needed a replica before it goes, seconds; `None` is the engine's own choice.
    pub windows: Vec<Option<f64>>,
    /// Cooldowns after an addition and between removals, seconds; `None` is the engine's own choice.
    pub cooldowns: Vec<Option<f64>>,
}

/// A grid that cannot be tried.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GridError {
    /// It has too many points.
    #[error("{0} policies are too many for one sweep, which tries at most {MOST_POLICIES}: name fewer values")]
    TooMany(usize),
    /// One of its settings has no value.
    #[error("there is nothing to try: each of the settings needs at least one value")]
    Empty,
    /// The engine does not accept one of them.
    #[error("{settings}: {why}")]
    Invalid {
        /// The settings in words.
        settings: String,
        /// What is wrong with them.
        why: Invalid,
    },
}

impl Default for Grid {
    fn default() -> Self {
        Self {
            headrooms: vec![(0.6, 0.5), (0.8, 0.65), (0.9, 0.8), (0.95, 0.9), (0.99, 0.97)],
            targets: vec![50, 60, 70, 80, 90],
            windows: vec![None, Some(60.0), Some(300.0), Some(900.0)],
            cooldowns: vec![None, Some(300.0)],
        }
    }
}

impl Grid {
    /// The policies around `base`, each with its words.
    ///
    /// # Errors
    /// [`GridError`].
    pub fn policies(&self, base: &Policy, signals: Signals) -> Result<Vec<(String, Policy)>, GridError> {
        let aimed = self.aimed(base, signals);
        match aimed.len().saturating_mul(self.windows.len()).saturating_mul(self.cooldowns.len()) {
            0 => return Err(GridError::Empty),
            count if count > MOST_POLICIES => return Err(GridError::TooMany(count)),
            _ => {}
        }
        let words = |seconds: Option<f64>| seconds.map_or("own".to_owned(), |seconds| format!("{seconds} s"));
        let mut policies = Vec::new();
        for (aim, policy) in &aimed {
            for window in &self.windows {
                for cooldown in &self.cooldowns {
                    let mut policy = policy.clone();
                    policy.behavior.down.window_seconds = *window;
                    policy.behavior.down.cooldown_seconds = *cooldown;
                    let settings = format!("{aim}, window {}, cooldown {}", words(*window), words(*cooldown));
                    if let Err(why) = policy.validate() {
                        return Err(GridError::Invalid { settings, why });
                    }
                    policies.push((settings, policy));
                }
            }
        }
        Ok(policies)
    }

    /// What is aimed at: how full replicas may get.
    fn aimed(&self, base: &Policy, signals: Signals) -> Vec<(String, Policy)> {
        let with = |words: String, change: &dyn Fn(&mut Policy)| {
            let mut policy = base.clone();
            change(&mut policy);
            (words, policy)
        };
        match signals {
            Signals::Queue => {
                let aims = self.headrooms.iter();
                aims.map(|(first, burst)| {
                    with(format!("headroom {first}/{burst}"), &|policy| {
                        policy.behavior.headroom.quantile = *first;
                        policy.behavior.headroom.burst_quantile = *burst;
                    })
                })
                .collect()
            }
            Signals::Utilization => {
                let aims = self.targets.iter();
                aims.map(|target| {
                    with(format!("target {target} %"), &|policy| policy.target_utilization = f64::from(*target))
                })
                .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination_once_by_the_signals_that_there_are() {
        for (signals, aim) in [(Signals::Queue, "headroom 0.6/0.5"), (Signals::Utilization, "target 50 %")] {
            let policies = Grid::default().policies(&Policy::default(), signals).expect("valid");
            assert_eq!(policies.len(), 40);
            assert_eq!(policies[0].0, format!("{aim}, window own, cooldown own"));
            for (i, (words, policy)) in policies.iter().enumerate() {
                assert!(policies[..i].iter().all(|(_, other)| other != policy), "{words}");
            }
        }
    }

    #[test]
    fn a_grid_that_cannot_be_tried_says_which_of_its_settings_is_wrong() {
        let error = |grid: Grid| grid.policies(&Policy::default(), Signals::Queue).expect_err("not a grid").to_string();
        let few = Grid { headrooms: vec![(0.3, 0.3)], ..Grid::default() };
        assert!(error(few).contains("headroom 0.3/0.3, window own, cooldown own: behavior.headroom.quantile"));
        let many = Grid { windows: vec![None; 101], ..Grid::default() };
        assert!(error(many).starts_with("1010 policies are too many"));
        assert!(error(Grid { cooldowns: Vec::new(), ..Grid::default() }).contains("at least one value"));
    }
}
