//! Durations, sizes and shares, as text and as types.

use std::time::Duration as StdDuration;

use serde::{Deserialize, Serialize};

/// A duration as Kubernetes and Prometheus write it: `500ms`, `15s`, `1m30s`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub StdDuration);

/// A size in bytes: `512KiB`, `8MiB`, `1GiB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A share, 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

macro_rules! text_form {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // YAML writes `coverage: 0.5` and `pageBytes: 1024` as numbers: both are read by their text.
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a quantity with its unit")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<$type, E> {
                        self.visit_str(&n.to_string())
                    }
                    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<$type, E> {
                        self.visit_str(&n.to_string())
                    }
                    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<$type, E> {
                        self.visit_str(&n.to_string())
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}
text_form!(Duration);
text_form!(Bytes);
text_form!(Share);

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total = self.0.as_millis();
        let (hours, minutes, seconds, millis) =
            (total / 3_600_000, total / 60_000 % 60, total / 1000 % 60, total % 1000);
        if total == 0 {
            return write!(f, "0s");
        }
        for (n, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s"), (millis, "ms")] {
            if n > 0 {
                write!(f, "{n}{unit}")?;
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a duration such as 500ms, 15s, 1m30s or 2h, got {text:?}");
        let mut rest = text;
        let mut total = StdDuration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
            let n: u64 = rest[..digits].parse().map_err(|_| expected())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let millis = match &rest[..unit] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(expected()),
            };
            let part = n.checked_mul(millis).map(StdDuration::from_millis).ok_or_else(expected)?;
            total = total.checked_add(part).ok_or_else(expected)?;
            rest = &rest[unit..];
        }
        if text.is_empty() { Err(expected()) } else { Ok(Self(total)) }
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a size such as 512KiB, 8MiB or 1GiB, got {text:?}");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let n: u64 = text[..digits].parse().map_err(|_| expected())?;
        let shift = match &text[digits..] {
            "" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(expected()),
        };
        n.checked_mul(1 << shift).map(Self).ok_or_else(expected)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(format!("expected a share between 0 and 1, got {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_kubernetes_and_prometheus_write_them() {
        for (text, millis, canonical) in [
            ("500ms", 500, "500ms"),
            ("15s", 15_000, "15s"),
            ("90s", 90_000, "1m30s"),
            ("1m30s", 90_000, "1m30s"),
            ("2h", 7_200_000, "2h"),
            ("0s", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.0, StdDuration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), canonical);
        }
        for text in ["", "15", "s", "-5s", "1.5s", "5 s", "99999999999999999999h", "18446744073709551615h", "1d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_in_binary_units() {
        for (text, bytes, canonical) in
            [("8MiB", 8 << 20, "8MiB"), ("1024", 1024, "1KiB"), ("1500", 1500, "1500"), ("1GiB", 1 << 30, "1GiB")]
        {
            let size: Bytes = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, canonical), "{text}");
        }
        for text in ["", "MiB", "8MB", "-1", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_lies_between_zero_and_one() {
        assert!("0.5".parse::<Share>().is_ok() && "0".parse::<Share>().is_ok() && "1".parse::<Share>().is_ok());
        for text in ["1.1", "-0.1", "NaN", "half", ""] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0_u64..1_000_000_000, size: u64) {
            let duration = Duration(StdDuration::from_millis(millis));
            proptest::prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
            proptest::prop_assert_eq!(Bytes(size).to_string().parse::<Bytes>(), Ok(Bytes(size)));
        }
    }
}
