//! Debian's Prometheus, scraping the exporters every second.

use std::{env, fs, path::PathBuf};

use serde_json::Value;

use super::{
    cluster::{
        process::{Part, free_ports},
        wait::eventually_or_error,
        workload::METRIC,
    },
    scene::Scene,
};

/// A running Prometheus that has all series.
#[derive(Debug)]
pub struct Prometheus {
    /// Its process.
    pub part: Part,
    /// `http://…/`.
    pub url: String,
}

/// Starts it and waits until it knows every pod.
pub async fn start(scene: &Scene<'_>) -> Result<Prometheus, String> {
    let folder = scene.plane.folder();
    let [port] = free_ports();
    let targets = serde_json::to_string(&scene.exporters().await?).map_err(|error| error.to_string())?;
    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n- job_name: gpu-exporters\n  static_configs:\n  - targets: {targets}\n"
    );
    fs::write(folder.join("prometheus.yaml"), config).map_err(|error| error.to_string())?;
    let arguments = [
        format!("--config.file={}", folder.join("prometheus.yaml").display()),
        format!("--storage.tsdb.path={}", folder.join("prometheus-data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut part = Part::start("prometheus", folder, &program()?, &arguments)?;
    let url = format!("http://127.0.0.1:{port}/");
    let pods = scene.pods();
    eventually_or_error("Prometheus to know every pod", async || {
        part.alive()?;
        let known = count(&url).await?;
        if known == pods { Ok(()) } else { Err(format!("{known} of {pods} series of {METRIC}")) }
    })
    .await?;
    Ok(Prometheus { part, url })
}

/// What it says of itself.
pub fn version() -> Result<String, String> {
    let output = std::process::Command::new(program()?).arg("--version").output().map_err(|error| error.to_string())?;
    // Older ones answer on standard error.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.split(" (").next().and_then(|line| line.split("version ").nth(1)).unwrap_or("unknown").to_owned())
}

fn program() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("prometheus")).find(|file| file.is_file());
    found.ok_or_else(|| "prometheus is not installed; on Debian: apt-get install prometheus".to_owned())
}

async fn count(url: &str) -> Result<usize, String> {
    let url = format!("{url}api/v1/query?query=count({METRIC})");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let body = answer.map_err(|error| error.to_string())?.bytes().await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let count = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
    count.parse().map_err(|_| format!("not a count: {answer}"))
}
