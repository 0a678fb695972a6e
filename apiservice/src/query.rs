//! The query string of a request: form encoding, list options, durations.

use std::{borrow::Cow, time::Duration};

use percent_encoding::percent_decode_str;

use crate::{Selector, Status};

/// Longest request timeout that a client's number can mean; what it asks for is cut down to the server's own limit anyway.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// Decoded parameters, in the order of the request.
#[derive(Debug, Default)]
pub(crate) struct Parameters<'q> {
    pairs: Vec<(Cow<'q, str>, Cow<'q, str>)>,
}

impl<'q> Parameters<'q> {
    /// From a query string. A pair with a bad escape is left out, as Go's parser leaves it out.
    pub(crate) fn parse(query: &'q str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        });
        Self { pairs: pairs.collect() }
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// All values of a parameter.
    pub(crate) fn all<'p>(&'p self, key: &'p str) -> impl Iterator<Item = &'p str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// Whether a switch is on: there, and neither `0` nor `false`.
    pub(crate) fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A parameter that is a label selector; absent or empty selects everything.
    pub(crate) fn selector(&self, key: &str) -> Result<Selector, Status> {
        let text = self.get(key).unwrap_or_default();
        text.parse().map_err(|error| Status::bad_request(format!("unable to parse {key} {text:?}: {error}")))
    }

    /// Checks the list options that have to be well-formed and change nothing: everything fits in one answer.
    pub(crate) fn check_list_options(&self) -> Result<(), Status> {
        for key in ["limit", "timeoutSeconds"] {
            if let Some(text) = self.get(key).filter(|text| !text.is_empty()) {
                text.parse::<i64>()
                    .map_err(|_| Status::bad_request(format!("{key} has to be an integer, not {text:?}")))?;
            }
        }
        Ok(())
    }

    /// Checks a field selector: the one field that exists is `metadata.name`, and it has to say what the path says.
    pub(crate) fn check_field_selector(&self, name: &str) -> Result<(), Status> {
        let Some(text) = self.get("fieldSelector").filter(|text| !text.is_empty()) else { return Ok(()) };
        let fits = text.split(',').all(|part| {
            let (field, value) = part.split_once("==").or_else(|| part.split_once('=')).unwrap_or((part, ""));
            field == "metadata.name" && value == name
        });
        if fits {
            return Ok(());
        }
        Err(Status::bad_request(format!(
            "fieldSelector {text:?}: only metadata.name={name} is possible, which the path says already"
        )))
    }

    /// How long the client wants to wait at most. Absent or zero: as long as the server allows.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, Status> {
        let Some(text) = self.get("timeout").filter(|text| !text.is_empty()) else { return Ok(None) };
        match duration(text) {
            Some(Duration::ZERO) => Ok(None),
            Some(timeout) => Ok(Some(timeout)),
            None => {
                Err(Status::bad_request(format!("timeout has to be a duration such as 30s or 1m30s, not {text:?}")))
            }
        }
    }
}

/// Form encoding: `+` is a blank.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        if !bytes.get(at + 1..at + 3)?.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
    }
    if text.contains('+') {
        let blanks = text.replace('+', " ");
        return percent_decode_str(&blanks).decode_utf8().ok().map(|decoded| Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// A duration as Go writes it: numbers with units, `1h30m`, `1.5s`, `250ms`, or `0`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_TIMEOUT).min(MAX_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_TIMEOUT, Parameters, duration};

    #[test]
    fn form_encoding_is_decoded_and_a_bad_pair_is_left_out() {
        let query = "labelSelector=app%3Dx%2Ctier+in+%28a%2Cb%29&bad=%zz&empty=&flag&x=1&x=2&%zz=3";
        let parameters = Parameters::parse(query);
        assert_eq!(parameters.get("labelSelector"), Some("app=x,tier in (a,b)"));
        assert_eq!(parameters.get("bad"), None);
        assert_eq!(parameters.get("empty"), Some(""));
        assert_eq!(parameters.get("flag"), Some(""));
        assert_eq!(parameters.get("x"), Some("1"));
        assert_eq!(parameters.all("x").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(parameters.selector("labelSelector").expect("valid").to_string(), "app=x,tier in (a,b)");
        assert!(parameters.selector("absent").expect("everything").is_everything());
    }

    #[test]
    fn durations_are_go_durations() {
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("32s", Some(Duration::from_secs(32))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("250ms", Some(Duration::from_millis(250))),
            ("999999999999h", Some(MAX_TIMEOUT)),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_field_selector_may_only_repeat_the_path() {
        let check = |query: &str, name: &str| Parameters::parse(query).check_field_selector(name).is_ok();
        assert!(check("", "x"));
        assert!(check("fieldSelector=metadata.name%3Dx", "x"));
        assert!(check("fieldSelector=metadata.name==x", "x"));
        assert!(!check("fieldSelector=metadata.name%3Dy", "x"));
        assert!(!check("fieldSelector=spec.nodeName%3Dx", "x"));
        assert!(!check("fieldSelector=metadata.name!%3Dx", "x"));
    }
}
