//! Estimates with their intervals: means, shares, quantiles, exponents, and differences.
#![forbid(unsafe_code)]

use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

/// Confidence level of the intervals in the output.
pub const LEVEL: f64 = 0.95;

/// An estimate. The interval is `None` if there are too few values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// Applies an increasing function to the value and to both ends of the interval.
    #[must_use]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            value: f(self.value),
            interval: self.interval.map(|(low, high)| (f(low), f(high))),
        }
    }

    /// Widens the interval so that it includes that of `other`. `None` if either is unknown.
    #[must_use]
    pub fn reaching(self, other: Self) -> Self {
        let both = self.interval.zip(other.interval);
        Self {
            interval: both.map(|(own, other)| (own.0.min(other.0), own.1.max(other.1))),
            ..self
        }
    }
}

/// Two-sided critical value of Student's t with `degrees` degrees of freedom.
#[must_use]
pub fn t(degrees: f64, level: f64) -> f64 {
    /// From here on t equals the normal quantile to five digits, and statrs does not finish in
    /// reasonable time.
    const MANY: f64 = 1e6;
    if degrees >= MANY {
        return z(level);
    }
    let upper = (1.0 + level) / 2.0;
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::INFINITY, |t| t.inverse_cdf(upper))
}

/// Two-sided critical value of the normal distribution.
#[must_use]
pub fn z(level: f64) -> f64 {
    Normal::standard().inverse_cdf((1.0 + level) / 2.0)
}

#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Squared standard error of the mean; `None` with fewer than two values.
#[must_use]
pub fn error_squared(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (n - 1.0) / n)
}

/// Variance inflation of the mean of serially correlated values, at least 1.
///
/// The squared standard error is that of independent values times (1 + r) / (1 - r), where r is the
/// lag-1 autocorrelation. This holds for a first-order autoregressive process.
#[must_use]
pub fn inflation(values: &[f64]) -> f64 {
    /// Upper limit of r. Few values do not determine a larger correlation.
    const MAX_CORRELATION: f64 = 0.8;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let neighbours = values.windows(2);
    let products: f64 = neighbours
        .map(|pair| (pair[0] - mean) * (pair[1] - mean))
        .sum();
    if squares <= 0.0 {
        return 1.0;
    }
    let correlation = (products / squares).clamp(0.0, MAX_CORRELATION);
    (1.0 + correlation) / (1.0 - correlation)
}

/// Mean with Student's interval; `None` without values.
#[must_use]
pub fn of_mean(values: &[f64]) -> Option<Estimate> {
    let value = (!values.is_empty()).then(|| mean(values))?;
    let interval = error_squared(values).map(|error| {
        let half = t(values.len() as f64 - 1.0, LEVEL) * error.sqrt();
        (value - half, value + half)
    });
    Some(Estimate { value, interval })
}

/// Known error terms of a two-sample comparison that the samples cannot show.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// Variance inflation of base and new: see [`inflation`].
    pub inflations: [f64; 2],
    /// Squared error that all values of one side share.
    pub shared: f64,
    /// Squared error of the difference that is itself estimated from little: it adds no degrees of freedom.
    pub estimated: f64,
    /// Squared error of each side's mean that is known from elsewhere, if it is larger than that of the values.
    pub least: [f64; 2],
}

impl Errors {
    /// No error terms: all values are independent.
    pub const INDEPENDENT: Self = Self {
        inflations: [1.0; 2],
        shared: 0.0,
        estimated: 0.0,
        least: [0.0; 2],
    };
}

