//! `resource.Quantity` of Kubernetes' apimachinery: exact fixed point in billionths, canonical decimal output.
//!
//! Source of grammar and canonical form: `k8s.io/apimachinery/pkg/api/resource`. Two differences, both on purpose: a
//! number needs at least one digit (the original reads `""`'s neighbours `-` and `.` as zero), and output is always in
//! decimal suffixes, also for a quantity that was written as `1Gi`.
//!
//! This module does no arithmetic for its users: a quantity is what goes over the wire.

mod parse;

use std::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use parse::ParseQuantityError;

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;

/// Billionths in one thousandth.
const NANOS_PER_MILLI: i128 = 1_000_000;

/// Largest magnitude of a quantity, in billionths: apimachinery caps what it parses at 2^63 - 1 units.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS;

/// Largest magnitude that the HPA can compute with, in units: it reads thousandths into 64 bits, and wraps above.
const MAX_HPA_UNITS: i64 = i64::MAX / 1000;

/// Suffixes from 10^-9 up, a factor of 1000 apart.
const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// An exact number in billionths, at most 2^63 - 1 units in magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// Zero: a true zero, never a stand-in for an unknown value.
    pub const ZERO: Self = Self { nanos: 0 };

    /// The largest number that the HPA's arithmetic can hold: 9 223 372 036 854 775.
    pub const MAX_HPA: Self = Self { nanos: MAX_HPA_UNITS as i128 * NANOS };

    /// So many billionths, capped at 2^63 - 1 units in magnitude.
    #[must_use]
    pub const fn from_nanos(nanos: i128) -> Self {
        if nanos > MAX_NANOS {
            Self { nanos: MAX_NANOS }
        } else if nanos < -MAX_NANOS {
            Self { nanos: -MAX_NANOS }
        } else {
            Self { nanos }
        }
    }

    /// So many thousandths.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * NANOS_PER_MILLI }
    }

    /// The nearest thousandth to `value`, clamped to what the HPA's arithmetic can hold. `None` for NaN and infinities.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // Saturates: f64 to i128 by `as` never wraps, and the product of the largest f64s is an infinity.
        let millis = (value * 1000.0).round() as i128;
        Some(Self::from_nanos(millis.saturating_mul(NANOS_PER_MILLI)).clamped())
    }

    /// The number in billionths.
    #[must_use]
    pub const fn nanos(self) -> i128 {
        self.nanos
    }

    /// The number in thousandths, rounded away from zero as the HPA reads it, saturating instead of wrapping.
    #[must_use]
    pub fn millis(self) -> i64 {
        let quotient = self.nanos / NANOS_PER_MILLI;
        let rounded = if self.nanos % NANOS_PER_MILLI == 0 { quotient } else { quotient + self.nanos.signum() };
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    /// The nearest floating-point number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// The same number, or the nearest one that the HPA can compute with: above ±9 223 372 036 854 775 its thousandths
    /// wrap around 64 bits, and a huge load would read as a negative one.
    #[must_use]
    pub fn clamped(self) -> Self {
        self.clamp(Self { nanos: -Self::MAX_HPA.nanos }, Self::MAX_HPA)
    }
}

impl fmt::Display for Quantity {
    /// Canonical form: an integer mantissa with the largest suffix that keeps it one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_char('0');
        }
        if self.nanos < 0 {
            f.write_char('-')?;
        }
        let mut wide = self.nanos.unsigned_abs();
        let mut suffix = 0;
        let is_last = |suffix| suffix + 1 == SUFFIXES.len();
        while wide > u128::from(u64::MAX) && wide.is_multiple_of(1000) && !is_last(suffix) {
            wide /= 1000;
            suffix += 1;
        }
        // 64 bits hold all but the rarest, and dividing and formatting are several times faster in them.
        if let Ok(mut mantissa) = u64::try_from(wide) {
            while mantissa.is_multiple_of(1000) && !is_last(suffix) {
                mantissa /= 1000;
                suffix += 1;
            }
            write!(f, "{mantissa}")?;
        } else {
            write!(f, "{wide}")?;
        }
        f.write_str(SUFFIXES[suffix])
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// From a string, which may be surrounded by blanks as in apimachinery's decoder, or from a finite number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity: a number, or a string such as \"1500m\" or \"2k\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity::from_nanos(i128::from(value) * NANOS))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity::from_nanos(i128::from(value) * NANOS))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                if !value.is_finite() {
                    return Err(E::invalid_value(de::Unexpected::Float(value), &self));
                }
                // The shortest decimal that means this float is what its writer wrote.
                value.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests;
