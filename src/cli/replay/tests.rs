use clap::Parser;

use super::*;

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
fn recorded_decisions_are_the_same_or_the_first_other_one_fails() {
    let begin = record::Line::Begin {
        version: record::VERSION,
        service: "prod/chat".into(),
        state: Box::default(),
        policy: Box::default(),
    };
    let good = serde_json::to_string(&begin).expect("JSON");
    let same = File::new("same.jsonl", &format!("{good}\n\n"));
    assert_eq!(format!("{:?}", decisions(&same.0).expect("readable")), format!("{:?}", ExitCode::SUCCESS));
    let other = File::new("other.jsonl", &format!("{good}\n{{\"line\":\"step\"}}\n"));
    assert_eq!(format!("{:?}", decisions(&other.0).expect("readable")), format!("{:?}", ExitCode::FAILURE));
}
