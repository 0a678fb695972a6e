//! Reproducible chance: the same seed gives the same numbers, on every machine.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and three mixes a number, which is what 20 million requests need, and
/// good enough for queues. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each `(seed, stream)`: what one part of the model draws never shifts what another sees.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        Self(mixed.next() ^ seed.rotate_left(32))
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "an endless stream of bits, never iterated")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly spread over `0 ≤ x < 1`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly spread over `0..below`; 0 if `below` is 0.
    pub fn below(&mut self, below: usize) -> usize {
        ((u128::from(self.next()) * below as u128) >> 64) as usize
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma with this shape and mean 1 (Marsaglia and Tsang 2000; below shape 1 by their power of a uniform).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let power = self.unit().max(f64::MIN_POSITIVE).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * (shape + 1.0) / shape * power;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.exponential() > d * v - d - d * v.ln() - 0.5 * x * x {
                return d * v / shape;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let drawn: Vec<f64> = (0..200_000).map(|_| draw()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        (mean, drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64)
    }

    #[test]
    fn each_distribution_has_its_mean_and_variance() {
        let mut random = Random::new(1, 1);
        for (name, (mean, variance), expected) in [
            ("unit", moments(|| random.unit()), (0.5, 1.0 / 12.0)),
            ("exponential", moments(|| Random::exponential(&mut random)), (1.0, 1.0)),
            ("normal", moments(|| random.normal()), (0.0, 1.0)),
            ("gamma 0.5", moments(|| random.gamma(0.5)), (1.0, 2.0)),
            ("gamma 4", moments(|| random.gamma(4.0)), (1.0, 0.25)),
        ] {
            assert!((mean - expected.0).abs() < 0.02, "{name}: mean {mean}");
            assert!((variance - expected.1).abs() < 0.05 * expected.1.max(0.2), "{name}: variance {variance}");
        }
    }

    #[test]
    fn seeds_and_streams_are_reproducible_and_differ() {
        let draw = |seed, stream| Random::new(seed, stream).next();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn below_reaches_every_number_and_no_other() {
        let mut random = Random::new(3, 0);
        let mut seen = [0_u32; 5];
        (0..1_000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
