//! Where a pod's model server offers its page of metrics, as far as the pod's own object says.
//!
//! The port is told by the first of these:
//!
//! 1. the annotations `prometheus.kserve.io/port` (KServe's serving runtimes carry it) and `prometheus.io/port`;
//! 2. `--port N` in the command or arguments of the container with the model server, also inside of a shell's text, which
//!    is how arena writes it: vLLM, SGLang and TGI all serve their page where they serve requests;
//! 3. that container's port by name (`metrics`, `http-metrics`), or else its first TCP port.
//!
//! The path is told by annotation only. `prometheus.io/scrape: "false"` and
//! `serving.kserve.io/enable-prometheus-scraping: "false"` decline.

use std::sync::Arc;

use serde::Deserialize;

use super::containers::Container;
use crate::cluster::PageHint;

/// Names of ports that serve metrics and nothing else.
const METRICS_PORTS: [&str; 2] = ["metrics", "http-metrics"];
/// Longest path that is taken from an annotation (R22).
const PATH_BYTES: usize = 256;

/// The annotations that are read; all others are skipped.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost")]
    deletion_cost: Option<String>,
    #[serde(rename = "prometheus.kserve.io/port")]
    kserve_port: Option<String>,
    #[serde(rename = "prometheus.kserve.io/path")]
    kserve_path: Option<String>,
    #[serde(rename = "prometheus.io/port")]
    port: Option<String>,
    #[serde(rename = "prometheus.io/path")]
    path: Option<String>,
    #[serde(rename = "prometheus.io/scrape")]
    scrape: Option<String>,
    #[serde(rename = "serving.kserve.io/enable-prometheus-scraping")]
    kserve_scrape: Option<String>,
}

impl Annotations {
    /// The cost, as the ReplicaSet controller reads it; text that is no number counts as none.
    pub(super) fn deletion_cost(&self) -> Option<i32> {
        self.deletion_cost.as_ref()?.parse().ok()
    }
}

/// What the pod says. What cannot be a port or a path counts as not said: it is the pod's owner's to write, and no reason
/// to do without the rest of the pod.
pub(super) fn hint(annotations: Option<&Annotations>, serving: Option<&Container>) -> PageHint {
    let none = Annotations::default();
    let Annotations { deletion_cost: _, kserve_port, kserve_path, port, path, scrape, kserve_scrape } =
        annotations.unwrap_or(&none);
    let annotated = [kserve_port, port].into_iter().flatten().find_map(|text| number(text));
    let path = [kserve_path, path].into_iter().flatten().find(|path| is_path(path));
    PageHint {
        port: annotated.or_else(|| by_flag(serving?)).or_else(|| by_container(serving?)),
        path: path.map(|path| Arc::from(path.as_str())),
        declined: [scrape, kserve_scrape].into_iter().flatten().any(|text| text.eq_ignore_ascii_case("false")),
    }
}

fn number(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|port| *port > 0)
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= PATH_BYTES && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `--port 8080` or `--port=8080`, as words of their own or within the text that a shell is given. Of several the last
/// counts, as in argument parsers.
fn by_flag(container: &Container) -> Option<u16> {
    let texts = container.command.iter().chain(&container.args).flatten();
    let mut words = texts.flat_map(|text| text.split_whitespace()).map(|word| word.trim_matches(['"', '\'', ';']));
    let mut found = None;
    while let Some(word) = words.next() {
        match word.strip_prefix("--port") {
            Some("") => found = words.next().and_then(number).or(found),
            Some(rest) => found = rest.strip_prefix('=').and_then(number).or(found),
            None => {}
        }
    }
    found
}

fn by_container(container: &Container) -> Option<u16> {
    let named =
        container.tcp_ports().find(|port| port.name.as_deref().is_some_and(|name| METRICS_PORTS.contains(&name)));
    named.or_else(|| container.tcp_ports().next()).map(|port| port.number).filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hint_of(annotations: &Value, container: &Value) -> PageHint {
        let annotations: Annotations = serde_json::from_value(annotations.clone()).unwrap();
        let container: Container = serde_json::from_value(container.clone()).unwrap();
        hint(Some(&annotations), Some(&container))
    }

    #[test]
    fn the_port_is_told_by_annotation_then_by_the_servers_flag_then_by_the_container() {
        let arena =
            "python3 -m vllm.entrypoints.openai.api_server --port 8080 --trust-remote-code --model /mnt/models/Qwen";
        let ports = json!([{"name": "udp", "containerPort": 1, "protocol": "UDP"}, {"name": "h2c", "containerPort": 9000},
                           {"name": "http-metrics", "containerPort": 9100}]);
        for (annotations, container, port) in [
            (json!({}), json!({"command": ["sh", "-c", arena]}), Some(8080)),
            (json!({}), json!({"command": ["vllm", "serve"], "args": ["m", "--port", "8001"]}), Some(8001)),
            (json!({}), json!({"args": ["--port=8002", "--host=::"]}), Some(8002)),
            (json!({}), json!({"args": ["--port=1", "--port", "2"]}), Some(2)),
            (json!({}), json!({"args": ["--port", "${PORT}"]}), None),
            (json!({}), json!({"args": ["--port"]}), None),
            (json!({}), json!({"args": ["--port=70000"]}), None),
            (json!({}), json!({"args": ["--portal", "7", "--master-port=9"]}), None),
            (json!({}), json!({"command": ["sh", "-c", "exec server '--port=8003'"]}), Some(8003)),
            (json!({}), json!({"args": ["--port=8004"], "ports": ports}), Some(8004)),
            (json!({}), json!({"ports": ports}), Some(9100)),
            (json!({}), json!({"ports": [{"containerPort": 9000}, {"containerPort": 9001}]}), Some(9000)),
            (json!({}), json!({"ports": null}), None),
            (json!({"prometheus.io/port": "8005"}), json!({"args": ["--port=1"]}), Some(8005)),
            (json!({"prometheus.kserve.io/port": "8006", "prometheus.io/port": "9091"}), json!({}), Some(8006)),
            (json!({"prometheus.io/port": "eighty"}), json!({"args": ["--port=8007"]}), Some(8007)),
            (json!({"prometheus.io/port": "0"}), json!({}), None),
        ] {
            assert_eq!(hint_of(&annotations, &container).port, port, "{annotations} {container}");
        }
    }

    #[test]
    fn the_path_is_told_by_annotation_if_it_can_be_one() {
        for (annotations, path) in [
            (json!({}), None),
            (json!({"prometheus.io/path": "/v1/metrics?x=1"}), Some("/v1/metrics?x=1")),
            (json!({"prometheus.io/path": "/a", "prometheus.kserve.io/path": "/b"}), Some("/b")),
            (json!({"prometheus.io/path": "metrics"}), None),
            (json!({"prometheus.io/path": "/a b"}), None),
            (json!({"prometheus.io/path": format!("/{}", "a".repeat(256))}), None),
        ] {
            assert_eq!(hint_of(&annotations, &json!({})).path.as_deref(), path, "{annotations}");
        }
    }

    #[test]
    fn annotations_can_decline() {
        for (annotations, declined) in [
            (json!({}), false),
            (json!({"prometheus.io/scrape": "true"}), false),
            (json!({"prometheus.io/scrape": "false"}), true),
            (json!({"serving.kserve.io/enable-prometheus-scraping": "False"}), true),
        ] {
            assert_eq!(hint_of(&annotations, &json!({})).declined, declined, "{annotations}");
        }
    }
}
