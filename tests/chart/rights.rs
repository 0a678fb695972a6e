//! The rights that the chart gives are enough, and none is too many.
//!
//! Enough: the adapter serves, and the API server's audit log holds no request of it that was refused. Not too many: that log
//! holds a request for each verb of each rule; and without any one rule a check of its own fails.

use std::{collections::BTreeSet, fs};

use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    core::v1::ConfigMap,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{helm::RELEASE, release::Release};
use crate::cluster::{
    account, kubectl,
    raw::{direct, pods_path},
    wait::eventually,
};

/// The adapter's user name.
const USER: &str = "system:serviceaccount:tidegate:tidegate";
/// Rights by binding to roles of Kubernetes' own, as far as they are used.
const BUILT_IN: [(&str, &str); 4] = [
    ("create", "authentication.k8s.io/tokenreviews"),
    ("create", "authorization.k8s.io/subjectaccessreviews"),
    ("list", "/configmaps/extension-apiserver-authentication"),
    ("watch", "/configmaps/extension-apiserver-authentication"),
];

/// With all that asks for rights.
const BURSTING: &str = "config.burst.enabled=true,webhook.enabled=true";

/// Verb and `GROUP/RESOURCE[/NAME]`.
type Right = (String, String);

fn audited(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()); // the last may be half written
    lines.filter(|event| event["user"]["username"] == USER).collect()
}

/// What was asked for, with and without the object's name: a rule names one or does not.
fn used(events: &[Value]) -> BTreeSet<Right> {
    let mut used = BTreeSet::new();
    for event in events {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = &event["objectRef"];
        let part = target["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
        let right = format!("{}/{}{part}", text(&target["apiGroup"]), text(&target["resource"]));
        if let Some(name) = target["name"].as_str() {
            used.insert((text(&event["verb"]), format!("{right}/{name}")));
        }
        used.insert((text(&event["verb"]), right));
    }
    used
}

fn granted(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    let right = format!("{group}/{resource}");
                    let names = rule.resource_names.iter().flatten().map(|name| format!("{right}/{name}"));
                    let named: Vec<String> = names.collect();
                    let all = if named.is_empty() { vec![right] } else { named };
                    granted.extend(all.into_iter().map(|right| (verb.clone(), right)));
                }
            }
        }
    }
    granted
}

/// The objects of that kind that belong to the release, in all namespaces.
async fn ours<K>(release: &Release) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let selector = format!("app.kubernetes.io/instance={RELEASE}");
    Api::all(release.stage.client.clone()).list(&ListParams::default().labels(&selector)).await.unwrap().items
}

/// The rules of all roles of the release.
async fn rules(release: &Release) -> Vec<PolicyRule> {
    let cluster = ours::<ClusterRole>(release).await.into_iter().filter_map(|role| role.rules);
    let namespaced = ours::<Role>(release).await.into_iter().filter_map(|role| role.rules);
    cluster.chain(namespaced).flatten().collect()
}

/// A reader asks the adapter itself: that is how it comes to ask about a token.
async fn read_directly(release: &Release) -> Result<(), String> {
    let token = account::token(&release.stage.client, super::release::MODELS, "reader").await?;
    let url = format!(
        "https://localhost:{}{}",
        release.port,
        pods_path("v1beta2", super::release::MODELS, super::release::METRIC, "app=qwen")
    );
    let client =
        direct(release.stage.plane).tls_danger_accept_invalid_certs(true).build().map_err(|e| e.to_string())?;
    let answer = client.get(url).bearer_auth(token).send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status == 200 && text.contains("\"42\"") { Ok(()) } else { Err(format!("{}: {text}", status.as_u16())) }
}

