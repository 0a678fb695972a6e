//! The answer to a Prometheus range query.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BadRows, Rows, rates};

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    values: Vec<(f64, String)>,
}

/// Series are added up at each time. A row is one point of one series; `NaN` is a bad one, and a time at which every
/// series is bad is bridged by a straight line, not by zero.
pub(super) fn read(text: &str) -> Result<Rows, String> {
    let answer: Answer = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let data = match answer {
        Answer { status, data: Some(data), .. } if status == "success" => data,
        Answer { status, error, .. } => return Err(format!("the answer's status is {status:?} {error}")),
    };
    if data.result_type != "matrix" {
        return Err(format!("resultType is {:?}, not matrix: ask /api/v1/query_range", data.result_type));
    }
    let mut bad = BadRows::default();
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for series in &data.result {
        for (at, value) in &series.values {
            bad.of += 1;
            match rates::requests(value) {
                Ok(rate) if at.is_finite() => *sums.entry((at * 1e3) as i64).or_default() += rate,
                Ok(_) => bad.add(bad.of, "no finite time".to_owned()),
                Err(why) => bad.add(bad.of, format!("at {at}: {why}")),
            }
        }
    }
    let points = sums.into_iter().map(|(millis, rate)| (millis as f64 / 1e3, rate)).collect();
    Ok(rates::series(points, bad, false))
}
