//! What is measured, and how it is printed.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use tidegate::{attribution::Statistic, clock::Clock, cluster::View, publish::Snapshot, scrape::Totals};
use tokio::time::Instant;

use crate::{Args, readers::Counts};

/// `USER_HZ`: 100 on every architecture that Linux still supports for servers (proc(5), `utime`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process has used, from `/proc/self` (proc(5)).
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    user: f64,
    system: f64,
    resident_mib: f64,
    peak_mib: f64,
}

impl Usage {
    pub fn now() -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
        // utime and stime are fields 14 and 15; the second one, in parentheses, may hold blanks.
        let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat has another form")?;
        let mut fields = fields.split(' ').skip(11).map(str::parse::<f64>);
        let mut seconds = || Ok::<_, anyhow::Error>(fields.next().context("utime, stime")?? / TICKS_PER_SECOND);
        let (user, system) = (seconds()?, seconds()?);
        let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("VmRSS, VmHWM")?;
            Ok::<_, anyhow::Error>(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok(Self { user, system, resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
    }
}

/// What the published snapshots show while one looks.
#[derive(Debug, Default)]
pub struct Watched {
    /// Time that each snapshot took, by when it was built.
    cycles: BTreeMap<Timestamp, Duration>,
    snapshot_age: Duration,
    reading_age: Duration,
    unknown: usize,
}

impl Watched {
    pub fn look(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let age = |at| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        self.snapshot_age = self.snapshot_age.max(age(snapshot.built));
        if self.cycles.insert(snapshot.built, snapshot.took).is_some() {
            return;
        }
        let readings = snapshot.readings.services.values().flat_map(|service| service.families.values());
        for reading in readings.filter_map(|group| group.statistics.get(&Statistic::Mean)) {
            match reading {
                Ok(measured) => self.reading_age = self.reading_age.max(age(measured.at)),
                Err(_) => self.unknown += 1,
            }
        }
    }
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Figures {
    machine: String,
    /// What else the machine did: processes that wanted a core, on average over the last minute.
    load_average: f64,
    date: String,
    nodes: usize,
    pods: usize,
    services: usize,
    interval_seconds: u64,
    seconds: f64,
    cpu_percent_of_a_core: f64,
    user_percent: f64,
    system_percent: f64,
    rss_bare_mib: f64,
    rss_mib: f64,
    rss_peak_mib: f64,
    scrapes: u64,
    failed_scrapes: u64,
    missed_ticks: u64,
    page_bytes: u64,
    cycles: usize,
    cycle_median_ms: f64,
    cycle_max_ms: f64,
    snapshot_age_max_seconds: f64,
    reading_age_max_seconds: f64,
    unknown_services: usize,
    questions: u64,
    unanswered: u64,
    metrics_pages: u64,
}

type Moment = (Usage, Totals, Instant);

impl Figures {
    pub fn new(
        args: &Args,
        view: &View,
        bare: &Usage,
        before: &Moment,
        after: &Moment,
        (questions, unanswered, metrics_pages): Counts,
        watched: Watched,
    ) -> Self {
        let seconds = (after.2 - before.2).as_secs_f64();
        let percent = |used: fn(&Usage) -> f64| 100.0 * (used(&after.0) - used(&before.0)) / seconds;
        let (user_percent, system_percent) = (percent(|usage| usage.user), percent(|usage| usage.system));
        let scrapes = after.1.successes - before.1.successes;
        let failures = |totals: &Totals| totals.failures.values().sum::<u64>();
        let Watched { cycles, snapshot_age, reading_age, unknown } = watched;
        let mut times: Vec<f64> = cycles.into_values().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        Self {
            machine: machine(),
            load_average: load_average(),
            date: Clock::start().now().strftime("%Y-%m-%d").to_string(),
            nodes: args.nodes,
            pods: view.pods.len(),
            services: view.deployments.len(),
            interval_seconds: args.interval,
            seconds,
            cpu_percent_of_a_core: user_percent + system_percent,
            user_percent,
            system_percent,
            rss_bare_mib: bare.resident_mib,
            rss_mib: after.0.resident_mib,
            rss_peak_mib: after.0.peak_mib,
            scrapes,
            // Also those before the measurement: there is no reason for a single one.
            failed_scrapes: failures(&after.1),
            missed_ticks: after.1.missed,
            page_bytes: (after.1.bytes - before.1.bytes) / scrapes.max(1),
            cycles: times.len(),
            cycle_median_ms: times.get(times.len() / 2).copied().unwrap_or_default(),
            cycle_max_ms: times.last().copied().unwrap_or_default(),
            snapshot_age_max_seconds: snapshot_age.as_secs_f64(),
            reading_age_max_seconds: reading_age.as_secs_f64(),
            unknown_services: unknown,
            questions,
            unanswered,
            metrics_pages,
        }
    }

    /// No tick missed, no scrape failed, nothing unknown, nothing unanswered; and there was something to do.
    pub fn is_flawless(&self) -> bool {
        self.missed_ticks + self.failed_scrapes + self.unanswered == 0 && self.unknown_services == 0 && self.scrapes > 0
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<24}{value}");
        row("machine, date", format!("{}, {}; load average {:.1}", self.machine, self.date, self.load_average))?;
        row(
            "fleet",
            format!(
                "{} nodes x 8 cards, {} pods in {} services, a page of {} kB each {} s",
                self.nodes,
                self.pods,
                self.services,
                self.page_bytes / 1000,
                self.interval_seconds
            ),
        )?;
        row("measured for", format!("{:.1} s", self.seconds))?;
        row(
            "CPU, % of one core",
            format!(
                "{:.1} (user {:.1}, system {:.1})",
                self.cpu_percent_of_a_core, self.user_percent, self.system_percent
            ),
        )?;
        row("RSS, MiB", format!("{:.0} (bare {:.0}, peak {:.0})", self.rss_mib, self.rss_bare_mib, self.rss_peak_mib))?;
        row("scrapes", format!("{} ({} failed)", self.scrapes, self.failed_scrapes))?;
        row("missed ticks", self.missed_ticks.to_string())?;
        row(
            "publish cycle, ms",
            format!("median {:.1}, max {:.1}, {} times", self.cycle_median_ms, self.cycle_max_ms, self.cycles),
        )?;
        row("oldest snapshot, s", format!("{:.2}", self.snapshot_age_max_seconds))?;
        row("oldest reading, s", format!("{:.2}", self.reading_age_max_seconds))?;
        row("unknown services", self.unknown_services.to_string())?;
        write!(
            f,
            "{:<24}{} answered, {} not; {} pages of /metrics",
            "questions", self.questions, self.unanswered, self.metrics_pages
        )
    }
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = models.map(|(_, model)| model.trim()).next().unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores of {model}")
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or_default()
}
