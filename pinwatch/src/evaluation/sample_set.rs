//! One side of a comparison: a figure of a group, and its values by batch or run, which give its error.
#![forbid(unsafe_code)]

use super::figures::{Aggregate, FIGURES};
use super::group::Group;
use super::sample::Sample;
use super::stats::{self, Estimate};

/// Maximum number of batches of a side. `pinwatch load --evaluation` makes its pins in as many rounds.
pub const BATCHES: usize = 10;
/// Quantiles beyond this one are in the tail.
pub const TAIL: f64 = 0.9;
/// Minimum number of values in a batch for a quantile in the tail, such as p99.
const FOR_P99: usize = 50;

/// One figure of a group on one side.
pub struct SampleSet {
    /// Figure over all pins of the side.
    pub value: f64,
    /// Figure of each batch, or of each run.
    pub pieces: Vec<f64>,
    /// Whether `pieces` are runs.
    pub by_run: bool,
    /// Number of runs that have a value.
    pub runs: usize,
    /// Batches of each run; empty if `pieces` are batches, or if the runs have too few pins.
    batches: Vec<Vec<f64>>,
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
        logs(&self.pieces)
    }

    /// Mean of the logarithms of each run's batches. An episode moves it by the share of the run that it
    /// takes, and moves p99 of the run as a whole. `None` if a batch has none.
    #[must_use]
    pub fn batch_logs(&self) -> Option<Vec<f64>> {
        let positive = |batches: &Vec<f64>| batches.iter().all(|value| *value > 0.0);
        let complete = !self.batches.is_empty() && self.batches.iter().all(positive);
        complete.then(|| {
            let means = self
                .batches
                .iter()
                .map(|batches| stats::mean(&logs(batches)));
            means.collect()
        })
    }

    /// Squared error of the mean over the runs that the batches inside the runs show. Runs with an episode
    /// each can resemble each other and still say little: the episode is one event in each of them.
    #[must_use]
    pub fn error_within(&self) -> f64 {
        error_within(&self.batches)
    }

    /// The same of the logarithms, for [`Self::batch_logs`].
    #[must_use]
    pub fn error_within_logs(&self) -> f64 {
        let runs: Vec<_> = self.batches.iter().map(|run| logs(run)).collect();
        error_within(&runs)
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
        let (pieces, batches) = if by_run {
            let values = runs.iter().zip(&by_runs);
            let pieces = values.filter_map(|(run, sampled)| over(&[*run], sampled));
            let batches = by_runs.iter().map(|run| batches(figure.aggregate, run));
            let batches: Vec<_> = batches.filter(|run| run.len() > 1).collect();
            (pieces.collect(), batches)
        } else {
            (batches(figure.aggregate, &all), Vec::new())
        };
        Some(Self {
            value,
            pieces,
            by_run,
            runs: by_runs.iter().filter(|run| !run.is_empty()).count(),
            batches,
            pins: all.len() as f64,
        })
    }

    /// How much pins of one piece resemble each other in a share: 0 if they are independent, 1 if they
    /// are all alike; more if the pieces resemble their neighbours as well. Of runs it is the larger of
    /// what the runs show and what the batches inside them show.
    #[must_use]
    pub fn resemblance(&self) -> f64 {
        let batches = self.batches.iter().map(Vec::len).sum::<usize>();
        let within = self
            .batches
            .iter()
            .map(|run| (run.as_slice(), stats::mean(run), stats::inflation(run)));
        let within = excess(within, self.pins / batches.max(1) as f64);
        let own = [(self.pieces.as_slice(), self.value, self.inflation())];
        let own = excess(own.into_iter(), self.pins_per_piece());
        own.max(within) / (self.pins_per_piece() - 1.0).max(1.0)
    }

    fn pins_per_piece(&self) -> f64 {
        self.pins / self.pieces.len().max(1) as f64
    }

    /// Design effect of pins with that [`Self::resemblance`]: the variance of their share, divided by that
    /// of as many independent pins.
    #[must_use]
    pub fn effect(&self, resemblance: f64) -> f64 {
        1.0 + (self.pins_per_piece() - 1.0).max(0.0) * resemblance
    }

    /// The share with its interval, computed from the effective number of pins: their number divided by
    /// the design effect.
    #[must_use]
    pub fn share(&self, resemblance: f64, critical: f64) -> Option<Estimate> {
        let p = self.value;
        let effect = self.effect(resemblance);
        stats::of_share_within(p * self.pins / effect, self.pins / effect, critical)
    }
}

/// Design effect minus 1 of sets of pieces, each set with the share around which its pieces vary and with
/// their [`stats::inflation`]: the variance between the pieces, divided by that of independent pins. `each` is the number of pins per piece.
fn excess<'a>(sets: impl Iterator<Item = (&'a [f64], f64, f64)>, each: f64) -> f64 {
    let (mut variance, mut by_chance) = (0.0, 0.0);
    for (pieces, p, inflation) in sets.filter(|(pieces, ..)| pieces.len() > 1) {
        let squares = pieces.iter().map(|piece| (piece - p).powi(2)).sum::<f64>();
        variance += squares / (pieces.len() as f64 - 1.0) * inflation;
        by_chance += p * (1.0 - p) / each;
    }
    if by_chance > 0.0 {
        (variance / by_chance - 1.0).max(0.0)
    } else {
        0.0
    }
}

fn error_within(runs: &[Vec<f64>]) -> f64 {
    let errors = runs.iter();
    let errors = errors.filter_map(|run| Some(stats::error_squared(run)? * stats::inflation(run)));
    errors.sum::<f64>() / (runs.len() as f64).powi(2).max(1.0)
}

fn logs(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.ln()).collect()
}

/// The figure of each of up to [`BATCHES`] batches of consecutive pins.
fn batches(aggregate: Aggregate, pins: &[f64]) -> Vec<f64> {
    // At least two pins per batch.
    let pieces = BATCHES.min(pins.len() / 2);
    let tail = matches!(aggregate, Aggregate::Quantile(q) if q > TAIL);
    if pieces == 0 || (tail && pins.len() / pieces < FOR_P99) {
        return Vec::new();
    }
    let cut = |n: usize| n * pins.len() / pieces;
    let batches = (0..pieces).map(|n| &pins[cut(n)..cut(n + 1)]);
    batches
        .filter_map(|batch| value(aggregate, batch))
        .collect()
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
