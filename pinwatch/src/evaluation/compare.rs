//! Compares two kernels, base and new, by the figures of each group.
//!
//! Consecutive pins are not independent: they share pages, caches and neighbours. So intervals come from
//! [`BATCHES`](super::sample_set::BATCHES) batches of consecutive pins, each with one value. Correlated
//! batches, as on a machine that gets busier, widen the interval ([`stats::inflation`]).
//!
//! With three runs or more on both sides each run gives one value instead. That includes the differences
//! between boots. The error is at least that of the batches inside the runs: an episode is one event of its
//! run, so runs that happen to have one on one side only do not decide. With fewer runs the data do not show
//! the differences between boots. Intervals of durations are then widened by [`Rules::run_spread`], or by
//! the change of the machine's speed if that is larger.
//!
//! Runs of a side on a slower machine show no difference of the kernels: what the machine's speed differs by
//! between the sides widens the intervals of durations.
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
use super::figures::{Better, FAILED, FIGURES};
use super::group::{Group, Key};
use super::line::{Change, Line, NotCompared};
use super::lost::{not_applicable, not_measured, refuse_without_pins};
use super::pair::{Pair, SHARE};
use super::sample_set::SampleSet;
use super::stats::{self, LEVEL};
use super::unreturned;
use crate::model::format::{Clock, printable};

/// Minimum number of runs per side to compare runs instead of batches.
const RUNS: usize = 3;

/// Limits of a comparison.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rules {
    /// Smallest relative change that counts, such as 0.05. A share must differ by a twentieth of this value: 0.0025.
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
            "A ratio matters from {:.0} % on, a share from {:.2} % on. Durations of runs of one kernel are assumed to \
             have a standard deviation of {:.0} %",
            100.0 * threshold,
            100.0 / SHARE * threshold,
            100.0 * run_spread
        )
    }
}

/// Natural logarithms of the times of the fixed work at both ends of a recording. The end does not count if pins
/// were in flight: a pin that loops takes part of the processor, and says nothing about the machine.
fn speeds(capture: &Capture) -> impl Iterator<Item = f64> {
    let end = capture.end.as_ref();
    let alone = end.filter(|end| end.status.in_flight.is_empty());
    let end = alone.and_then(|end| end.yardstick_ns);
    let measured = [capture.header.yardstick_ns, end].into_iter().flatten();
    measured.filter(|ns| *ns > 0).map(|ns| (ns as f64).ln())
}

/// Longest time of the fixed work in these recordings divided by the shortest; 1 if they have none.
fn unsteadiness(base: &[Capture], new: &[Capture]) -> f64 {
    let measured = || base.iter().chain(new).flat_map(speeds);
    let (least, most) = (
        measured().fold(f64::INFINITY, f64::min),
        measured().fold(f64::NEG_INFINITY, f64::max),
    );
    if least <= most {
        (most - least).exp()
    } else {
        1.0
    }
}

/// Squared difference of the logarithm of the machine's speed between the two sides, beyond what the runs of a
/// side differ by: those differences are in its durations too. 0 if a recording has no calibration.
fn imbalance(base: &[Capture], new: &[Capture]) -> f64 {
    let of_runs = |side: &[Capture]| -> Option<Vec<f64>> {
        let runs = side.iter().map(|capture| {
            let speeds: Vec<_> = speeds(capture).collect();
            (!speeds.is_empty()).then(|| stats::mean(&speeds))
        });
        runs.collect()
    };
    let Some((base, new)) = of_runs(base).zip(of_runs(new)) else {
        return 0.0;
    };
    let chance = [&base, &new].map(|side| stats::error_squared(side).unwrap_or_default());
    let difference = stats::mean(&new) - stats::mean(&base);
    (difference.powi(2) - chance[0] - chance[1]).max(0.0)
}

fn clock(base: &[Capture], new: &[Capture]) -> Clock {
    let counts = |capture: &Capture| capture.clock() == Clock::Instructions;
    Clock::of(Some(base.iter().chain(new).any(counts)))
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
    /// Instructions if a recording counts them.
    pub clock: Clock,
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
        clock: clock(base, new),
    };
    // Squared error of the logarithm of a duration, for each side.
    let shared = f64::max(
        rules.run_spread.ln_1p().powi(2),
        comparison.unsteadiness.ln().powi(2) / 2.0,
    );
    let imbalance = imbalance(base, new);
    let lost = FIGURES.iter().map(|figure| {
        not_measured(figure, base, new).or_else(|| not_applicable(figure, base, new))
    });
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
        for (number, figure) in FIGURES.iter().enumerate() {
            if lost[number].is_some() {
                continue;
            }
            let (base_side, new_side) = match samples(number, key, base, new) {
                Ok(Some(sides)) => sides,
                Ok(None) => continue,
                Err(reason) => {
                    comparison.not_compared.push(reason);
                    continue;
                }
            };
            pairs.push(Pair {
                key,
                figure,
                base: base_side,
                new: new_side,
                shared,
                imbalance,
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
    for line in &mut comparison.lines {
        line.unit = line.unit.on(comparison.clock);
    }
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

/// Samples of a figure in one group of both sides; `None` if the figure says nothing about its pins. An error if
/// only one side has a value.
fn samples(
    number: usize,
    key: &Key,
    base: &[&Group],
    new: &[&Group],
) -> Result<Option<(SampleSet, SampleSet)>, NotCompared> {
    let runs = base.len() >= RUNS && new.len() >= RUNS;
    let of = |side| SampleSet::new(number, side, runs);
    let (without, runs) = match (of(base), of(new)) {
        (Some(base), Some(new)) => return Ok(Some((base, new))),
        (None, None) => return Ok(None),
        (None, Some(_)) => ("base", base),
        (Some(_), None) => ("new", new),
    };
    // Of failed pins most figures have no value. The failures are a figure of their own.
    if runs.iter().all(|group| group.failed == group.pins) {
        return Ok(None);
    }
    Err(NotCompared {
        figure: FIGURES[number].name,
        group: Some(key.to_string()),
        reason: format!("no pin in {without} has a value"),
    })
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

/// A deciding figure that is neither worse nor better nor the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unresolved {
    pub figure: &'static str,
    /// The group, as in [`Line::group`].
    pub scenario: String,
    /// See [`Line::boots_needed`].
    pub boots_needed: Option<u64>,
}

impl Comparison {
    /// Deciding figures without a verdict, in the order of the lines.
    pub fn unresolved(&self) -> impl Iterator<Item = Unresolved> {
        let lines = self
            .with(Change::Unclear)
            .filter(|line| line.better == Better::Lower);
        lines.map(|line| Unresolved {
            figure: line.figure,
            scenario: line.group.clone(),
            boots_needed: line.boots_needed,
        })
    }

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
