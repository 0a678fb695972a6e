//! What `nvidia-smi pmon` says of each process: one line a second and process.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

/// One line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Process id.
    pub pid: u32,
    /// Percent; a dash, which stands for "used nothing", is 0.
    pub sm: f64,
    /// MiB.
    pub memory_mib: Option<f64>,
}

/// One process over all lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Means {
    /// Percent.
    pub sm: f64,
    /// MiB, in its last line.
    pub memory_mib: Option<f64>,
}

/// A running `nvidia-smi pmon`. It ends by itself.
pub struct Pmon(Child);

/// Looks at one card for so many seconds.
pub fn start(card: u32, seconds: u64) -> anyhow::Result<Pmon> {
    let child = Command::new("nvidia-smi")
        .args(["pmon", "-i", &card.to_string(), "-s", "um", "-d", "1", "-c", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("nvidia-smi pmon")?;
    Ok(Pmon(child))
}

impl Pmon {
    /// Waits for its end.
    pub async fn finish(self) -> anyhow::Result<Vec<Line>> {
        let output = tokio::task::spawn_blocking(|| self.0.wait_with_output()).await??;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "nvidia-smi pmon: {text}");
        lines(&text)
    }
}

/// Reads the table. Its columns differ between drivers; they are found by the head's names.
pub fn lines(text: &str) -> anyhow::Result<Vec<Line>> {
    let mut columns: Vec<&str> = Vec::new();
    let mut all = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix('#') {
            let names: Vec<&str> = head.split_whitespace().collect();
            // The second line of a head has units.
            if names.contains(&"pid") {
                columns = names;
            }
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| {
            let column = columns.iter().position(|column| *column == name)?;
            fields.get(column).copied()
        };
        let number = |name: &str| field(name).filter(|text| *text != "-").and_then(|text| text.parse::<f64>().ok());
        let pid = field("pid").with_context(|| format!("no column pid in {columns:?} for {line:?}"))?;
        let Ok(pid) = pid.parse() else { continue }; // a dash: nobody is on the card
        ensure!(columns.contains(&"sm"), "no column sm in {columns:?}");
        all.push(Line { pid, sm: number("sm").unwrap_or(0.0), memory_mib: number("fb") });
    }
    Ok(all)
}

/// One process over so many looks. A look in which it is not mentioned found nothing.
pub fn means(lines: &[Line], pid: u32, looks: u64) -> Option<Means> {
    let own: Vec<&Line> = lines.iter().filter(|line| line.pid == pid).collect();
    let last = own.last()?;
    Some(Means { sm: own.iter().map(|line| line.sm).sum::<f64>() / looks.max(1) as f64, memory_mib: last.memory_mib })
}
