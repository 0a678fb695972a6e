//! What happened in one service of the scene, as JSON and as a picture that is read at a glance.

use std::{fmt::Write as _, fs, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    cluster::{process::target, timeline::Timeline},
    fleet::{Fleet, ONPREM, Picture},
    karpenter::CLOUD,
};

/// How often the picture is taken.
const INTERVAL: Duration = Duration::from_millis(500);

/// One moment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Seconds since the record began.
    pub seconds: f64,
    /// Requests that are computed or wait.
    pub requests: usize,
    /// Mean utilization over ready replicas, percent; `null` without one.
    pub utilization: Option<f64>,
    /// Ready replicas on premises.
    pub onprem: usize,
    /// Ready replicas in the cloud.
    pub cloud: usize,
    /// Replicas with a node that are not ready.
    pub starting: usize,
    /// Replicas without a node.
    pub pending: usize,
    /// Nodes on premises.
    pub onprem_nodes: usize,
    /// Nodes in the cloud.
    pub cloud_nodes: usize,
}

/// Something that was decided.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Seconds since the record began.
    pub seconds: f64,
    /// In words.
    pub what: String,
}

/// A running record of one namespace.
pub struct Record {
    name: String,
    started: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    events: Mutex<Vec<Event>>,
    timeline: Timeline,
    task: JoinHandle<()>,
}

fn sample(picture: &Picture, namespace: &str, seconds: f64) -> Sample {
    let doing: Vec<_> = picture.of(namespace).filter_map(|pod| pod.doing).collect();
    let mean = doing.iter().map(|doing| doing.utilization).sum::<f64>() / doing.len() as f64;
    Sample {
        seconds: (seconds * 10.0).round() / 10.0,
        requests: doing.iter().map(|doing| doing.running + doing.waiting).sum(),
        utilization: (!doing.is_empty()).then(|| (mean * 10.0).round() / 10.0),
        onprem: picture.ready(namespace, ONPREM),
        cloud: picture.ready(namespace, CLOUD),
        starting: picture.of(namespace).filter(|pod| !pod.ready && pod.pool.is_some()).count(),
        pending: picture.of(namespace).filter(|pod| !pod.ready && pod.pool.is_none()).count(),
        onprem_nodes: picture.machines(ONPREM),
        cloud_nodes: picture.machines(CLOUD),
    }
}

