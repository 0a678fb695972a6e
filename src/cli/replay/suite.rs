//! `--suite`: a folder of traces, measured and judged.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{Args, page, progress::Progress, read, scenario, table, warn, write_page};
use crate::replay::{
    Model, Slo,
    suite::{self, Fitted},
    trace::TraceError,
};

/// Measures, judges and prints, and writes the page.
pub(super) fn run(args: &Args, folder: &Path, model: &Model, slo: Slo, out: &mut impl Write) -> anyhow::Result<()> {
    let traces = fitted(args, folder, model, slo)?;
    if let Some(file) = &args.html {
        // Found out before the runs, which take long.
        OpenOptions::new().append(true).create(true).open(file).with_context(|| file.display().to_string())?;
    }
    let progress = Progress::new();
    let suite = suite::measure(&traces, args.seeds, |what| progress.done(what));
    progress.clear();
    let criteria = suite::judge(&suite);
    if args.json {
        writeln!(out, "{}", suite::json(&suite, &criteria))?;
    } else {
        write!(out, "{}", table::suite(&suite, &criteria))?;
    }
    if let Some(file) = &args.html {
        write_page(file, &suite::html(&suite, &criteria, &page::bounds(slo)))?;
    }
    Ok(())
}

/// Every file of the folder that is a trace; the others are named on standard error.
fn fitted(args: &Args, folder: &Path, model: &Model, slo: Slo) -> anyhow::Result<Vec<Fitted>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let mut traces = Vec::new();
    for path in paths {
        let trace = match read(&path, args.format) {
            Ok(trace) => trace,
            Err(error) if matches!(error.downcast_ref(), Some(TraceError::Unrecognized { .. })) => {
                eprintln!("note: {} is not a trace", path.display());
                continue;
            }
            Err(error) => return Err(error),
        };
        warn(&path, &trace);
        let name = trace.name.clone();
        let (scenario, _) = scenario(args, trace, model, slo, None)?;
        traces.push(Fitted { name, scenario });
    }
    if traces.is_empty() {
        bail!("{}: no trace in it", folder.display());
    }
    Ok(traces)
}
