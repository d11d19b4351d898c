//! Sample of bounded size: every value, then one of every two, one of every four, and so on.
#![forbid(unsafe_code)]

/// Maximum number of kept values. One more doubles the step.
pub const KEPT: usize = 1 << 14;

/// Sample of the pushed values, in their order: one value of each `step` consecutive values.
///
/// Which one is random. Every `step`th value would show only one side of values that alternate. The seed
/// is fixed, so that a recording gives the same sample each time.
#[derive(Clone, Debug)]
pub struct Decimated<T> {
    kept: Vec<T>,
    step: u64,
    seen: u64,
    random: u64,
}

impl<T> Default for Decimated<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            step: 1,
            seen: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

impl<T> Decimated<T> {
    pub fn push(&mut self, value: T) {
        if self.seen.is_multiple_of(self.step) && self.kept.len() == KEPT {
            self.halve();
        }
        let before = self.seen % self.step;
        self.seen += 1;
        if before == 0 {
            self.kept.push(value);
        } else if self.below(before + 1) == 0
            && let Some(last) = self.kept.last_mut()
        {
            *last = value;
        }
    }

    /// Keeps one of each two neighbours, at random.
    fn halve(&mut self) {
        let mut choices = 0;
        let kept = std::mem::take(&mut self.kept);
        for (n, value) in kept.into_iter().enumerate() {
            if n % 2 == 0 {
                choices = self.below(2);
            }
            if n as u64 % 2 == choices {
                self.kept.push(value);
            }
        }
        self.step *= 2;
    }

    /// A random number below `limit` (xorshift64*).
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }

    /// Number of pushed values, kept or not.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

impl<T> std::ops::Deref for Decimated<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_one_value_of_each_step() {
        let mut sample = Decimated::default();
        for n in 0..100_000u64 {
            sample.push(n);
        }
        assert_eq!(sample.seen(), 100_000);
        assert!((KEPT / 2..=KEPT).contains(&sample.len()));
        assert!(sample.iter().enumerate().all(|(at, n)| n / 8 == at as u64));
    }

    #[test]
    fn a_period_in_the_values_does_not_show_in_the_sample() {
        for period in [2u64, 3, 4, 8, 16] {
            let mut sample = Decimated::default();
            for n in 0..100_000u64 {
                sample.push(n % period);
            }
            for phase in 0..period {
                let hits = sample.iter().filter(|n| **n == phase).count() as f64;
                let share = hits / sample.len() as f64;
                assert!(
                    (share - 1.0 / period as f64).abs() < 0.02,
                    "{period}: {share}"
                );
            }
        }
    }
}
