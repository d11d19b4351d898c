//! One side of a comparison: a figure of a group, and the pieces that tell how sure it is.

use super::figures::{Figure, How};
use super::group::{Group, Sample};
use super::stats::{self, Estimate};

/// Pieces of a side with few runs. The load of an evaluation comes in as many rounds.
pub const BATCHES: usize = 10;
/// Values of a piece that a quantile of 99 % needs.
const FOR_P99: usize = 50;

/// A figure on one side.
pub struct SampleSet {
    pub value: f64,
    /// One of each batch, or of each run.
    pub pieces: Vec<f64>,
    pub by_run: bool,
    pins: f64,
}

impl SampleSet {
    /// Whether it can be divided by.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        let all = self.pieces.iter().chain([&self.value]);
        all.copied().all(|value| value > 0.0)
    }

    /// Of the squared error, since batches that follow each other are not independent. Runs are.
    #[must_use]
    pub fn inflation(&self) -> f64 {
        if self.by_run {
            1.0
        } else {
            stats::inflation(&self.pieces)
        }
    }

    #[must_use]
    pub fn logs(&self) -> Vec<f64> {
        self.pieces.iter().map(|value| value.ln()).collect()
    }

    #[must_use]
    pub fn new(figure: &Figure, runs: &[&Group], by_run: bool) -> Option<Self> {
        let values = |samples: &[Sample]| samples.iter().filter_map(figure.of).collect::<Vec<_>>();
        let by_runs: Vec<_> = runs.iter().map(|group| values(&group.samples)).collect();
        let all = by_runs.concat();
        let value = value(figure.how, &all)?;
        let pieces = if by_run {
            by_runs
                .iter()
                .filter_map(|run| self::value(figure.how, run))
                .collect()
        } else {
            // At least two pins in each.
            let pieces = BATCHES.min(all.len() / 2);
            let tail = matches!(figure.how, How::Quantile(q) if q > 0.9);
            let enough = pieces > 0 && (!tail || all.len() / pieces >= FOR_P99);
            let cut = |n: usize| n * all.len() / pieces;
            let batches = (0..pieces)
                .filter(|_| enough)
                .map(|n| &all[cut(n)..cut(n + 1)]);
            batches
                .filter_map(|batch| self::value(figure.how, batch))
                .collect()
        };
        Some(Self {
            value,
            pieces,
            by_run,
            pins: all.len() as f64,
        })
    }

    /// The share, with as many pins as would be independent: where batches differ by
    /// more than chance lets independent pins, there are fewer.
    #[must_use]
    pub fn share(&self, level: f64) -> Option<Estimate> {
        let p = self.value;
        let each = self.pins / self.pieces.len().max(1) as f64;
        let by_chance = p * (1.0 - p) / each;
        let deviation = |piece: &f64| (piece - p).powi(2);
        let spread =
            self.pieces.iter().map(deviation).sum::<f64>() / (self.pieces.len() as f64 - 1.0);
        let effect = if by_chance > 0.0 && self.pieces.len() > 1 {
            (spread / by_chance).max(1.0)
        } else {
            1.0
        };
        stats::of_share(p * self.pins / effect, self.pins / effect, level)
    }
}

fn value(how: How, values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    match how {
        How::Share | How::Mean => Some(stats::mean(values)),
        How::Quantile(q) => {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            stats::of_quantile(&sorted, q).map(|estimate| estimate.value)
        }
    }
}
