//! What the HPA's metrics clients send: URLs, headers and selectors, over TLS with a client certificate.
//!
//! After `k8s.io/metrics/pkg/client` and client-go: the wildcard travels as `%2A`, query values are form-encoded, an empty
//! selector is left out, and answers that carry an integer `Retry-After` are asked for again up to ten times.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::decode::{self, QueryError};

const CUSTOM: &str = "custom.metrics.k8s.io";
/// As kube-controller-manager's default client asks: protobuf first, anything else after.
const ACCEPT: &str = "application/vnd.kubernetes.protobuf, */*";
const ACCEPT_DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
const USER_AGENT: &str = "kube-controller-manager/v1.34.0 (linux/amd64) tidegate-model/system:serviceaccount:kube-system:horizontal-pod-autoscaler";
/// client-go's limit of retries on `Retry-After`.
const RETRIES: u32 = 10;
/// The real client has no limit of its own; a scene should end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The metrics clients of one HPA controller.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    version: Option<&'static str>,
}

/// The TLS material of a [`Client`] is unusable.
#[derive(Debug, thiserror::Error)]
#[error("the TLS settings of the HPA model cannot be used: {0}")]
pub struct ClientError(#[from] reqwest::Error);

struct Answer {
    code: u16,
    content_type: Option<String>,
    body: Vec<u8>,
}

impl Client {
    /// A client for the server at `base` (`https://host:port`) that trusts `ca` and shows the certificate and key in
    /// `identity` (all PEM). A TLS crypto provider must have been installed.
    ///
    /// # Errors
    /// PEM that does not parse.
    pub fn new(base: &str, ca: &str, identity: &str) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes())?])
            .identity(reqwest::Identity::from_pem(identity.as_bytes())?)
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), version: None })
    }

    /// Forgets the version of the custom metrics API, as the controller does once per sync period.
    pub fn forget_version(&mut self) {
        self.version = None;
    }

    /// Values by pod name, in thousandths, of all pods that `selector` selects.
    ///
    /// # Errors
    /// Whatever makes the metric invalid for the HPA.
    pub async fn pods(
        &mut self,
        namespace: &str,
        metric: &str,
        selector: &str,
        metric_selector: &str,
    ) -> Result<BTreeMap<String, i64>, QueryError> {
        let version = self.version().await?;
        let path = format!("/apis/{CUSTOM}/{version}/namespaces/{namespace}/pods/%2A/{metric}");
        let answer =
            self.get(&path, &[("labelSelector", selector), ("metricLabelSelector", metric_selector)], ACCEPT).await?;
        decode::custom(answer.code, answer.content_type.as_deref(), &answer.body)
    }

    /// The value of one object, in thousandths; `resource` with its group, as in `deployments.apps`.
    ///
    /// # Errors
    /// Whatever makes the metric invalid for the HPA.
    pub async fn object(
        &mut self,
        namespace: &str,
        resource: &str,
        name: &str,
        metric: &str,
        metric_selector: &str,
    ) -> Result<i64, QueryError> {
        let version = self.version().await?;
        let path = format!("/apis/{CUSTOM}/{version}/namespaces/{namespace}/{resource}/{name}/{metric}");
        let answer = self.get(&path, &[("metricLabelSelector", metric_selector)], ACCEPT).await?;
        decode::object(answer.code, answer.content_type.as_deref(), &answer.body)
    }

    /// The values of an external metric whose labels `selector` selects, in thousandths.
    ///
    /// # Errors
    /// Whatever makes the metric invalid for the HPA.
    pub async fn external(&self, namespace: &str, metric: &str, selector: &str) -> Result<Vec<i64>, QueryError> {
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}");
        let answer = self.get(&path, &[("labelSelector", selector)], ACCEPT).await?;
        decode::external(answer.code, answer.content_type.as_deref(), &answer.body)
    }

    /// The version of the custom metrics API that the server prefers, among those that are known.
    async fn version(&mut self) -> Result<&'static str, QueryError> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let answer = self.get("/apis", &[("timeout", "32s")], ACCEPT_DISCOVERY).await?;
        if !(200..300).contains(&answer.code) {
            return Err(QueryError::Discovery(format!("discovery failed with status {}", answer.code)));
        }
        let groups: Value =
            serde_json::from_slice(&answer.body).map_err(|error| QueryError::Undecodable(error.to_string()))?;
        let version = preferred(&groups)?;
        self.version = Some(version);
        Ok(version)
    }

    async fn get(&self, path: &str, query: &[(&str, &str)], accept: &str) -> Result<Answer, QueryError> {
        let connection = |error: reqwest::Error| QueryError::Connection(words(&error));
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| QueryError::Connection(format!("{path}: {error}")))?;
        for (key, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
            url.query_pairs_mut().append_pair(key, value);
        }
        let mut retries = 0;
        loop {
            let answer = self.http.get(url.clone()).header("accept", accept).send().await.map_err(connection)?;
            let code = answer.status().as_u16();
            let header =
                |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let wait = header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
            if let Some(wait) = wait.filter(|_| retries < RETRIES && (code == 429 || code >= 500)) {
                retries += 1;
                tokio::time::sleep(wait).await;
                continue;
            }
            let content_type = header("content-type");
            let body = answer.bytes().await.map_err(connection)?.to_vec();
            return Ok(Answer { code, content_type, body });
        }
    }
}

