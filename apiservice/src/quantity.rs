//! `resource.Quantity` of Kubernetes' apimachinery: exact fixed point, canonical output.

/// A number in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// The nearest thousandth to `value`, clamped to what the HPA's arithmetic can hold. `None` for NaN and infinities.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self { nanos: (value * 1000.0).round() as i128 * 1_000_000 })
    }
}
