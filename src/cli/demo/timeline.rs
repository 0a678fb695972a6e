//! The whole scene in one picture and one sentence.

use std::fmt::Write as _;

use super::{
    paint::{Paint, Tone, tone_of},
    table::clock,
};
use crate::sim::scene::{Summary, Tick, script};

/// Rows of the utilization plot: 10 % each.
const ROWS: usize = 10;
/// Widest plot; more ticks share a column.
const COLUMNS: usize = 100;
/// Eighths of a row, from the ground up.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Utilization against the target, replicas, and where a ready pod was unknown; one column per sync.
pub(super) fn plot(ticks: &[Tick], paint: Paint) -> String {
    let columns = columns(ticks);
    let target = f64::from(script::TARGET);
    let mut plot = String::from("utilization of the service, and its target\n");
    for row in (0..ROWS).rev() {
        let floor = row as f64 * 100.0 / ROWS as f64;
        let at_target = (floor..floor + 100.0 / ROWS as f64).contains(&target);
        let label = match row {
            _ if row == ROWS - 1 => "100 %".to_owned(),
            _ if at_target => format!("{target:.0} %"),
            0 => "0 %".to_owned(),
            _ => String::new(),
        };
        let _ = write!(plot, "{label:>9} │");
        for column in &columns {
            let Some(percent) = column.iter().rev().find_map(|tick| tick.utilization) else {
                plot.push_str(&paint.tone(Tone::Unknown, if row == 0 { '?' } else { ' ' }));
                continue;
            };
            let eighth = ((percent - floor) / 100.0 * ROWS as f64 * 8.0).round().clamp(0.0, 8.0) as usize;
            let cell = match eighth {
                0 if at_target => paint.tone(Tone::Faint, '┄'),
                0 => " ".to_owned(),
                eighth => paint.tone(tone_of(percent, target), EIGHTHS[eighth]),
            };
            plot.push_str(&cell);
        }
        plot.push('\n');
    }
    let mut row = |label: &str, cell: &dyn Fn(&Tick) -> String| {
        let cells: String = columns.iter().filter_map(|column| column.last()).map(cell).collect();
        let _ = writeln!(plot, "{label:>9} │{cells}");
    };
    row("ready", &|tick| tick.ready.to_string());
    row("wanted", &|tick| tick.desired.to_string());
    let unknown = |tick: &Tick| tick.pods.iter().any(|pod| pod.ready && pod.value.is_none());
    row("unknown", &|tick| if unknown(tick) { paint.tone(Tone::Unknown, '?') } else { paint.tone(Tone::Faint, '·') });
    let _ = writeln!(plot, "{:>9} └{}", "", axis(&columns, |tick| tick.time));
    plot
}

/// Several moments share a column where there are more than [`COLUMNS`].
pub(super) fn columns<T>(moments: &[T]) -> Vec<&[T]> {
    moments.chunks(moments.len().div_ceil(COLUMNS).max(1)).collect()
}

/// Time stamps under the columns, as many as fit.
pub(super) fn axis<T>(columns: &[&[T]], time: impl Fn(&T) -> f64) -> String {
    const SPACING: usize = 10;
    let stamps = columns.chunks(SPACING).map(|chunk| {
        let first = chunk.first().and_then(|column| column.first());
        format!("{:<width$}", first.map(|moment| clock(time(moment))).unwrap_or_default(), width = chunk.len())
    });
    stamps.collect::<String>().trim_end().to_owned()
}

/// What happened.
pub(super) fn sentence(ticks: &[Tick], summary: &Summary) -> String {
    let Summary {
        max_replicas,
        final_replicas,
        wrong_scale_downs,
        seconds,
        faults_seen_as_unknown,
        wrong_scale_downs_if_unknown_were_zero: naive,
    } = *summary;
    let first = ticks.first().map_or(0, |tick| tick.ready);
    let blind = ticks.windows(2).filter(|pair| pair[0].pods.iter().any(|pod| pod.ready && pod.value.is_none()));
    let blind: f64 = blind.map(|pair| pair[1].time - pair[0].time).sum();
    let shrank = match wrong_scale_downs {
        0 => "nothing shrank".to_owned(),
        n => format!("{n} replicas were removed that the load warranted"),
    };
    let otherwise = match naive {
        0 => String::new(),
        n => format!(" (answered as 0, the same autoscaler would have removed a needed replica at {n} of its syncs)"),
    };
    format!(
        "The service went from {first} to {max_replicas} replicas with the load and ended with {final_replicas}; a pod was \
         unknown for {} through {faults_seen_as_unknown} faults, and meanwhile {shrank}{otherwise}. Played in {seconds} s.",
        clock(blind),
    )
}

#[cfg(test)]
mod tests {
    use super::{super::table::tests::tick, *};

    #[test]
    fn the_plot_has_a_column_per_sync_with_target_replicas_and_unknown_spans() {
        let ticks: Vec<Tick> = (0..25)
            .map(|i| {
                let unknown = (10..15).contains(&i);
                let mut tick = tick(f64::from(i) * 15.0, (!unknown).then_some(44.0), "gone");
                tick.utilization = Some(if i < 5 { 100.0 } else { 44.0 });
                tick
            })
            .collect();
        let plot = plot(&ticks, Paint::new(false));
        let row = |label: &str| {
            let row = plot.lines().find(|line| line.trim_start().starts_with(label)).expect("a row");
            row.split_once('│').expect("an axis").1.to_owned()
        };
        assert_eq!(row("100 %"), format!("█████{}", " ".repeat(20)));
        assert_eq!(row("50 %"), format!("█████{}", "┄".repeat(20)));
        assert_eq!(row("ready"), "2".repeat(25));
        assert_eq!(row("unknown"), format!("{}?????{}", "·".repeat(10), "·".repeat(10)));
        assert!(plot.ends_with("└0:00      2:30      5:00\n"), "{plot}");
    }

    #[test]
    fn a_long_scene_is_folded_to_the_width_of_a_screen() {
        let ticks: Vec<Tick> = (0..450).map(|i| tick(f64::from(i), Some(50.0), "")).collect();
        assert!(plot(&ticks, Paint::new(false)).lines().all(|line| line.chars().count() <= COLUMNS + 11));
    }
}
