//! The `process_*` metrics that Prometheus' client libraries share, from `/proc/self` (proc(5)). Absent elsewhere.

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::family;

/// `USER_HZ`: 100 on every architecture that Linux still supports for servers (proc(5), `utime`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        const NONE: [(&str, &str); 0] = [];
        if let Some(seconds) = cpu_seconds(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default()) {
            let help = "User and system CPU time spent";
            family(&mut encoder, MetricType::Counter, "process_cpu_seconds", help, [(NONE, seconds)])?;
        }
        if let Some(bytes) = resident_bytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
            let help = "Resident memory size in bytes";
            family(&mut encoder, MetricType::Gauge, "process_resident_memory_bytes", help, [(NONE, bytes)])?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            let help = "Number of open file descriptors";
            family(&mut encoder, MetricType::Gauge, "process_open_fds", help, [(NONE, files.count() as f64)])?;
        }
        Ok(())
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field, the command in parentheses, may hold blanks; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_its_manual_says() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        assert_eq!((cpu_seconds(""), resident_bytes("")), (None, None));
    }
}
