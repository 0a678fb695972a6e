//! Files in a folder of the test's own.

use std::collections::BTreeSet;

use super::*;
use crate::{
    engine::{Policy, State, decide, record::VERSION},
    signal::Observation,
};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-record-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn target(&self, bytes: u64, files: usize) -> Target {
        Target { file: self.0.join("decisions.jsonl"), bytes, files }
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn records(&self, name: &str) -> Vec<Line> {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn step(recorder: &mut Recorder, service: &Arc<str>, second: i64) {
    if recorder.must_begin(service) {
        recorder.record(Line::Begin {
            version: VERSION,
            service: Arc::clone(service),
            policy: Box::default(),
            state: Box::default(),
        });
    }
    let observation = Observation { replicas: 1, pods: Vec::new(), room: Vec::new(), cluster_unknown: None };
    let now = jiff::Timestamp::from_second(second).unwrap();
    let (_, decision) = decide(State::default(), &observation, &Policy::default(), now);
    let service = Arc::clone(service);
    recorder.record(Line::Step { service, observation: Box::new(observation), decision: Box::new(decision) });
}

#[test]
fn every_service_begins_once_and_again_when_its_policy_has_changed() {
    let folder = Folder::new("begin");
    let mut recorder = Recorder::start(folder.target(1 << 20, 2)).unwrap();
    let [a, b]: [Arc<str>; 2] = ["prod/a".into(), "prod/b".into()];
    for second in 0..3 {
        step(&mut recorder, &a, second);
        step(&mut recorder, &b, second);
    }
    recorder.begin_again(&a);
    step(&mut recorder, &a, 3);
    drop(recorder);
    let records = folder.records("decisions.jsonl");
    let begins: Vec<_> = records
        .iter()
        .enumerate()
        .filter_map(|(i, record)| match record {
            Line::Begin { service, .. } => Some((i, &**service)),
            Line::Step { .. } => None,
        })
        .collect();
    assert_eq!(begins, [(0, "prod/a"), (2, "prod/b"), (8, "prod/a")]);
    assert_eq!(records.len(), 10);
}

#[test]
fn full_files_are_rotated_the_oldest_go_and_each_begins_every_service() {
    let folder = Folder::new("rotate");
    let mut recorder = Recorder::start(folder.target(4_000, 3)).unwrap();
    let service: Arc<str> = "prod/a".into();
    for second in 0..200 {
        step(&mut recorder, &service, second);
        // As between two ticks: the writer keeps up.
        while recorder.epoch.load(Ordering::Acquire) == recorder.seen && second % 10 == 9 {
            std::thread::yield_now();
            if folder.names().len() > 1 || second < 100 {
                break;
            }
        }
    }
    drop(recorder);
    let names = ["decisions.jsonl", "decisions.jsonl.1", "decisions.jsonl.2"];
    assert_eq!(folder.names(), names.map(String::from).into());
    for name in &names[1..] {
        let size = std::fs::metadata(folder.0.join(name)).unwrap().len();
        assert!(size >= 4_000, "{name}: {size}");
    }
}

#[test]
fn what_was_recorded_before_is_rotated_away_at_the_start_and_not_overwritten() {
    let folder = Folder::new("start");
    let service: Arc<str> = "prod/a".into();
    for second in 0..2 {
        step(&mut Recorder::start(folder.target(1 << 20, 2)).unwrap(), &service, second);
    }
    assert_eq!(folder.records("decisions.jsonl.1").len(), 2);
    assert_eq!(folder.records("decisions.jsonl").len(), 2);
}

#[test]
fn a_file_that_cannot_be_made_is_an_error_at_the_start() {
    let target = Target { file: "/no/such/folder/decisions.jsonl".into(), bytes: 1, files: 1 };
    assert!(Recorder::start(target).is_err());
}
