use super::{CustomQuery, ExternalQuery, Objects, Probe, Route, Unroutable, parse};
use crate::{
    Resource,
    api::{Api, Group},
};

fn custom(resource: &str, namespace: Option<&str>, name: &str, metric: &str) -> Route {
    let resource = Resource::parse(resource);
    Route::Custom(Api::CustomV1Beta2, CustomQuery::new(resource, namespace, name, metric))
}

#[test]
fn every_path_that_leads_somewhere() {
    let external = ExternalQuery { namespace: "prod".to_owned(), metric: "queue_depth".to_owned() };
    let v1beta2 = "/apis/custom.metrics.k8s.io/v1beta2";
    for (path, expected) in [
        ("/", Route::Root),
        ("/apis", Route::Groups),
        ("/apis/custom.metrics.k8s.io", Route::Group(Group::Custom)),
        ("/apis/external.metrics.k8s.io/", Route::Group(Group::External)),
        ("/apis/custom.metrics.k8s.io/v1beta1", Route::Resources(Api::CustomV1Beta1)),
        ("/apis/custom.metrics.k8s.io/v1beta2/", Route::Resources(Api::CustomV1Beta2)),
        ("/apis/external.metrics.k8s.io/v1beta1", Route::Resources(Api::ExternalV1Beta1)),
        (&format!("{v1beta2}/namespaces/prod/pods/%2A/m"), custom("pods", Some("prod"), "*", "m")),
        (&format!("{v1beta2}/namespaces/prod/pods/*/m"), custom("pods", Some("prod"), "*", "m")),
        (&format!("{v1beta2}/namespaces/prod/pods/llm-0/vllm:x"), custom("pods", Some("prod"), "llm-0", "vllm:x")),
        (&format!("{v1beta2}/namespaces/prod/pods/llm-0/vllm%3Ax"), custom("pods", Some("prod"), "llm-0", "vllm:x")),
        (&format!("{v1beta2}/namespaces/prod/pods/llm-0/a%252Fb"), custom("pods", Some("prod"), "llm-0", "a%2Fb")),
        (&format!("{v1beta2}/namespaces/prod/nodes/gpu-1/m"), custom("nodes", Some("prod"), "gpu-1", "m")),
        (
            &format!("{v1beta2}/namespaces/prod/deployments.apps/d/m"),
            custom("deployments.apps", Some("prod"), "d", "m"),
        ),
        (&format!("{v1beta2}/namespaces/prod/metrics/m"), custom("namespaces", None, "prod", "m")),
        (&format!("{v1beta2}/namespaces/prod/pods/metrics/m"), custom("pods", Some("prod"), "metrics", "m")),
        (&format!("{v1beta2}/nodes/gpu-1/m"), custom("nodes", None, "gpu-1", "m")),
        (&format!("{v1beta2}/nodes/%2a/m"), custom("nodes", None, "*", "m")),
        (
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth",
            Route::External(Api::ExternalV1Beta1, external),
        ),
        ("/openapi/v2", Route::OpenApiV2),
        ("/openapi/v3", Route::OpenApiV3),
        ("/openapi/v3/apis/custom.metrics.k8s.io/v1beta2", Route::OpenApiV3Of(Api::CustomV1Beta2)),
        ("/version", Route::Version),
        ("/metrics", Route::Metrics),
        ("/healthz", Route::Health(Probe::Health, None)),
        ("/livez", Route::Health(Probe::Live, None)),
        ("/readyz", Route::Health(Probe::Ready, None)),
        ("/readyz/ping", Route::Health(Probe::Ready, Some("ping".to_owned()))),
    ] {
        assert_eq!(parse(path, &Api::ALL).as_ref(), Ok(&expected), "{path}");
    }
    let Route::Custom(_, query) = custom("deployments.apps", None, "*", "m") else { unreachable!("built as custom") };
    assert_eq!((query.resource.name.as_str(), query.resource.group.as_str()), ("deployments", "apps"));
    assert_eq!(query.objects, Objects::Selected);
}

