//! OpenMetrics text → Prometheus' text format 0.0.4.
//!
//! prometheus-client writes OpenMetrics only. Clients that do not ask for it (`curl`, `promtool check metrics`) get the
//! classic form, in which a counter's family carries the suffix `_total`, and `# UNIT` and `# EOF` do not exist.
//! Format: prometheus.io/docs/instrumenting/exposition_formats.

/// Content type of what [`from_open_metrics`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of OpenMetrics text.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Rewrites the metadata lines; samples are the same in both.
#[must_use]
pub fn from_open_metrics(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 256);
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(comment) = line.strip_prefix("# ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            // prometheus-client writes HELP, then TYPE: the help line's name depends on the type that follows.
            (Some("HELP"), Some(name), Some(help)) => {
                let suffix = lines.peek().map_or("", |next| suffix(next));
                out.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            (Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = suffix(line);
                let kind = match kind {
                    "unknown" => "untyped",
                    "info" | "stateset" => "gauge",
                    other => other,
                };
                out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            _ => {}
        }
    }
    out
}

fn suffix(type_line: &str) -> &'static str {
    match type_line.rsplit(' ').next() {
        Some("counter") => "_total",
        Some("info") => "_info",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_carry_their_suffix_and_open_metrics_own_lines_are_gone() {
        let open = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{l=\"# x\"} 1.5\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n";
        let classic = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total{l=\"# x\"} 1.5\n# HELP b B.\n# TYPE b gauge\nb 2\n";
        assert_eq!(from_open_metrics(open), classic);
    }
}
