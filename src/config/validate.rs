//! Rules that no single type can state.

use std::time::Duration as StdDuration;

use super::{Config, Control, Discovery, Passthrough, UrlTarget};

/// A setting that cannot work. The message names the field, the rule and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}, got {value}")]
pub struct Invalid {
    /// Path of the field, e.g. `scrape.interval`.
    pub field: String,
    /// What must hold.
    pub rule: &'static str,
    /// What was given.
    pub value: String,
}

fn require(
    holds: bool,
    field: impl Into<String>,
    rule: &'static str,
    value: impl std::fmt::Display,
) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field: field.into(), rule, value: value.to_string() }) }
}

/// Below this an exporter is asked faster than any of them measures.
const SHORTEST_INTERVAL: StdDuration = StdDuration::from_millis(50);

/// Above this a time is a slip of the pen, and instants that far away cannot be reckoned with.
const LONGEST_TIME: StdDuration = StdDuration::from_hours(24);

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self { scrape, vocabulary: _, aggregate, serve, burst, control, telemetry } = self;
        if let Some(address) = burst.webhook_listen.filter(|address| address.port() != 0) {
            let rule = "must not be the address of serve.listen";
            require(address != serve.listen, "burst.webhookListen", rule, address)?;
        }
        let rule = "needs control.enabled: one replica writes, and the Lease that says which is the control loop's";
        require(!burst.enabled || control.enabled, "burst.enabled", rule, burst.enabled)?;
        let webhook = burst.webhook_listen.filter(|_| !burst.enabled);
        require(webhook.is_none(), "burst.webhookListen", "needs burst.enabled", format!("{webhook:?}"))?;
        let registered = burst.webhook_configuration.as_ref().filter(|_| burst.webhook_listen.is_none());
        let rule = "needs burst.webhookListen";
        require(registered.is_none(), "burst.webhookConfiguration", rule, format!("{registered:?}"))?;
        require(scrape.interval.0 >= SHORTEST_INTERVAL, "scrape.interval", "must be at least 50ms", scrape.interval)?;
        require(!scrape.timeout.0.is_zero(), "scrape.timeout", "must be above zero", scrape.timeout)?;
        for (field, time) in [
            ("scrape.interval", Some(scrape.interval)),
            ("scrape.timeout", Some(scrape.timeout)),
            ("scrape.maxAge", scrape.max_age),
            ("scrape.serving.retry", Some(scrape.serving.retry)),
        ] {
            if let Some(time) = time {
                require(time.0 <= LONGEST_TIME, field, "must be at most 24h", time)?;
            }
        }
        if let Some(max_age) = scrape.max_age {
            let rule = "must be longer than scrape.interval, or every sample is stale before the next one";
            require(max_age > scrape.interval, "scrape.maxAge", rule, max_age)?;
        }
        for (field, limit) in [
            ("scrape.concurrency", scrape.concurrency),
            ("scrape.labels", scrape.labels),
            ("scrape.samples", scrape.samples),
            ("scrape.targets", scrape.targets),
            ("scrape.serving.targets", scrape.serving.targets),
            ("scrape.serving.samples", scrape.serving.samples),
            ("scrape.serving.port", usize::from(scrape.serving.port)),
        ] {
            require(limit > 0, field, "must be above zero", limit)?;
        }
        for (field, limit) in [
            ("scrape.pageBytes", scrape.page_bytes),
            ("scrape.lineBytes", scrape.line_bytes),
            ("scrape.serving.pageBytes", scrape.serving.page_bytes),
        ] {
            require(limit.0 > 0, field, "must be above zero", limit)?;
        }
        let path = &scrape.serving.path;
        require(path.starts_with('/'), "scrape.serving.path", "must begin with /", format!("{path:?}"))?;
        for (i, target) in scrape.urls.iter().enumerate() {
            url_target(&format!("scrape.urls[{i}]"), target)?;
        }
        for (i, discovery) in scrape.discover.iter().enumerate() {
            discover(&format!("scrape.discover[{i}]"), discovery)?;
            let watched =
                |namespace: &str| namespace == "*" || aggregate.namespaces.iter().any(|name| name == namespace);
            if let (Some(namespace), false) = (discovery.namespace(), aggregate.namespaces.is_empty()) {
                let rule = "must be among aggregate.namespaces, because pods of other namespaces are not watched";
                require(watched(namespace), format!("scrape.discover[{i}].namespace"), rule, namespace)?;
            }
        }
        let busy = aggregate.busy_percent;
        require(busy > 0.0 && busy <= 100.0, "aggregate.busyPercent", "must be above 0 and at most 100", busy)?;
        let (cert, key) = (&serve.tls_cert_file, &serve.tls_key_file);
        let given = cert.as_ref().or(key.as_ref()).map_or_else(String::new, |path| path.display().to_string());
        let rule = "tlsCertFile and tlsKeyFile must be given together (or neither: a self-made pair)";
        require(cert.is_some() == key.is_some(), "serve", rule, given)?;
        require(!serve.groups.is_empty(), "serve.groups", "must name at least one API group", "[]")?;
        if let Some(Passthrough { url, .. }) = &serve.passthrough {
            require(url.starts_with("https://"), "serve.passthrough.url", "must begin with https://", url)?;
        }
        control.validate()?;
        require(telemetry.series > 0, "telemetry.series", "must be above zero", telemetry.series)
    }
}