/// Something to decide, to move and to forget: a policy that wants one replica more than there is, and what was learned of one
/// that is gone.
async fn unsettle(release: &Release) {
    let client = &release.stage.client;
    let plane = release.stage.plane;
    let policy = format!(
        "apiVersion: tidegate.dev/v1alpha1\nkind: ScalingPolicy\nmetadata: {{name: qwen, namespace: {}}}\n\
         spec: {{targetRef: {{kind: Deployment, name: qwen-chat}}, mode: Act, minReplicas: 2, maxReplicas: 2}}\n",
        super::release::MODELS
    );
    // There already from the second time on.
    let _ = kubectl::create(plane, &policy).await;
    let scale = ["scale", "deployment", "qwen-chat", "--replicas=1", "--namespace", super::release::MODELS];
    kubectl::kubectl(plane, &scale).await.unwrap();
    // A deletion cost from before, of a removal that is long over: it is taken away.
    let cost = "controller.kubernetes.io/pod-deletion-cost=-1";
    let annotate = ["annotate", "pod", "qwen-chat-0", cost, "--overwrite", "--namespace", super::release::MODELS];
    kubectl::kubectl(plane, &annotate).await.unwrap();
    // What an earlier adapter has made is made anew: that takes rights, too.
    for what in [&["lease", "tidegate"][..], &["configmaps", "-l", "tidegate.dev/engine-state"]] {
        let flags = ["--namespace", RELEASE, "--ignore-not-found"];
        kubectl::kubectl(plane, &[&["delete"], what, &flags].concat()).await.unwrap();
    }
    let orphan: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "tidegate-policy-gone", "labels": {"tidegate.dev/engine-state": "true"}},
    }))
    .unwrap();
    let _ = Api::<ConfigMap>::namespaced(client.clone(), RELEASE).create(&PostParams::default(), &orphan).await;
}

