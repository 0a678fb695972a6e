//! `tidegate demo --engine`: the engine's scene, a line for each change of its decision.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::PathBuf,
};

use super::{
    paint::{Paint, Tone},
    table::clock,
    timeline::{axis, columns},
};
use crate::sim::{
    overflow::{
        self, Summary, Turn,
        act::{Pods, Sync},
        script,
    },
    scene::{COMPRESSION, Settings},
};

/// The first line of the output, whatever its form.
const WHAT_IS_SIMULATED: &str = "tidegate demo --engine. Simulated: nodes, pods, GPUs, model servers with their queues, load, node and pod \
     autoscaler (a model of the HPA). Real: pages over HTTP, scraping, attribution, aggregation, the engine, the metrics API \
     over TLS.";

/// Plays the scene for people, or as JSON.
pub(super) async fn play(settings: Settings, record: Option<PathBuf>, json: bool) -> anyhow::Result<Summary> {
    if json {
        eprintln!("{WHAT_IS_SIMULATED}");
        as_json(settings, record, &mut io::stdout()).await
    } else {
        for_people(settings, record).await
    }
}

async fn as_json(settings: Settings, record: Option<PathBuf>, out: &mut impl Write) -> anyhow::Result<Summary> {
    let show = |turn: &Turn| writeln!(out, "{}", serde_json::to_string(turn)?);
    let summary = overflow::play(settings, record, show).await?;
    writeln!(out, "{}", serde_json::json!({ "summary": summary }))?;
    Ok(summary)
}

async fn for_people(settings: Settings, record: Option<PathBuf>) -> anyhow::Result<Summary> {
    let mut out = io::stdout();
    let paint = super::paint();
    let minutes = script::END.as_secs_f64() / 60.0;
    let seconds = script::END.as_secs_f64() / COMPRESSION / settings.speed;
    writeln!(
        out,
        "{WHAT_IS_SIMULATED}\nBy this policy, which an HPA follows through tidegate_desired_replicas:\n\n{}\nLoad and demand are \
         counted in replicas kept fully busy. {minutes:.0} minutes play in {seconds:.0} seconds. ● ready, ○ loads its model, ◌ has \
         no node.\n",
        indented(script::SCALING_POLICY),
    )?;
    writeln!(out, "{}", head(paint))?;
    let mut turns: Vec<Turn> = Vec::new();
    let summary = overflow::play(settings, record, |turn| {
        let lines = lines(turn, turns.last(), paint);
        turns.push(turn.clone());
        io::stdout().write_all(lines.as_bytes())?;
        io::stdout().flush()
    })
    .await?;
    writeln!(out, "\n{}", plot(&turns, paint))?;
    writeln!(out, "{}", sentence(&turns, &summary))?;
    Ok(summary)
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "    " + line + "\n")
}

/// The column heads.
fn head(paint: Paint) -> String {
    let [onprem, cloud] = script::POOLS;
    let head = format!(
        "{:>6} {:>5} {:>6} {:>6} {:>6}  {onprem:<6} {cloud:<6} {:<6} decision",
        "time", "load", "GPUs", "queue", "demand", "wanted"
    );
    paint.tone(Tone::Faint, head)
}

/// What happened before the decision, and the decision if it is another one than the last.
fn lines(turn: &Turn, before: Option<&Turn>, paint: Paint) -> String {
    let mut lines = String::new();
    let mut story = |tone: Option<Tone>, text: &str| {
        let text = tone.map_or_else(|| text.to_owned(), |tone| paint.tone(tone, text));
        let _ = writeln!(lines, "{:>6} {} {text}", "", paint.tone(Tone::Faint, "›"));
    };
    turn.events.iter().for_each(|event| story(None, event));
    if before.is_none_or(|before| turn.differs(before)) {
        let _ = writeln!(lines, "{}", line(turn, paint));
    }
    if let Some(Sync { replicas, .. }) = turn.sync
        && replicas != turn.current
    {
        let told = format!("the HPA reads {} and asks for {replicas} replicas", turn.desired);
        let _ = writeln!(lines, "{:>6} {} {told}", "", paint.tone(Tone::Faint, "›"));
    }
    lines
}

fn line(turn: &Turn, paint: Paint) -> String {
    let unknown = |text: Option<String>| match text {
        Some(text) => format!("{text:>6}"),
        None => paint.tone(Tone::Unknown, format!("{:>6}", "?")),
    };
    let tone = match () {
        () if turn.unknown.is_some() => Some(Tone::Unknown),
        () if turn.desired > turn.current => Some(Tone::Busy),
        () if turn.desired < turn.current => Some(Tone::Calm),
        () => None,
    };
    let sentence = tone.map_or_else(|| turn.sentence.clone(), |tone| paint.tone(tone, &turn.sentence));
    let [onprem, cloud] = turn.pools.map(dots);
    let cloud = cloud + &"◌".repeat(turn.pending);
    format!(
        "{:>6} {:>5.2} {} {:>6} {}  {onprem:<6} {cloud:<6} {:<6} {sentence}",
        clock(turn.time),
        turn.offered,
        unknown(turn.utilization.map(|percent| format!("{percent:.0} %"))),
        turn.queued,
        unknown(turn.demand.map(|demand| format!("{demand:.1}"))),
        turn.desired,
    )
}

fn dots(Pods { ready, starting }: Pods) -> String {
    "●".repeat(ready) + &"○".repeat(starting)
}

