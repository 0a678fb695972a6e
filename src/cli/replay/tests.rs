use clap::Parser;

use super::*;
use crate::{
    engine::{State, decide},
    signal::Observation,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Args {
    Line::parse_from(std::iter::once("replay").chain(line.split_whitespace())).args
}

/// A file of this test process, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a folder for temporary files");
        Self(path)
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Left behind, it does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

const TRACE: &str = "time,rate\n0,2\n600,4\n1200,2\n1800,3\n";

#[test]
fn an_unknown_key_in_a_model_or_policy_names_the_nearest_known_one() {
    let file = File::new("model.yaml", "serving:\n  maxRuning: 32\n");
    let error = model(&args(&format!("t.csv --model {}", file.text()))).expect_err("misspelt");
    assert!(format!("{error:#}").contains("unknown key \"maxRuning\", did you mean \"maxRunning\"?"), "{error:#}");
    let file = File::new("policy.yaml", "behavior:\n  dwn: {step: 2}\n");
    let error = config::read::<Policy>(&file.0).expect_err("misspelt");
    assert!(error.to_string().contains("did you mean \"down\"?"), "{error}");
}

#[test]
fn a_models_file_sets_some_numbers_and_flags_go_before_it() {
    let file = File::new("some.yaml", "exporter: {curve: flat, noisePoints: 9}\npools: {cloudBootSeconds: 60}\n");
    let from_file = model(&args(&format!("t.csv --model {}", file.text()))).expect("valid");
    assert_eq!(from_file.exporter.curve, Curve::Flat);
    let both = model(&args(&format!("t.csv --curve fall --model {}", file.text()))).expect("valid");
    assert_eq!((both.exporter.curve, both.exporter.noise_points), (Curve::Fall, 9.0));
    assert_eq!(both.serving, Model::default().serving);
    let wrong = File::new("wrong.yaml", "pools: {cloudPrice: -1}\n");
    let error = model(&args(&format!("t.csv --model {}", wrong.text()))).expect_err("negative");
    assert!(format!("{error:#}").contains("wrong.yaml: pools.cloudPrice: must be above 0"), "{error:#}");
}

#[test]
fn a_printed_model_is_read_back_unchanged() {
    let printed = serde_saphyr::to_string(&Model::default()).expect("YAML");
    let file = File::new("printed.yaml", &printed);
    assert_eq!(model(&args(&format!("t.csv --model {}", file.text()))).expect("valid"), Model::default());
}

#[test]
fn a_file_that_is_no_trace_is_named_with_what_is_read() {
    for (text, format, expected) in [
        ("hello\n", None, "cannot tell its format"),
        ("time,rate\n0,x\n60,y\n120,z\n", None, "3 of 3 rows cannot be read: line 2"),
        (TRACE, Some(Format::Azure), "not in the format azure: no column TIMESTAMP"),
    ] {
        let file = File::new("trace.csv", text);
        let error = format!("{:#}", read(&file.0, format).expect_err("no trace"));
        assert!(error.contains("trace.csv: ") && error.contains(expected), "{error}");
    }
    assert!(format!("{:#}", read(Path::new("/nowhere.csv"), None).expect_err("absent")).starts_with("/nowhere.csv: "));
}

#[test]
fn a_policys_bounds_hold_for_everyone_and_its_pools_must_be_two() {
    let file = File::new("bounds.csv", TRACE);
    let trace = || read(&file.0, None).expect("a trace");
    let fitted = |line: &str, policy: Option<Policy>| {
        scenario(&args(&format!("t.csv {line}")), trace(), &Model::default(), Slo::default(), policy)
    };
    let (own, policy) = fitted("--peak-replicas 5", None).expect("fits");
    assert_eq!((own.min, own.max, policy.max, policy.pools.len()), (1, 15, 15, 2));
    let (given, policy) = fitted("--on-prem 2", Some(Policy { min: 3, max: 9, ..Policy::default() })).expect("fits");
    assert_eq!((given.min, given.max, given.on_premises), (3, 9, 2));
    assert_eq!((policy.max, policy.pools[0].max), (9, Some(2)));
    let one = Policy { pools: vec![crate::engine::Pool::default()], ..Policy::default() };
    let error = fitted("", Some(one)).expect_err("one pool").to_string();
    assert!(error.contains("expected two, on premises and cloud"), "{error}");
    let error = fitted("--from 2h", None).expect_err("too late").to_string();
    assert!(error.contains("--from 2h is beyond the trace's end"), "{error}");
}

#[test]
fn the_json_has_the_promised_shape() {
    let file = File::new("shape.csv", TRACE);
    let trace = read(&file.0, None).expect("a trace");
    let arguments = args("t.csv --peak-replicas 3");
    let (scenario, policy) = scenario(&arguments, trace, &Model::default(), Slo::default(), None).expect("fits");
    let outcomes = contest(&scenario, &policy, &[Name::Tidegate, Name::Fixed], 2, |_| ());
    let json = summary::json("shape", 2, &outcomes);
    assert_eq!((&json["trace"], &json["seeds"]), (&"shape".into(), &2.into()));
    let policies = json["policies"].as_array().expect("a list");
    let names: Vec<&str> = policies.iter().filter_map(|policy| policy["name"].as_str()).collect();
    assert_eq!(names, ["tidegate", "fixed"]);
    for policy in policies {
        assert_eq!(policy.as_object().map(serde_json::Map::len), Some(28), "a name and nine figures with both ends");
        for figure in [
            "slo_attainment",
            "time_without_violation",
            "gpu_hours",
            "cloud_gpu_hours",
            "cost",
            "scale_events",
            "direction_reversals",
            "undone_scale_downs",
            "worst_queue",
        ] {
            let of = |end: &str| policy[format!("{figure}{end}")].as_f64().expect("a number");
            assert!(of("_min") <= of("") && of("") <= of("_max"), "{figure}: {policy}");
        }
    }
}

#[test]
fn recorded_decisions_are_the_same_or_the_first_other_one_fails_and_none_at_all_are_an_error() {
    let service: Arc<str> = "prod/chat".into();
    let begin = record::Line::Begin {
        version: record::VERSION,
        service: Arc::clone(&service),
        state: Box::default(),
        policy: Box::default(),
    };
    let observation = Observation { replicas: 1, pods: Vec::new(), room: Vec::new(), cluster_unknown: None };
    let (_, decision) = decide(State::default(), &observation, &Policy::default(), jiff::Timestamp::UNIX_EPOCH);
    let mut wrong = decision.clone();
    wrong.current += 1;
    let step = |decision| record::Line::Step {
        service: Arc::clone(&service),
        observation: Box::new(observation.clone()),
        decision: Box::new(decision),
    };
    let file = |name: &str, lines: &[&record::Line]| {
        let lines: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).expect("JSON")).collect();
        File::new(name, &lines.join("\n"))
    };
    let outcome = |file: &File| decisions(&file.0).map(|status| format!("{status:?}"));
    let same = file("same.jsonl", &[&begin, &step(decision)]);
    assert_eq!(outcome(&same).expect("decisions"), format!("{:?}", ExitCode::SUCCESS));
    let other = file("other.jsonl", &[&begin, &step(wrong)]);
    assert_eq!(outcome(&other).expect("decisions"), format!("{:?}", ExitCode::FAILURE));
    let none = outcome(&file("none.jsonl", &[&begin])).expect_err("nothing was compared").to_string();
    assert!(
        none.ends_with("none.jsonl: no decision in it; the adapter makes one each control.tick (5s) for each policy"),
        "{none}"
    );
}