/// Lets the adapter do all that it does, and compares that with what the release's roles allow.
async fn each_right_is_used_and_none_is_missing(more: &[&str]) {
    let mut release = Release::install(more).await;
    let log = release.stage.plane.folder().join("audit.log");
    let start = fs::read(&log).map_or(0, |log| log.len());
    unsettle(&release).await;
    release.start("rights").await;
    release.serves().await;
    eventually("the adapter to be ready", async || release.ready().await).await;
    read_directly(&release).await.unwrap();
    let mut expected = granted(&rules(&release).await);
    expected.extend(BUILT_IN.map(|(verb, right)| (verb.to_owned(), right.to_owned())));

    let events = eventually("each right to be used", async || {
        let events = audited(&String::from_utf8_lossy(&fs::read(&log).map_err(|error| error.to_string())?[start..]));
        let used = used(&events);
        let idle: Vec<&Right> = expected.difference(&used).collect();
        if idle.is_empty() {
            Ok(events)
        } else {
            Err(format!("nothing asks for {idle:?}; what is asked for: {used:?}"))
        }
    })
    .await;
    let refused: Vec<&Value> = events.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // Refusals count only if the log would show them.
    assert!(events.iter().any(|event| event["responseStatus"]["code"] == 200), "{events:#?}");
    release.uninstall().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapter_uses_each_of_its_rights_and_is_refused_nothing() {
    each_right_is_used_and_none_is_missing(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursting_uses_each_of_its_rights_and_is_refused_nothing() {
    each_right_is_used_and_none_is_missing(&["--set", BURSTING]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapter_that_watches_two_namespaces_is_content_with_rights_there() {
    each_right_is_used_and_none_is_missing(&["--set", "config.aggregate.namespaces={models,exporters}"]).await;
}

/// What fails without a right.
#[derive(Debug, Clone, Copy)]
enum Check {
    /// `/readyz` says this, and the adapter never becomes ready.
    NotReady(&'static str),
    /// A line of the log.
    Logs(&'static str),
    /// Whoever may read the metric is not answered.
    ReaderIsRefused,
}

/// Each rule and each binding to a role of Kubernetes' own, with what fails without it.
const CHECKS: [(&str, Check); 21] = [
    ("list,watch scalingpolicies", Check::Logs("the watch fails kind=scalingpolicies")),
    ("list,watch scaledobjects", Check::Logs("the watch fails kind=scaledobjects")),
    ("patch scalingpolicies/status", Check::Logs("its status cannot be written")),
    ("create events", Check::Logs("an event cannot be written")),
    ("get,update deployments/scale", Check::Logs("cannot be scaled")),
    ("get,create,update leases", Check::Logs("it needs the rights to get, create and update leases")),
    ("list,create,patch,delete configmaps", Check::Logs("ConfigMaps cannot be read")),
    ("list,watch nodes", Check::NotReady("the cluster is not known yet: nodes")),
    ("list,watch pods", Check::NotReady("the cluster is not known yet: pods")),
    ("list,watch services", Check::NotReady("the cluster is not known yet: services")),
    ("list,watch deployments", Check::NotReady("the cluster is not known yet: deployments")),
    ("list,watch horizontalpodautoscalers", Check::NotReady("the cluster is not known yet: horizontalpodautoscalers")),
    ("list,watch inferenceservices", Check::NotReady("the cluster is not known yet: inferenceservices")),
    ("get apiservices", Check::Logs("cannot see who owns the metrics APIs")),
    ("list,watch,patch apiservices", Check::Logs("cannot watch our APIServices")),
    ("list,watch resourcepolicies", Check::Logs("the watch fails kind=resourcepolicies")),
    ("patch pods", Check::Logs("cannot write controller.kubernetes.io/pod-deletion-cost")),
    ("list,watch,patch mutatingwebhookconfigurations", Check::Logs("cannot watch our webhook's registration")),
    ("get,update secrets", Check::NotReady("there is no serving certificate yet: Secret tidegate/")),
    ("binding to system:auth-delegator", Check::ReaderIsRefused),
    (
        "binding to extension-apiserver-authentication-reader",
        Check::NotReady("the aggregator's certificate authorities are not known yet"),
    ),
];

/// `VERBS RESOURCES`.
fn name(rule: &PolicyRule) -> String {
    format!("{} {}", rule.verbs.join(","), rule.resources.as_deref().unwrap_or_default().join(","))
}

/// Waits until the API server decides so about the right that the rule or binding of that name gives.
async fn is_allowed(release: &Release, right: &Value, allowed: bool) {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:tidegate", "system:authenticated"];
    let review: SubjectAccessReview =
        serde_json::from_value(json!({"spec": {"user": USER, "groups": groups, "resourceAttributes": right}})).unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(release.stage.client.clone());
    eventually("the API server to see the changed role", async || {
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        let now = answer.status.is_some_and(|status| status.allowed);
        if now == allowed { Ok(()) } else { Err(format!("allowed: {now}: {right}")) }
    })
    .await;
}

/// Starts the adapter and sees that the check fails.
async fn fails(release: &mut Release, what: &str, check: Check) {
    let part = format!("without-{}", what.replace([' ', ',', ':', '/'], "-"));
    unsettle(release).await;
    release.start(&part).await;
    match check {
        Check::NotReady(reason) => {
            eventually(what, async || match release.ready().await {
                Err(said) if said.contains(reason) => Ok(()),
                other => Err(format!("{other:?}, not {reason:?}\n{}", release.log(&part))),
            })
            .await;
        }
        Check::Logs(line) => {
            eventually(what, async || {
                let log = release.log(&part);
                if log.contains(line) { Ok(()) } else { Err(format!("no {line:?} in\n{log}")) }
            })
            .await;
        }
        Check::ReaderIsRefused => {
            eventually("the adapter to be ready", async || release.ready().await).await;
            for _ in 0..3 {
                let error = read_directly(release).await.expect_err(what);
                assert!(!error.starts_with("404"), "{what}: {error}");
            }
        }
    }
    release.kill();
}

/// Replaces the rules of a role, and puts them back after the check.
async fn without_each_rule<K>(release: &mut Release, api: Api<K>, role: K, of: fn(&mut K) -> &mut Vec<PolicyRule>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    for i in 0..of(&mut role.clone()).len() {
        let mut less = role.clone();
        less.meta_mut().resource_version = None;
        let rule = of(&mut less).remove(i);
        let what = name(&rule);
        let first = |list: &Option<Vec<String>>| list.iter().flatten().next().cloned().unwrap_or_default();
        let right = json!({
            "verb": rule.verbs[0], "group": first(&rule.api_groups), "resource": first(&rule.resources),
            "name": first(&rule.resource_names), "namespace": role.namespace().unwrap_or_default(),
        });
        let name = role.name_any();
        api.replace(&name, &PostParams::default(), &less).await.unwrap();
        is_allowed(release, &right, false).await;
        let (_, check) =
            CHECKS.iter().find(|(rule, _)| *rule == what).unwrap_or_else(|| panic!("no check for {what:?}"));
        fails(release, &what, *check).await;
        let mut whole = role.clone();
        whole.meta_mut().resource_version = None;
        api.replace(&name, &PostParams::default(), &whole).await.unwrap();
        is_allowed(release, &right, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_one_of_the_rights_a_check_of_its_own_fails() {
    let mut release = Release::install(&["--set", BURSTING]).await;
    let client = release.stage.client.clone();
    let mut seen: BTreeSet<String> = rules(&release).await.iter().map(name).collect();
    // The sound adapter passes every check, so that what fails below fails for want of a right.
    unsettle(&release).await;
    release.start("sound").await;
    release.serves().await;
    eventually("the adapter to be ready", async || release.ready().await).await;
    read_directly(&release).await.unwrap();
    let log = release.log("sound");
    for (_, check) in CHECKS {
        if let Check::Logs(text) = check {
            assert!(!log.contains(text), "{text:?} in\n{log}");
        }
    }
    release.kill();

    for role in ours::<ClusterRole>(&release).await {
        without_each_rule(&mut release, Api::all(client.clone()), role, |role| role.rules.as_mut().unwrap()).await;
    }
    for role in ours::<Role>(&release).await {
        let api = Api::namespaced(client.clone(), &role.namespace().unwrap());
        without_each_rule(&mut release, api, role, |role| role.rules.as_mut().unwrap()).await;
    }
    for binding in ours::<ClusterRoleBinding>(&release).await {
        if binding.role_ref.name.starts_with("system:") {
            let right = json!({"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews"});
            without_binding(&mut release, Api::all(client.clone()), &binding, &binding.role_ref.name, right, &mut seen)
                .await;
        }
    }
    for binding in ours::<RoleBinding>(&release).await {
        if binding.namespace().as_deref() == Some("kube-system") {
            let right = json!({
                "verb": "list", "resource": "configmaps", "name": "extension-apiserver-authentication",
                "namespace": "kube-system",
            });
            let api = Api::namespaced(client.clone(), "kube-system");
            without_binding(&mut release, api, &binding, &binding.role_ref.name, right, &mut seen).await;
        }
    }
    let checked: BTreeSet<String> = CHECKS.iter().map(|(what, _)| (*what).to_owned()).collect();
    assert_eq!(seen, checked, "rights of the chart, and rights with a check");
    release.uninstall().await;
}

/// Removes a binding, and makes it again after the check.
async fn without_binding<K>(
    release: &mut Release,
    api: Api<K>,
    binding: &K,
    role: &str,
    right: Value,
    seen: &mut BTreeSet<String>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let what = format!("binding to {role}");
    let name = binding.name_any();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    is_allowed(release, &right, false).await;
    let (_, check) = CHECKS.iter().find(|(rule, _)| *rule == what).unwrap_or_else(|| panic!("no check for {what:?}"));
    fails(release, &what, *check).await;
    let mut again = binding.clone();
    again.meta_mut().resource_version = None;
    again.meta_mut().uid = None;
    api.create(&PostParams::default(), &again).await.unwrap();
    is_allowed(release, &right, true).await;
    seen.insert(what);
}