/// Load and replicas over the scene, a column for some decisions.
fn plot(turns: &[Turn], paint: Paint) -> String {
    let columns = columns(turns);
    let mut plot = String::new();
    let mut row = |label: &str, cell: &dyn Fn(&Turn) -> String| {
        let cells: String = columns.iter().filter_map(|column| column.last()).map(cell).collect();
        let _ = writeln!(plot, "{label:>9} │{cells}");
    };
    let digit = |count: usize| if count == 0 { paint.tone(Tone::Faint, '·') } else { count.to_string() };
    for (name, value) in [
        ("load", &(|turn: &Turn| Some(turn.offered)) as &dyn Fn(&Turn) -> Option<f64>),
        ("demand", &|turn| turn.demand),
    ] {
        row(name, &|turn| match value(turn) {
            Some(replicas) => HALVES[((replicas * 2.0).round() as usize).min(HALVES.len() - 1)].to_string(),
            None => paint.tone(Tone::Unknown, '?'),
        });
    }
    row("onprem", &|turn| digit(turn.pools[0].ready));
    row("cloud", &|turn| digit(turn.pools[1].ready));
    row("on way", &|turn| digit(turn.pending + turn.pools.iter().map(|pods| pods.starting).sum::<usize>()));
    row("wanted", &|turn| turn.desired.to_string());
    row("unknown", &|turn| match turn.unknown {
        Some(_) => paint.tone(Tone::Unknown, '?'),
        None => paint.tone(Tone::Faint, '·'),
    });
    let _ = writeln!(plot, "{:>9} └{}", "", axis(&columns, |turn| turn.time));
    plot
}

/// Halves of a replica, none to four.
const HALVES: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What happened.
fn sentence(turns: &[Turn], summary: &Summary) -> String {
    let Summary { max_replicas, max_cloud, final_replicas, additions, second_additions, .. } = *summary;
    let Summary { removed_while_unknown, onprem_before_cloud, cloud_seconds, requests, in_time, seconds, .. } =
        *summary;
    let first = turns.first().map_or(0, Turn::ready);
    let blind = turns.windows(2).filter(|pair| pair[0].unknown.is_some()).map(|pair| pair[1].time - pair[0].time);
    let percent = in_time as f64 / requests.max(1) as f64 * 100.0;
    let plural = |count: usize| if count == 1 { "addition" } else { "additions" };
    let wrong = [
        (second_additions, "additions were made again for the same load while the first was on its way"),
        (removed_while_unknown, "replicas were removed meanwhile"),
        (onprem_before_cloud, "replicas left the on-premises nodes before the cloud"),
    ];
    let wrong: Vec<String> =
        wrong.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let wrong = if wrong.is_empty() {
        "nothing was removed meanwhile, and the cloud went first afterwards".into()
    } else {
        wrong.join(", ")
    };
    format!(
        "The service went from {first} to {max_replicas} replicas with {additions} {}, {max_cloud} of them in the cloud, and \
         ended with {final_replicas}; it was unknown for {}: {wrong}. The cloud was paid for {}. {percent:.1} % of {requests} \
         requests had their first token within 5 s and the others 0.1 s apart. Played in {seconds} s.",
        plural(additions),
        clock(blind.sum()),
        clock(cloud_seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(time: f64, current: u32, desired: u32) -> Turn {
        Turn {
            time,
            offered: 2.2,
            utilization: Some(72.4),
            queued: 7,
            demand: Some(1.64),
            pools: [Pods { ready: 2, starting: 0 }, Pods { ready: 0, starting: 1 }],
            pending: 1,
            current,
            desired,
            reason: "Demand",
            sentence: format!("{current} become {desired}"),
            unknown: None,
            sync: None,
            events: vec!["something happens".into()],
        }
    }

    #[test]
    fn a_line_has_load_what_is_known_of_it_pods_by_pool_and_the_decision_in_words() {
        assert_eq!(
            lines(&turn(330.0, 3, 4), None, Paint::new(false)),
            "       › something happens\n\
             \x20 5:30  2.20   72 %      7    1.6  ●●     ○◌     4      3 become 4\n"
        );
        let blind = Turn { utilization: None, demand: None, unknown: Some("why".into()), ..turn(330.0, 3, 3) };
        assert!(lines(&blind, None, Paint::new(false)).contains("  2.20      ?      7      ?  ●●"));
    }

    #[test]
    fn a_decision_is_told_when_it_is_another_one_and_not_while_only_its_figures_change() {
        let told = |before: &Turn, turn: &Turn| lines(turn, Some(before), Paint::new(false)).contains("become");
        let first = turn(330.0, 3, 4);
        let same = Turn { demand: Some(1.7), offered: 2.3, reason: "Forecast", ..turn(335.0, 3, 4) };
        assert_eq!([told(&first, &same), told(&first, &turn(335.0, 4, 4))], [false, true]);
        assert!(told(&first, &Turn { unknown: Some("why".into()), ..same }));
    }

    #[test]
    fn the_plot_shows_load_replicas_and_where_something_was_unknown_in_columns() {
        let turns: Vec<Turn> = (0..20_u32)
            .map(|i| Turn { unknown: (i >= 15).then(|| "why".into()), ..turn(f64::from(i) * 5.0, 3, 3) })
            .collect();
        let plot = plot(&turns, Paint::new(false));
        let row = |label: &str| {
            let row = plot.lines().find(|line| line.trim_start().starts_with(label)).expect("a row");
            row.split_once('│').expect("an axis").1.to_owned()
        };
        assert_eq!([row("load"), row("demand")], ["▄".repeat(20), "▃".repeat(20)]);
        assert_eq!([row("onprem"), row("cloud"), row("on way")], ["2".repeat(20), "·".repeat(20), "2".repeat(20)]);
        assert_eq!(row("unknown"), format!("{}?????", "·".repeat(15)));
    }
}
