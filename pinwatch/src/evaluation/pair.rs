//! A figure of a group on both sides: the interval of its change, its verdict, and how many boots a verdict
//! would take.
#![forbid(unsafe_code)]

use super::figures::{Aggregate, Better, Figure};
use super::group::Key;
use super::line::{Change, Line};
use super::sample_set::{SampleSet, TAIL};
use super::stats::{self, Errors, Estimate, LEVEL};

/// Divisor of [`Rules::threshold`](super::compare::Rules::threshold) for differences of shares. A path that
/// never failed and now fails once in a hundred calls is worse.
pub const SHARE: f64 = 20.0;
/// Largest number of boots that [`Line::boots_needed`] names.
pub const MOST_BOOTS: u64 = 999;
/// Least number of boots of each side that are compared boot by boot.
pub const LEAST_BOOTS: u64 = 3;

/// A figure of a group on both sides, before its verdict.
pub struct Pair<'a> {
    pub key: &'a Key,
    pub figure: &'static Figure,
    pub base: SampleSet,
    pub new: SampleSet,
    /// Squared error of a duration's logarithm that all pins of a run share.
    pub shared: f64,
    /// Squared error of a duration's logarithm that all runs of a side share, if runs are compared.
    pub imbalance: f64,
    pub failures: Vec<String>,
}

