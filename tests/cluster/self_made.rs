//! The self-made serving certificate: two instances of the adapter share it in a Secret, keep it in the APIService, and stand
//! behind the real aggregator with it. For as long as the test runs they own the external metrics in the shared adapter's
//! place.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt as _;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, Service},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use reqwest::tls::TlsInfo;
use serde_json::{Value, json};

use super::{
    adapter::{self, NAMESPACE as SHARED_NAMESPACE, SERVICE as SHARED_SERVICE},
    kubectl,
    namespace::Namespace,
    process::{Part, free_ports},
    raw::get,
    wait::eventually,
};

const SERVICE: &str = "tidegate-self-made";
const SECRET: &str = "tidegate-serving-certificate";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
const PATH: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// What README asks for: the Secret in the adapter's namespace, and this APIService.
fn rights(namespace: &str) -> String {
    let bind = |kind: &str, role: &str, place: &str| {
        let at = if place.is_empty() { String::new() } else { format!(", namespace: {place}") };
        let of = if place.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        let role_name = role.replace(':', "-");
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {of}\nmetadata: {{name: '{SERVICE}-{role_name}'{at}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: '{role}'}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {SERVICE}}}]\n"
        )
    };
    let role = |kind: &str, metadata: &str, rules: &str| {
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {SERVICE}{metadata}}}\nrules: [{rules}]\n"
        )
    };
    [
        role(
            "Role",
            &format!(", namespace: {namespace}"),
            "{apiGroups: [''], resources: [secrets], verbs: [get, create, update]}",
        ),
        role(
            "ClusterRole",
            "",
            &format!(
                "{{apiGroups: [apiregistration.k8s.io], resources: [apiservices], resourceNames: [{API_SERVICE}], \
                 verbs: [get, list, watch, patch]}}"
            ),
        ),
        bind("Role", SERVICE, namespace),
        bind("ClusterRole", SERVICE, ""),
        bind("ClusterRole", "tidegate", ""),
        bind("ClusterRole", "system:auth-delegator", ""),
        bind("Role", "extension-apiserver-authentication-reader", "kube-system"),
    ]
    .concat()
}

/// One instance, which has no certificate but the one it makes.
fn start(namespace: &Namespace, number: usize, port: u16, telemetry: u16) -> Part {
    let (folder, name) = (namespace.plane.folder(), format!("self-made-{number}"));
    let config = format!(
        "scrape: {{interval: 1s}}\n\
         serve: {{listen: '127.0.0.1:{port}', groups: [external.metrics.k8s.io], serviceNamespace: {}, serviceName: {SERVICE}}}\n\
         telemetry: {{listen: '127.0.0.1:{telemetry}', logFilter: info}}\n",
        namespace.name
    );
    let file = folder.join(format!("{name}-config.yaml"));
    std::fs::write(&file, config).unwrap();
    let kubeconfig = folder.join(format!("{SERVICE}.yaml"));
    let arguments = ["adapter", "--config", file.to_str().unwrap(), "--kubeconfig", kubeconfig.to_str().unwrap()];
    Part::start(&name, folder, &folder.join("tidegate"), &arguments.map(String::from)).unwrap()
}

struct Scene<'a> {
    namespace: &'a Namespace,
    api_services: Api<APIService>,
    ports: [u16; 4],
}

