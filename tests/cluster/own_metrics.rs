//! The adapter's own `/metrics`, `/livez` and `/readyz`, as the process that serves all the other tests shows them.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::{
    adapter,
    namespace::Namespace,
    wait::eventually,
    workload::{Load, METRIC, Workload},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_to_say_about_our_own_metrics_of_a_busy_adapter() {
    let running = adapter::running().await;
    let namespace = Namespace::new("own-metrics").await;
    let workload = Workload::deploy(&namespace, 1, 1, Load::Each(42.0)).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = async |path: &str| -> Result<String, String> {
        let url = format!("http://127.0.0.1:{}{path}", running.adapter.telemetry);
        let response = client.get(url).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        let text = response.text().await.map_err(|error| error.to_string())?;
        if status == 200 { Ok(text) } else { Err(format!("{path}: {status}: {text}")) }
    };
    let wanted = format!("namespace=\"{}\"", namespace.name);
    let text = eventually("the service on /metrics", async || {
        let text = page("/metrics").await?;
        let reads_42 = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse().ok()) == Some(42.0);
        if text.lines().any(|line| line.contains(&wanted) && reads_42(line)) { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(text.contains(METRIC), "{text}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    page("/livez").await.unwrap();
    // Nothing has asked before: readiness waits for each target of the first question to be tried once.
    eventually("the adapter is ready", async || page("/readyz").await).await;
    drop(workload);
    namespace.finish().await;
}
