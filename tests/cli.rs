//! The command line, as an operator meets it.

use std::process::Command;

use serde_json::{Value, json};

/// What `tidegate adapter` says before it finds out that there is no cluster.
fn said_at_start(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(["adapter", "--kubeconfig", "/nonexistent"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("--kubeconfig /nonexistent"), "{said}");
    said
}

#[test]
fn a_preset_that_looks_in_all_namespaces_without_being_told_to_is_warned_about_by_the_name_of_its_setting() {
    let folder = std::env::temp_dir().join(format!("tidegate-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("tidegate.yaml");
    let discover = |entry: &str| {
        std::fs::write(&config, format!("scrape: {{discover: [{{preset: ack-gpu-exporter}}, {entry}]}}")).unwrap();
        said_at_start(&["--config", config.to_str().unwrap()])
    };
    for (said, warns) in [
        (
            said_at_start(&["--discover", "dcgm-exporter"]),
            Some("scrape.discover[0].namespace: the preset dcgm-exporter"),
        ),
        (
            said_at_start(&["--discover", "tidegate-agent"]),
            Some("scrape.discover[0].namespace: the preset tidegate-agent"),
        ),
        (said_at_start(&["--discover", "ack-gpu-exporter"]), None),
        (discover("{preset: dcgm-exporter}"), Some("scrape.discover[1].namespace: the preset dcgm-exporter")),
        (discover("{preset: dcgm-exporter, namespace: gpu-operator}"), None),
        (discover("{preset: dcgm-exporter, namespace: '*'}"), None),
        (discover("{selector: app=exporter, port: '9400'}"), None),
    ] {
        match warns {
            Some(text) => assert!(said.contains("WARN") && said.contains(text), "{text}: {said}"),
            None => assert!(!said.contains("WARN"), "{said}"),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Runs `tidegate` and gives its exit status, standard output and standard error.
fn said(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs `tidegate replay`.
fn replayed(arguments: &[&str]) -> (Option<i32>, String, String) {
    said(&[&["replay"], arguments].concat())
}

#[test]
fn a_replay_prints_the_same_json_for_the_same_trace_and_a_bad_trace_is_refused_by_name() {
    let folder = std::env::temp_dir().join(format!("tidegate-replay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let trace = file("office.csv", "time,rate\n0,2\n600,4\n1200,2\n1800,3\n");
    let options = ["--peak-replicas", "3", "--only", "hpa,fixed", "--seeds", "2", "--json"];
    let run = || replayed(&[&[trace.as_str()], &options[..]].concat());
    let (status, out, err) = run();
    assert_eq!(status, Some(0), "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((json["trace"].as_str(), json["seeds"].as_u64()), (Some("office"), Some(2)));
    assert_eq!(json["policies"][1]["name"], "fixed");
    assert!(json["policies"][1]["slo_attainment_min"].as_f64().is_some_and(|share| share > 0.9), "{out}");
    assert_eq!(run().1, out, "no clock and no other chance than the seeds'");
    let bad = file("bad.csv", "time,rate\n0,2\n600,many\n1200,2\n");
    let (status, _, err) = replayed(&[&bad]);
    assert_eq!(status, Some(1));
    assert!(err.contains("bad.csv: 1 of 3 rows cannot be read: line 3: expected requests per second"), "{err}");
    let recording = file("recorded.jsonl", "{\"line\":\"step\"}\n");
    let (status, out, _) = replayed(&["--decisions", &recording]);
    assert_eq!(status, Some(1));
    assert!(out.contains("recorded.jsonl: line 1: not a line of a recording"), "{out}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_sweep_tries_what_is_asked_for_and_suggests_a_policy_that_can_be_applied_and_played_again() {
    let folder = std::env::temp_dir().join(format!("tidegate-sweep-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let trace = path("office.csv");
    std::fs::write(&trace, "time,rate\n0,2\n600,4\n1200,2\n1800,3\n").unwrap();
    let options = ["--peak-replicas", "3", "--seeds", "1", "--sweep"];
    let sweep = |more: &[&str]| replayed(&[&[trace.as_str()], &options[..], more].concat());

    let grid = ["--headrooms", "0.8/0.65,0.95", "--windows", "own,2m", "--cooldowns", "1m"];
    let (status, out, err) = sweep(&grid);
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("4 policies; no other costs less and attains as much as these:"), "{out}");
    assert!(out.contains("cooldown 60 s"), "{out}");
    let (_, yaml) = out.split_once("kubectl apply -f FILE\n").expect("a ScalingPolicy");
    assert!(yaml.starts_with("apiVersion: tidegate.dev/v1alpha1\nkind: ScalingPolicy\n"), "{yaml}");
    let policy = path("policy.yaml");
    std::fs::write(&policy, yaml).unwrap();
    let again = [trace.as_str(), "--policy", &policy, "--peak-replicas", "3", "--seeds", "1", "--only", "tidegate"];
    let (status, out, err) = replayed(&again);
    assert_eq!(status, Some(0), "{out}{err}");
    let (status, hpa, err) = said(&["policy", "hpa", "--file", &policy]);
    assert!(status == Some(0) && hpa.contains("tidegate_desired_replicas"), "{hpa}{err}");

    for (wrong, why) in [
        (&["--targets", "70"][..], "use --headrooms"),
        (&["--windows", "soon"], "expected own or a duration such as 5m"),
        (&["--headrooms", "0.2"], "behavior.headroom.quantile"),
        (&["--headrooms", "many"], "expected shares such as 0.9 or 0.9/0.8"),
    ] {
        let (status, _, err) = sweep(wrong);
        assert!(status != Some(0) && err.contains(why), "{wrong:?}: {err}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// R14, R15, R17, R19, as an operator sees them.
#[test]
fn the_demo_of_the_engine_keeps_its_promises_tells_its_reasons_and_replays_bit_for_bit() {
    let recording = std::env::temp_dir().join(format!("tidegate-demo-{}.jsonl", std::process::id()));
    let file = recording.to_str().unwrap();
    // Slow enough that a page outlives half a second in which the tests beside this one take all processors.
    let (status, out, err) = said(&["demo", "--engine", "--json", "--speed", "3", "--record", file]);
    assert_eq!(status, Some(0), "{err}{out}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, turns) = lines.split_last().unwrap();
    let summary = &last["summary"];
    for (promise, kept) in [
        ("removed_while_unknown", json!(0)),
        ("second_additions", json!(0)),
        ("onprem_before_cloud", json!(0)),
        ("final_cloud", json!(0)),
    ] {
        assert_eq!(summary[promise], kept, "{promise}: {summary}");
    }
    let told = |reason: &str| turns.iter().any(|turn| turn["sentence"].as_str().unwrap().contains(reason));
    for reason in ["1 become ", "on their way are enough", "no fresh value", " shrink to 2"] {
        assert!(told(reason), "{reason}: {out}");
    }
    let happened = |what: &str| {
        let mut events = turns.iter().flat_map(|turn| turn["events"].as_array().unwrap());
        events.any(|event| event.as_str().unwrap().contains(what))
    };
    for event in ["cloud-1 is bought", "the pod on cloud-1 is ready", "is killed", "cloud-1 is empty and given back"] {
        assert!(happened(event), "{event}: {out}");
    }
    let (status, out, _) = replayed(&["--decisions", file]);
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains(&format!("{} decisions, the same bit for bit", turns.len())), "{out}");
    std::fs::remove_file(&recording).unwrap();
}