/// Difference of two means, new minus base, with Welch's interval; `None` if a side has no values.
#[must_use]
pub fn of_difference(base: &[f64], new: &[f64], errors: Errors, level: f64) -> Option<Estimate> {
    if base.is_empty() || new.is_empty() {
        return None;
    }
    let [base_inflation, new_inflation] = errors.inflations;
    let [base_least, new_least] = errors.least;
    let value = mean(new) - mean(base);
    let interval = error_squared(base).zip(error_squared(new)).map(|(b, n)| {
        let (b, n) = (
            f64::max(b * base_inflation, base_least),
            f64::max(n * new_inflation, new_least),
        );
        let known = b + n + 2.0 * errors.shared;
        let share = |error: f64, values: &[f64]| error.powi(2) / (values.len() as f64 - 1.0);
        // Degrees of freedom come from the samples alone: `shared` is known, not estimated.
        let below = share(b, base) + share(n, new);
        let degrees = if below > 0.0 {
            known.powi(2) / below
        } else {
            f64::INFINITY
        };
        let half = t(degrees, level) * (known + errors.estimated).sqrt();
        (value - half, value + half)
    });
    Some(Estimate { value, interval })
}

/// Share of `hits` in `n`, with Wilson's interval (1927). `n` may be an effective sample size.
#[must_use]
pub fn of_share(hits: f64, n: f64, level: f64) -> Option<Estimate> {
    of_share_within(hits, n, z(level))
}

/// Like [`of_share`], with a critical value instead of a level.
#[must_use]
pub fn of_share_within(hits: f64, n: f64, critical: f64) -> Option<Estimate> {
    if n <= 0.0 {
        return None;
    }
    let (share, z) = (hits / n, critical);
    let z2 = z * z;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    Some(Estimate {
        value: share,
        interval: Some(((middle - half).max(0.0), (middle + half).min(1.0))),
    })
}

/// Difference of two shares, new minus base, with Newcombe's interval (1998, method 10).
#[must_use]
pub fn of_share_difference(base: Estimate, new: Estimate) -> Option<Estimate> {
    let ((base_low, base_high), (new_low, new_high)) = base.interval.zip(new.interval)?;
    let value = new.value - base.value;
    let below = ((new.value - new_low).powi(2) + (base_high - base.value).powi(2)).sqrt();
    let above = ((new_high - new.value).powi(2) + (base.value - base_low).powi(2)).sqrt();
    Some(Estimate {
        value,
        interval: Some((value - below, value + above)),
    })
}

/// Quantile `q` of sorted values, with an interval between order statistics.
#[must_use]
pub fn of_quantile(sorted: &[f64], q: f64) -> Option<Estimate> {
    let n = sorted.len() as f64;
    let at = |rank: f64| sorted[(rank.floor().max(0.0) as usize).min(sorted.len() - 1)];
    let value = (!sorted.is_empty()).then(|| at(n * q))?;
    let half = z(LEVEL) * (n * q * (1.0 - q)).sqrt();
    // An interval whose ranks lie beyond the values has an unknown end.
    let inside = n * q - half >= 0.0 && n * q + half < n;
    Some(Estimate {
        value,
        interval: inside.then(|| (at(n * q - half), at(n * q + half))),
    })
}

