//! Compares two kernels, base and new, by the figures of each group.
//!
//! Consecutive pins are not independent: they share pages, caches and neighbours. So intervals come from
//! [`BATCHES`](super::sample_set::BATCHES) batches of consecutive pins, each with one value. Correlated
//! batches, as on a machine that gets busier, widen the interval ([`stats::inflation`]).
//!
//! With three runs or more on both sides each run gives one value instead. That includes the differences
//! between boots. With fewer runs the data do not show these differences. Intervals of durations are then
//! widened by [`Rules::run_spread`], or by the change of the machine's speed if that is larger.
//!
//! A burst in a single run can be chance, even if the other side has none: each side's share has the error
//! that the side with the stronger bursts shows ([`SampleSet::resemblance`]).
//!
//! Pins that do not return are in no group, since they have not ended. They are counted:
//! [`super::unreturned`].
//!
//! Of a hundred figures some differ by chance. The output shows intervals of 95 % each. Verdicts use wider
//! ones, which together hold with 95 % (Bonferroni).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;

use super::capture::Capture;
use super::figures::{Aggregate, Better, FAILED, FIGURES, Figure};
use super::group::{Group, Key};
use super::line::{Change, Line, NotCompared};
use super::lost::{not_measured, refuse_without_pins};
use super::sample_set::SampleSet;
use super::stats::{self, Errors, Estimate, LEVEL};
use super::unreturned;
use crate::model::format::printable;

/// Divisor of [`Rules::threshold`] for differences of shares.
const SHARE: f64 = 5.0;
/// Minimum number of runs per side to compare runs instead of batches.
const RUNS: usize = 3;

/// Limits of a comparison.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rules {
    /// Smallest relative change that matters, such as 0.05. For shares a fifth of it, as a difference.
    pub threshold: f64,
    /// Relative standard deviation of durations between runs of one kernel, which a single run cannot show.
    pub run_spread: f64,
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            threshold,
            run_spread,
        } = self;
        write!(
            f,
            "A ratio matters from {:.0} % on, a share from {:.1} % on. Durations of runs of one kernel are assumed to \
             have a standard deviation of {:.0} %",
            100.0 * threshold,
            100.0 / SHARE * threshold,
            100.0 * run_spread
        )
    }
}

/// Longest time of the fixed work in these recordings divided by the shortest; 1 if they have none.
fn unsteadiness(base: &[Capture], new: &[Capture]) -> f64 {
    let measured = base.iter().chain(new).flat_map(|capture| {
        let end = capture.end.as_ref().and_then(|end| end.yardstick_ns);
        [capture.header.yardstick_ns, end]
    });
    let measured: Vec<_> = measured.flatten().filter(|ns| *ns > 0).collect();
    let ends = measured.iter().max().zip(measured.iter().min());
    ends.map_or(1.0, |(most, least)| *most as f64 / *least as f64)
}

/// Result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub lines: Vec<Line>,
    pub not_compared: Vec<NotCompared>,
    /// Groups that only base has, with their numbers of pins.
    pub only_base: Vec<(String, u64)>,
    /// Groups that only new has, with their numbers of pins.
    pub only_new: Vec<(String, u64)>,
    pub rules: Rules,
    /// Longest time of the fixed work divided by the shortest, over all recordings; 1 if they have none.
    pub unsteadiness: f64,
}

/// Compares the runs of both sides.
///
/// # Errors
///
/// If a recording has no pins, or if the sides have no group in common.
pub fn compare(base: &[Capture], new: &[Capture], rules: Rules) -> Result<Comparison> {
    refuse_without_pins(base, new)?;
    let hanging = unreturned::line(base, new);
    let sides = [by_group(base), by_group(new)];
    let mut comparison = Comparison {
        lines: hanging.into_iter().collect(),
        not_compared: unreturned::not_compared(base, new).into_iter().collect(),
        only_base: only(&sides[0], &sides[1]),
        only_new: only(&sides[1], &sides[0]),
        rules,
        unsteadiness: unsteadiness(base, new),
    };
    // Squared error of the logarithm of a duration, for each side.
    let shared = f64::max(
        rules.run_spread.ln_1p().powi(2),
        comparison.unsteadiness.ln().powi(2) / 2.0,
    );
    let lost = FIGURES.iter().map(|figure| not_measured(figure, base, new));
    let lost: Vec<_> = lost.collect();
    for (figure, reason) in FIGURES.iter().zip(&lost) {
        comparison
            .not_compared
            .extend(reason.clone().map(|reason| NotCompared {
                figure: figure.name,
                group: None,
                reason,
            }));
    }
    let mut pairs = Vec::new();
    for (key, base) in &sides[0] {
        let Some(new) = sides[1].get(key) else {
            continue;
        };
        let runs = base.len() >= RUNS && new.len() >= RUNS;
        for (number, figure) in FIGURES.iter().enumerate() {
            if lost[number].is_some() {
                continue;
            }
            let sides = (
                SampleSet::new(number, base, runs),
                SampleSet::new(number, new, runs),
            );
            let (base_side, new_side) = match sides {
                (Some(base_side), Some(new_side)) => (base_side, new_side),
                (None, None) => continue,
                (base_side, _) => {
                    let (without, runs) = match base_side {
                        None => ("base", base),
                        Some(_) => ("new", new),
                    };
                    // Of failed pins most figures have no value. The failures are a figure of their own.
                    if runs.iter().all(|group| group.failed == group.pins) {
                        continue;
                    }
                    comparison.not_compared.push(NotCompared {
                        figure: figure.name,
                        group: Some(key.to_string()),
                        reason: format!("no pin in {without} has a value"),
                    });
                    continue;
                }
            };
            pairs.push(Pair {
                group: key.to_string(),
                figure,
                base: base_side,
                new: new_side,
                shared,
                failures: match figure.name {
                    FAILED => failures(new, base),
                    _ => Vec::new(),
                },
            });
        }
    }
    let judged = pairs
        .iter()
        .filter(|pair| pair.figure.better == Better::Lower);
    let level = 1.0 - (1.0 - LEVEL) / judged.count().max(1) as f64;
    let lines = pairs
        .into_iter()
        .map(|pair| pair.line(level, rules.threshold));
    comparison.lines.extend(lines);
    if comparison.lines.is_empty() {
        bail!(
            "base and new have no group of pins in common, so nothing can be compared; record the same load on both \
             (base: {}; new: {})",
            groups_of(&comparison.only_base),
            groups_of(&comparison.only_new)
        );
    }
    Ok(comparison)
}

