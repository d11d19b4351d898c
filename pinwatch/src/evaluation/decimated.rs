//! Systematic sample of bounded size: every value, then every second, every fourth, and so on.
#![forbid(unsafe_code)]

/// Maximum number of kept values. One more doubles the step.
pub const KEPT: usize = 1 << 14;

/// Evenly spaced sample of the pushed values, in their order.
#[derive(Clone, Debug)]
pub struct Decimated<T> {
    kept: Vec<T>,
    step: u64,
    seen: u64,
}

impl<T> Default for Decimated<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            step: 1,
            seen: 0,
        }
    }
}

impl<T> Decimated<T> {
    pub fn push(&mut self, value: T) {
        if self.seen.is_multiple_of(self.step) {
            if self.kept.len() == KEPT {
                let mut n = 0;
                self.kept.retain(|_| {
                    n += 1;
                    n % 2 == 1
                });
                self.step *= 2;
            }
            if self.seen.is_multiple_of(self.step) {
                self.kept.push(value);
            }
        }
        self.seen += 1;
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
    fn the_sample_is_evenly_spaced() {
        let mut sample = Decimated::default();
        for n in 0..100_000u64 {
            sample.push(n);
        }
        assert_eq!(sample.seen(), 100_000);
        assert!((KEPT / 2..=KEPT).contains(&sample.len()));
        assert!(sample.iter().enumerate().all(|(at, n)| *n == 8 * at as u64));
    }
}
