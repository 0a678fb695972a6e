//! The Grafana dashboard over the adapter's own metrics: `tidegate demo` plays its scenes as a process of its own, Debian's
//! Prometheus scrapes it, and every panel's query has to find something.

use std::{fs, path::Path};

use serde_json::Value;

use crate::cluster::{
    process::{Part, Scratch, free_ports},
    wait::eventually,
};

/// Twenty minutes of scene in a third of one. Each slower than the one before: on a machine that cannot follow, a scene does not
/// play as described.
const SPEEDS: [&str; 3] = ["3", "1", "0.4"];
/// The scenes, by what `tidegate demo` is told: one has a dead exporter and lines of every kind, the other an engine that
/// decides, and nodes that are bought and given back.
const SCENES: [&[&str]; 2] = [&[], &["--engine"]];
/// Two scrapes of one second and some slack; Grafana chooses four times the scrape interval.
const RATE_INTERVAL: &str = "5s";
/// How far back the panels look: longer than any machine takes for the scene.
const SPAN_SECONDS: f64 = 600.0;

/// A panel's title and query, with the dashboard's variables as Grafana fills them in when all is selected.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let mut queries = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a target has an expression");
            let query = query
                .replace("$__rate_interval", RATE_INTERVAL)
                .replace("$__range", &format!("{SPAN_SECONDS}s"))
                .replace("$metric", "DCGM_CUSTOM_PROCESS_SM_UTIL")
                .replace("$namespace", ".+")
                .replace("$job", ".+");
            assert!(!query.contains('$'), "an unknown variable in {query}");
            queries.push((panel["title"].as_str().expect("a panel has a title").to_owned(), query));
        }
    }
    queries
}

async fn get(client: &reqwest::Client, url: &str, query: &[(&str, &str)]) -> Result<Value, String> {
    let url = reqwest::Url::parse_with_params(url, query).map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    let text = answer.text().await.map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

/// Plays a scene of the demo to its end.
async fn play(scratch: &Scratch, metrics: u16, scene: &[&str], speed: &str) -> Result<(), String> {
    let metrics = format!("127.0.0.1:{metrics}");
    let arguments = [&["demo", "--json", "--speed", speed, "--metrics-listen", &metrics], scene].concat();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let mut demo = Part::start("demo", &scratch.path, program, &arguments).unwrap();
    let status = eventually("the demo to end", async || demo.ended().ok_or("it runs still")).await;
    if status.success() { Ok(()) } else { Err(format!("{scene:?} at speed {speed}:\n{}", demo.tail(20))) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_of_the_dashboard_shows_data_of_the_demo_scene() {
    let dashboard = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/tidegate.json")).unwrap();
    let queries = queries(&serde_json::from_str(&dashboard).unwrap());
    assert!(queries.len() > 20, "the dashboard has lost its panels");

    let scratch = Scratch::new("dashboards").unwrap();
    let [metrics, prometheus] = free_ports();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: tidegate\n  static_configs: [{{targets: ['127.0.0.1:{metrics}']}}]\n"
    );
    fs::write(scratch.path.join("prometheus.yml"), config).unwrap();
    let arguments = [
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{prometheus}"),
    ];
    let mut server = Part::start("prometheus", &scratch.path, Path::new("/usr/bin/prometheus"), &arguments).unwrap();
    // An error: another test of this process has chosen it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let api = format!("http://127.0.0.1:{prometheus}/api/v1");
    eventually("Prometheus is ready", async || {
        server.alive()?;
        let url = format!("http://127.0.0.1:{prometheus}/-/ready");
        let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;

    for scene in SCENES {
        let mut outcome = Err(String::new());
        for speed in SPEEDS {
            outcome = play(&scratch, metrics, scene, speed).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome.unwrap_or_else(|error| panic!("the demo failed: {error}"));
    }

    let now = get(&client, &format!("{api}/query"), &[("query", "time()")]).await.unwrap();
    let now: f64 = now["data"]["result"][0].as_f64().expect("Prometheus knows the time");
    let (start, end) = ((now - SPAN_SECONDS).to_string(), now.to_string());
    let mut empty = Vec::new();
    for (title, query) in queries {
        let span = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", "1")];
        let answer = get(&client, &format!("{api}/query_range"), &span).await.unwrap();
        assert_eq!(answer["status"], "success", "{title}: {query}: {answer}");
        let series = answer["data"]["result"].as_array().expect("a matrix");
        let number = |point: &Value| point[1].as_str().is_some_and(|value| value != "NaN");
        if !series.iter().any(|series| series["values"].as_array().is_some_and(|points| points.iter().any(number))) {
            empty.push(format!("{title}: {query}"));
        }
    }
    assert!(empty.is_empty(), "panels without data:\n{}", empty.join("\n"));
}
