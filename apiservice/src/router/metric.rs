//! Queries for values.

use std::{future::Future, time::Duration};

use super::Service;
use crate::{
    Provider, Resource, Status,
    api::Api,
    path::{CustomQuery, ExternalQuery, Objects},
    query::Parameters,
    response::{Reply, Style},
    wire,
};

impl<P: Provider> Service<P> {
    /// Values of a custom metric. `watch` is ignored: the answer is a plain list, as the reference's is.
    pub(super) async fn custom(
        &self,
        api: Api,
        query: &CustomQuery,
        parameters: &Parameters<'_>,
        style: Style,
    ) -> Result<Reply, Status> {
        let CustomQuery { resource, namespace, objects, metric } = query;
        parameters.check_list_options()?;
        let limit = self.time_limit(parameters)?;
        let selector = parameters.selector("labelSelector")?;
        let metric_selector = parameters.selector("metricLabelSelector")?;
        let echo = metric_selector.to_label_selector().ok_or_else(|| {
            Status::bad_request(format!("metricLabelSelector {metric_selector}: '>' and '<' cannot select metrics"))
        })?;
        let resource = self.plural(resource);
        let namespace = namespace.as_deref();
        let mut values = match objects {
            Objects::Named(name) => {
                parameters.check_field_selector(name)?;
                let value = self.provider.custom_by_name(&resource, namespace, name, metric, &metric_selector);
                vec![in_time(limit, value).await?]
            }
            Objects::Selected => {
                parameters.check_field_selector("*")?;
                let values =
                    self.provider.custom_by_selector(&resource, namespace, &selector, metric, &metric_selector);
                in_time(limit, values).await?
            }
        };
        values.sort_by(|left, right| {
            let (left, right) = (&left.object, &right.object);
            (&left.namespace, &left.name).cmp(&(&right.namespace, &right.name))
        });
        let echo = (!metric_selector.is_everything()).then_some(&echo);
        let mut reply = Reply::list(&wire::custom_list(api, metric, echo, &values), style);
        self.served(api, values.iter().map(|value| value.timestamp));
        reply.vacant = values.is_empty();
        Ok(reply)
    }

    /// Values of an external metric.
    pub(super) async fn external(
        &self,
        api: Api,
        query: &ExternalQuery,
        parameters: &Parameters<'_>,
        style: Style,
    ) -> Result<Reply, Status> {
        let ExternalQuery { namespace, metric } = query;
        if parameters.is_on("watch") {
            return Err(Status::method_not_allowed("watch"));
        }
        parameters.check_list_options()?;
        parameters.check_field_selector(metric)?;
        let limit = self.time_limit(parameters)?;
        let selector = parameters.selector("labelSelector")?;
        let values = in_time(limit, self.provider.external(namespace, metric, &selector)).await?;
        let mut reply = Reply::list(&wire::external_list(api, metric, &values), style);
        self.served(api, values.iter().map(|value| value.timestamp));
        reply.vacant = values.is_empty();
        Ok(reply)
    }

    fn served(&self, api: Api, times: impl Iterator<Item = jiff::Timestamp>) {
        self.options.metrics.served(api.group(), (self.options.clock)(), times);
    }

    fn time_limit(&self, parameters: &Parameters<'_>) -> Result<Duration, Status> {
        let limit = self.options.request_timeout;
        Ok(parameters.timeout()?.map_or(limit, |wanted| wanted.min(limit)))
    }

    /// The resource by its plural name: paths may name the singular. What ends in one `s` is taken for a plural, and so the
    /// usual query does not look into the list of metrics.
    fn plural(&self, resource: &Resource) -> Resource {
        let name = &resource.name;
        if name.ends_with('s') && !name.ends_with("ss") {
            return resource.clone();
        }
        let mut plurals = vec![format!("{name}s"), format!("{name}es")];
        plurals.extend(name.strip_suffix('y').map(|stem| format!("{stem}ies")));
        let listed = self.provider.custom_metrics();
        let known =
            |name: &str| listed.iter().any(|one| one.resource.group == resource.group && one.resource.name == name);
        if known(name) {
            return resource.clone();
        }
        let name = plurals.into_iter().find(|plural| known(plural)).unwrap_or_else(|| name.clone());
        Resource { group: resource.group.clone(), name }
    }
}

/// The answer, if it comes in time.
async fn in_time<T>(limit: Duration, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Err(Status::timeout(format!("no answer within {} seconds", limit.as_secs_f64()))))
}
