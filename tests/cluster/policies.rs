//! Scaling policies at the real API server: what it refuses, what a policy's status says, who owns the replicas.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, coordination::v1::Lease};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tidegate::policy::{DEMAND_METRIC, DESIRED_METRIC, ScalingPolicy, hpa::Follower};

use super::{
    account, adapter,
    kubectl::{self, kubectl},
    namespace::Namespace,
    raw::get,
    wait::{eventually, eventually_or_error},
    workload::{AUTOSCALER, DEPLOYMENT, Load, Workload, deployment},
};

/// Longer than several ticks and looks at the Lease.
const SOME_TICKS: Duration = Duration::from_secs(4);

/// A policy for the Deployment of a workload.
pub fn policy(name: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "ScalingPolicy",
        "metadata": {"name": name},
        "spec": {"targetRef": {"kind": "Deployment", "name": DEPLOYMENT}, "maxReplicas": 3},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

pub fn policies(namespace: &Namespace) -> Api<DynamicObject> {
    policies_of(namespace.client.clone(), &namespace.name)
}

fn policies_of(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<ScalingPolicy>(&()))
}

/// Creates it, and gives what the API server has made of it.
pub async fn create(namespace: &Namespace, object: &Value) -> Result<Value, String> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let created = policies(namespace).create(&PostParams::default(), &object).await;
    created.map(|object| object.data).map_err(|error| error.to_string())
}

/// The status, once `reached` holds.
pub async fn status(namespace: &Namespace, name: &str, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
    let policies = policies(namespace);
    eventually(what, async || {
        let object = policies.get(name).await.map_err(|error| error.to_string())?;
        let status = object.data["status"].clone();
        if reached(&status) { Ok(status) } else { Err(status.to_string()) }
    })
    .await
}

/// `True because Deciding`, of one condition.
pub fn condition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map_or_else(String::new, |condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or("");
        format!("{} because {}", text("status"), text("reason"))
    })
}

/// The message of one condition.
fn message(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
}

/// What the HPA would be told.
pub async fn advice(namespace: &Namespace, deployment: &str) -> Result<String, String> {
    external(namespace, DESIRED_METRIC, deployment).await
}