fn words(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// From `GET /apis`, in either of its two shapes.
fn preferred(groups: &Value) -> Result<&'static str, QueryError> {
    let known = |version: &str| ["v1beta2", "v1beta1"].into_iter().find(|known| *known == version);
    let of = |list: &Value, name: fn(&Value) -> &Value| {
        list.as_array().and_then(|list| list.iter().find(|group| name(group) == CUSTOM).cloned())
    };
    let versions: Vec<String> = if let Some(group) = of(&groups["items"], |group| &group["metadata"]["name"]) {
        let versions = group["versions"].as_array().into_iter().flatten();
        let current = versions.filter(|version| version["freshness"] != "Stale");
        current.filter_map(|version| Some(version["version"].as_str()?.to_owned())).collect()
    } else if let Some(group) = of(&groups["groups"], |group| &group["name"]) {
        let preferred = [&group["preferredVersion"]].into_iter();
        let versions = preferred.chain(group["versions"].as_array().into_iter().flatten());
        versions.filter_map(|version| Some(version["version"].as_str()?.to_owned())).collect()
    } else {
        return Err(QueryError::Discovery(format!("no custom metrics API ({CUSTOM}) registered")));
    };
    versions
        .iter()
        .find_map(|version| known(version))
        .ok_or_else(|| QueryError::Discovery("no known available metric versions found".into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers each request with the next of `answers`, and hands back the requests' heads.
    async fn recorded(answers: Vec<String>) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let mut heads = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut head).await.expect("reads") > 0, "the client left");
                }
                stream.write_all(answer.as_bytes()).await.expect("writes");
                heads.push(String::from_utf8(head).expect("text"));
            }
            heads
        });
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert =
            rcgen::CertificateParams::new(vec!["hpa".into()]).and_then(|p| p.self_signed(&key)).expect("a certificate");
        let client =
            Client::new(&base, &cert.pem(), &format!("{}{}", cert.pem(), key.serialize_pem())).expect("a client");
        (client, server)
    }

    fn answer(head: &str, body: &Value) -> String {
        let body = body.to_string();
        format!(
            "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn requests_look_like_the_controllers() {
        let discovery = json!({"items": [{"metadata": {"name": CUSTOM}, "versions": [{"version": "v1beta2"}]}]});
        let item = json!({"describedObject": {"name": "llm-0"}, "timestamp": "2026-01-02T03:04:05Z", "value": "80"});
        let list = json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": [item]});
        let external = json!({"items": [{"value": "7"}]});
        let answers = [&discovery, &list, &list, &external].map(|body| answer("200 OK", body));
        let (mut client, server) = recorded(answers.into()).await;
        let pods = client.pods("default", "vllm:running", "app=isvc.llm,tier in (a,b)", "").await;
        assert_eq!(pods, Ok([("llm-0".to_owned(), 80_000)].into()));
        assert_eq!(client.object("default", "deployments.apps", "llm", "m", "a=b").await, Ok(80_000));
        assert_eq!(client.external("default", "m", "").await, Ok(vec![7_000]));
        let heads = server.await.expect("served");
        for (head, expected) in heads.iter().zip([
            "GET /apis?timeout=32s HTTP/1.1\r\n",
            "GET /apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/vllm:running?labelSelector=app%3Disvc.llm%2Ctier+in+%28a%2Cb%29 HTTP/1.1\r\n",
            "GET /apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/llm/m?metricLabelSelector=a%3Db HTTP/1.1\r\n",
            "GET /apis/external.metrics.k8s.io/v1beta1/namespaces/default/m HTTP/1.1\r\n",
        ]) {
            assert!(head.starts_with(expected), "{head}");
            assert!(head.contains("accept-encoding: gzip\r\n"), "{head}");
        }
        assert!(heads[1].contains("accept: application/vnd.kubernetes.protobuf, */*\r\n"), "{}", heads[1]);
    }

    #[tokio::test]
    async fn an_integer_retry_after_is_obeyed_and_others_are_not() {
        let status = json!({"kind": "Status", "message": "busy"});
        let busy = answer("429 Too Many Requests\r\nRetry-After: 0", &status);
        let ok = answer("200 OK", &json!({"items": [{"value": "7"}]}));
        let (client, server) = recorded(vec![busy.clone(), busy, ok]).await;
        assert_eq!(client.external("default", "m", "").await, Ok(vec![7_000]));
        assert_eq!(server.await.expect("served").len(), 3);
        for head in [
            "404 Not Found\r\nRetry-After: 1",
            "503 Service Unavailable",
            "503 Service Unavailable\r\nRetry-After: soon",
        ] {
            let (client, server) = recorded(vec![answer(head, &status)]).await;
            assert_eq!(client.external("default", "m", "").await, Err(QueryError::Status("busy".into())), "{head}");
            assert_eq!(server.await.expect("served").len(), 1);
        }
    }

    #[test]
    fn the_servers_preferred_version_is_taken_if_it_is_known() {
        let aggregated = |versions: Value| json!({"items": [{"metadata": {"name": CUSTOM}, "versions": versions}]});
        let legacy = |preferred: &str, others: [&str; 2]| {
            let versions = others.map(|version| json!({"version": version}));
            json!({"groups": [{"name": CUSTOM, "preferredVersion": {"version": preferred}, "versions": versions}]})
        };
        for (groups, expected) in [
            (aggregated(json!([{"version": "v1beta2"}, {"version": "v1beta1"}])), Some("v1beta2")),
            (
                aggregated(json!([{"version": "v1beta2", "freshness": "Stale"}, {"version": "v1beta1"}])),
                Some("v1beta1"),
            ),
            (aggregated(json!([])), None),
            (legacy("v1beta1", ["v1beta2", "v1beta1"]), Some("v1beta1")),
            (legacy("v2", ["v2", "v1beta2"]), Some("v1beta2")),
            (json!({"groups": []}), None),
        ] {
            assert_eq!(preferred(&groups).ok(), expected, "{groups}");
        }
    }
}