#[test]
fn below_a_criterion_stands_its_remark_indented_and_nothing_where_there_is_none() {
    use crate::replay::suite::{Criterion, fixture};
    let criterion = |asked: &str, met, remark: Option<&str>| Criterion {
        asked: asked.to_owned(),
        measured: "+1.0 %".to_owned(),
        met,
        remark: remark.map(str::to_owned),
    };
    let criteria = [
        criterion("less", Some(false), Some("the oracle itself +0.5 %")),
        criterion("more", Some(true), None),
        criterion("as much", None, None),
    ];
    let line = fixture::line(1.0, 0.0, 1.0);
    let text = table::suite(&fixture::suite(&line, &line), &criteria);
    let (_, verdicts) = text.split_once("\n\n").expect("lines, then criteria");
    let expected = "\
MISSED        less     +1.0 %
              the oracle itself +0.5 %
met           more     +1.0 %
not measured  as much  +1.0 %
";
    assert_eq!(verdicts, expected);
}

#[test]
fn a_suite_goes_with_a_page_and_with_json_and_a_page_that_cannot_be_written_is_known_before_the_runs() {
    let arguments = args("--suite traces --html /nowhere/suite.html --json");
    assert!(arguments.json && arguments.html.is_some());
    let folder = std::env::temp_dir().join(format!("tidegate-{}-suite", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    std::fs::write(folder.join("t.csv"), TRACE).expect("a trace");
    let mut printed = Vec::new();
    let found = suite::run(&arguments, &folder, &Model::default(), Slo::default(), &mut printed);
    assert!(format!("{:#}", found.expect_err("no such folder")).starts_with("/nowhere/suite.html: "));
    assert!(printed.is_empty(), "what is measured is printed before the page is written");
    std::fs::remove_dir_all(folder).expect("it is there");
}
