//! Debian's Prometheus, and what it has recorded.

use std::{env, fs, path::PathBuf};

use serde_json::Value;

use super::cluster::{
    controlplane::ControlPlane,
    process::{Part, free_ports},
    wait::eventually_or_error,
};

/// A running Prometheus.
pub struct Prometheus {
    /// `http://…/`.
    pub url: String,
    client: reqwest::Client,
    _part: Part,
}

/// Time series, each with its points: seconds and value.
pub type Series = Vec<Vec<(f64, f64)>>;

impl Prometheus {
    /// Starts one with these scrape configurations, each second unless they say otherwise.
    pub async fn start(plane: &ControlPlane, name: &str, scrape_configs: &str) -> Result<Self, String> {
        let [port] = free_ports();
        let file = plane.folder().join(format!("{name}.yaml"));
        let config = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{scrape_configs}");
        fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", plane.folder().join(format!("{name}-data")).display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let mut part = Part::start(name, plane.folder(), &program()?, &arguments)?;
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(|error| error.to_string())?;
        let url = format!("http://127.0.0.1:{port}/");
        eventually_or_error("Prometheus to be ready", async || {
            part.alive()?;
            let answer = client.get(format!("{url}-/ready")).send().await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await?;
        Ok(Self { url, client, _part: part })
    }

    /// As [`start`](Self::start), watching the adapter's own `/metrics` as the job `tidegate`, every 5 s: an answer may take as
    /// long, and on a machine that stands still for a second it is not the adapter that is down.
    pub async fn watching(plane: &ControlPlane, telemetry: u16) -> Result<Self, String> {
        let job = format!(
            "- job_name: tidegate\n  scrape_interval: 5s\n  scrape_timeout: 5s\n  \
             static_configs: [{{targets: ['127.0.0.1:{telemetry}']}}]\n"
        );
        Self::start(plane, "watching-prometheus", &job).await
    }

    /// The points of a range selector, such as `up[10m]`.
    pub async fn range(&self, selector: &str) -> Result<Series, String> {
        let answer = self.ask(selector).await?;
        let series = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?));
        let points = |one: &Value| one["values"].as_array().into_iter().flatten().filter_map(point).collect();
        Ok(series.iter().map(points).collect())
    }

    /// The one value of a query; an error if there is none, or more.
    pub async fn value(&self, query: &str) -> Result<f64, String> {
        let answer = self.ask(query).await?;
        let result = answer["data"]["result"].as_array().map_or(&[][..], Vec::as_slice);
        let [only] = result else { return Err(format!("{query}: one value is expected: {answer}")) };
        let value = only["value"][1].as_str().and_then(|text| text.parse().ok());
        value.ok_or_else(|| format!("{query}: {answer}"))
    }

    async fn ask(&self, query: &str) -> Result<Value, String> {
        let address = reqwest::Url::parse_with_params(&format!("{}api/v1/query", self.url), [("query", query)]);
        let request = self.client.get(address.map_err(|error| error.to_string())?);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| format!("{query}: {error}"))
    }
}

fn program() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("prometheus")).find(|file| file.is_file());
    found.ok_or_else(|| "prometheus is not installed; on Debian: apt-get install prometheus".to_owned())
}