impl Pair<'_> {
    fn is_share(&self) -> bool {
        self.figure.aggregate == Aggregate::Share
    }

    fn is_ratio(&self) -> bool {
        !self.is_share() && self.base.is_positive() && self.new.is_positive()
    }

    fn by_run(&self) -> bool {
        self.base.by_run && self.new.by_run
    }

    /// New divided by base, or new minus base: see [`Line::change`].
    fn change(&self) -> f64 {
        if self.is_ratio() {
            self.new.value / self.base.value
        } else {
            self.new.value - self.base.value
        }
    }

    /// Degrees of freedom of the differences between runs.
    fn degrees(&self) -> f64 {
        (self.base.pieces.len() + self.new.pieces.len()) as f64 - 2.0
    }

    /// Shares of both sides. A burst that one side happens not to show can happen on it too.
    ///
    /// The variance of independent pins is known. What runs add to it is estimated from few of them, so
    /// the critical value is Student's, with degrees of freedom by Satterthwaite.
    fn shares(&self, level: f64) -> Option<(Estimate, Estimate)> {
        let Self { base, new, .. } = self;
        let resemblance = f64::max(base.resemblance(), new.resemblance());
        let effect = f64::max(base.effect(resemblance), new.effect(resemblance));
        let critical = if self.by_run() && effect > 1.0 {
            stats::t(self.degrees() * (effect / (effect - 1.0)).powi(2), level)
        } else {
            stats::z(level)
        };
        let share = |side: &SampleSet| side.share(resemblance, critical);
        share(base).zip(share(new))
    }

    /// Errors of the means of the pieces, or of their logarithms.
    fn errors(&self, logs: bool) -> Errors {
        let Self { base, new, .. } = self;
        // The error of a quantile is not that of its batches: an episode moves only some of them.
        let least = |side: &SampleSet| match (self.figure.aggregate, logs) {
            (Aggregate::Quantile(_), _) => 0.0,
            (_, true) => side.error_within() / side.value.powi(2),
            (_, false) => side.error_within(),
        };
        // `shared` applies to the logarithm of a duration.
        let is_time = logs && self.figure.unit.is_time();
        Errors {
            inflations: [base.inflation(), new.inflation()],
            shared: if is_time && !self.by_run() {
                self.shared
            } else {
                0.0
            },
            estimated: if is_time && self.by_run() {
                self.imbalance
            } else {
                0.0
            },
            least: [least(base), least(new)],
        }
    }

    /// The change with its interval: of the logarithm of a ratio, else of the difference. Batches or runs
    /// give its width; the figure over all pins gives its position. That of a quantile reaches to the
    /// interval of the batches too: a burst in a few of them moves the p99 over all pins, and not that of
    /// the other batches.
    fn estimate(&self, level: f64) -> Option<Estimate> {
        let Self { base, new, .. } = self;
        if self.is_share() {
            let (base, new) = self.shares(level)?;
            return stats::of_share_difference(base, new);
        }
        let is_ratio = self.is_ratio();
        let errors = self.errors(is_ratio);
        let difference = if is_ratio {
            stats::of_difference(&base.logs(), &new.logs(), errors, level)?
        } else {
            stats::of_difference(&base.pieces, &new.pieces, errors, level)?
        };
        let middle = if is_ratio {
            self.change().ln()
        } else {
            self.change()
        };
        let moved = difference.map(|value| value - difference.value + middle);
        let Aggregate::Quantile(q) = self.figure.aggregate else {
            return Some(moved);
        };
        if !self.by_run() {
            return Some(moved.reaching(difference));
        }
        // An episode hardly moves the median of its run, and moves p99 as far as it goes.
        let batches = base.batch_logs().zip(new.batch_logs());
        let Some((base_logs, new_logs)) = batches.filter(|_| is_ratio && q > TAIL) else {
            return Some(moved);
        };
        let errors = Errors {
            least: [base.error_within_logs(), new.error_within_logs()],
            ..errors
        };
        Some(moved.reaching(stats::of_difference(&base_logs, &new_logs, errors, level)?))
    }

    /// Interval of the change.
    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let estimate = self.estimate(level)?;
        if self.is_ratio() {
            estimate.map(f64::exp).interval
        } else {
            estimate.interval
        }
    }

    /// Range of changes within the threshold.
    fn bounds(&self, threshold: f64) -> (f64, f64) {
        let matters = if self.is_ratio() {
            return (1.0 / (1.0 + threshold), 1.0 + threshold);
        } else if self.is_share() {
            threshold / SHARE
        } else {
            let larger = self.base.value.abs().max(self.new.value.abs());
            threshold * larger.max(f64::MIN_POSITIVE)
        };
        (-matters, matters)
    }

    fn verdict(&self, level: f64, threshold: f64) -> Change {
        let (least, most) = self.bounds(threshold);
        let decides = self.figure.better == Better::Lower;
        match self.interval(level) {
            Some((low, _)) if low > most && decides => Change::Worse,
            Some((_, high)) if high < least && decides => Change::Better,
            Some((low, high)) if low > most || high < least => Change::Different,
            Some((low, high)) if low >= least && high <= most => Change::Same,
            _ => Change::Unclear,
        }
    }

    /// Boots of each side at which the interval lies on one side of the threshold, if the change stays as
    /// it is and boots vary as they did.
    fn boots_needed(&self, level: f64, threshold: f64) -> Option<u64> {
        let (low, high) = self.estimate(level)?.interval?;
        let (mut change, (mut least, mut most)) = (self.change(), self.bounds(threshold));
        if self.is_ratio() {
            (change, least, most) = (change.ln(), least.ln(), most.ln());
        }
        let distance = if change > most {
            change - most
        } else if change < least {
            least - change
        } else {
            f64::min(change - least, most - change)
        };
        let boots = self.base.runs.min(self.new.runs).max(1) as u64;
        let critical = if self.by_run() {
            stats::t(self.degrees(), level)
        } else {
            stats::z(level)
        };
        // Of one boot of each side.
        let error = (high - low) / 2.0 / critical * (boots as f64).sqrt();
        let half =
            |boots: u64| stats::t(2.0 * boots as f64 - 2.0, level) * error / (boots as f64).sqrt();
        let first = LEAST_BOOTS.max(boots + 1);
        if first > MOST_BOOTS || half(MOST_BOOTS) >= distance {
            return None;
        }
        // The width falls with each boot.
        let (mut few, mut enough) = (first - 1, MOST_BOOTS);
        while few + 1 < enough {
            let middle = few.midpoint(enough);
            if half(middle) < distance {
                enough = middle;
            } else {
                few = middle;
            }
        }
        Some(enough)
    }

    /// Half the widths of the 95 % intervals of both sides.
    fn half_widths(&self) -> Option<(f64, f64)> {
        if self.is_share() {
            let (base, new) = self.shares(LEVEL)?;
            let half = |share: Estimate| share.interval.map(|(low, high)| (high - low) / 2.0);
            return half(base).zip(half(new));
        }
        let shared = if self.figure.unit.is_time() && !self.by_run() {
            self.shared
        } else {
            0.0
        };
        let half = |side: &SampleSet| {
            let own = stats::error_squared(&side.pieces)? * side.inflation();
            let within = match self.figure.aggregate {
                Aggregate::Quantile(_) => 0.0,
                Aggregate::Share | Aggregate::Mean => side.error_within(),
            };
            let error = own.max(within) + shared * side.value.powi(2);
            Some(stats::t(side.pieces.len() as f64 - 1.0, LEVEL) * error.sqrt())
        };
        half(&self.base).zip(half(&self.new))
    }

    /// The line with its verdict at `level`.
    #[must_use]
    pub fn line(self, level: f64, threshold: f64) -> Line {
        let verdict = self.verdict(level, threshold);
        let unclear = verdict == Change::Unclear;
        let boots = unclear.then(|| self.boots_needed(level, threshold));
        Line {
            group: self.key.to_string(),
            scenario: self.key.short(),
            figure: self.figure.name,
            unit: self.figure.unit,
            better: self.figure.better,
            base: self.base.value,
            new: self.new.value,
            change: self.change(),
            interval: self.interval(LEVEL),
            half_widths: self.half_widths(),
            boots_needed: boots.flatten(),
            is_ratio: self.is_ratio(),
            verdict,
            failures: self.failures,
        }
    }
}
