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
