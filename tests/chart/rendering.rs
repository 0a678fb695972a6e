//! What Helm makes of the chart, without a cluster.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use super::helm::{RELEASE, VALUES, chart, file, helm, objects, only, render};

/// Keys of the configuration that the chart decides.
const OURS: [&str; 9] = [
    "serve.listen",
    "serve.groups",
    "serve.serviceName",
    "serve.serviceNamespace",
    "serve.tlsCertFile",
    "serve.tlsKeyFile",
    "burst.webhookListen",
    "burst.webhookConfiguration",
    "telemetry.listen",
];

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&read("deploy/chart/values.schema.json")).unwrap()
}

/// What `tidegate adapter` reads from that file and has in force then.
fn in_force(configuration: &str) -> Result<Value, String> {
    let path = file(configuration);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["adapter", "--print-config", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    fs::remove_file(path).unwrap();
    if output.status.success() {
        Ok(serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// `section.key` of a mapping of mappings.
fn keys<'a>(sections: &'a Value, inner: impl Fn(&'a Value) -> &'a Value) -> BTreeSet<String> {
    let sections = sections.as_object().unwrap().iter();
    sections
        .flat_map(|(name, s)| inner(s).as_object().unwrap().keys().map(move |key| format!("{name}.{key}")))
        .collect()
}

#[test]
fn helm_lint_has_nothing_to_say_in_any_set_of_values() {
    for (name, values) in VALUES {
        let values = file(values);
        let flags = ["lint", "--strict", "--quiet", "--namespace", RELEASE, "--values"];
        let said = helm(None, &[&flags[..], &[&values.display().to_string(), &chart()]].concat());
        fs::remove_file(values).unwrap();
        assert_eq!(said.as_deref().map(str::trim), Ok(""), "{name}");
    }
}

#[test]
fn the_adapter_accepts_the_configuration_of_every_set_of_values() {
    for (name, values) in VALUES {
        let objects = objects(&render(values).unwrap());
        let configuration = objects.iter().find_map(|object| object["data"]["tidegate.yaml"].as_str());
        let config = in_force(configuration.unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let service = only(&objects, "Service");
        assert_eq!(config["serve"]["serviceName"], service["metadata"]["name"], "{name}");
        assert_eq!(config["serve"]["serviceNamespace"], service["metadata"]["namespace"], "{name}");
        let registered: BTreeSet<&str> = objects
            .iter()
            .filter(|object| object["kind"] == "APIService")
            .filter_map(|object| object["spec"]["group"].as_str())
            .collect();
        let served = config["serve"]["groups"].as_array().unwrap();
        assert_eq!(served.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>(), registered, "{name}");
        let mounted = config["serve"]["tlsCertFile"].is_string();
        assert_eq!(mounted, values.contains("certManager") || values.contains("mode: secret"), "{name}");
    }
}

#[test]
fn a_misspelt_or_impossible_value_is_refused_by_name() {
    for (values, expected) in [
        ("{replica: 3}", "'replica' not allowed"),
        ("{replicas: 0}", "at '/replicas'"),
        ("{replicas: two}", "at '/replicas'"),
        ("{groups: []}", "at '/groups'"),
        ("{groups: [metrics.k8s.io]}", "at '/groups/0'"),
        ("{config: {scrap: {}}}", "'scrap' not allowed"),
        ("{config: {scrape: {intervall: 5s}}}", "'intervall' not allowed"),
        ("{config: {serve: {listen: '0.0.0.0:443'}}}", "'listen' not allowed"),
        ("{certificates: {mode: certmanager}}", "at '/certificates/mode'"),
        ("{certificates: {mode: secret}}", "at '/certificates/secret/name'"),
        ("{image: {digest: latest}}", "at '/image/digest'"),
        ("{networkPolicy: {enabld: true}}", "'enabld' not allowed"),
        ("{serviceMonitor: {interval: often}}", "at '/serviceMonitor/interval'"),
        ("{serviceAccount: {create: false}}", "serviceAccount.name"),
        ("{webhook: {enabled: true}}", "needs config.burst.enabled"),
        (
            "{webhook: {enabled: true, timeoutSeconds: 10}, config: {burst: {enabled: true}}}",
            "at '/webhook/timeoutSeconds'",
        ),
        ("{config: {burst: {webhookListen: '0.0.0.0:443'}}}", "'webhookListen' not allowed"),
        ("{agent: {enabled: true}, config: {aggregate: {namespaces: [models]}}}", "config.aggregate.namespaces"),
    ] {
        let error = render(values).expect_err(values);
        assert!(error.contains(expected), "{values}: {error}");
    }
}

#[test]
fn the_schema_knows_each_key_of_the_configuration_that_the_chart_leaves_to_its_user() {
    let properties = &schema()["properties"]["config"]["properties"];
    let known = keys(properties, |section| &section["properties"]);
    let config = in_force("{}").unwrap();
    let mut expected = keys(&config, |section| section);
    for key in OURS {
        assert!(expected.remove(key), "{key} is no key of the configuration any more");
    }
    assert_eq!(known, expected, "deploy/chart/values.schema.json, properties.config, against `adapter --print-config`");
}

#[test]
fn values_yaml_shows_every_value_that_the_schema_allows() {
    fn compare(path: &str, schema: &Value, values: &Value) {
        let (Some(known), Some(shown)) = (schema["properties"].as_object(), values.as_object()) else { return };
        for key in shown.keys() {
            assert!(known.contains_key(key), "{path}.{key} is not in the schema");
        }
        for (key, schema) in known.iter().filter(|(key, _)| !(path.is_empty() && *key == "global")) {
            let value = values.get(key).unwrap_or_else(|| panic!("{path}.{key} is not in values.yaml"));
            // An empty default has nothing to show; the adapter's own defaults are in its documentation.
            if value.as_object().is_none_or(|value| !value.is_empty()) && key != "config" && key != "resources" {
                compare(&format!("{path}.{key}"), schema, value);
            }
        }
    }
    let values: Value = serde_saphyr::from_str(&read("deploy/chart/values.yaml")).unwrap();
    compare("", &schema(), &values);
}

#[test]
fn the_manifests_for_kubectl_are_what_the_chart_renders() {
    for (part, manifest) in [("adapter", "deploy/tidegate.yaml"), ("agent", "deploy/agent.yaml")] {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/render"));
        let output = command.arg(part).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rendered = String::from_utf8(output.stdout).unwrap();
        assert!(rendered == read(manifest), "out of date: deploy/render {part} >{manifest}");
    }
}

#[test]
fn the_adapter_looks_for_the_agent_where_the_chart_puts_it() {
    for namespace in ["", "gpu-agents"] {
        let values = format!("agent: {{enabled: true, namespace: '{namespace}'}}");
        let objects = objects(&render(&values).unwrap());
        let config = in_force(only(&objects, "ConfigMap")["data"]["tidegate.yaml"].as_str().unwrap()).unwrap();
        let agent = only(&objects, "DaemonSet");
        let discover = config["scrape"]["discover"].as_array().unwrap().last().unwrap();
        assert_eq!(discover["preset"], "tidegate-agent");
        assert_eq!(discover["namespace"], agent["metadata"]["namespace"]);
    }
    let manifest = objects(&read("deploy/tidegate.yaml"));
    let config = in_force(only(&manifest, "ConfigMap")["data"]["tidegate.yaml"].as_str().unwrap()).unwrap();
    let agent = only(&objects(&read("deploy/agent.yaml")), "DaemonSet").clone();
    assert_eq!(config["scrape"]["discover"][1]["namespace"], agent["metadata"]["namespace"]);
}

/// Where kube-apiserver sends reviews is where the adapter listens, and who trusts whom is told in each mode.
#[test]
fn the_webhook_is_registered_at_the_adapters_own_port_and_never_keeps_a_pod_from_being_made() {
    for (name, values) in VALUES {
        let objects = objects(&render(values).unwrap());
        let configuration = objects.iter().find_map(|object| object["data"]["tidegate.yaml"].as_str());
        let config = in_force(configuration.unwrap());
        let listens = &config.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"))["burst"];
        let registered: Vec<_> =
            objects.iter().filter(|object| object["kind"] == "MutatingWebhookConfiguration").collect();
        let enabled = values.contains("webhook: {enabled: true");
        assert_eq!((registered.len() == 1, listens["webhookListen"].is_string()), (enabled, enabled), "{name}");
        let Some(registration) = registered.first() else { continue };
        let webhook = &registration["webhooks"][0];
        assert_eq!((&webhook["failurePolicy"], &webhook["sideEffects"]), (&"Ignore".into(), &"None".into()), "{name}");
        assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 2, "{name}");
        assert_eq!(webhook["namespaceSelector"]["matchLabels"]["tidegate.dev/burst"], "enabled", "{name}");

        let to = &webhook["clientConfig"]["service"];
        let service = only(&objects, "Service");
        assert_eq!((&to["name"], &to["namespace"]), (&service["metadata"]["name"], &service["metadata"]["namespace"]));
        let of = |ports: &Value| ports.as_array().unwrap().iter().find(|port| port["name"] == "webhook").cloned();
        let port = of(&service["spec"]["ports"]).unwrap();
        assert_eq!((&port["port"], &port["targetPort"]), (&to["port"], &"webhook".into()), "{name}");
        let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        let container = of(&pod["ports"]).unwrap()["containerPort"].to_string();
        assert!(listens["webhookListen"].as_str().unwrap().ends_with(&format!(":{container}")), "{name}");
        let policy = only(&objects, "NetworkPolicy")["spec"]["ingress"].to_string();
        assert!(policy.contains("webhook"), "{name}: {policy}");

        let metadata = &registration["metadata"];
        let injected = metadata["annotations"]["cert-manager.io/inject-ca-from"].is_string();
        let kept = listens["webhookConfiguration"] == metadata["name"];
        let given = webhook["clientConfig"]["caBundle"].is_string();
        let mode = ["certManager", "mode: secret"].map(|mode| values.contains(mode));
        assert_eq!([injected, given, kept], [mode[0], mode[1], mode == [false, false]], "{name}");
    }
}

#[test]
fn the_dashboards_of_the_chart_are_those_of_the_repository() {
    let objects = objects(&render("dashboards: {enabled: true}").unwrap());
    let mut shown = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let map = objects.iter().find(|object| object["data"][name].is_string()).expect(name);
            assert_eq!(map["data"][name].as_str().unwrap().trim(), fs::read_to_string(&path).unwrap().trim(), "{name}");
            assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
            shown += 1;
        }
    }
    assert!(shown > 0, "there is no dashboard");
}

/// With every number as a floating-point one: Helm writes 1 for 1.0.
fn measured(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(measured).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), measured(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_definitions_of_the_chart_are_those_of_the_repository_and_outlive_a_release() {
    let rendered = objects(&render("{}").unwrap());
    let mut shown = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds")).unwrap() {
        let path = entry.unwrap().path();
        let definition: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let same = |object: &&Value| object["metadata"]["name"] == definition["metadata"]["name"];
        let object = rendered.iter().find(same).unwrap_or_else(|| panic!("{} is not rendered", path.display()));
        assert_eq!(measured(&object["spec"]), measured(&definition["spec"]), "{}", path.display());
        assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        shown += 1;
    }
    assert!(shown > 0, "there is no definition");
}

#[test]
fn every_right_is_explained_where_it_is_given() {
    for (name, values) in VALUES {
        let manifest = render(values).unwrap();
        let lines: Vec<&str> = manifest.lines().collect();
        let rules = lines.iter().enumerate().filter(|(_, line)| line.starts_with("- apiGroups:"));
        let bare: Vec<usize> = rules.filter(|(i, _)| !lines[i - 1].starts_with("# ")).map(|(i, _)| i).collect();
        assert!(bare.is_empty(), "{name}: rules without a reason at lines {bare:?}");
    }
}

#[test]
fn no_right_is_wider_than_a_list_of_names() {
    for (name, values) in VALUES {
        for role in objects(&render(values).unwrap()) {
            for rule in role["rules"].as_array().into_iter().flatten() {
                let text = rule.to_string();
                // The names of another adapter's metrics are not known beforehand.
                let passed_through = text.contains("metrics.k8s.io\"") && values.contains("passthrough");
                assert!(passed_through || !text.contains('*'), "{name}: {text}");
                let secrets = text.contains("secrets");
                assert!(!secrets || rule["resourceNames"].is_array(), "{name}: {text}");
            }
        }
    }
}
