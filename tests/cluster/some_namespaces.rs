//! `aggregate.namespaces` with one that the adapter may not read: an instance of its own, which nobody but this test asks.

use serde_json::Value;

use super::{
    adapter::{self, EXPORTER_LABEL, EXPORTER_PORT, UNTRUSTED},
    kubectl,
    namespace::Namespace,
    process::{Part, free_ports},
    raw::{administrator, direct, pods_path},
    wait::eventually,
    workload::{Load, METRIC, SELECTOR, Workload},
};

const NAME: &str = "some-namespaces";

/// What every instance needs, whatever it watches.
fn common_rights() -> String {
    let bind = |kind: &str, role: &str, at: &str| {
        let of = if at.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {of}\nmetadata: {{name: '{NAME}-{}'{at}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: '{role}'}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {NAME}}}]\n",
            role.replace(':', "-")
        )
    };
    let nodes = format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {NAME}}}\n\
         rules: [{{apiGroups: [''], resources: [nodes], verbs: [list, watch]}}]\n"
    );
    [
        nodes,
        bind("ClusterRole", NAME, ""),
        bind("ClusterRole", "system:auth-delegator", ""),
        bind("Role", "extension-apiserver-authentication-reader", ", namespace: kube-system"),
    ]
    .concat()
}

/// The right to read that namespace.
fn rights_in(namespace: &str) -> String {
    format!(
        "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {NAME}, namespace: {namespace}}}\n\
         rules: [{{apiGroups: ['', apps, autoscaling, serving.kserve.io], verbs: [list, watch], \
         resources: [pods, services, deployments, horizontalpodautoscalers, inferenceservices]}}]\n\
         ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {NAME}, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {NAME}}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {NAME}}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_namespace_that_may_not_be_read_is_unknown_alone_until_it_may() {
    let running = adapter::running().await;
    let (open, closed) = (Namespace::new("some-open").await, Namespace::new("some-closed").await);
    let plane = open.plane;
    kubectl::create(plane, &common_rights()).await.unwrap();
    kubectl::create(plane, &rights_in(&open.name)).await.unwrap();
    let workloads = [
        Workload::deploy(&open, 1, 1, Load::Each(42.0)).await.unwrap(),
        Workload::deploy(&closed, 1, 1, Load::Each(43.0)).await.unwrap(),
    ];

    let [port, telemetry] = free_ports();
    let folder = plane.folder();
    let serving = plane.authority.issue(NAME, &[], &["localhost", "127.0.0.1"]);
    let (cert, key) = serving.write(folder, "some-namespaces-serving");
    let config = format!(
        "scrape: {{interval: 1s, timeout: 900ms, maxAge: 4s, discover: [{{selector: '{EXPORTER_LABEL}={UNTRUSTED}', port: {EXPORTER_PORT}}}]}}\n\
         aggregate: {{namespaces: [{}, {}]}}\n\
         serve: {{listen: '127.0.0.1:{port}', tlsCertFile: '{}', tlsKeyFile: '{}'}}\n\
         control: {{enabled: false}}\n\
         telemetry: {{listen: '127.0.0.1:{telemetry}', logFilter: info}}\n",
        open.name,
        closed.name,
        cert.display(),
        key.display()
    );
    let file = folder.join(format!("{NAME}-config.yaml"));
    std::fs::write(&file, config).unwrap();
    let kubeconfig = plane.kubeconfig(NAME, NAME, &[]);
    let arguments = ["adapter", "--config", file.to_str().unwrap(), "--kubeconfig", kubeconfig.to_str().unwrap()];
    let mut instance = Part::start(NAME, folder, &running.adapter.program, &arguments.map(String::from)).unwrap();

    let client = direct(plane).identity(administrator(plane)).build().unwrap();
    let ask = async |namespace: &str| -> Result<Value, String> {
        let path = pods_path("v1beta2", namespace, METRIC, SELECTOR);
        let response = client.get(format!("https://localhost:{port}{path}")).send().await;
        let text = response.map_err(|error| format!("{error:?}"))?.text().await.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|_| text)
    };
    let page = async |name: &str| -> Result<(u16, String), String> {
        let page = reqwest::get(format!("http://127.0.0.1:{telemetry}/{name}")).await;
        let page = page.map_err(|error| error.to_string())?;
        Ok((page.status().as_u16(), page.text().await.map_err(|error| error.to_string())?))
    };
    let value = async |instance: &mut Part, namespace: &str, wanted: &str| {
        eventually(&format!("the pod of {namespace}"), async || {
            instance.alive()?;
            let list = ask(namespace).await?;
            if list["items"][0]["value"] == wanted { Ok(()) } else { Err(list.to_string()) }
        })
        .await;
    };

    let waits = eventually("readiness to say what it waits for", async || {
        let (code, why) = page("readyz").await?;
        if code == 503 && why.starts_with("namespaces are not known yet") { Ok(why) } else { Err(why) }
    })
    .await;
    assert!(waits.contains("some-closed; watch of ") && waits.contains("forbidden"), "{waits}");
    value(&mut instance, &open.name, "42").await;
    let refused = ask(&closed.name).await.unwrap();
    let why = "the cluster's state is not known yet: pods in namespace some-closed are not listed";
    assert_eq!(refused["code"], 404, "{refused}");
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
    let elsewhere = ask("default").await.unwrap();
    assert!(elsewhere["message"].as_str().unwrap().contains("namespace default is not among"), "{elsewhere}");
    let (_, metrics) = page("metrics").await.unwrap();
    for line in [
        "tidegate_cluster_unsynced_kinds{} 0",
        "tidegate_namespace_unsynced_kinds{namespace=\"some-open\"} 0",
        "tidegate_namespace_unsynced_kinds{namespace=\"some-closed\"} 5",
    ] {
        assert!(metrics.lines().any(|there| there.trim_end_matches(".0") == line), "{line} in {metrics}");
    }
    eventually("it to be ready all the same", async || {
        let (code, why) = page("readyz").await?;
        if code == 200 { Ok(()) } else { Err(why) }
    })
    .await;

    kubectl::create(plane, &rights_in(&closed.name)).await.unwrap();
    value(&mut instance, &closed.name, "43").await;
    value(&mut instance, &open.name, "42").await;
    let log = std::fs::read_to_string(folder.join(format!("{NAME}.log"))).unwrap();
    assert!(log.contains("the watch fails") && log.contains("namespace some-closed"), "{log}");
    drop(workloads);
    open.finish().await;
    closed.finish().await;
}
