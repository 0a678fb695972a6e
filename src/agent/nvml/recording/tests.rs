use std::time::Duration;

use super::*;
use crate::agent::{
    nvml::{CardAnswer, DeviceUtilization, Identity, Memory, ProcessKind, ProcessSample, RunningProcess, Samples},
    testing::Folder,
};

const SECOND: u64 = 1_000_000;

fn at(seconds: u64) -> ReadTime {
    ReadTime { wall: seconds * SECOND, monotonic: Duration::from_secs(seconds) }
}

fn answer(sampled: u64, sm: u32) -> Answer {
    let row = ProcessSample { pid: 7, at: sampled, sm, memory: 1, encoder: 0, decoder: 0 };
    let card = CardAnswer {
        index: 0,
        identity: Ok(Identity { uuid: "GPU-1".into(), model: "Tesla V100-SXM2-32GB".into(), minor: 0 }),
        mig: Ok(false),
        utilization: Ok(DeviceUtilization { gpu: sm, memory: 1 }),
        memory: Ok(Memory { total: 3, used: 2, free: 1 }),
        processes: Ok(vec![RunningProcess { pid: 7, kind: ProcessKind::Compute, memory: Some(2), instance: None }]),
        samples: Ok(Samples { rows: vec![row], full: false }),
        instances: Vec::new(),
    };
    Answer { driver: "550.144.03".into(), cards: vec![card] }
}

fn lost() -> Fault {
    Fault { reason: "driver_not_loaded".into(), message: "NVML: NVIDIA driver is not loaded".into() }
}

/// Says one answer after the other.
#[derive(Debug)]
struct Script(Vec<Result<Answer, Fault>>);

impl Driver for Script {
    fn read(&mut self, _: ReadTime, _: &dyn Fn(&str) -> u64) -> Result<Answer, Fault> {
        self.0.remove(0)
    }
}

#[test]
fn what_was_recorded_is_played_in_the_present_and_again_from_the_beginning() {
    let folder = Folder::new();
    let path = folder.0.join("nvml.jsonl");
    let script = Script(vec![Err(lost()), Ok(answer(99 * SECOND, 50)), Err(lost()), Ok(answer(101 * SECOND, 60))]);
    let mut recorder = Recorder::new(script, &path, "2026-11-24".into()).unwrap();
    for second in [99, 100, 101, 102] {
        let _ = recorder.read(at(second), &|_| 0);
    }
    let (mut replay, header) = Replay::open(&path).unwrap();
    let about = "driver 550.144.03; cards: Tesla V100-SXM2-32GB".to_owned();
    assert_eq!(header, Header { format: FORMAT.into(), synthetic: false, about, date: "2026-11-24".into() });
    let played: Vec<_> = (500..504).map(|second| replay.read(at(second), &|_| 0)).collect();
    let expected =
        [Ok(answer(499 * SECOND, 50)), Err(lost()), Ok(answer(501 * SECOND, 60)), Ok(answer(502 * SECOND, 50))];
    assert_eq!(played, expected, "what was said before the first answer is not part of it");
}

#[test]
fn a_recording_is_never_overwritten() {
    let folder = Folder::new();
    let path = folder.file("nvml.jsonl", "precious");
    let error = Recorder::new(Script(Vec::new()), &path, String::new()).unwrap_err().to_string();
    assert!(error.contains("nvml.jsonl") && error.contains("exists"), "{error}");
}

#[test]
fn a_file_that_is_replaced_is_played_from_its_beginning_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let header = r#"{"format":"tidegate-nvml/1","synthetic":true,"about":"made up for a test","date":"2026-11-24"}"#;
    let text = |sm| {
        let entry = Entry { wall: 100 * SECOND, answer: Ok(answer(99 * SECOND, sm)) };
        format!("{header}\n{}\n", serde_json::to_string(&entry).unwrap())
    };
    let path = folder.file("nvml.jsonl", text(10));
    let (mut replay, header) = Replay::open(&path).unwrap();
    assert!(header.synthetic);
    let mut reads = |second| replay.read(at(second), &|_| 0).unwrap().cards[0].utilization.clone().unwrap().gpu;
    assert_eq!(reads(1), 10);
    let replace = |text: &str, age| {
        let new = folder.file("new", text);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
        File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
        fs::rename(&new, &path).unwrap();
    };
    replace("half", 1);
    assert_eq!(reads(2), 10);
    replace(&text(20), 2);
    assert_eq!(reads(3), 20);
}

#[test]
fn a_wrong_recording_is_refused_with_its_line_and_what_was_expected() {
    let folder = Folder::new();
    let header = r#"{"format":"tidegate-nvml/1","synthetic":true,"about":"","date":""}"#;
    for (text, message) in [
        (String::new(), "is empty"),
        ("{}".into(), "line 1: expected a recording's header"),
        (header.replace("/1", "/2"), "expected the format \"tidegate-nvml/1\", got \"tidegate-nvml/2\""),
        (header.into(), "holds no read of NVML"),
        (format!("{header}\n\n{{\"wall\":1}}"), "line 3: expected one read of NVML"),
    ] {
        let error = Replay::open(&folder.file("nvml.jsonl", &text)).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("nvml.jsonl"), "{error}");
    }
    assert!(Replay::open(&folder.0.join("absent")).unwrap_err().to_string().contains("absent"));
}
