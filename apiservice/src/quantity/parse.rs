//! The grammar: `[+-] (digits | digits . digits | digits . | . digits) suffix`.

use std::str::FromStr;

use super::{MAX_NANOS, NANOS, Quantity};

/// Decimal places of a billionth.
const NANO_PLACES: i64 = 9;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// The number before the suffix is missing.
    #[error("quantity {0:?}: expected a number such as 1, 1.5 or .5, with a suffix or without")]
    Number(String),
    /// The suffix is not one of those that exist.
    #[error("quantity {0:?}: expected a suffix out of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or e and an exponent")]
    Suffix(String),
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    /// Exact down to a billionth; below, it rounds away from zero. Numbers beyond ±(2^63 - 1) are capped there.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let whole_end = digits_end(rest, 0);
        let (fraction, suffix_start) = if rest.as_bytes().get(whole_end) == Some(&b'.') {
            let end = digits_end(rest, whole_end + 1);
            (&rest[whole_end + 1..end], end)
        } else {
            ("", whole_end)
        };
        let whole = &rest[..whole_end];
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseQuantityError::Number(text.to_owned()));
        }
        let magnitude = match Suffix::parse(&rest[suffix_start..]) {
            Some(Suffix::Decimal(exponent)) => decimal(whole, fraction, exponent),
            Some(Suffix::Binary(exponent)) => binary(whole, fraction, exponent),
            None => return Err(ParseQuantityError::Suffix(text.to_owned())),
        };
        Ok(Self::from_nanos(if negative { -magnitude } else { magnitude }))
    }
}

/// Where the digits that start at `from` end.
fn digits_end(text: &str, from: usize) -> usize {
    text.as_bytes()[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(text.len(), |length| from + length)
}

/// What a suffix multiplies by.
enum Suffix {
    /// A power of ten.
    Decimal(i64),
    /// A power of two.
    Binary(u32),
}

impl Suffix {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "" => Self::Decimal(0),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(10),
            "Mi" => Self::Binary(20),
            "Gi" => Self::Binary(30),
            "Ti" => Self::Binary(40),
            "Pi" => Self::Binary(50),
            "Ei" => Self::Binary(60),
            _ => Self::Decimal(text.strip_prefix(['e', 'E'])?.parse().ok()?),
        })
    }
}

/// Billionths in `whole.fraction x 10^exponent`, rounded up, capped.
fn decimal(whole: &str, fraction: &str, exponent: i64) -> i128 {
    // In billionths the decimal point stands this many digits to the right of the first one.
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(NANO_PLACES).saturating_add(exponent);
    let mut nanos = 0_i128;
    let mut position = 0_i64;
    let mut beyond = false;
    for digit in whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0')) {
        if position < point {
            nanos = (nanos * 10 + digit).min(MAX_NANOS);
        } else {
            beyond |= digit != 0;
        }
        position += 1;
    }
    // Ends early: each step multiplies by ten until the cap, whatever the exponent.
    while position < point && nanos != 0 && nanos != MAX_NANOS {
        nanos = (nanos * 10).min(MAX_NANOS);
        position += 1;
    }
    nanos + i128::from(beyond)
}

/// Billionths in `whole.fraction x 2^exponent`, rounded up, capped.
fn binary(whole: &str, fraction: &str, exponent: u32) -> i128 {
    let multiplier = NANOS << exponent;
    let units = whole.bytes().fold(0_i128, |units, byte| (units * 10 + i128::from(byte - b'0')).min(MAX_NANOS));
    // From the last digit on, each division by ten rounds down and remembers whether anything was lost: nested
    // divisions round down to the same number as one division would.
    let mut part = 0_i128;
    let mut beyond = false;
    for digit in fraction.bytes().rev().map(|byte| i128::from(byte - b'0')) {
        let dividend = digit * multiplier + part;
        part = dividend / 10;
        beyond |= dividend % 10 != 0;
    }
    units.saturating_mul(multiplier).saturating_add(part).saturating_add(i128::from(beyond)).min(MAX_NANOS)
}
