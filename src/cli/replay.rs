//! `tidegate replay`: what a policy would have done, before anyone trusts it with a cluster.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};

use crate::{
    config::{self, Duration},
    engine::{Policy, record},
    gpu::Vocabulary,
    policy::{ScalingPolicy, manifest::manifest, settings::Settings},
    replay::{
        Model, Scenario, Slo, Trace,
        calibrate::{self, Fit},
        contest::{Name, contest},
        exporter::{Curve, Signals},
        summary, sweep,
        tidegate::policy_for,
        trace::{Format, MAX_BYTES},
    },
};

mod grid;
mod page;
mod progress;
mod suite;
mod table;

use progress::Progress;

const EXAMPLES: &str = "Examples:
  tidegate replay azure_code.csv                   # the engine and its rivals, as a table
  tidegate replay rates.csv --peak-replicas 20 --on-prem 6
  tidegate replay rates.csv --curve fall --signals utilization
  tidegate replay rates.csv --policy policy.yaml --only tidegate,fixed --seeds 5 --json
  tidegate replay rates.csv --html report.html     # with plots and reasons, to show to others
  tidegate replay rates.csv --sweep                # which policy to take, as a ScalingPolicy
  tidegate replay rates.csv --sweep --headrooms 0.8,0.9,0.95 --windows 2m,10m --html front.html
  tidegate replay rates.csv --sweep --signals utilization --targets 55,65,75
  tidegate replay --suite traces/                  # all traces, against what has to be reached
  tidegate replay --suite traces/ --html suite.html --json  # the same, as a page and as JSON
  tidegate replay --print-model > model.yaml       # every number of the model; then --model
  tidegate replay --decisions recorded.jsonl       # the same decisions, bit for bit, or exit 1

Traces:
  azure       CSV with TIMESTAMP,ContextTokens,GeneratedTokens (github.com/Azure/AzurePublicDataset)
  mooncake    JSON lines with timestamp, input_length, output_length
              (github.com/kvcache-ai/Mooncake)
  servegen    CSV with start_s,requests_per_s (rates from github.com/alibaba/ServeGen)
  csv         CSV with time,rate: seconds, Unix time or RFC 3339, and requests per second
  prometheus  JSON of your own cluster: curl -G $PROM/api/v1/query_range \\
              --data-urlencode 'query=sum(rate(vllm:request_success_total[5m]))' \\
              -d start=… -d end=… -d step=60s

A trace is scaled so that --peak-replicas replicas, always there, just keep the bounds for 99 % of
the requests of its busiest hour. Where it has only rates, requests arrive at random (Poisson) with
log-normal token lengths.";

/// Replay load through the engine and its rivals: what it would have cost and whether requests were served in time.
///
/// Runs the very engine that decides in the cluster over a trace, through a model of the serving system: continuous batching
/// with measured prefill and decode times, queues, model loads, two pools of nodes, and GPU utilization as an exporter
/// shows it. Beside it run the HPA (with the usual recipe, and tuned for this very trace), KEDA, Knative's KPA and a
/// constant fleet, all through the same simulator.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The trace of load.
    #[arg(value_name = "TRACE", required_unless_present_any = ["suite", "decisions", "print_model"])]
    trace: Option<PathBuf>,
    /// Its format, if it cannot be told by its content: azure, mooncake, servegen, csv or prometheus.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Play from here on, counted from the trace's beginning.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    from: Duration,
    /// Play so much of it; all by default.
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Duration>,
    /// Replicas that would just do in the trace's busiest hour.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    peak_replicas: u32,
    /// Replicas that fit on premises; what the median load needs by default. More go to the cloud.
    #[arg(long, value_name = "N")]
    on_prem: Option<u32>,
    /// Most replicas for every contender; three times the peak, or what --policy says, by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_replicas: Option<u32>,
    /// How GPU utilization follows load: mono, lin, flat or fall.
    #[arg(long, value_name = "CURVE", value_parser = curve)]
    curve: Option<Curve>,
    /// What the pods offer: queue (the inference server's own page, and utilization) or utilization alone.
    #[arg(long, value_name = "SIGNALS", default_value = "queue", value_parser = signals)]
    signals: Signals,
    /// Bound on the time to first token.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    ttft: Duration,
    /// Bound on the time per output token.
    #[arg(long, value_name = "DURATION", default_value = "200ms")]
    tpot: Duration,
    /// Numbers of the model, as YAML; see --print-model.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Print the model in force as YAML and exit.
    #[arg(long)]
    print_model: bool,
    /// The engine's policy, as YAML: a ScalingPolicy, whose target does not matter here, or the engine's own keys.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Contenders, by commas; all by default.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = name)]
    only: Vec<Name>,
    /// Runs of each contender, each with its own chance.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a report to show to others: one HTML file with plots and the reason of every decision; with --suite, the criteria
    /// with what was measured beside them, and a plot of cost against requests in time for each trace and curve.
    #[arg(long, value_name = "FILE", conflicts_with = "decisions")]
    html: Option<PathBuf>,
    /// Try many policies, show those that nothing beats in cost and requests served in time, and suggest one, ready to apply.
    #[arg(long, conflicts_with_all = ["suite", "decisions", "only"])]
    sweep: bool,
    #[command(flatten)]
    grid: grid::GridArgs,
    /// Run everything over every trace in a folder and hold it against the figures that have to be reached: what is met and
    /// missed, and beside it how far the oracle and the rivals get. Takes minutes to hours; also with --json and --html.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["trace", "decisions", "policy", "curve", "only"])]
    suite: Option<PathBuf>,
    /// Make recorded decisions again and exit 1 at the first difference.
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    decisions: Option<PathBuf>,
}

