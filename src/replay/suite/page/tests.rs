use super::{
    super::{
        fixture::{line, suite},
        judge,
    },
    *,
};

fn page_of(suite: &Suite) -> String {
    html(suite, &judge(suite), "first token within 5 s")
}

#[test]
fn the_sentence_on_top_counts_what_is_met_missed_and_not_measured() {
    let criterion = |met| Criterion { asked: String::new(), measured: String::new(), met, remark: None };
    for (verdicts, expected) in [
        (&[Some(true), Some(true), Some(false)][..], "Of 3 criteria 2 are met and 1 missed."),
        (&[Some(false), None, None], "Of 3 criteria 0 are met and 1 missed; 2 could not be measured on these traces."),
    ] {
        assert_eq!(lead(&verdicts.iter().map(|met| criterion(*met)).collect::<Vec<_>>()), expected);
    }
}

#[test]
fn the_page_has_each_criterion_with_its_verdict_and_remark_and_each_line_with_its_differences() {
    let suite = suite(&line(170.0, 70.0, 0.99), &line(189.0, 70.0, 0.985));
    let page = page_of(&suite);
    let rows = |id: &str| page.split(id).nth(1).and_then(|rest| rest.split("</table>").next()).expect("a table");
    let criteria = rows("id=\"criteria\"");
    for Criterion { asked, measured, met, remark } in judge(&suite) {
        let class = if met == Some(true) { "met" } else { "" };
        let text = |words: &str| Text(words).to_string();
        let cells = format!(
            "<td>{}</td><td>{}</td><td>{}</td>",
            text(&asked),
            text(&measured),
            text(&remark.unwrap_or_default())
        );
        let row =
            criteria.split("<tr").find(|row| row.contains(&cells)).unwrap_or_else(|| panic!("{asked}: {criteria}"));
        assert_eq!(row.starts_with(" class=\"met\""), class == "met", "{row}");
    }
    let lines = rows("id=\"trace-0\"");
    assert_eq!(lines.matches("<tr").count(), 1 + 5 + 4 * 6 + 4, "a head, four curves and none, their lines");
    let first = lines.split("<tr").find(|row| row.contains("tidegate, queue")).expect("a row");
    for difference in ["+29.8 %", "-15.0 %", "-30.0 %"] {
        assert!(first.contains(&format!("<td class=\"change\">{difference}</td>")), "{difference}: {first}");
    }
    let class = |name: &str| lines.split("<tr").find(|row| row.contains(name)).is_some_and(|row| row.contains("short"));
    assert_eq!((class("tidegate, queue"), class("tidegate, utilization")), (false, true));
    for curve in Curve::ALL {
        assert!(page.contains(&format!("<figure data-trace=\"0\" data-curve=\"{}\">", curve.name())));
    }
}

#[test]
fn no_name_becomes_markup_and_the_page_names_no_place_to_load_from() {
    let mut suite = suite(&line(170.0, 70.0, 0.99), &line(189.0, 70.0, 0.985));
    suite.traces[0].0 = "</script><b>{{data}}".to_owned();
    suite.cases[0].hpa.settings = "<i>50 %".to_owned();
    let page = page_of(&suite);
    assert_eq!(page.matches("</script").count(), 2, "the page's own two");
    assert!(
        page.contains("&lt;/script&gt;&lt;b&gt;{{data}}") && page.contains("&lt;i&gt;50 %") && !page.contains("<i>")
    );
    assert!(page.contains("default-src 'none'"));
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "url(", "@import", "src=", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!page.contains(word), "{word}");
    }
}
