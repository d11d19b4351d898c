//! One side of a comparison: a figure of a group, and its values by batch or run, which give its error.
#![forbid(unsafe_code)]

use super::figures::{Aggregate, FIGURES};
use super::group::Group;
use super::sample::Sample;
use super::stats::{self, Estimate};

/// Maximum number of batches of a side. `pinwatch load --evaluation` makes its pins in as many rounds.
pub const BATCHES: usize = 10;
/// Minimum number of values in a batch for a quantile beyond 90 %, such as p99.
const FOR_P99: usize = 50;

/// One figure of a group on one side.
pub struct SampleSet {
    /// Figure over all pins of the side.
    pub value: f64,
    /// Figure of each batch, or of each run.
    pub pieces: Vec<f64>,
    /// Whether `pieces` are runs.
    pub by_run: bool,
    pins: f64,
}

impl SampleSet {
    /// Whether all values are positive, so that ratios and logarithms exist.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        let all = self.pieces.iter().chain([&self.value]);
        all.copied().all(|value| value > 0.0)
    }

    /// Factor on the variance of the mean for correlated batches: see [`stats::inflation`]. 1 for runs,
    /// which are independent.
    #[must_use]
    pub fn inflation(&self) -> f64 {
        if self.by_run {
            1.0
        } else {
            stats::inflation(&self.pieces)
        }
    }

    /// Natural logarithms of the pieces.
    #[must_use]
    pub fn logs(&self) -> Vec<f64> {
        self.pieces.iter().map(|value| value.ln()).collect()
    }

    /// Computes the figure `number` of [`FIGURES`] from the runs of a side. `None` if no pin has a value.
    ///
    /// Shares and means are those of all pins. Quantiles, and all batches, are those of the sampled pins.
    #[must_use]
    pub fn new(number: usize, runs: &[&Group], by_run: bool) -> Option<Self> {
        let figure = &FIGURES[number];
        let values = |samples: &[Sample]| samples.iter().filter_map(figure.of).collect::<Vec<_>>();
        let by_runs: Vec<_> = runs.iter().map(|group| values(&group.samples)).collect();
        let all = by_runs.concat();
        let over = |runs: &[&Group], sampled: &[f64]| match figure.aggregate {
            Aggregate::Share | Aggregate::Mean => {
                let sums = || runs.iter().map(|group| group.sums[number]);
                let pins: u64 = sums().map(|sum| sum.pins).sum();
                let sum: f64 = sums().map(|sum| sum.sum).sum();
                (pins > 0).then(|| sum / pins as f64)
            }
            Aggregate::Quantile(_) => value(figure.aggregate, sampled),
        };
        let value = over(runs, &all)?;
        let pieces = if by_run {
            let runs = runs.iter().zip(&by_runs);
            runs.filter_map(|(run, sampled)| over(&[*run], sampled))
                .collect()
        } else {
            // At least two pins per batch.
            let pieces = BATCHES.min(all.len() / 2);
            let tail = matches!(figure.aggregate, Aggregate::Quantile(q) if q > 0.9);
            let enough = pieces > 0 && (!tail || all.len() / pieces >= FOR_P99);
            let cut = |n: usize| n * all.len() / pieces;
            let batches = (0..pieces)
                .filter(|_| enough)
                .map(|n| &all[cut(n)..cut(n + 1)]);
            batches
                .filter_map(|batch| self::value(figure.aggregate, batch))
                .collect()
        };
        Some(Self {
            value,
            pieces,
            by_run,
            pins: all.len() as f64,
        })
    }

    fn pins_per_piece(&self) -> f64 {
        self.pins / self.pieces.len().max(1) as f64
    }

    /// How much pins of one piece resemble each other in a share: 0 if they are independent, 1 if they
    /// are all alike; more if the pieces resemble their neighbours as well.
    ///
    /// It follows from the design effect: the variance between pieces divided by that of independent
    /// pins, times [`Self::inflation`].
    #[must_use]
    pub fn resemblance(&self) -> f64 {
        let p = self.value;
        let each = self.pins_per_piece();
        let by_chance = p * (1.0 - p) / each;
        let deviation = |piece: &f64| (piece - p).powi(2);
        let variance =
            self.pieces.iter().map(deviation).sum::<f64>() / (self.pieces.len() as f64 - 1.0);
        if by_chance <= 0.0 || self.pieces.len() < 2 {
            return 0.0;
        }
        let effect = variance / by_chance * self.inflation();
        ((effect - 1.0) / (each - 1.0).max(1.0)).max(0.0)
    }

    /// The share with its interval, computed from the effective number of pins: their number divided by
    /// the design effect of pins with that [`Self::resemblance`].
    #[must_use]
    pub fn share(&self, resemblance: f64, level: f64) -> Option<Estimate> {
        let p = self.value;
        let effect = 1.0 + (self.pins_per_piece() - 1.0).max(0.0) * resemblance;
        stats::of_share(p * self.pins / effect, self.pins / effect, level)
    }
}

fn value(aggregate: Aggregate, values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    match aggregate {
        Aggregate::Share | Aggregate::Mean => Some(stats::mean(values)),
        Aggregate::Quantile(q) => {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            stats::of_quantile(&sorted, q).map(|estimate| estimate.value)
        }
    }
}