impl Control {
    fn validate(&self) -> Result<(), Invalid> {
        let Self { enabled: _, tick, identity: _, lease, record } = self;
        let within = |time: super::Duration, from: StdDuration, to: StdDuration| time.0 >= from && time.0 <= to;
        let ticks = within(*tick, StdDuration::from_millis(100), StdDuration::from_mins(1));
        require(ticks, "control.tick", "must be 100ms to 1m", tick)?;
        // Shorter than a write may take, nobody could ever write.
        let lasts = within(lease.duration, StdDuration::from_secs(5), StdDuration::from_mins(5));
        require(lasts, "control.lease.duration", "must be 5s to 5m", lease.duration)?;
        require(!lease.name.is_empty(), "control.lease.name", "must not be empty", "\"\"")?;
        require(record.bytes.0 > 0, "control.record.bytes", "must be above zero", record.bytes)?;
        require(record.files > 0, "control.record.files", "must be above zero", record.files)
    }
}

fn url_target(field: &str, target: &UrlTarget) -> Result<(), Invalid> {
    let url = reqwest::Url::parse(&target.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let rule = "must be an http:// or https:// URL";
    require(url.is_some_and(|url| url.has_host()), format!("{field}.url"), rule, format!("{:?}", target.url))
}

fn discover(field: &str, discovery: &Discovery) -> Result<(), Invalid> {
    let Discovery { preset, namespace: _, selector, port, path, scheme, access } = discovery;
    let complete = preset.is_some() || (selector.is_some() && port.is_some());
    require(
        complete,
        field,
        "needs a preset (ack-gpu-exporter, dcgm-exporter, tidegate-agent) or selector and port",
        "neither",
    )?;
    let has_credential = access.bearer_token_file.is_some() || access.basic_auth.is_some();
    let rule = "must be named (* if all are meant) beside a bearerTokenFile or basicAuth, which goes to every pod with the exporter's labels";
    require(!has_credential || discovery.namespace().is_some(), format!("{field}.namespace"), rule, "nothing")?;
    if let Some(selector) = selector {
        let parsed = selector.parse::<apiservice::Selector>();
        require(parsed.is_ok(), format!("{field}.selector"), "must be a label selector", format!("{selector:?}"))?;
    }
    if let Some(path) = path {
        require(path.starts_with('/'), format!("{field}.path"), "must begin with /", format!("{path:?}"))?;
    }
    if let Some(scheme) = scheme {
        require(
            matches!(scheme.as_str(), "http" | "https"),
            format!("{field}.scheme"),
            "must be http or https",
            scheme,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_setting_that_cannot_work_is_refused_by_name() {
        for (yaml, field) in [
            ("scrape: {interval: 1ms}", "scrape.interval"),
            ("scrape: {timeout: 0s}", "scrape.timeout"),
            ("scrape: {interval: 10s, maxAge: 10s}", "scrape.maxAge"),
            ("scrape: {interval: 1000000000000h}", "scrape.interval"),
            ("scrape: {timeout: 1000000000000h}", "scrape.timeout"),
            ("scrape: {maxAge: 1000000000000h}", "scrape.maxAge"),
            (
                "{scrape: {discover: [{preset: ack-gpu-exporter}]}, aggregate: {namespaces: [prod]}}",
                "scrape.discover[0].namespace",
            ),
            (
                "{scrape: {discover: [{preset: dcgm-exporter, namespace: gpu}]}, aggregate: {namespaces: [prod]}}",
                "scrape.discover[0].namespace",
            ),
            ("scrape: {concurrency: 0}", "scrape.concurrency"),
            ("scrape: {pageBytes: 0}", "scrape.pageBytes"),
            ("scrape: {serving: {pageBytes: 0}}", "scrape.serving.pageBytes"),
            ("scrape: {urls: [{url: 'ftp://node/metrics'}]}", "scrape.urls[0].url"),
            ("scrape: {urls: [{url: 'node:9400'}]}", "scrape.urls[0].url"),
            ("scrape: {discover: [{selector: 'app=x'}]}", "scrape.discover[0]"),
            ("scrape: {discover: [{preset: dcgm-exporter, path: metrics}]}", "scrape.discover[0].path"),
            (
                "scrape: {discover: [{preset: dcgm-exporter, access: {bearerTokenFile: /token}}]}",
                "scrape.discover[0].namespace",
            ),
            (
                "scrape: {discover: [{selector: 'app=x', port: '9400', access: {basicAuth: {username: a, passwordFile: /b}}}]}",
                "scrape.discover[0].namespace",
            ),
            ("scrape: {discover: [{preset: dcgm-exporter, scheme: gopher}]}", "scrape.discover[0].scheme"),
            ("scrape: {discover: [{preset: dcgm-exporter, selector: 'a in b'}]}", "scrape.discover[0].selector"),
            ("scrape: {serving: {path: metrics}}", "scrape.serving.path"),
            ("scrape: {serving: {port: 0}}", "scrape.serving.port"),
            ("scrape: {serving: {targets: 0}}", "scrape.serving.targets"),
            ("scrape: {serving: {samples: 0}}", "scrape.serving.samples"),
            ("scrape: {serving: {retry: 25h}}", "scrape.serving.retry"),
            ("aggregate: {busyPercent: 0}", "aggregate.busyPercent"),
            ("serve: {tlsCertFile: /tls/tls.crt}", "serve"),
            ("serve: {groups: []}", "serve.groups"),
            ("serve: {passthrough: {url: 'http://other'}}", "serve.passthrough.url"),
            ("burst: {enabled: true, webhookListen: '0.0.0.0:6443'}", "burst.webhookListen"),
            ("burst: {webhookListen: '0.0.0.0:9443'}", "burst.webhookListen"),
            ("burst: {enabled: true, webhookConfiguration: tidegate}", "burst.webhookConfiguration"),
            ("{burst: {enabled: true}, control: {enabled: false}}", "burst.enabled"),
            ("control: {tick: 1ms}", "control.tick"),
            ("control: {lease: {duration: 1s}}", "control.lease.duration"),
            ("control: {record: {files: 0}}", "control.record.files"),
            ("telemetry: {series: 0}", "telemetry.series"),
        ] {
            let config = Config::parse(yaml, Path::new("x.yaml")).unwrap();
            assert_eq!(config.validate().unwrap_err().field, field, "{yaml}");
        }
    }

    #[test]
    fn an_exporter_whose_namespace_is_watched_is_accepted() {
        for yaml in [
            "{scrape: {discover: [{preset: ack-gpu-exporter}]}, aggregate: {namespaces: [prod, arms-prom]}}",
            "{scrape: {discover: [{preset: ack-gpu-exporter, namespace: '*'}]}, aggregate: {namespaces: [prod]}}",
            "{scrape: {discover: [{preset: dcgm-exporter}]}, aggregate: {namespaces: [prod]}}",
            "scrape: {discover: [{preset: ack-gpu-exporter}]}",
            "scrape: {discover: [{preset: ack-gpu-exporter, access: {bearerTokenFile: /token}}]}",
            "scrape: {discover: [{preset: dcgm-exporter, namespace: '*', access: {bearerTokenFile: /token}}]}",
        ] {
            assert_eq!(Config::parse(yaml, Path::new("x.yaml")).unwrap().validate(), Ok(()), "{yaml}");
        }
    }
}
