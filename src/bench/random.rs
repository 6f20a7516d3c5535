//! Numbers that look random and are the same in every run: a measurement must be repeatable.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    /// `seed` must not be zero.
    pub const fn new(seed: u64) -> Self {
        assert!(seed != 0, "xorshift stays at zero for ever");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// At least 0, below 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// At least 0, below `end`, which must not be zero.
    pub fn below(&mut self, end: u32) -> u32 {
        // The high half is the better one; the bias is below one in a million for ends below 4,000.
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// Brings `items` into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_range_and_repeat() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1_000).map(|_| random.below(7)).collect::<Vec<_>>()
        };
        let numbers = draw(5);
        assert!((0..7).all(|n| numbers.contains(&n)) && numbers.iter().all(|n| *n < 7));
        assert_eq!(numbers, draw(5));
        assert_ne!(numbers, draw(6));
    }
}
