//! Base against new, figure by figure and group by group.
//!
//! Pins that follow each other are not independent: the same pages, the same caches, the
//! same neighbours. So intervals come from batches: the pins of a side in their order, cut
//! into [`BATCHES`](super::side::BATCHES) pieces, each of which gives one value. Where neighbouring batches are alike as
//! well, as when the machine gets busier meanwhile, intervals are wider for it. With three runs or more on both sides each
//! run gives one value instead, which also covers what differs between boots.
//!
//! Of a hundred figures some differ by chance. What is shown are intervals of 95 % each;
//! what is judged are wider ones, all of which together are right in 95 % (Bonferroni).

use std::collections::BTreeMap;

use serde::Serialize;

use super::capture::Capture;
use super::figures::{Better, FAILED, FIGURES, Figure, How, Unit};
use super::group::{Group, Key};
use super::side::Side;
use super::stats::{self, Estimate, LEVEL};

/// A difference of shares matters when it is this part of a ratio that does.
const SHARE: f64 = 5.0;
/// Runs of a side from which they, not batches, are what is compared.
const RUNS: usize = 3;

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Worse,
    Better,
    /// A figure that only explains others is not what it was.
    Different,
    /// Any difference is smaller than what matters.
    Same,
    /// The interval has room for a difference that matters.
    Unclear,
}

/// A figure of a group, on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub group: String,
    pub figure: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub base: f64,
    pub new: f64,
    /// New divided by base; where that makes no sense, new minus base.
    pub change: f64,
    /// Of 95 %.
    pub interval: Option<(f64, f64)>,
    pub is_ratio: bool,
    pub verdict: Change,
    /// Of failed pins, why they failed in new, or in base where none did.
    pub failures: Vec<String>,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub lines: Vec<Line>,
    /// Groups that only one side has, with their pins.
    pub only_base: Vec<(String, u64)>,
    pub only_new: Vec<(String, u64)>,
    /// The smallest ratio that matters, less one; of shares, a fifth of it.
    pub threshold: f64,
}

/// Compares the runs of both sides.
#[must_use]
pub fn compare(base: &[Capture], new: &[Capture], threshold: f64) -> Comparison {
    let sides = [by_group(base), by_group(new)];
    let mut comparison = Comparison {
        lines: Vec::new(),
        only_base: only(&sides[0], &sides[1]),
        only_new: only(&sides[1], &sides[0]),
        threshold,
    };
    let mut pairs = Vec::new();
    for (key, base) in &sides[0] {
        let Some(new) = sides[1].get(key) else {
            continue;
        };
        let runs = base.len() >= RUNS && new.len() >= RUNS;
        for figure in FIGURES {
            let sides = (Side::new(figure, base, runs), Side::new(figure, new, runs));
            let (Some(base_side), Some(new_side)) = sides else {
                continue;
            };
            pairs.push(Pair {
                group: key.to_string(),
                figure,
                base: base_side,
                new: new_side,
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
    comparison.lines = pairs
        .into_iter()
        .map(|pair| pair.line(level, threshold))
        .collect();
    comparison
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

/// Why pins failed in new, or in base if none did there.
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

/// A figure of a group, before it is judged.
struct Pair {
    group: String,
    figure: &'static Figure,
    base: Side,
    new: Side,
    failures: Vec<String>,
}

impl Pair {
    fn is_share(&self) -> bool {
        self.figure.how == How::Share
    }

    fn is_ratio(&self) -> bool {
        !self.is_share() && self.base.is_positive() && self.new.is_positive()
    }

    /// New divided by base, or less base.
    fn change(&self) -> f64 {
        if self.is_ratio() {
            self.new.value / self.base.value
        } else {
            self.new.value - self.base.value
        }
    }

    /// Of the change. Batches tell how wide it is; it lies around the figure of all pins.
    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let around =
            |estimate: Estimate, middle: f64| estimate.map(|value| value - estimate.value + middle);
        let Self { base, new, .. } = self;
        let estimate = if self.is_share() {
            let (base, new) = base.share(level).zip(new.share(level))?;
            stats::of_share_difference(base, new)?
        } else if self.is_ratio() {
            let inflations = [base.inflation(), new.inflation()];
            let log = stats::of_difference(&base.logs(), &new.logs(), inflations, level)?;
            around(log, self.change().ln()).map(f64::exp)
        } else {
            let inflations = [base.inflation(), new.inflation()];
            let difference = stats::of_difference(&base.pieces, &new.pieces, inflations, level)?;
            around(difference, self.change())
        };
        estimate.interval
    }

    /// Changes between these do not matter.
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
    /// Lines with one verdict.
    pub fn with(&self, verdict: Change) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .filter(move |line| line.verdict == verdict)
    }

    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.with(Change::Worse).next().is_some()
    }
}
