//! The figures for people: Markdown, which reads well in a terminal too.

use std::fmt;

use super::{
    contender::Kind,
    decision::{Direction, Spread},
    figures::Figures,
    staleness::Exporter,
};

/// Prints [`Figures`].
#[derive(Debug)]
pub struct Table<'a>(pub &'a Figures);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { date, seconds, left_out, machine, versions, .. } = self.0;
        writeln!(
            f,
            "tidegate {} beside prometheus-adapter {} on Prometheus {}, Kubernetes {}\n{date:.0}, {} with {} cores and {:.0} GiB, \
             load average {} before; took {seconds:.0} s",
            versions.tidegate,
            versions.prometheus_adapter,
            versions.prometheus,
            versions.kubernetes,
            machine.cpu,
            machine.cores,
            machine.memory_gib,
            machine.load_before,
        )?;
        if !left_out.is_empty() {
            writeln!(f, "\nQUICK RUN. Left out:")?;
            left_out.iter().try_for_each(|what| writeln!(f, "- {what}"))?;
        }
        self.queries(f)?;
        self.processes(f)?;
        self.decisions(f)?;
        self.staleness(f)
    }
}

impl Table<'_> {
    fn queries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nQueries over TLS, one kept connection, one after the other. In brackets: times Tidegate's.\n")?;
        let head = [
            "query",
            "adapter",
            "n",
            "kB",
            "p50 ms",
            "p99 ms",
            "adapter CPU ms",
            "Prometheus CPU ms",
            "apiserver CPU ms",
            "all CPU ms",
        ];
        let rows = self.0.queries.iter().map(|q| {
            let ratio = self.0.ratios.iter().find(|r| r.case == q.case && r.contender == q.contender);
            let with = |value: f64, pick: fn(&super::figures::Ratio) -> Option<f64>| match ratio.and_then(pick) {
                Some(times) => format!("{} ({times:.0}×)", number(value)),
                None => number(value),
            };
            [
                q.case.into(),
                q.contender.label().into(),
                q.queries.to_string(),
                format!("{:.1}", q.bytes as f64 / 1000.0),
                with(q.p50_ms, |r| r.p50),
                with(q.p99_ms, |r| r.p99),
                with(q.adapter_cpu_ms, |r| r.adapter_cpu),
                if q.contender == Kind::Tidegate { "–".into() } else { number(q.prometheus_cpu_ms) },
                number(q.apiserver_cpu_ms),
                with(q.cpu_ms(), |r| r.cpu),
            ]
        });
        table(f, head, rows)
    }

    fn processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nProcesses: CPU with nobody asking (scraping every second included), memory after the queries.\n"
        )?;
        let rows = self.0.processes.iter().map(|p| {
            [
                p.name.clone(),
                format!("{:.1}", p.idle_cpu_percent),
                format!("{:.0}", p.rss_mib),
                format!("{:.0}", p.peak_rss_mib),
            ]
        });
        table(f, ["process", "CPU, % of a core", "RSS MiB", "peak RSS MiB"], rows)
    }

    fn decisions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nFrom a changed utilization to the HPA's decision, seconds: min / median / max. HPA sync 2 s, stabilization 10 s.\n"
        )?;
        let spread = |s: &Spread| format!("{:.1} / {:.1} / {:.1}", s.min, s.median, s.max);
        let rows = self.0.decisions.iter().map(|d| {
            [
                match d.direction {
                    Direction::Up => "10 → 80".into(),
                    Direction::Down => "80 → 10".into(),
                },
                d.contender.label().into(),
                d.first.cycles.to_string(),
                spread(&d.first),
                spread(&d.last),
            ]
        });
        table(f, ["change", "adapter", "cycles", "first decision", "last decision"], rows)
    }

    fn staleness(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nA dead exporter's last value.\n")?;
        let rows = self.0.staleness.iter().map(|s| {
            let cut_off = if s.cut_off { "more than " } else { "" };
            [
                match s.exporter {
                    Exporter::Plain => "killed".into(),
                    Exporter::WithTimestamps => "killed; it wrote timestamps".into(),
                },
                s.contender.label().into(),
                format!("{cut_off}{:.1} s", s.served_for_s),
                format!("{:.1} s", s.claimed_age_s),
                s.afterwards.chars().take(160).collect(),
            ]
        });
        table(f, ["exporter", "adapter", "still served for", "age claimed at most", "afterwards"], rows)
    }
}

/// Two or three digits that mean something.
fn number(value: f64) -> String {
    match value {
        _ if value < 0.0995 => format!("{value:.3}"),
        _ if value < 9.95 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// A Markdown table with aligned columns.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let mut rows: Vec<[String; N]> = rows.collect();
    rows.insert(0, head.map(String::from));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for (i, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            write!(f, "| {cell:width$} ")?;
        }
        writeln!(f, "|")?;
        if i == 0 {
            widths.iter().try_for_each(|width| write!(f, "|{}", "-".repeat(width + 2)))?;
            writeln!(f, "|")?;
        }
    }
    Ok(())
}
