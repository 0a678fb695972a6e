//! Who owns a metrics API group on a cluster.

use std::fmt;

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;

use crate::config::{self, Group};

/// An APIService of a group that we are to serve and that leads to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignOwner {
    /// The APIService.
    pub api_service: String,
    /// Its group.
    pub group: Group,
    /// Namespace and name of the Service that it leads to; `None`: the API server itself.
    pub service: Option<(String, String)>,
    /// Namespace and name of ours.
    pub ours: (String, String),
}

impl fmt::Display for ForeignOwner {
    /// The warning: what is so, what follows, and the two ways out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api_service, group, service, ours: (namespace, name) } = self;
        let (group, other) = match group {
            Group::Custom => ("custom.metrics.k8s.io", "external.metrics.k8s.io"),
            Group::External => ("external.metrics.k8s.io", "custom.metrics.k8s.io"),
        };
        let (owner, url) = match service {
            Some((namespace, name)) => {
                (format!("Service {namespace}/{name}"), format!("https://{name}.{namespace}.svc"))
            }
            None => ("the API server itself".into(), "https://HOST".into()),
        };
        write!(
            f,
            "APIService {api_service} leads to {owner} and not to Service {namespace}/{name}: queries of {group} do not \
             reach Tidegate. Either leave the group to it and serve the other one only (serve.groups: [{other}]), or point \
             the APIService at Service {namespace}/{name} and have Tidegate ask the other adapter for what it does not \
             know itself (serve.passthrough.url: {url})"
        )
    }
}

/// Reads the APIServices of the groups that `serve` names and returns those that lead to somebody else. One that does not
/// exist belongs to nobody.
pub async fn foreign_owners(client: &kube::Client, serve: &config::Serve) -> Result<Vec<ForeignOwner>, kube::Error> {
    let api: Api<APIService> = Api::all(client.clone());
    let mut foreign = Vec::new();
    for group in &serve.groups {
        let names: &[&str] = match group {
            Group::Custom => &["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"],
            Group::External => &["v1beta1.external.metrics.k8s.io"],
        };
        for name in names {
            let Some(found) = api.get_opt(name).await? else { continue };
            let service = found
                .spec
                .and_then(|spec| spec.service)
                .map(|service| (service.namespace.unwrap_or_default(), service.name.unwrap_or_default()));
            let ours = (serve.service_namespace.clone(), serve.service_name.clone());
            if service.as_ref() != Some(&ours) {
                foreign.push(ForeignOwner { api_service: (*name).to_owned(), group: *group, service, ours });
            }
        }
    }
    Ok(foreign)
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get};
    use serde_json::{Value, json};

    use super::*;

    /// An API server with these APIServices.
    fn client(services: &'static [(&str, Option<(&str, &str)>)]) -> kube::Client {
        let answer = move |Path(name): Path<String>| async move {
            let Some((_, service)) = services.iter().find(|(known, _)| *known == name) else {
                let status: Value = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "none"});
                return (StatusCode::NOT_FOUND, Json(status)).into_response();
            };
            let service = service.map(|(namespace, name)| json!({"namespace": namespace, "name": name, "port": 443}));
            let spec = json!({"service": service, "groupPriorityMinimum": 100, "versionPriority": 100});
            Json(json!({"metadata": {"name": name}, "spec": spec})).into_response()
        };
        let path = "/apis/apiregistration.k8s.io/v1/apiservices/{name}";
        kube::Client::new(Router::new().route(path, get(answer)), "default")
    }

    #[tokio::test]
    async fn a_group_that_leads_elsewhere_is_reported_with_the_two_ways_out() {
        let client = client(&[
            ("v1beta1.custom.metrics.k8s.io", Some(("monitoring", "prometheus-adapter"))),
            ("v1beta1.external.metrics.k8s.io", Some(("tidegate", "tidegate"))),
        ]);
        let foreign = foreign_owners(&client, &config::Serve::default()).await.unwrap();
        let [owner] = &foreign[..] else { panic!("{foreign:?}") };
        let warning = owner.to_string();
        for part in [
            "v1beta1.custom.metrics.k8s.io leads to Service monitoring/prometheus-adapter and not to Service tidegate/tidegate",
            "serve.groups: [external.metrics.k8s.io]",
            "serve.passthrough.url: https://prometheus-adapter.monitoring.svc",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
    }

    #[tokio::test]
    async fn groups_that_are_not_to_be_served_are_nobodys_business() {
        let client = client(&[
            ("v1beta1.custom.metrics.k8s.io", Some(("monitoring", "prometheus-adapter"))),
            ("v1beta2.custom.metrics.k8s.io", None),
        ]);
        let only = |group| config::Serve { groups: vec![group], ..config::Serve::default() };
        assert_eq!(foreign_owners(&client, &only(Group::External)).await.unwrap(), []);
        let custom = foreign_owners(&client, &only(Group::Custom)).await.unwrap();
        assert_eq!(custom.len(), 2);
        assert!(custom[1].to_string().contains("the API server itself"), "{}", custom[1]);
    }
}