fn curve(text: &str) -> Result<Curve, String> {
    let names = Curve::ALL.map(Curve::name).join(", ");
    let found = Curve::ALL.into_iter().find(|curve| curve.name() == text);
    found.ok_or_else(|| format!("expected one of {names}, got {text:?}"))
}

fn signals(text: &str) -> Result<Signals, String> {
    match text {
        "queue" => Ok(Signals::Queue),
        "utilization" => Ok(Signals::Utilization),
        _ => Err(format!("expected queue or utilization, got {text:?}")),
    }
}

fn name(text: &str) -> Result<Name, String> {
    let names = Name::ALL.map(Name::as_str).join(", ");
    let found = Name::ALL.into_iter().find(|name| name.as_str() == text);
    found.ok_or_else(|| format!("expected some of {names}, got {text:?}"))
}

/// Replays.
///
/// # Errors
/// A file that cannot be read or used, or output that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.decisions {
        return decisions(path);
    }
    let model = model(args)?;
    let mut out = io::stdout().lock();
    if args.print_model {
        write!(out, "{}", serde_saphyr::to_string(&model).context("cannot print the model")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let slo =
        Slo { ttft_seconds: args.ttft.0.as_secs_f64(), tpot_seconds: args.tpot.0.as_secs_f64(), ..Slo::default() };
    slo.validate()?;
    if let Some(folder) = &args.suite {
        suite::run(args, folder, &model, slo, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(path) = &args.trace else { bail!("no trace") };
    let policy: Option<Policy> = args.policy.as_deref().map(policy).transpose()?;
    let trace = read(path, args.format)?;
    warn(path, &trace);
    let (scenario, policy) = scenario(args, trace, &model, slo, policy)?;
    let progress = Progress::new();
    if args.sweep {
        let grid = args.grid.grid(scenario.signals)?;
        let sweep = sweep::sweep(&scenario, &policy, &grid, args.seeds, |what| progress.done(what))?;
        let beside =
            args.html.as_ref().map(|_| contest(&scenario, &policy, &Name::ALL, args.seeds, |what| progress.done(what)));
        progress.clear();
        if let (Some(file), Some(outcomes)) = (&args.html, beside) {
            let oracle = page::gap(&scenario, &outcomes).map(|(_, words)| words);
            write_page(file, &page::html(&scenario, args.peak_replicas, &outcomes, Some(&sweep), oracle.as_deref()))?;
        }
        if args.json {
            let mut json = serde_json::to_value(&sweep)?;
            if let Some(point) = sweep.points.get(sweep.suggested) {
                json["scaling_policy"] = serde_json::to_value(manifest(&point.policy))?;
            }
            writeln!(out, "{json}")?;
        } else {
            write!(out, "{}{}", table::head(&scenario, args.seeds), table::sweep(&sweep)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let names = if args.only.is_empty() { &Name::ALL[..] } else { &args.only };
    let outcomes = contest(&scenario, &policy, names, args.seeds, |what| progress.done(what));
    let oracle = page::gap(&scenario, &outcomes);
    progress.clear();
    if let Some(file) = &args.html {
        let words = oracle.as_ref().map(|(_, words)| words.as_str());
        write_page(file, &page::html(&scenario, args.peak_replicas, &outcomes, None, words))?;
    }
    if args.json {
        let mut json = summary::json(&scenario.workload.trace.name, args.seeds, &outcomes);
        if let Some((bound, _)) = oracle {
            json["lower_bound"] = serde_json::json!({"gpu_hours": bound.gpu_hours, "cost": bound.cost});
        }
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{}{}", table::head(&scenario, args.seeds), table::contest(&outcomes))?;
        if let Some((_, words)) = oracle {
            writeln!(out, "\noracle: {words}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_page(file: &Path, page: &str) -> anyhow::Result<()> {
    std::fs::write(file, page).with_context(|| file.display().to_string())
}

/// A policy from a file, in either form.
fn policy(path: &Path) -> anyhow::Result<Policy> {
    #[derive(serde::Deserialize)]
    struct Object {
        #[serde(default)]
        kind: Option<String>,
    }
    let file = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(file)?;
    if serde_saphyr::from_str::<Object>(&text).is_ok_and(|object| object.kind.is_some()) {
        let object: ScalingPolicy = serde_saphyr::from_str(&text).with_context(file)?;
        let settings = Settings::of(&object.spec, &Vocabulary::default()).with_context(file)?;
        return Ok(settings.engine);
    }
    Ok(config::read(path)?)
}

fn model(args: &Args) -> anyhow::Result<Model> {
    let mut model: Model = args.model.as_deref().map(config::read).transpose()?.unwrap_or_default();
    if let Some(curve) = args.curve {
        model.exporter.curve = curve;
    }
    let file = || args.model.as_deref().map_or_else(String::new, |path| path.display().to_string());
    model.validate().with_context(file)?;
    Ok(model)
}

fn read(path: &Path, format: Option<Format>) -> anyhow::Result<Trace> {
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if length > MAX_BYTES {
        bail!("{}: {length} bytes, and traces of at most {MAX_BYTES} are read", path.display());
    }
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let name = path.file_stem().map_or_else(|| "trace".into(), |stem| stem.to_string_lossy());
    Trace::parse(&name, &String::from_utf8_lossy(&bytes), format).with_context(|| path.display().to_string())
}

fn warn(path: &Path, trace: &Trace) {
    if trace.bad.count > 0 {
        eprintln!("warning: {}: {}", path.display(), trace.bad);
    }
}

/// The trace fitted, and the policy that goes with it: the file's bounds hold for every contender.
fn scenario(
    args: &Args,
    trace: Trace,
    model: &Model,
    slo: Slo,
    policy: Option<Policy>,
) -> anyhow::Result<(Scenario, Policy)> {
    let from = args.from.0.as_secs_f64();
    if from >= trace.seconds {
        bail!("--from {} is beyond the trace's end at {:.0} s", args.from, trace.seconds);
    }
    let until = args.length.map_or(trace.seconds, |length| from + length.0.as_secs_f64());
    if until <= from {
        bail!("--for {} leaves nothing to play", Duration(std::time::Duration::ZERO));
    }
    let fit = Fit {
        peak_replicas: args.peak_replicas,
        on_premises: args.on_prem,
        min: policy.as_ref().map_or(1, |policy| policy.min),
        max: args.max_replicas.or(policy.as_ref().map(|policy| policy.max)),
        span: (from, until),
    };
    let mut scenario = calibrate::fit(&Arc::new(trace), model, slo, fit);
    scenario.signals = args.signals;
    let own = policy_for(&scenario);
    let policy = match policy {
        None => own,
        Some(policy) => {
            let pools = if policy.pools.is_empty() { own.pools.clone() } else { policy.pools.clone() };
            if pools.len() != own.pools.len() {
                bail!("pools: expected two, on premises and cloud, or none, got {}", pools.len());
            }
            Policy { max: scenario.max, pools, ..policy }
        }
    };
    policy
        .validate()
        .with_context(|| args.policy.as_deref().map_or_else(String::new, |path| path.display().to_string()))?;
    Ok((scenario, policy))
}

fn decisions(path: &Path) -> anyhow::Result<ExitCode> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut replay = record::Replay::default();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| path.display().to_string())?;
        if let Err(difference) = replay.line(&line) {
            println!("{}: {difference}", path.display());
            return Ok(ExitCode::FAILURE);
        }
    }
    if replay.steps() == 0 {
        bail!("{}: no decision in it; the adapter makes one each control.tick (5s) for each policy", path.display());
    }
    println!("{}: {} decisions, the same bit for bit", path.display(), replay.steps());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