/// Names of groups in one line.
fn groups_of(groups: &[(String, u64)]) -> String {
    let names: Vec<_> = groups.iter().map(|(group, _)| printable(group)).collect();
    names.join(" | ")
}

type ByGroup<'a> = BTreeMap<&'a Key, Vec<&'a Group>>;

fn by_group(captures: &[Capture]) -> ByGroup<'_> {
    let mut groups = ByGroup::new();
    for (key, group) in captures.iter().flat_map(|capture| &capture.groups.0) {
        groups.entry(key).or_default().push(group);
    }
    groups
}

fn only(these: &ByGroup, others: &ByGroup) -> Vec<(String, u64)> {
    let missing = these.iter().filter(|(key, _)| !others.contains_key(*key));
    let pins = |groups: &[&Group]| groups.iter().map(|group| group.pins).sum();
    missing
        .map(|(key, groups)| (key.to_string(), pins(groups)))
        .collect()
}

/// Errnos and causes of the failed pins in new, or in base if no pin failed in new.
fn failures(new: &[&Group], base: &[&Group]) -> Vec<String> {
    let mut sums = BTreeMap::new();
    let failed = |runs: &[&Group]| runs.iter().any(|group| group.failed > 0);
    let runs = if failed(new) { new } else { base };
    for ((errno, cause), n) in runs.iter().flat_map(|group| &group.failures) {
        *sums.entry((errno, cause)).or_insert(0) += n;
    }
    let lines = sums.into_iter();
    let lines = lines.map(|((errno, cause), n)| format!("{n} {errno} ({cause})"));
    lines.collect()
}

/// A figure of a group on both sides, before its verdict.
struct Pair {
    group: String,
    figure: &'static Figure,
    base: SampleSet,
    new: SampleSet,
    /// Squared error of a duration's logarithm that all pins of a run share.
    shared: f64,
    failures: Vec<String>,
}

impl Pair {
    fn is_share(&self) -> bool {
        self.figure.aggregate == Aggregate::Share
    }

    fn is_ratio(&self) -> bool {
        !self.is_share() && self.base.is_positive() && self.new.is_positive()
    }

    /// New divided by base, or new minus base: see [`Line::change`].
    fn change(&self) -> f64 {
        if self.is_ratio() {
            self.new.value / self.base.value
        } else {
            self.new.value - self.base.value
        }
    }

    /// Interval of the change. Batches give its width; the figure over all pins gives its position. That
    /// of a quantile reaches to the interval of the batches too: a burst in a few of them moves the p99
    /// over all pins and not that of the other batches.
    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let around = |estimate: Estimate, middle: f64| {
            let moved = estimate.map(|value| value - estimate.value + middle);
            match self.figure.aggregate {
                Aggregate::Quantile(_) => moved.reaching(estimate),
                Aggregate::Share | Aggregate::Mean => moved,
            }
        };
        let Self { base, new, .. } = self;
        let errors = || {
            let varies_by_run = self.figure.unit.is_time() && !(base.by_run && new.by_run);
            Errors {
                inflations: [base.inflation(), new.inflation()],
                shared: if varies_by_run { self.shared } else { 0.0 },
            }
        };
        let estimate = if self.is_share() {
            // A burst that one side happens not to show can happen on it too.
            let resemblance = f64::max(base.resemblance(), new.resemblance());
            let share = |side: &SampleSet| side.share(resemblance, level);
            let (base, new) = share(base).zip(share(new))?;
            stats::of_share_difference(base, new)?
        } else if self.is_ratio() {
            let log = stats::of_difference(&base.logs(), &new.logs(), errors(), level)?;
            around(log, self.change().ln()).map(f64::exp)
        } else {
            let errors = Errors {
                // `self.shared` applies to the logarithm of a ratio.
                shared: 0.0,
                ..errors()
            };
            let difference = stats::of_difference(&base.pieces, &new.pieces, errors, level)?;
            around(difference, self.change())
        };
        estimate.interval
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

    fn line(self, level: f64, threshold: f64) -> Line {
        Line {
            figure: self.figure.name,
            unit: self.figure.unit,
            better: self.figure.better,
            base: self.base.value,
            new: self.new.value,
            change: self.change(),
            interval: self.interval(LEVEL),
            is_ratio: self.is_ratio(),
            verdict: self.verdict(level, threshold),
            group: self.group,
            failures: self.failures,
        }
    }
}

impl Comparison {
    /// Lines with the given verdict.
    pub fn with(&self, verdict: Change) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .filter(move |line| line.verdict == verdict)
    }

    /// Whether any figure is worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.with(Change::Worse).next().is_some()
    }
}
