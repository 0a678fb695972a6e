//! Who may read what.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use serde_json::json;

use super::{
    account, adapter,
    namespace::Namespace,
    raw::{direct, direct_url, pods_path},
    wait::eventually,
    workload::{Load, METRIC, SELECTOR, Workload},
};

/// A service account that may read one metric of the pods in its own namespace, and its token. RBAC knows no `pods/*`.
async fn reader(namespace: &Namespace) -> String {
    namespace.create::<ServiceAccount>(json!({"metadata": {"name": "reader"}})).await;
    let rule =
        json!({"apiGroups": ["custom.metrics.k8s.io"], "resources": [format!("pods/{METRIC}")], "verbs": ["get"]});
    namespace.create::<Role>(json!({"metadata": {"name": "reader"}, "rules": [rule]})).await;
    namespace
        .create::<RoleBinding>(json!({
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace.name}],
        }))
        .await;
    account::token(&namespace.client, &namespace.name, "reader").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_read_as_rbac_says_and_forged_headers_are_nobody() {
    let running = adapter::running().await;
    let (mine, other) = (Namespace::new("access-mine").await, Namespace::new("access-other").await);
    let plane = mine.plane;
    let mine_served = Workload::deploy(&mine, 1, 1, Load::Each(42.0)).await.unwrap();
    let other_served = Workload::deploy(&other, 1, 1, Load::Each(43.0)).await.unwrap();
    let token = reader(&mine).await;
    let client = direct(plane).build().unwrap();
    let in_mine = pods_path("v1beta2", &mine.name, METRIC, SELECTOR);
    let in_other = pods_path("v1beta2", &other.name, METRIC, SELECTOR);

    // Through the API server, and straight at the adapter: the same rights.
    for base in [plane.server().to_owned(), direct_url(running.adapter, "")] {
        let ask = async |path: &str, token: &str| {
            let response = client.get(format!("{base}{path}")).bearer_auth(token).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        let text = eventually("the namespace that RBAC allows", async || {
            let (status, text) = ask(&in_mine, &token).await;
            if status == 200 && text.contains("\"42\"") { Ok(text) } else { Err(format!("{base}: {status} {text}")) }
        })
        .await;
        assert!(!text.contains("\"43\""), "{text}");
        let (status, text) = ask(&in_other, &token).await;
        assert_eq!(status, 403, "{base}: {text}");
        assert!(text.contains("\"Forbidden\"") && !text.contains("43"), "{text}");
        let (status, text) = ask(&in_mine, "not-a-token").await;
        assert_eq!(status, 401, "{base}: {text}");
    }

    // `X-Remote-*` counts only beside the front proxy's certificate. Without one the caller is anonymous, with one of the
    // cluster's own certificates he is that certificate's user.
    let forged = |client: &reqwest::Client, path: &str| {
        let request = client.get(direct_url(running.adapter, path));
        request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters").send()
    };
    let nobody = plane.authority.issue("nobody-special", &[], &[]);
    let identity = reqwest::Identity::from_pem(format!("{}{}", nobody.cert, nobody.key).as_bytes()).unwrap();
    let certified = direct(plane).identity(identity).build().unwrap();
    // A forged front proxy: the right name, signed by an authority of its own.
    let forger = super::pki::Authority::new("tidegate-test-front-proxy-ca").issue("front-proxy-client", &[], &[]);
    let identity = reqwest::Identity::from_pem(format!("{}{}", forger.cert, forger.key).as_bytes()).unwrap();
    let proxied = direct(plane).identity(identity).build().unwrap();
    for path in [&in_mine, &in_other] {
        for caller in [&client, &certified] {
            let response = forged(caller, path).await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            assert_eq!(status, 403, "{text}");
            assert!(text.contains("\"Forbidden\"") && !text.contains("system:masters"), "{text}");
        }
        // Refused in the handshake, or answered as to anybody else.
        let status = forged(&proxied, path).await.map_or(403, |response| response.status().as_u16());
        assert!(status == 401 || status == 403, "a self-made front proxy is answered {status}");
    }
    drop((mine_served, other_served));
    mine.finish().await;
    other.finish().await;
}
