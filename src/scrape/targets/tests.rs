use super::*;
use crate::cluster::{PageHint, PodState, Resources};

/// A running pod with an address on node `n1`.
fn pod(namespace: &str, name: &str, labels: &[(&str, &str)], ports: &[(Option<&str>, u16)]) -> Pod {
    Pod {
        key: ObjectKey { namespace: namespace.into(), name: name.into() },
        uid: format!("uid-{name}").into(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        node: Some("n1".into()),
        ip: Some("10.0.0.7".into()),
        ports: ports.iter().map(|(name, number)| (name.map(Arc::from), *number)).collect(),
        phase: Phase::Running,
        state: PodState::Ready,
        created: None,
        scheduled: None,
        started: None,
        running: None,
        ready_since: None,
        gpus: 0,
        requests: Resources::default(),
        deletion_cost: None,
        page: PageHint::default(),
    }
}

fn view(pods: impl IntoIterator<Item = Pod>) -> View {
    View { pods: pods.into_iter().map(|pod| (pod.key.clone(), Arc::new(pod))).collect(), ..View::default() }
}

fn preset(preset: Preset) -> Discovery {
    Discovery {
        preset: Some(preset),
        namespace: None,
        selector: None,
        port: None,
        path: None,
        scheme: None,
        access: Access::default(),
    }
}

fn custom(selector: &str, port: &str) -> Discovery {
    Discovery { preset: None, selector: Some(selector.into()), port: Some(port.into()), ..preset(Preset::DcgmExporter) }
}

fn discover(entries: impl IntoIterator<Item = Discovery>) -> Scrape {
    Scrape { discover: entries.into_iter().collect(), ..Scrape::default() }
}

fn by_url(urls: &[&str]) -> Scrape {
    let urls = urls.iter().map(|url| UrlTarget { url: (*url).into(), node: None, access: Access::default() });
    Scrape { urls: urls.collect(), ..Scrape::default() }
}

fn urls(set: &TargetSet) -> Vec<&str> {
    set.targets.values().map(|target| target.url.as_str()).collect()
}

fn refusals(set: &TargetSet) -> Vec<String> {
    set.refusals.iter().map(ToString::to_string).collect()
}

const ACK: &[(&str, &str)] = &[("k8s-app", "ack-prometheus-gpu-exporter")];
const CHART: &[(&str, &str)] = &[("app.kubernetes.io/name", "dcgm-exporter")];
const OPERATOR: &[(&str, &str)] = &[("app", "nvidia-dcgm-exporter")];
const AGENT: &[(&str, &str)] = &[("app.kubernetes.io/name", "tidegate-agent")];

#[test]
fn a_preset_finds_its_exporter_where_its_own_chart_puts_it() {
    let http_metrics: &[_] = &[(Some("http-metrics"), 9445)];
    let metrics: &[_] = &[(Some("metrics"), 9400)];
    let table = [
        (Preset::AckGpuExporter, pod("arms-prom", "x", ACK, http_metrics), Some("http://10.0.0.7:9445/metrics"), 20),
        // The number is enough: the container need not declare its port.
        (Preset::AckGpuExporter, pod("arms-prom", "x", ACK, &[]), Some("http://10.0.0.7:9445/metrics"), 20),
        // Whoever may create pods elsewhere cannot speak for ACK's exporter.
        (Preset::AckGpuExporter, pod("tenant", "x", ACK, http_metrics), None, 0),
        (Preset::AckGpuExporter, pod("arms-prom", "x", CHART, metrics), None, 0),
        (Preset::DcgmExporter, pod("monitoring", "x", CHART, metrics), Some("http://10.0.0.7:9400/metrics"), 30),
        (Preset::DcgmExporter, pod("gpu-operator", "x", OPERATOR, metrics), Some("http://10.0.0.7:9400/metrics"), 30),
        (Preset::DcgmExporter, pod("arms-prom", "x", ACK, http_metrics), None, 0),
        (
            Preset::TidegateAgent,
            pod("tidegate", "x", AGENT, &[(Some("metrics"), 9402)]),
            Some("http://10.0.0.7:9402/metrics"),
            10,
        ),
        (Preset::TidegateAgent, pod("tidegate", "x", CHART, metrics), None, 0),
    ];
    for (preset_name, pod, expected, rank) in table {
        let set = targets(&discover([preset(preset_name)]), &view([pod.clone()]));
        assert_eq!(urls(&set), Vec::from_iter(expected), "{preset_name:?} {:?}", pod.key);
        assert_eq!(refusals(&set), [""; 0]);
        if let Some(target) = set.targets.values().next() {
            assert_eq!(target.rank, rank);
            assert_eq!(target.node.as_deref(), Some("n1"));
        }
    }
}

#[test]
fn a_field_of_the_entry_overrides_the_preset() {
    let ours = Discovery {
        namespace: Some("kube-system".into()),
        selector: Some("app=gpu,tier!=test".into()),
        port: Some("web".into()),
        path: Some("/federate?x=1".into()),
        scheme: Some("https".into()),
        access: Access { rank: Some(3), ..Access::default() },
        ..preset(Preset::AckGpuExporter)
    };
    let ports = &[(None, 1), (Some("web"), 8443)];
    let set = targets(
        &discover([ours]),
        &view([
            pod("kube-system", "a", &[("app", "gpu")], ports),
            pod("kube-system", "b", &[("app", "gpu"), ("tier", "test")], ports),
            pod("arms-prom", "c", ACK, ports),
        ]),
    );
    assert_eq!(urls(&set), ["https://10.0.0.7:8443/federate?x=1"]);
    assert_eq!(set.targets.values().next().unwrap().rank, 3);
}

#[test]
fn the_namespace_star_widens_a_preset_to_all_namespaces() {
    let everywhere = Discovery { namespace: Some("*".into()), ..preset(Preset::AckGpuExporter) };
    let set = targets(&discover([everywhere]), &view([pod("a", "x", ACK, &[]), pod("b", "y", ACK, &[])]));
    assert_eq!(set.targets.len(), 2);
}

#[test]
fn only_running_pods_with_an_address_are_targets() {
    let exporter = pod("arms-prom", "x", ACK, &[]);
    let table = [
        (Pod { phase: Phase::Pending, ..exporter.clone() }, 0),
        (Pod { phase: Phase::Finished, ..exporter.clone() }, 0),
        (Pod { phase: Phase::Unknown, ..exporter.clone() }, 0),
        (Pod { ip: None, ..exporter.clone() }, 0),
        (Pod { state: PodState::Starting, ..exporter.clone() }, 1),
        // It is being deleted: its page is good until it is gone.
        (Pod { state: PodState::Leaving, ..exporter.clone() }, 1),
        (exporter, 1),
    ];
    for (pod, expected) in table {
        let set = targets(&discover([preset(Preset::AckGpuExporter)]), &view([pod.clone()]));
        assert_eq!((set.targets.len(), refusals(&set)), (expected, vec![]), "{:?} {:?}", pod.phase, pod.state);
    }
}

#[test]
fn an_ipv6_address_stands_in_brackets_and_no_address_is_said() {
    let six = Pod { ip: Some("fd00:10::7".into()), ..pod("arms-prom", "six", ACK, &[]) };
    let odd = Pod { ip: Some("10.0.0.7/x".into()), ..pod("arms-prom", "odd", ACK, &[]) };
    let set = targets(&discover([preset(Preset::AckGpuExporter)]), &view([six, odd]));
    assert_eq!(urls(&set), ["http://[fd00:10::7]:9445/metrics"]);
    assert_eq!(
        refusals(&set),
        ["pod arms-prom/odd (scrape.discover[0]): status.podIP \"10.0.0.7/x\" is not an IP address"]
    );
}

#[test]
fn a_pod_without_the_named_port_is_refused_and_its_neighbour_lives() {
    let set = targets(
        &discover([preset(Preset::TidegateAgent)]),
        &view([
            pod("t", "a", AGENT, &[(Some("web"), 80), (None, 81), (Some("health"), 82)]),
            pod("t", "b", AGENT, &[(Some("metrics"), 9402)]),
        ]),
    );
    assert_eq!(urls(&set), ["http://10.0.0.7:9402/metrics"]);
    assert_eq!(
        refusals(&set),
        ["pod t/a (scrape.discover[0]): no container port is named \"metrics\"; it has [web, health]"]
    );
}

#[test]
fn a_pod_recreated_under_its_name_is_another_target() {
    let before = pod("arms-prom", "x", ACK, &[]);
    let after = Pod { uid: "uid-2".into(), ..before.clone() };
    let config = discover([preset(Preset::AckGpuExporter)]);
    let ids = [before, after].map(|pod| targets(&config, &view([pod])).targets.into_keys().next().unwrap());
    assert_eq!(ids.each_ref().map(ToString::to_string), ["arms-prom/x/uid-x", "arms-prom/x/uid-2"]);
}

#[test]
fn two_entries_that_select_one_pod_make_one_target_and_a_second_page_of_it_is_said() {
    let entries = [preset(Preset::AckGpuExporter), custom("k8s-app", "9445"), custom("k8s-app", "9999")];
    let set = targets(&discover(entries), &view([pod("arms-prom", "x", ACK, &[])]));
    assert_eq!(urls(&set), ["http://10.0.0.7:9445/metrics"]);
    assert_eq!(set.targets.values().next().unwrap().rank, 20, "the first entry counts");
    assert_eq!(
        refusals(&set),
        ["pod arms-prom/x (scrape.discover[2]): http://10.0.0.7:9999/metrics is a second page of this pod; \
          http://10.0.0.7:9445/metrics is scraped"]
    );
}

#[test]
fn an_entry_that_cannot_select_is_refused_by_field_and_the_others_live() {
    let good = preset(Preset::AckGpuExporter);
    let table = [
        (Discovery { selector: None, ..custom("", "1") }, "selector: expected a label selector"),
        (custom(" ", "1"), "selector: expected a label selector"),
        (Discovery { selector: Some(String::new()), ..good.clone() }, "selector: expected a label selector"),
        (custom("app in (", "1"), "selector: \"app in (\": "),
        (Discovery { port: None, ..custom("app=x", "") }, "port: expected a port's name or number"),
        (custom("app=x", "0"), "port: expected a number from 1 to 65535, got 0"),
        (custom("app=x", "65536"), "port: expected a number from 1 to 65535, got 65536"),
        (Discovery { path: Some("metrics".into()), ..good.clone() }, "path: expected a path that starts with /"),
        (Discovery { scheme: Some("ftp".into()), ..good.clone() }, "scheme: expected http or https, got \"ftp\""),
    ];
    for (bad, expected) in table {
        let set = targets(&discover([bad, good.clone()]), &view([pod("arms-prom", "x", ACK, &[])]));
        assert_eq!(set.targets.len(), 1);
        let said = refusals(&set);
        assert!(said.len() == 1 && said[0].starts_with(&format!("scrape.discover[0].{expected}")), "{said:?}");
    }
}

#[test]
fn a_url_is_a_target_under_its_own_name() {
    let access = Access { rank: Some(7), honor_timestamps: true, ..Access::default() };
    let entry =
        UrlTarget { url: "http://gpu-1:9445/metrics".into(), node: Some("gpu-1".into()), access: access.clone() };
    let set = targets(&Scrape { urls: vec![entry], ..Scrape::default() }, &View::default());
    let target = set.targets.values().next().unwrap();
    assert_eq!(target.id.to_string(), "http://gpu-1:9445/metrics");
    assert_eq!((target.node.as_deref(), target.rank, &*target.access), (Some("gpu-1"), 7, &access));
}

#[test]
fn a_url_that_cannot_be_fetched_is_refused_without_its_password() {
    let table = [
        ("gpu-1:9445/metrics", "gpu-1:9445/metrics: expected the scheme http or https"),
        ("/metrics", "/metrics: expected http://HOST:PORT/PATH"),
        ("ftp://gpu-1/", "ftp://gpu-1/: expected the scheme http or https, got \"ftp\""),
        ("http://", "http://: expected http://HOST:PORT/PATH"),
        ("http://me:hunter2@gpu-1/m", "http://…@gpu-1/m: holds a user name or password"),
        ("http://me:hun@ter2@gpu-1:x/m", "http://…@gpu-1:x/m: expected http://HOST:PORT/PATH"),
        ("me:hunter2@gpu-1", "…@gpu-1: expected"),
    ];
    for (url, expected) in table {
        let set = targets(&by_url(&[url, "http://good/"]), &View::default());
        assert_eq!(urls(&set), ["http://good/"]);
        let said = refusals(&set);
        assert!(said.len() == 1 && said[0].starts_with(&format!("scrape.urls[0] {expected}")), "{said:?}");
        assert!(!format!("{set:?}").contains("ter2"), "{set:?}");
    }
    let twice = targets(&by_url(&["http://a/", "http://a/"]), &View::default());
    assert_eq!(refusals(&twice), ["scrape.urls[1] http://a/: is listed before; the first entry counts"]);
}

#[test]
fn beyond_the_limit_targets_are_refused_by_name_order_whatever_the_order_of_the_pods() {
    let config = Scrape { targets: 2, ..discover([preset(Preset::AckGpuExporter)]) };
    let pods = ["d", "a", "c", "b"].map(|name| pod("arms-prom", name, ACK, &[]));
    let set = targets(&config, &view(pods));
    let names: Vec<String> = set.targets.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["arms-prom/a/uid-a", "arms-prom/b/uid-b"]);
    assert_eq!(
        refusals(&set),
        [
            "2 targets from arms-prom/c/uid-c on, by name, are not scraped: scrape.targets allows 2; raise it or ask for \
          fewer"
        ]
    );
}
