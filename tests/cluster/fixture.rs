//! `apiservice`'s example server behind the real aggregator: what the library promises to a cluster, with values that are
//! known beforehand. It stands in for the adapter for as long as the test runs.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    path::{Path, PathBuf},
};

use futures::FutureExt as _;
use k8s_openapi::{
    api::{
        authentication::v1::TokenRequest,
        core::v1::{Namespace as Object, Service, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    adapter::{self, Adapter, NAMESPACE, SERVICE, VERSIONS, answered, point},
    kubectl::{kubectl, kubectl_as},
    namespace::Namespace,
    pki::Authority,
    process::{Part, free_ports},
    raw::{direct, get, pods_path},
    wait::eventually,
};

/// The example's Service.
const FIXTURE: &str = "fixture";
const METRIC: &str = "vllm:num_requests_running";
const QUEUE: &str = "queue_depth";

/// A file with one pod, one node and one queue in each of two namespaces that differ in their values.
fn file(mine: &str, other: &str) -> String {
    let time = "time: 2026-01-02T03:04:05Z";
    let mut text = format!("now: 2026-01-02T03:04:10Z\nmaxAge: 60s\nnamespaces: [{mine}, {other}]\nobjects:\n");
    for namespace in [mine, other] {
        text += &format!(
            "- {{apiVersion: v1, kind: Pod, resource: pods, namespace: {namespace}, name: llm-0, labels: {{app: llm}}}}\n"
        );
    }
    text += "custom:\n";
    for (namespace, value) in [(mine, "33.5"), (other, "44.5")] {
        text += &format!(
            "- {{metric: '{METRIC}', resource: pods, namespace: {namespace}, name: llm-0, value: {value}, {time}}}\n"
        );
    }
    text += &format!("- {{metric: busy, resource: nodes, name: gpu-1, value: 7, {time}}}\nexternal:\n");
    for (namespace, value) in [(mine, 42), (other, 43)] {
        text +=
            &format!("- {{metric: {QUEUE}, namespace: {namespace}, labels: {{queue: a}}, value: {value}, {time}}}\n");
    }
    text
}

/// Cargo builds it with the tests of the whole workspace.
fn program() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.parent().and_then(Path::parent).unwrap().join("examples/fixture");
    assert!(program.exists(), "{} is missing: cargo build -p apiservice --example fixture", program.display());
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_server_stands_behind_the_aggregator_as_any_metrics_api_server() {
    let exclusive = adapter::exclusive().await;
    let (mine, other) = (Namespace::new("fixture-mine").await, Namespace::new("fixture-other").await);
    let (plane, folder, client) = (mine.plane, mine.plane.folder(), mine.client.clone());
    let [port] = free_ports();
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(folder.join("fixture.yaml"), file(&mine.name, &other.name)).unwrap();
    let names = [&*format!("{FIXTURE}.{NAMESPACE}.svc"), "localhost"];
    plane.authority.issue(FIXTURE, &[], &names).write(folder, FIXTURE);
    let listen = format!("127.0.0.1:{port}");
    // The rights of the adapter: it needs to ask about tokens and rights, and to read the authentication ConfigMap.
    let flags = [
        ("--fixture", path("fixture.yaml")),
        ("--listen", listen),
        ("--tls-cert", path("fixture.crt")),
        ("--tls-key", path("fixture.key")),
        ("--kubeconfig", path("tidegate-adapter.yaml")),
    ];
    let arguments: Vec<String> = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    let mut process = Part::start(FIXTURE, folder, &program(), &arguments).unwrap();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": FIXTURE},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }))
    .unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    services.create(&PostParams::default(), &service).await.unwrap();
    eventually("the example to be ready", async || {
        process.alive()?;
        let answer = direct(plane).build().unwrap().get(format!("https://localhost:{port}/readyz")).send().await;
        let text = answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
        if text == "ok" { Ok(()) } else { Err(text) }
    })
    .await;

    point(&client, FIXTURE, port).await;
    let outcome = AssertUnwindSafe(scene(exclusive.adapter, &mine, other, port)).catch_unwind().await;
    // The other tests want the adapter back, whatever has become of this one.
    point(&client, SERVICE, exclusive.adapter.port).await;
    answered(&client, QUEUE, false).await;
    exclusive.adapter.available(&client).await.unwrap();
    services.delete(FIXTURE, &DeleteParams::default()).await.unwrap();
    if let Err(panic) = outcome {
        eprintln!("--- {FIXTURE}\n{}", process.tail(25));
        resume_unwind(panic);
    }
    mine.finish().await;
}

/// What the whole of it is about.
async fn scene(adapter: &Adapter, mine: &Namespace, other: Namespace, port: u16) {
    let (plane, client) = (mine.plane, &mine.client);
    eventually("our metrics to be listed", async || {
        for (version, group, _) in VERSIONS {
            let list = get(client, &format!("/apis/{group}/{version}")).await?.to_string();
            let metric = if group.starts_with("custom") { METRIC } else { QUEUE };
            if !list.contains(metric) {
                return Err(list);
            }
        }
        Ok(())
    })
    .await;
    // Aggregated discovery is read when an APIService changes, and once a minute. The change of the Service may have come
    // before the way to it: another one has it read again now.
    let services: Api<APIService> = Api::all(client.clone());
    let touch = Patch::Merge(json!({"metadata": {"annotations": {"tidegate.test/served-by": FIXTURE}}}));
    for (version, group, _) in VERSIONS {
        services.patch(&format!("{version}.{group}"), &PatchParams::default(), &touch).await.unwrap();
    }
    adapter.available(client).await.unwrap();
    discovery(mine).await;
    openapi(mine).await;
    values(mine, &other).await;
    rights(mine, &other, port).await;
    // The namespace controller asks every group what a namespace may hold, ours included.
    let namespaces: Api<Object> = Api::all(client.clone());
    let name = other.name.clone();
    other.finish().await;
    eventually("a namespace to be gone", async || match namespaces.get_opt(&name).await {
        Ok(None) => Ok(()),
        Ok(Some(object)) => Err(format!("{:?}", object.status)),
        Err(error) => Err(error.to_string()),
    })
    .await;
    assert!(plane.alive().is_ok(), "{}", plane.tails(20));
}

/// Legacy and aggregated, as kubectl reads them.
async fn discovery(mine: &Namespace) {
    let raw = async |path: &str| -> Value {
        serde_json::from_str(&kubectl(mine.plane, &["get", "--raw", path]).await.unwrap()).unwrap()
    };
    let groups = raw("/apis").await;
    for (version, group, _) in VERSIONS {
        let listed = groups["groups"].as_array().unwrap().iter().find(|listed| listed["name"] == group);
        let versions = &listed.unwrap_or_else(|| panic!("{group} in {groups}"))["versions"];
        assert!(versions.as_array().unwrap().iter().any(|listed| listed["version"] == version), "{versions}");
    }
    let list = raw("/apis/custom.metrics.k8s.io/v1beta2").await;
    for (name, namespaced) in [(&*format!("pods/{METRIC}"), true), ("nodes/busy", false)] {
        let resource = list["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == name);
        let resource = resource.unwrap_or_else(|| panic!("{name} in {list}"));
        assert_eq!((&resource["namespaced"], &resource["verbs"]), (&json!(namespaced), &json!(["get"])), "{list}");
    }
    // What kube-apiserver has read of us and merged with its own. It asks when an APIService changes, and each minute.
    eventually("the aggregated document to have our resources", async || {
        let all = mine.client.list_api_groups_aggregated().await.map_err(|error| error.to_string())?;
        let all = serde_json::to_value(all).map_err(|error| error.to_string())?;
        for (version, group, _) in VERSIONS {
            let item = all["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == group);
            let versions = item.and_then(|item| item["versions"].as_array()).ok_or_else(|| format!("no {group}"))?;
            let found = versions.iter().find(|found| found["version"] == version).ok_or(version)?;
            let metric = if group.starts_with("custom") { METRIC } else { QUEUE };
            if found["freshness"] != "Current" || !found["resources"].to_string().contains(metric) {
                return Err(found.to_string());
            }
        }
        Ok(())
    })
    .await;
    // kubectl shows no names with a slash, and so of our groups the external one.
    let external = kubectl(mine.plane, &["api-resources", "--api-group", "external.metrics.k8s.io"]).await.unwrap();
    let line = external.lines().find(|line| line.starts_with(QUEUE)).unwrap_or_else(|| panic!("{external}"));
    assert!(line.contains("external.metrics.k8s.io/v1beta1") && line.contains("true"), "{external}");
}

/// Both documents of kube-apiserver name our paths, and ours is handed through.
async fn openapi(mine: &Namespace) {
    for (version, group, _) in VERSIONS {
        let path = format!("apis/{group}/{version}");
        let document = eventually("our part of OpenAPI v3", async || {
            let index = get(&mine.client, "/openapi/v3").await?;
            let place = index["paths"][&path]["serverRelativeURL"].as_str().ok_or_else(|| index.to_string())?;
            get(&mine.client, place).await
        })
        .await;
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.keys().any(|listed| listed.trim_start_matches('/').starts_with(&path)), "{paths:?}");
        eventually("our part of OpenAPI v2", async || {
            let merged = get(&mine.client, "/openapi/v2").await?;
            let paths = merged["paths"].as_object().ok_or("no paths")?;
            if paths.keys().any(|listed| listed.trim_start_matches('/').starts_with(&path)) {
                Ok(())
            } else {
                Err(format!("{path} is not among {} paths", paths.len()))
            }
        })
        .await;
    }
}

/// As the administrator, through the aggregator.
async fn values(mine: &Namespace, other: &Namespace) {
    for (namespace, custom, external) in [(mine, "33500m", "42"), (other, "44500m", "43")] {
        for version in ["v1beta1", "v1beta2"] {
            let path = pods_path(version, &namespace.name, METRIC, "app=llm");
            let list = kubectl(mine.plane, &["get", "--raw", &path]).await.unwrap();
            let list: Value = serde_json::from_str(&list).unwrap();
            assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
            let item = &list["items"][0];
            assert_eq!(
                (&item["value"], &item["timestamp"]),
                (&json!(custom), &json!("2026-01-02T03:04:05Z")),
                "{list}"
            );
        }
        let path = queue(&namespace.name);
        let list = get(&mine.client, &path).await.unwrap();
        assert_eq!(list["items"][0]["value"], external, "{list}");
    }
    let node = get(&mine.client, "/apis/custom.metrics.k8s.io/v1beta2/nodes/gpu-1/busy").await.unwrap();
    assert_eq!(node["items"][0]["value"], "7", "{node}");
    let none = get(&mine.client, &pods_path("v1beta2", &mine.name, "none", "app=llm")).await.unwrap_err();
    assert!(none.starts_with("404 NotFound: metric none of pods not found"), "{none}");
    for path in ["//", "/namespaces/%2e%2e/pods/x/m", "/namespaces/a/pods/x/a%2Fb"] {
        let path = format!("/apis/custom.metrics.k8s.io/v1beta2{path}");
        let error = get(&mine.client, &path).await.unwrap_err();
        assert!(error.starts_with("404 "), "{path}: {error}");
    }
}

fn queue(namespace: &str) -> String {
    format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{QUEUE}?labelSelector=queue%3Da")
}

/// A service account and a certified user that may read one namespace, and callers who claim to be more.
async fn rights(mine: &Namespace, other: &Namespace, port: u16) {
    let plane = mine.plane;
    mine.create::<ServiceAccount>(json!({"metadata": {"name": "reader"}})).await;
    let rules = json!([
        {"apiGroups": ["custom.metrics.k8s.io"], "resources": [format!("pods/{METRIC}")], "verbs": ["get"]},
        {"apiGroups": ["external.metrics.k8s.io"], "resources": [QUEUE], "verbs": ["list"]},
    ]);
    mine.create::<Role>(json!({"metadata": {"name": "reader"}, "rules": rules})).await;
    mine.create::<RoleBinding>(json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [
            {"kind": "ServiceAccount", "name": "reader", "namespace": mine.name},
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "fixture-reader"},
        ],
    }))
    .await;
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let accounts = mine.api::<ServiceAccount>();
    let token = accounts.create_token_request("reader", &PostParams::default(), &request).await.unwrap();
    let token = token.status.unwrap().token.unwrap();
    let paths =
        |namespace: &Namespace| [pods_path("v1beta2", &namespace.name, METRIC, "app=llm"), queue(&namespace.name)];

    // A certified user, through the aggregator.
    let user = plane.kubeconfig("fixture-reader", "fixture-reader", &[]);
    for path in paths(mine) {
        eventually("the new role to count", async || {
            kubectl_as(plane, user.clone(), &["get", "--raw", &path]).await.map(|_| ())
        })
        .await;
    }
    for path in paths(other) {
        let error = kubectl_as(plane, user.clone(), &["get", "--raw", &path]).await.unwrap_err();
        assert!(error.contains("Forbidden") && error.contains("fixture-reader"), "{error}");
    }

    // A service account's token, through the aggregator and straight at the server: the same rights.
    let plain = direct(plane).build().unwrap();
    for base in [plane.server().to_owned(), format!("https://localhost:{port}")] {
        for (path, token, code) in paths(mine)
            .map(|path| (path, &*token, 200))
            .into_iter()
            .chain(paths(other).map(|path| (path, &*token, 403)))
            .chain(paths(mine).map(|path| (path, "not-a-token", 401)))
        {
            eventually("the answer that RBAC demands", async || {
                let answer = plain.get(format!("{base}{path}")).bearer_auth(token).send().await;
                let answer = answer.map_err(|error| error.to_string())?;
                let (answered, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
                if answered == code { Ok(()) } else { Err(format!("{base}{path}: {answered} {text}")) }
            })
            .await;
        }
    }

    // The front proxy's headers count beside its certificate, and beside no other.
    let identity = |pair: String| reqwest::Identity::from_pem(pair.as_bytes()).unwrap();
    let read = |file: &str| std::fs::read_to_string(plane.folder().join(file)).unwrap();
    let proxy = read("front-proxy-client.crt") + &read("front-proxy-client.key");
    let proxy = direct(plane).identity(identity(proxy)).build().unwrap();
    let nobody = plane.authority.issue("nobody-special", &[], &[]);
    let nobody = direct(plane).identity(identity(nobody.cert + &nobody.key)).build().unwrap();
    let forger = Authority::new("tidegate-test-front-proxy-ca").issue("front-proxy-client", &[], &[]);
    let forger = direct(plane).identity(identity(forger.cert + &forger.key)).build().unwrap();
    let [path, _] = paths(other);
    for (who, caller, code) in [
        ("the front proxy", &proxy, 200),
        ("nobody", &plain, 403),
        ("a certified user", &nobody, 403),
        ("a self-made front proxy", &forger, 401),
    ] {
        let request = caller.get(format!("https://localhost:{port}{path}"));
        let request = request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
        let answer = request.send().await.unwrap();
        let (answered, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(answered, code, "{who}: {text}");
        assert_eq!(text.contains("44500m"), code == 200, "{who}: {text}");
    }
}
