//! `hey`, with the seed's own command line.

use std::{env, net::SocketAddr, path::Path, time::Duration};

use tidegate::config::Duration as Span;

use super::cluster::{
    process::{Part, tail},
    wait::{GLANCE, PATIENCE},
};

/// The seed's request.
const BODY: &str = r#"{"model": "qwen", "messages": [{"role": "user", "content": "Test"}], "max_tokens": 10, "temperature": 0.7, "top_p": 0.9, "seed": 10}"#;
/// The seed's number of clients.
pub const CLIENTS: usize = 5;

/// How long the load lasts; the seed's own two minutes with `TIDEGATE_SCENE_LOAD=2m`.
pub const LOAD: &str = "TIDEGATE_SCENE_LOAD";
/// Without that: three replicas are there after half of it.
const SHORT: Duration = Duration::from_secs(45);

/// How long the load lasts, by [`LOAD`].
pub fn length() -> Result<Span, String> {
    env::var(LOAD).map_or(Ok(Span(SHORT)), |text| text.parse().map_err(|error| format!("{LOAD}: {error}")))
}

/// A running load. It ends by itself, and with this process at the latest.
pub struct Load {
    hey: Part,
    log: std::path::PathBuf,
    length: Span,
}

/// Starts the load on a host of the gateway. What hey says goes to a log in `folder`.
pub fn hey(folder: &Path, gateway: SocketAddr, host: &str, length: Span) -> Result<Load, String> {
    let program = Path::new("/usr/bin/hey");
    if !program.exists() {
        return Err("hey is not installed; tests/run installs it on Debian: apt-get install hey".into());
    }
    let arguments = [
        "-z",
        &length.to_string(),
        "-c",
        &CLIENTS.to_string(),
        "-m",
        "POST",
        "-host",
        host,
        "-H",
        "Content-Type: application/json",
        "-d",
        BODY,
        &format!("http://{gateway}/v1/chat/completions"),
    ]
    .map(str::to_owned);
    let name = format!("hey-{host}");
    let hey = Part::start(&name, folder, program, &arguments)?;
    Ok(Load { hey, log: folder.join(format!("{name}.log")), length })
}

impl Load {
    /// Waits for its end. What it saw: requests answered 200, and its lines about all others.
    pub async fn outcome(mut self) -> Result<(u64, Vec<String>), String> {
        let ended = async {
            while self.hey.ended().is_none() {
                tokio::time::sleep(GLANCE).await;
            }
        };
        let limit = self.length.0 + PATIENCE;
        tokio::time::timeout(limit, ended).await.map_err(|_| format!("hey has not ended after {limit:?}"))?;
        let text = tail(&self.log, 200);
        // "  [200]\t123 responses"; whatever went wrong has its own code, or a line of the error distribution.
        let codes = text.lines().map(str::trim).filter(|line| line.starts_with('['));
        let (fine, other): (Vec<&str>, Vec<&str>) = codes.partition(|line| line.starts_with("[200]"));
        let count = fine.iter().filter_map(|line| line.split_whitespace().nth(1)).filter_map(|n| n.parse::<u64>().ok());
        Ok((count.sum(), other.into_iter().map(str::to_owned).collect()))
    }
}
