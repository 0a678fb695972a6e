//! `tidegate demo`: the main job with no cluster and no GPU, in one process.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;

use crate::sim::scene::{self, COMPRESSION, SPEEDS, Settings, Summary, Tick, script};

mod engine;
mod paint;
mod table;
mod timeline;

use paint::Paint;

const EXAMPLES: &str = "Examples:
  tidegate demo
  tidegate demo --speed 5 --json | jq -c '{time, ready, desired}'
  tidegate demo --speed 0.05      # in real time: twenty minutes
  tidegate demo --engine          # a ScalingPolicy decides: queues, two pools, slow model loads
  tidegate demo --engine --json | jq -r 'select(.sentence) | \"\\(.time) \\(.sentence)\"'
  tidegate demo --engine --record decisions.jsonl && tidegate replay --decisions decisions.jsonl

Exit status 0: the scene played as described. Up to 3 replicas and back to 1, none removed
that the load warranted, each fault seen as unknown. With --engine: up to 3 or more, on premises
first, and back to the nodes on premises, the cloud first; nothing removed while the service is
unknown, nothing asked for again for the same load while it is on its way.
Exit status 1: something of it did not hold; the last line says what.";

/// The first line of the output, whatever its form.
const WHAT_IS_SIMULATED: &str = "tidegate demo. Simulated: GPUs, pods, load and the autoscaler (a model of the HPA). Real: exporter pages over \
     HTTP, scraping, attribution, the metrics API over TLS.";

/// Play the main job with no cluster and no GPU: load rises and falls, an exporter fails at peak, an autoscaler follows.
///
/// Three simulated nodes serve GPU exporter pages on loopback sockets. The real adapter code scrapes them, attributes what
/// they say to pods, and serves the metrics API, which a model of the Horizontal Pod Autoscaler asks over TLS. The scene
/// lasts twenty minutes and is played in one.
///
/// With --engine a ScalingPolicy takes the place of the HPA's recipe, and each change of the engine's decision is told with
/// its reasons: the load outgrows two on-premises nodes, a cloud node is bought, models take a minute to load; then pages are
/// lost at peak, and the load falls while nobody can know.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Play so many times faster: 0.05 (real time) to 20.
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = speed)]
    speed: f64,
    /// Print one JSON object a line for each sync of the autoscaler, and a summary as the last line.
    #[arg(long)]
    json: bool,
    /// Seed of the noise in the readings.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Show the adapter's own metrics for Prometheus on http://IP:PORT/metrics.
    #[arg(long, value_name = "IP:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Let the engine decide, by a ScalingPolicy, and tell its reasons.
    #[arg(long)]
    engine: bool,
    /// Record the engine's decisions with what they were made from, for `tidegate replay --decisions`.
    #[arg(long, value_name = "FILE", requires = "engine")]
    record: Option<PathBuf>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if SPEEDS.contains(&speed) => Ok(speed),
        _ => Err(format!("expected a number from {} to {}, got {text:?}", SPEEDS.start(), SPEEDS.end())),
    }
}

/// Plays the scene to its end.
///
/// # Errors
/// The scene cannot go on, for lack of sockets for example, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { speed, json, seed, metrics_listen: metrics, engine, ref record } = *args;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let settings = Settings { speed, seed, metrics };
    if engine {
        return Ok(judged(runtime.block_on(engine::play(settings, record.clone(), json))?.judge()));
    }
    let summary = if json {
        eprintln!("{WHAT_IS_SIMULATED}");
        runtime.block_on(as_json(settings, &mut io::stdout()))?
    } else {
        runtime.block_on(for_people(settings))?
    };
    Ok(judged(summary.judge()))
}

/// The exit status that goes with a scene's judgement.
fn judged(judgement: Result<(), impl std::error::Error>) -> ExitCode {
    match judgement {
        Ok(()) => ExitCode::SUCCESS,
        Err(flop) => {
            eprintln!("error: the scene did not play as described: {flop}");
            ExitCode::FAILURE
        }
    }
}

