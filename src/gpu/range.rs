//! What a value on a page is worth: a number in our unit, or unknown with the reason (R1).

use super::Unit;
use crate::reading::Unknown;

/// DCGM's blank values: "not supported", "not found", "not permissioned" and the like, as `dcgm_structs.h` numbers them
/// for 32-bit integers, doubles and 64-bit integers. As a double the last begins at 2^63, because the numbers between
/// are rounded to it.
pub(super) fn is_blank(value: f64) -> bool {
    const INT64: f64 = 9_223_372_036_854_775_808.0;
    (2_147_483_632.0..=2_147_483_647.0).contains(&value)
        || (140_737_488_355_328.0..=140_737_488_355_343.0).contains(&value)
        || (value >= INT64 && value.is_finite())
}

/// How far above its maximum a percentage may lie and still be that maximum: exporters sample utilization and time at
/// slightly different moments.
pub(super) const LEEWAY: f64 = 1.01;

/// How far above its maximum a pod's utilization may lie where the exporter has added up the last sample of each of its
/// processes, which are from different moments. It is still one card's worth, so it counts as the maximum (R7).
pub(super) const POD_SUM_LEEWAY: f64 = 10.0;

/// The value of a page, times `factor`, if it is within `0..=max`.
pub(super) fn check(value: f64, factor: f64, unit: Unit, max: f64, leeway: f64) -> Result<f64, Unknown> {
    if is_blank(value) {
        return Err(Unknown::Blank { value });
    }
    let scaled = value * factor;
    let bound = if unit == Unit::Percent { max * leeway } else { max };
    if (0.0..=bound).contains(&scaled) {
        Ok(scaled.min(max) + 0.0) // -0 becomes 0
    } else {
        Err(Unknown::OutOfRange { value, max })
    }
}