impl Scene<'_> {
    async fn patch(&self, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api_services.patch(API_SERVICE, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn ca_bundle(&self) -> Result<String, String> {
        let object = self.api_services.get(API_SERVICE).await.map_err(|error| error.to_string())?;
        let bundle = object.spec.and_then(|spec| spec.ca_bundle).ok_or("no caBundle")?;
        String::from_utf8(bundle.0).map_err(|error| error.to_string())
    }

    /// The authority in the Secret that the instances share.
    async fn authority(&self) -> Result<String, String> {
        let secret = self.namespace.api::<Secret>().get(SECRET).await.map_err(|error| error.to_string())?;
        let pem = secret.data.unwrap_or_default().remove("ca.crt").ok_or("no ca.crt")?;
        String::from_utf8(pem.0).map_err(|error| error.to_string())
    }

    async fn until_the_bundle_is(&self, authority: &str) {
        eventually("the caBundle to be written", async || {
            let bundle = self.ca_bundle().await?;
            if bundle == authority { Ok(()) } else { Err(format!("{bundle:.200}")) }
        })
        .await;
    }

    /// The certificate that an instance shows to who trusts that authority.
    async fn shown(&self, authority: &str, port: u16) -> Vec<u8> {
        let trusted = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([trusted]).tls_info(true).no_proxy().build().unwrap();
        let response = client.get(format!("https://localhost:{port}/livez")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate).unwrap().to_vec()
    }

    /// The aggregator asks the instance at that port, and believes its certificate.
    async fn until_reached(&self, instance: &mut Part, port: u16, telemetry: u16) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let asked = async || -> Result<u64, String> {
            let page = client.get(format!("http://127.0.0.1:{telemetry}/metrics")).send().await;
            let page = page.map_err(|error| format!("{error:?}"))?.text().await.map_err(|error| error.to_string())?;
            let answers = page.lines().filter(|line| {
                line.starts_with("apiserver_request_total{")
                    && line.contains("group=\"external.metrics.k8s.io\"")
                    && line.contains("code=\"200\"")
            });
            Ok(answers.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
        };
        self.patch(json!({"service": {"namespace": self.namespace.name, "name": SERVICE, "port": port}})).await;
        eventually("the aggregator to reach it", async || {
            instance.alive()?;
            let before = asked().await?;
            let list = get(&self.namespace.client, PATH).await?;
            if list["kind"] != "APIResourceList" {
                return Err(list.to_string());
            }
            if asked().await? > before { Ok(()) } else { Err("somebody else has answered".to_owned()) }
        })
        .await;
        eventually("the APIService to be available", async || {
            let object = self.api_services.get(API_SERVICE).await.map_err(|error| error.to_string())?;
            let conditions = object.status.and_then(|status| status.conditions).unwrap_or_default();
            let available = conditions.into_iter().find(|condition| condition.type_ == "Available");
            let is = available.as_ref().is_some_and(|condition| condition.status == "True");
            if is { Ok(()) } else { Err(format!("{available:?}")) }
        })
        .await;
    }

    async fn play(&self, first: &mut Part, second: &mut Part) {
        let [port, other_port, telemetry, other_telemetry] = self.ports;
        let authority = eventually("the Secret", async || self.authority().await).await;
        self.until_the_bundle_is(&authority).await;
        self.until_reached(first, port, telemetry).await;

        eventually("the other instance to serve", async || {
            second.alive()?;
            let page = reqwest::get(format!("http://127.0.0.1:{other_telemetry}/readyz")).await;
            let page = page.map_err(|error| error.to_string())?;
            if page.status() == 200 { Ok(()) } else { Err(page.text().await.unwrap_or_default()) }
        })
        .await;
        assert_eq!(
            self.shown(&authority, port).await,
            self.shown(&authority, other_port).await,
            "both show the certificate that the Secret holds"
        );
        assert_eq!(self.authority().await.unwrap(), authority, "whoever lost the race has not written over it");

        // Somebody writes over it: it is put back, by whichever is first.
        let foreign = ByteString(self.namespace.plane.authority.pem().into_bytes());
        self.patch(json!({"caBundle": foreign})).await;
        self.until_the_bundle_is(&authority).await;

        first.kill();
        self.until_reached(second, other_port, other_telemetry).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_a_self_made_certificate_that_the_aggregator_believes() {
    let exclusive = adapter::exclusive().await;
    let namespace = Namespace::new("self-made").await;
    let (plane, client) = (namespace.plane, namespace.client.clone());
    kubectl::create(plane, &rights(&namespace.name)).await.unwrap();
    plane.kubeconfig(SERVICE, SERVICE, &[]);
    let ports: [u16; 4] = free_ports();
    let [port, other_port, telemetry, other_telemetry] = ports;
    namespace
        .create::<Service>(json!({
            "metadata": {"name": SERVICE},
            "spec": {
                "type": "ExternalName", "externalName": "localhost",
                "ports": [{"name": "first", "port": port}, {"name": "second", "port": other_port}],
            },
        }))
        .await;
    let scene = Scene { namespace: &namespace, api_services: Api::all(client.clone()), ports };
    let before = scene.ca_bundle().await.unwrap();
    // At the same time: both find no Secret, and one of them is second.
    let (mut first, mut second) =
        (start(&namespace, 0, port, telemetry), start(&namespace, 1, other_port, other_telemetry));

    let outcome = AssertUnwindSafe(scene.play(&mut first, &mut second)).catch_unwind().await;
    first.kill();
    second.kill();
    let shared = json!({"namespace": SHARED_NAMESPACE, "name": SHARED_SERVICE, "port": exclusive.adapter.port});
    scene.patch(json!({"service": shared, "caBundle": ByteString(before.into_bytes())})).await;
    exclusive.adapter.available(&client).await.unwrap();
    if let Err(panic) = outcome {
        eprintln!("--- first\n{}\n--- second\n{}", first.tail(25), second.tail(25));
        resume_unwind(panic);
    }
    namespace.finish().await;
}