/// The one value of an external metric.
async fn external(namespace: &Namespace, metric: &str, deployment: &str) -> Result<String, String> {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{metric}?labelSelector=deployment%3D{deployment}",
        namespace.name
    );
    let list = get(&namespace.client, &path).await?;
    let items = list["items"].as_array().ok_or_else(|| list.to_string())?;
    let [only] = &items[..] else { return Err(format!("exactly one item: {list}")) };
    Ok(only["value"].as_str().unwrap_or("").to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_refuses_what_the_schema_can_say_is_wrong_and_writes_the_defaults_in() {
    let namespace = Namespace::new("policy-schema").await;
    for (change, expected) in [
        (json!({"minReplicas": 4}), "minReplicas must be at most maxReplicas"),
        (
            json!({"minReplicas": 0, "signals": {"use": "Utilization"}}),
            "nothing measures it while there are no replicas",
        ),
        (json!({"maxReplicas": 0}), "spec.maxReplicas"),
        (json!({"targetUtilization": 101}), "spec.targetUtilization"),
        (json!({"mode": "Perhaps"}), "spec.mode"),
        (json!({"targetRef": {"kind": "Pod", "name": "x"}}), "spec.targetRef.kind"),
        (json!({"pools": [{"name": "a"}, {"name": "a"}]}), "each pool needs a name of its own"),
        (json!({"pools": [{"name": "a", "cost": 0}]}), "spec.pools[0].cost"),
        (
            json!({"minReplicas": 3, "pools": [{"name": "a", "maxReplicas": 1}, {"name": "b", "maxReplicas": 1}]}),
            "the pools together hold fewer than minReplicas",
        ),
        (json!({"behavior": {"scaleDown": {"window": "a while"}}}), "spec.behavior.scaleDown.window"),
        (json!({"behavior": {"scaleDown": {"margin": 0.9}}}), "spec.behavior.scaleDown.margin"),
    ] {
        let error = create(&namespace, &policy("bad", &change)).await.expect_err(&change.to_string());
        assert!(error.contains(expected), "{change}: {error}");
    }
    let made = create(&namespace, &policy("good", &json!({"pools": [{"name": "a"}]}))).await.unwrap();
    let spec = &made["spec"];
    assert_eq!(
        (&spec["mode"], &spec["minReplicas"], &spec["pools"][0]["cost"]),
        (&json!("Advise"), &json!(1), &json!(1))
    );
    let moved = Patch::Merge(json!({"spec": {"targetRef": {"name": "another"}}}));
    let error = policies(&namespace).patch("good", &PatchParams::default(), &moved).await.unwrap_err().to_string();
    assert!(error.contains("targetRef cannot be changed"), "{error}");
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_a_policy_its_decision_and_why_and_advice_is_one_item() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("policy-status").await;
    let workload = Workload::deploy(&namespace, 2, 1, Load::Each(42.0)).await.unwrap();
    create(&namespace, &policy("llm", &json!({}))).await.unwrap();
    let deciding =
        |status: &Value| condition(status, "Ready") == "True because Deciding" && status["readyReplicas"] == 2;
    let first = status(&namespace, "llm", "the policy to be decided for", deciding).await;
    assert_eq!((&first["deployment"], &first["currentReplicas"]), (&json!(DEPLOYMENT), &json!(2)), "{first}");
    assert_eq!(first["observedGeneration"], 1, "{first}");
    assert_eq!(condition(&first, "Active"), "False because NoFollower", "{first}");

    let table = kubectl(namespace.plane, &["-n", &namespace.name, "get", "scalingpolicies"]).await.unwrap();
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        columns,
        ["NAME", "TARGET", "MODE", "DESIRED", "CURRENT", "DEMAND", "READY", "REASON", "AGE"],
        "{table}"
    );
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["llm", DEPLOYMENT, "Advise"], "{table}");
    assert_eq!(row[4], "2", "{table}");

    // The metric is there once something is known; its value is what the status says.
    let listed = get(&namespace.client, "/apis/external.metrics.k8s.io/v1beta1").await.unwrap();
    assert!(listed.to_string().contains(DESIRED_METRIC), "{listed}");
    let no_policy = advice(&namespace, "nobody").await.unwrap_err();
    assert!(no_policy.starts_with("404 NotFound") && no_policy.contains("needs a ScalingPolicy"), "{no_policy}");

    // The spec changes: the status follows, and what held before has held since then.
    let since = |status: &Value| {
        let all = status["conditions"].as_array().unwrap();
        all.iter().find(|condition| condition["type"] == "Ready").unwrap()["lastTransitionTime"].clone()
    };
    let patch = Patch::Merge(json!({"spec": {"maxReplicas": 4}}));
    policies(&namespace).patch("llm", &PatchParams::default(), &patch).await.unwrap();
    let second = status(&namespace, "llm", "the new generation", |status| status["observedGeneration"] == 2).await;
    assert_eq!(since(&first), since(&second));

    let printed = kubectl::tidegate(namespace.plane, &["policy", "hpa", "llm", "-n", &namespace.name]).await.unwrap();
    let made = kubectl::create(namespace.plane, &printed).await.unwrap();
    assert!(made.contains("llm-tidegate created"), "{made}\n{printed}");
    let hpa = namespace.api::<HorizontalPodAutoscaler>().get("llm-tidegate").await.unwrap();
    let rules = hpa.spec.behavior.unwrap();
    for rules in [rules.scale_up.unwrap(), rules.scale_down.unwrap()] {
        assert_eq!(rules.tolerance.unwrap().0, "0", "this API server has the field");
        assert_eq!(rules.stabilization_window_seconds, Some(0));
    }
    status(&namespace, "llm", "the HPA to follow", |status| condition(status, "Active") == "True because Followed")
        .await;
    let events = kubectl(namespace.plane, &["-n", &namespace.name, "get", "events.events.k8s.io"]).await.unwrap();
    assert!(events.contains("scalingpolicy/llm"), "{events}");
    drop(workload);
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_cannot_work_says_why_and_does_nothing() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("policy-refusals").await;
    let isvc = |name: &str, class: &str, predictor: &Value| {
        json!({
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {"serving.kserve.io/autoscalerClass": class}},
            "spec": {"predictor": predictor},
        })
    };
    let resource =
        ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("serving.kserve.io", "v1beta1", "InferenceService"));
    let services: Api<DynamicObject> = Api::namespaced_with(namespace.client.clone(), &namespace.name, &resource);
    for (name, class, predictor) in [
        ("fixed", "none", json!({"containers": []})),
        ("group", "external", json!({"containers": [], "workerSpec": {"pipelineParallelSize": 2}})),
        ("kserves", "hpa", json!({"containers": []})),
        ("kedas", "keda", json!({"containers": []})),
        ("free", "external", json!({"containers": []})),
    ] {
        let object = serde_json::from_value(isvc(name, class, &predictor)).unwrap();
        services.create(&PostParams::default(), &object).await.unwrap();
        let mut predictor = deployment(1);
        predictor["metadata"]["name"] = json!(format!("{name}-predictor"));
        let app = json!(format!("isvc.{name}-predictor"));
        predictor["spec"]["selector"]["matchLabels"]["app"] = app.clone();
        predictor["spec"]["template"]["metadata"]["labels"]["app"] = app;
        predictor["spec"]["template"]["metadata"]["labels"]["serving.kserve.io/inferenceservice"] = json!(name);
        namespace.create::<Deployment>(predictor).await;
    }
    let on = |name: &str| json!({"targetRef": {"kind": "InferenceService", "name": name}});
    let mut acting = on("kserves");
    acting["mode"] = json!("Act");
    let second = json!({"targetRef": {"kind": "Deployment", "name": "kserves-predictor"}});
    let mut zero = json!({"minReplicas": 0, "signals": {"use": "Queue"}});
    zero["targetRef"] = json!({"kind": "Deployment", "name": "free-predictor"});
    let keda = json!({"targetRef": {"kind": "InferenceService", "name": "kedas"}, "mode": "Act"});
    for (name, spec, reason, field) in [
        ("lost", on("nowhere"), "TargetNotFound", "spec.targetRef: "),
        ("fixed", on("fixed"), "AutoscalerClassNone", "autoscalerClass: none"),
        ("group", on("group"), "MultiNode", "spec.targetRef: "),
        ("kserves", acting, "ForeignOwner", "autoscalerClass hpa"),
        ("second", second, "SecondPolicy", "spec.targetRef: "),
        ("kedas", keda, "ForeignOwner", "autoscalerClass keda"),
        ("zero", zero, "ScaleFromZero", "spec.minReplicas: 0"),
    ] {
        create(&namespace, &policy(name, &spec)).await.unwrap();
        let why = format!("False because {reason}");
        let status = status(&namespace, name, &why, |status| condition(status, "Ready") == why).await;
        assert_eq!((&status["reason"], &status["desiredReplicas"]), (&json!(reason), &Value::Null), "{status}");
        assert!(message(&status, "Ready").contains(field), "{field}: {status}");
        // Of two policies the next one is a second younger: the API server's times are whole seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let refused = advice(&namespace, "fixed-predictor").await.unwrap_err();
    assert!(refused.contains("autoscalerClass: none"), "{refused}");
    let deployments = namespace.api::<Deployment>().list(&kube::api::ListParams::default()).await.unwrap();
    assert!(deployments.iter().all(|deployment| deployment.spec.replicas == Some(1)));
    namespace.finish().await;
}

