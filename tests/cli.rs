//! The command line, as an operator meets it.

use std::process::Command;

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

/// Runs `tidegate replay` and gives its exit status, standard output and standard error.
fn replayed(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("replay").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
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
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
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
