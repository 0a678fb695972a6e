//! What `--sweep` tries, by options.

use std::time::Duration as Time;

use anyhow::bail;

use crate::{
    config::Duration,
    replay::{exporter::Signals, sweep::Grid},
};

/// What a sweep tries: every combination of these.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What --sweep tries: every combination")]
pub(super) struct GridArgs {
    /// Headroom: the share of the forecast's own errors that is reserved for, 0.5 to 0.999, in the first pool and, after a
    /// slash, in the dearer ones; such as 0.8/0.65,0.95 [default: 0.6/0.5,0.8/0.65,0.9/0.8,0.95/0.9,0.99/0.97].
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = headroom, requires = "sweep")]
    headrooms: Vec<(f64, f64)>,
    /// Target utilizations in percent, with --signals utilization [default: 50,60,70,80,90].
    #[arg(long, value_name = "PERCENTS", value_delimiter = ',', requires = "sweep",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    targets: Vec<u32>,
    /// Times within which nothing may have needed a replica before it goes; `own` is the engine's own choice
    /// [default: own,1m,5m,15m].
    #[arg(long, value_name = "DURATIONS", value_delimiter = ',', value_parser = own_or_time, requires = "sweep")]
    windows: Vec<OwnOr>,
    /// Cooldowns after an addition and between removals [default: own,5m].
    #[arg(long, value_name = "DURATIONS", value_delimiter = ',', value_parser = own_or_time, requires = "sweep")]
    cooldowns: Vec<OwnOr>,
}

/// The engine's own choice, or a time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OwnOr(Option<Time>);

fn own_or_time(text: &str) -> Result<OwnOr, String> {
    if text == "own" {
        return Ok(OwnOr(None));
    }
    let time = text.parse::<Duration>().map_err(|error| format!("expected own or a duration such as 5m: {error}"))?;
    Ok(OwnOr(Some(time.0)))
}

fn headroom(text: &str) -> Result<(f64, f64), String> {
    let (first, burst) = text.split_once('/').unwrap_or((text, text));
    match (first.parse(), burst.parse()) {
        (Ok(first), Ok(burst)) => Ok((first, burst)),
        _ => Err(format!("expected shares such as 0.9 or 0.9/0.8, got {text:?}")),
    }
}

impl GridArgs {
    /// The grid; what is not named is the default.
    pub(super) fn grid(&self, signals: Signals) -> anyhow::Result<Grid> {
        let Self { headrooms, targets, windows, cooldowns } = self;
        match signals {
            Signals::Queue if !targets.is_empty() => {
                bail!(
                    "--targets: queues tell the load here, so that no utilization is aimed at: use --headrooms, or --signals utilization"
                )
            }
            Signals::Utilization if !headrooms.is_empty() => {
                bail!("--headrooms: with --signals utilization it is --targets that say how full replicas may get")
            }
            Signals::Queue | Signals::Utilization => {}
        }
        let defaults = Grid::default();
        let times = |named: &[OwnOr], usual: Vec<Option<f64>>| {
            if named.is_empty() {
                usual
            } else {
                named.iter().map(|OwnOr(time)| time.map(|time| time.as_secs_f64())).collect()
            }
        };
        Ok(Grid {
            headrooms: if headrooms.is_empty() { defaults.headrooms } else { headrooms.clone() },
            targets: if targets.is_empty() { defaults.targets } else { targets.clone() },
            windows: times(windows, defaults.windows),
            cooldowns: times(cooldowns, defaults.cooldowns),
        })
    }
}