impl Record {
    /// Begins. `timeline` adds what was asked for.
    pub fn begin(name: &str, fleet: &Arc<Fleet>, namespace: &str, timeline: Timeline) -> Self {
        let started = Instant::now();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (fleet, namespace, into) = (Arc::clone(fleet), namespace.to_owned(), Arc::clone(&samples));
        let task = tokio::spawn(async move {
            loop {
                let seconds = started.elapsed().as_secs_f64();
                into.lock().push(sample(&fleet.picture(), &namespace, seconds));
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Self { name: name.into(), started, samples, events: Mutex::default(), timeline, task }
    }

    /// Notes an event.
    pub fn note(&self, what: impl Into<String>) {
        self.events.lock().push(Event { seconds: self.seconds(), what: what.into() });
    }

    /// Seconds since it began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// All samples so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().clone()
    }

    /// The Deployment and its HPA.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Writes `NAME.json` and `NAME.svg` below the target folder, and says where.
    pub fn write(&self) -> Result<PathBuf, String> {
        let folder = target().join("scene");
        let samples = self.samples();
        let mut events = self.events.lock().clone();
        let mut before = None;
        for moment in self.timeline.moments().iter() {
            if before != Some(moment.replicas) {
                let what = format!("{} replicas are asked for", moment.replicas);
                events.push(Event { seconds: moment.at.as_secs_f64(), what });
                before = Some(moment.replicas);
            }
        }
        events.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let json = serde_json::json!({"scene": self.name, "samples": samples, "events": events});
        let write = |extension: &str, text: String| {
            let file = folder.join(format!("{}.{extension}", self.name));
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(&file, text))
                .map_err(|error| format!("{}: {error}", file.display()))?;
            Ok::<_, String>(file)
        };
        write("json", json.to_string())?;
        write("svg", svg(&self.name, &samples, &events))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 110.0;
const LANE: f64 = 110.0;
const GAP: f64 = 34.0;
const COLORS: [(&str, &str); 4] =
    [("on premises", "#2a78d6"), ("cloud", "#e8710a"), ("starting", "#8fb8de"), ("pending", "#c9c9c9")];

/// One of the stacked numbers of a lane.
type Part = fn(&Sample) -> usize;

/// Four lanes over one axis of time: requests, utilization, replicas by where they are, nodes; decisions as marks.
fn svg(name: &str, samples: &[Sample], events: &[Event]) -> String {
    let end = samples.last().map_or(1.0, |sample| sample.seconds.max(1.0));
    let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - 20.0);
    let top = |lane: usize| 70.0 + lane as f64 * (LANE + GAP);
    let mut out = String::new();
    let height = top(4) + 14.0 * events.len() as f64 + 30.0;
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/><text x="20" y="26" font-size="16">{name}</text>"##
    );
    let mut key = LEFT;
    for (label, color) in COLORS {
        let _ = write!(
            out,
            r#"<rect x="{key}" y="38" width="10" height="10" fill="{color}"/><text x="{}" y="47">{label}</text>"#,
            key + 14.0
        );
        key += 110.0;
    }
    let most = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).fold(1.0, f64::max);
    let requests = |sample: &Sample| sample.requests as f64;
    lane(&mut out, top(0), "requests", most(&requests));
    line(&mut out, samples, &x, top(0), most(&requests), &|sample| Some(requests(sample)));
    lane(&mut out, top(1), "utilization %", 100.0);
    let target = top(1) + LANE / 2.0;
    let _ = write!(out, r##"<path d="M{LEFT} {target}H{}" stroke="#999" stroke-dasharray="4 4"/>"##, WIDTH - 20.0);
    line(&mut out, samples, &x, top(1), 100.0, &|sample| sample.utilization);
    let stacks: [(usize, &str, [Part; 4]); 2] = [
        (2, "replicas", [|s| s.onprem, |s| s.cloud, |s| s.starting, |s| s.pending]),
        (3, "nodes", [|s| s.onprem_nodes, |s| s.cloud_nodes, |_| 0, |_| 0]),
    ];
    for (at, label, parts) in stacks {
        let total = |sample: &Sample| parts.iter().map(|part| part(sample)).sum::<usize>() as f64;
        let highest = most(&total);
        lane(&mut out, top(at), label, highest);
        for pair in samples.windows(2) {
            let mut base = 0.0;
            for (part, (_, color)) in parts.iter().zip(COLORS) {
                let size = part(&pair[0]) as f64;
                if size > 0.0 {
                    let (left, width) = (x(pair[0].seconds), x(pair[1].seconds) - x(pair[0].seconds) + 0.3);
                    let y = top(at) + LANE * (1.0 - (base + size) / highest);
                    let _ = write!(
                        out,
                        r#"<rect x="{left:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" fill="{color}"/>"#,
                        LANE * size / highest
                    );
                }
                base += size;
            }
        }
    }
    for (n, Event { seconds, what }) in events.iter().enumerate() {
        let (at, y) = (x(*seconds), top(4) + 14.0 * n as f64);
        let _ = write!(
            out,
            r##"<path d="M{at:.1} 60V{:.0}" stroke="#444" stroke-width=".5" stroke-dasharray="2 3"/><text x="20" y="{y:.0}">{seconds:6.1} s  {what}</text>"##,
            top(3) + LANE
        );
    }
    out.push_str("</svg>\n");
    out
}

fn lane(out: &mut String, top: f64, label: &str, most: f64) {
    let bottom = top + LANE;
    let _ = write!(
        out,
        r##"<path d="M{LEFT} {top}V{bottom}H{}" fill="none" stroke="#bbb"/><text x="20" y="{:.0}">{label}</text><text x="{}" y="{:.0}" text-anchor="end">{most:.0}</text>"##,
        WIDTH - 20.0,
        top + LANE / 2.0,
        LEFT - 6.0,
        top + 10.0
    );
}

/// A line that is broken where there is no value.
fn line(
    out: &mut String,
    samples: &[Sample],
    x: &impl Fn(f64) -> f64,
    top: f64,
    most: f64,
    value: &dyn Fn(&Sample) -> Option<f64>,
) {
    let mut path = String::new();
    let mut pen = 'M';
    for sample in samples {
        match value(sample) {
            Some(value) => {
                let _ = write!(path, "{pen}{:.1} {:.1}", x(sample.seconds), top + LANE * (1.0 - value / most));
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    let _ = write!(out, r##"<path d="{path}" fill="none" stroke="#333" stroke-width="1.5"/>"##);
}