/// Colours if they can be seen.
fn paint() -> Paint {
    Paint::new(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()))
}

async fn as_json(settings: Settings, out: &mut impl Write) -> anyhow::Result<Summary> {
    let summary = scene::play(settings, |tick| writeln!(out, "{}", serde_json::to_string(tick)?)).await?;
    writeln!(out, "{}", serde_json::json!({ "summary": summary }))?;
    Ok(summary)
}

async fn for_people(settings: Settings) -> anyhow::Result<Summary> {
    let mut out = io::stdout();
    let paint = paint();
    let minutes = script::END.as_secs_f64() / 60.0;
    let seconds = script::END.as_secs_f64() / COMPRESSION / settings.speed;
    writeln!(
        out,
        "{WHAT_IS_SIMULATED}\n{} follows {} with a target of {} %, from {} to {} replicas. Load is counted in replicas kept \
         fully busy. {minutes:.0} minutes play in {seconds:.0} seconds.\n",
        script::SERVICE,
        script::METRIC,
        script::TARGET,
        script::MIN_REPLICAS,
        script::MAX_REPLICAS,
    )?;
    writeln!(out, "{}", table::head(paint))?;
    let mut ticks: Vec<Tick> = Vec::new();
    let summary = scene::play(settings, |tick| {
        let lines = table::lines(tick, ticks.last(), paint);
        ticks.push(tick.clone());
        io::stdout().write_all(lines.as_bytes())?;
        io::stdout().flush()
    })
    .await?;
    writeln!(out, "\n{}", timeline::plot(&ticks, paint))?;
    writeln!(out, "{}", timeline::sentence(&ticks, &summary))?;
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each slower than the one before: scheduling delays of the machine are not compressed, and at one of these no sample
    /// becomes old because the tests beside this one take all processors. Where the scene itself is wrong, it is at all speeds.
    const SPEEDS: [f64; 3] = [2.0, 0.8, 0.3];

    #[tokio::test(flavor = "multi_thread")]
    async fn the_scene_goes_from_one_to_three_to_one_and_a_fault_shrinks_nothing() {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut wrong = String::new();
        for speed in SPEEDS {
            let mut out = Vec::new();
            let summary = as_json(Settings { speed, seed: 7, metrics: None }, &mut out).await.expect("it plays");
            let out = String::from_utf8(out).expect("text");
            match as_described(&summary, &out) {
                Ok(()) => return,
                Err(why) => wrong += &format!("at speed {speed}: {why}\n{out}\n"),
            }
        }
        panic!("{wrong}");
    }

    fn as_described(summary: &Summary, out: &str) -> Result<(), String> {
        summary.judge().map_err(|flop| flop.to_string())?;
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        let (last, ticks) = lines.split_last().expect("lines");
        let last = &last["summary"];
        assert_eq!((&last["max_replicas"], &last["final_replicas"]), (&3.into(), &1.into()), "{last}");
        assert_eq!(last["wrong_scale_downs"], 0, "{last}");
        assert!(last["seconds"].as_f64().is_some_and(|seconds| seconds > 5.0), "{last}");
        let reasons: Vec<&str> = ticks.iter().filter_map(|tick| tick["pods"][1]["unknown"].as_str()).collect();
        for reason in ["last measured", "attribution failed"] {
            if !reasons.iter().any(|text| text.starts_with(reason)) {
                return Err(format!("{reason}: {reasons:?}"));
            }
        }
        if last["wrong_scale_downs_if_unknown_were_zero"] == 0 {
            return Err(
                "the faults do not last long enough to shrink a service whose unknown pods are answered as 0".into()
            );
        }
        Ok(())
    }

    #[test]
    fn speeds_outside_of_what_can_be_played_are_refused_with_the_range() {
        assert_eq!(speed("5"), Ok(5.0));
        for wrong in ["0", "-1", "100", "NaN", "fast"] {
            let error = speed(wrong).expect_err("not a speed");
            assert!(error.contains("0.05 to 20") && error.contains(wrong), "{error}");
        }
    }
}