#[test]
fn every_path_that_leads_nowhere() {
    let (unknown, shape) = (Unroutable::UnknownPath, Unroutable::UnknownShape);
    let g = "/apis/custom.metrics.k8s.io/v1beta1";
    let x = "/apis/external.metrics.k8s.io/v1beta1";
    for (path, expected) in [
        ("/apis/".to_owned(), &unknown),
        ("/apis/apps".to_owned(), &unknown),
        ("/apis/apps/v1".to_owned(), &unknown),
        ("/api".to_owned(), &unknown),
        ("/api/v1/pods".to_owned(), &unknown),
        ("//".to_owned(), &unknown),
        ("//apis".to_owned(), &unknown),
        ("/apis//custom.metrics.k8s.io".to_owned(), &unknown),
        ("/apis%2Fcustom.metrics.k8s.io".to_owned(), &unknown),
        ("/./apis".to_owned(), &unknown),
        ("/version/".to_owned(), &unknown),
        ("/metrics/".to_owned(), &unknown),
        ("/readyz/".to_owned(), &unknown),
        ("/readyz/a/b".to_owned(), &unknown),
        ("/openapi".to_owned(), &unknown),
        ("/openapi/v3/".to_owned(), &unknown),
        ("/openapi/v3/apis/apps/v1".to_owned(), &unknown),
        ("/openapi/v3/apis/custom.metrics.k8s.io/v2".to_owned(), &unknown),
        ("/apis/custom.metrics.k8s.io/v1".to_owned(), &shape),
        ("/apis/external.metrics.k8s.io/v1beta2".to_owned(), &shape),
        ("/apis/custom.metrics.k8s.io//".to_owned(), &shape),
        (format!("{g}//"), &shape),
        (format!("{g}/blah"), &shape),
        (format!("{g}/nodes/foo"), &shape),
        (format!("{g}/namespaces"), &shape),
        (format!("{g}/namespaces/ns"), &shape),
        (format!("{g}/namespaces/ns/pods/bar"), &shape),
        (format!("{g}/namespaces/ns/pods/bar/m/"), &shape),
        (format!("{g}/namespaces/ns/pods/bar/m/n"), &shape),
        (format!("{g}/namespaces/ns/pods//m"), &shape),
        (format!("{g}/namespaces//pods/x/m"), &shape),
        (format!("{g}/namespaces/../pods/x/m"), &shape),
        (format!("{g}/namespaces/./pods/x/m"), &shape),
        (format!("{g}/namespaces/%2e%2e/pods/x/m"), &shape),
        (format!("{g}/namespaces/ns/pods/x/a%2Fb"), &shape),
        (format!("{g}/namespaces/ns%2Fpods/x/m"), &shape),
        (format!("{g}/nodes/foo/m/n"), &shape),
        (format!("{x}/nonexistent-metric"), &shape),
        (format!("{x}/namespaces/foo"), &shape),
        (format!("{x}/namespaces/foo/"), &shape),
        (format!("{x}/namespaces/foo/group/metric"), &shape),
        (format!("{x}/nodes/foo/metric"), &shape),
    ] {
        assert_eq!(parse(&path, &Api::ALL).as_ref(), Err(expected), "{path}");
    }
    for path in [
        format!("{g}/namespaces/ns/x"),
        format!("{g}/namespaces/*/pods/x/m"),
        format!("{g}/namespaces/*/metrics/m"),
        format!("{x}/namespaces/%2A/m"),
        format!("{g}/nodes/%zz/m"),
        format!("{g}/nodes/x/m%2"),
        format!("{g}/nodes/x/%ff"),
        "/%".to_owned(),
    ] {
        assert!(matches!(parse(&path, &Api::ALL), Err(Unroutable::Malformed(_))), "{path}");
    }
}

#[test]
fn a_group_or_version_that_is_not_served_does_not_exist() {
    let served = [Api::ExternalV1Beta1];
    assert_eq!(parse("/apis/custom.metrics.k8s.io", &served), Err(Unroutable::UnknownPath));
    assert_eq!(parse("/apis/custom.metrics.k8s.io/v1beta2/nodes/x/m", &served), Err(Unroutable::UnknownPath));
    let served = [Api::CustomV1Beta2];
    assert_eq!(parse("/apis/custom.metrics.k8s.io/v1beta1", &served), Err(Unroutable::UnknownShape));
}