/// R18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_acts_steps_back_while_an_hpa_is_on_the_same_deployment() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("policy-owner").await;
    let workload = Workload::deploy(&namespace, 1, 1, Load::Each(42.0)).await.unwrap();
    create(&namespace, &policy("llm", &json!({"mode": "Act"}))).await.unwrap();
    let acting = |status: &Value| condition(status, "Active") == "True because Acting";
    status(&namespace, "llm", "the policy to act", acting).await;
    let foreign = json!({
        "metadata": {"name": "theirs"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT},
            "minReplicas": 2, "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    });
    namespace.create::<HorizontalPodAutoscaler>(foreign).await;
    let stepped = |status: &Value| condition(status, "Active") == "False because ForeignOwner";
    let status_then = status(&namespace, "llm", "the policy to step back", stepped).await;
    assert!(
        status_then.to_string().contains("HorizontalPodAutoscaler theirs already scales Deployment"),
        "{status_then}"
    );
    // The HPA's own minimum is 2: it moves, and nobody moves it back.
    let deployments = namespace.api::<Deployment>();
    let replicas = async || deployments.get(DEPLOYMENT).await.unwrap().spec.replicas.unwrap_or(0);
    eventually("the HPA to go to its minimum", async || if replicas().await == 2 { Ok(()) } else { Err("it is at 1") })
        .await;
    tokio::time::sleep(SOME_TICKS).await;
    assert_eq!(replicas().await, 2);
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    autoscalers.delete("theirs", &DeleteParams::default()).await.unwrap();
    status(&namespace, "llm", "the policy to act again", acting).await;
    drop(workload);
    namespace.finish().await;
}

/// KEDA is not there at first, as on most clusters, and comes while the adapter runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_acts_steps_back_while_a_scaled_object_of_keda_is_on_the_same_deployment() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("policy-keda").await;
    let workload = Workload::deploy(&namespace, 1, 1, Load::Each(42.0)).await.unwrap();
    create(&namespace, &policy("llm", &json!({"mode": "Act"}))).await.unwrap();
    let acting = |status: &Value| condition(status, "Active") == "True because Acting";
    status(&namespace, "llm", "the policy to act", acting).await;
    kubectl::create(namespace.plane, include_str!("scaledobject_crd.yaml")).await.unwrap();
    let theirs = format!(
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: theirs, namespace: {}}}\n\
         spec: {{scaleTargetRef: {{name: {DEPLOYMENT}}}, triggers: []}}\n",
        namespace.name
    );
    // The API server needs a moment to serve a new kind.
    eventually("the ScaledObject to be taken", async || kubectl::create(namespace.plane, &theirs).await).await;
    let stepped = |status: &Value| condition(status, "Active") == "False because ForeignOwner";
    let then = status(&namespace, "llm", "the policy to step back", stepped).await;
    let why = format!("KEDA's ScaledObject theirs already scales Deployment {DEPLOYMENT}");
    assert!(message(&then, "Ready").contains(&why), "{then}");
    kubectl(namespace.plane, &["-n", &namespace.name, "delete", "scaledobject", "theirs"]).await.unwrap();
    status(&namespace, "llm", "the policy to act again", acting).await;
    drop(workload);
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_a_policy_whose_hpa_reads_our_metric_is_advised_by_that_hpas_bounds_and_target() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("policy-implied").await;
    // With the recipe's target of 50 % a replica at 42 % is taken for 0.73 of a full one, until more is known; with the engine's
    // own of 70 % for 0.5.
    let workload = Workload::arena(&namespace, 1, 1, Load::Each(42.0)).await.unwrap();
    let demand = eventually("demand to be known", async || {
        let value = external(&namespace, DEMAND_METRIC, DEPLOYMENT).await?;
        let milli = value.strip_suffix('m').and_then(|milli| milli.parse::<f64>().ok());
        milli.map(|milli| milli / 1000.0).or_else(|| value.parse().ok()).ok_or(value)
    })
    .await;
    assert!((0.65..0.85).contains(&demand), "{demand}");
    assert_eq!(advice(&namespace, DEPLOYMENT).await, Ok("1".into()), "it is enough");
    workload.set_load(Load::Each(95.0));
    // Its maximum, which is the HPA's.
    eventually("advice up to the HPA's maximum", async || match advice(&namespace, DEPLOYMENT).await {
        Ok(value) if value == "3" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    autoscalers.delete(AUTOSCALER, &DeleteParams::default()).await.unwrap();
    eventually("advice to end with the HPA", async || match advice(&namespace, DEPLOYMENT).await {
        Err(why) if why.starts_with("404") && why.contains("needs a ScalingPolicy") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    drop(workload);
    namespace.finish().await;
}

/// Who holds the Lease.
pub async fn leader(client: &Client) -> Result<String, String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), account::NAMESPACE);
    let lease = leases.get("tidegate").await.map_err(|error| error.to_string())?;
    lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty()).ok_or_else(|| "nobody".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_followed_by_the_other_within_the_leases_time() {
    let exclusive = adapter::exclusive().await;
    let adapter = exclusive.adapter;
    let namespace = Namespace::new("policy-leader").await;
    let workload = Workload::deploy(&namespace, 1, 1, Load::Each(42.0)).await.unwrap();
    let first = eventually("a leader", async || leader(&namespace.client).await).await;
    let companion = adapter.companion().unwrap();
    // Both decide; the second has lists of its own before the first dies.
    tokio::time::sleep(SOME_TICKS).await;
    assert_eq!(leader(&namespace.client).await, Ok(first.clone()), "the first stays");
    adapter.kill();
    let second = eventually("another leader", async || {
        let holder = leader(&namespace.client).await?;
        if holder == first { Err(holder) } else { Ok(holder) }
    })
    .await;
    create(&namespace, &policy("llm", &json!({}))).await.unwrap();
    let ready = |status: &Value| condition(status, "Ready") == "True because Deciding";
    status(&namespace, "llm", "the second to write", ready).await;
    adapter.start().unwrap();
    adapter.available(&namespace.client).await.unwrap();
    assert_eq!(leader(&namespace.client).await, Ok(second.clone()), "the one that is back waits its turn");
    drop(companion);
    let third = eventually("the first to take over", async || {
        let holder = leader(&namespace.client).await?;
        if holder == second { Err(holder) } else { Ok(holder) }
    })
    .await;
    assert_ne!(third, first, "a process that starts again is another one");
    drop(workload);
    namespace.finish().await;
}

/// On the real controller: at 10, 11 and 12 replicas an HPA with the usual tolerance stays, and the printed one follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_hpa_follows_single_steps_from_ten_replicas_up_and_one_with_the_usual_tolerance_does_not() {
    let _adapter = adapter::running().await;
    let cases = [("steps-exact", true), ("steps-usual", false)].map(async |(name, exact)| {
        let namespace = Namespace::new(name).await;
        let workload = Workload::deploy(&namespace, 10, 1, Load::Each(42.0)).await.unwrap();
        let fixed = json!({"minReplicas": 10, "maxReplicas": 10});
        create(&namespace, &policy("llm", &fixed)).await.unwrap();
        let follower = Follower {
            policy: "llm".into(),
            namespace: namespace.name.clone(),
            deployment: DEPLOYMENT.into(),
            min: 1,
            max: 20,
            tolerance: exact,
        };
        namespace.create::<HorizontalPodAutoscaler>(follower.object()).await;
        let deployments = namespace.api::<Deployment>();
        let replicas = async || deployments.get(DEPLOYMENT).await.unwrap().spec.replicas.unwrap_or(0);
        // min = max = N is a wish of which the engine has no doubt.
        for wanted in [11, 12, 11, 10] {
            let patch = Patch::Merge(json!({"spec": {"minReplicas": wanted, "maxReplicas": wanted}}));
            policies(&namespace).patch("llm", &PatchParams::default(), &patch).await.unwrap();
            let said = wanted.to_string();
            eventually("the advice", async || match advice(&namespace, DEPLOYMENT).await {
                Ok(value) if value == said => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            let moved = eventually_or_error("the HPA to follow", async || {
                let now = replicas().await;
                if now == wanted { Ok(()) } else { Err(format!("{now} replicas")) }
            });
            if exact {
                moved.await.unwrap();
            } else {
                tokio::time::sleep(super::workload::HPA_WOULD_HAVE_ACTED / 2).await;
                assert_eq!(replicas().await, 10, "{wanted} is within 10 % of 10");
                break;
            }
        }
        let swallowed = if exact { "False because Exact" } else { "True because Tolerance" };
        status(&namespace, "llm", swallowed, |status| condition(status, "StepsSwallowed") == swallowed).await;
        drop(workload);
        namespace.finish().await;
    });
    futures::future::join_all(cases).await;
}