/// Exponent of a power law, by least squares over logarithms. `None` with fewer than three positive
/// points, or if all have the same x.
#[must_use]
pub fn of_exponent(points: &[(f64, f64)]) -> Option<Estimate> {
    let usable = points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let logs: Vec<_> = usable.map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let mean_of = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean_of(|p| p.0), mean_of(|p| p.1));
    let spread: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    if logs.len() < 3 || spread <= 1e-9 {
        return None;
    }
    let slope = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    let residue = |p: &(f64, f64)| p.1 - y - slope * (p.0 - x);
    let residues: f64 = logs.iter().map(|p| residue(p).powi(2)).sum();
    let half = t(n - 2.0, LEVEL) * (residues / (n - 2.0) / spread).sqrt();
    Some(Estimate {
        value: slope,
        interval: Some((slope - half, slope + half)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Estimate, value: f64, low: f64, high: f64) {
        let interval = got.interval.expect("an interval");
        for (got, want) in [(got.value, value), (interval.0, low), (interval.1, high)] {
            assert!((got - want).abs() < 5e-4, "{got} for {want}");
        }
    }

    /// Computed by hand from tables of t (2.7764 for 4, 2.4469 for 6 degrees of freedom), and
    /// Newcombe's own example.
    #[test]
    fn textbook_examples() {
        let values = [5.1, 4.9, 5.6, 5.8, 6.0];
        near(of_mean(&values).unwrap(), 5.48, 4.9016, 6.0584);
        near(of_share(8.0, 10.0, LEVEL).unwrap(), 0.8, 0.4902, 0.9433);
        near(of_share(0.0, 10.0, LEVEL).unwrap(), 0.0, 0.0, 0.2775);
        let (new, base) = (
            of_share(56.0, 70.0, LEVEL).unwrap(),
            of_share(48.0, 80.0, LEVEL).unwrap(),
        );
        near(of_share_difference(base, new).unwrap(), 0.2, 0.0524, 0.3339);
        let base = [10.0, 12.0, 11.0, 13.0];
        let new = [14.0, 16.0, 15.0, 17.0];
        near(
            of_difference(&base, &new, Errors::INDEPENDENT, LEVEL).unwrap(),
            4.0,
            1.7663,
            6.2337,
        );
        // Only a shared error of 1 on each side: the normal quantile 1.9600 times the root of two.
        let shared = Errors {
            shared: 1.0,
            ..Errors::INDEPENDENT
        };
        near(
            of_difference(&[3.0; 4], &[4.0; 4], shared, LEVEL).unwrap(),
            1.0,
            1.0 - 2.7718,
            1.0 + 2.7718,
        );
        // An estimated error widens the first example by the root of its share in the variance, 5/6 * 3 of 5/6.
        let estimated = Errors {
            estimated: 2.5,
            ..Errors::INDEPENDENT
        };
        near(
            of_difference(&base, &new, estimated, LEVEL).unwrap(),
            4.0,
            4.0 - 2.0 * 2.2337,
            4.0 + 2.0 * 2.2337,
        );
        // The same with values that differ by almost nothing: many degrees of freedom.
        let nearly_equal = [4.0, 4.0 + 1e-9, 4.0, 4.0];
        let got = of_difference(&[3.0; 4], &nearly_equal, shared, LEVEL);
        near(got.unwrap(), 1.0, 1.0 - 2.7718, 1.0 + 2.7718);
    }

    #[test]
    fn drift_inflates_the_variance() {
        let drift: Vec<f64> = (0..10).map(f64::from).collect();
        let back_and_forth: Vec<f64> = (0..10).map(|n| f64::from(n % 2)).collect();
        // The lag-1 autocorrelation of 0 to 9 is exactly 0.7.
        assert!((inflation(&drift) - 1.7 / 0.3).abs() < 1e-9);
        assert_eq!(inflation(&back_and_forth), 1.0);
        assert_eq!(inflation(&[3.0; 5]), 1.0);
        let half = |inflations| {
            let errors = Errors {
                inflations,
                ..Errors::INDEPENDENT
            };
            let got = of_difference(&drift, &drift, errors, LEVEL).unwrap();
            got.interval.unwrap().1
        };
        assert!((half([4.0; 2]) / half([1.0; 2]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn exponents_of_power_laws() {
        let law =
            |exponent: f64| (6..14).map(move |n| (2f64.powi(n), 3.0 * 2f64.powi(n).powf(exponent)));
        for exponent in [0.0, 1.0, 2.0] {
            let points: Vec<_> = law(exponent).collect();
            near(of_exponent(&points).unwrap(), exponent, exponent, exponent);
        }
        assert_eq!(of_exponent(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(of_exponent(&[(1.0, 1.0), (2.0, 0.0), (3.0, 3.0)]), None);
    }

    #[test]
    fn quantiles_have_an_interval_only_within_the_values() {
        let sorted: Vec<f64> = (0..1000).map(f64::from).collect();
        near(of_quantile(&sorted, 0.5).unwrap(), 500.0, 469.0, 530.0);
        assert_eq!(of_quantile(&sorted[..50], 0.99).unwrap().interval, None);
        assert_eq!(of_quantile(&[], 0.5), None);
    }
}
