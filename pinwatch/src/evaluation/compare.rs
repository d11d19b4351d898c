//! Base against new, figure by figure and group by group.
//!
//! Pins that follow each other are not independent: the same pages, the same caches, the
//! same neighbours. So intervals come from batches: the pins of a side in their order, cut
//! into [`BATCHES`] pieces, each of which gives one value. With three runs or more on both
//! sides each run gives one value instead, which also covers what differs between boots.

use std::collections::BTreeMap;

use serde::Serialize;

use super::capture::Capture;
use super::figures::{Better, FAILED, FIGURES, Figure, How, Unit};
use super::group::{Group, Key, Sample};
use super::stats::{self, Estimate};

/// Pieces of a side with few runs.
const BATCHES: usize = 20;
/// Values of a piece that a quantile of 99 % needs.
const FOR_P99: usize = 50;
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
            let mut line = line(key, figure, &base_side, &new_side, threshold);
            if figure.name == FAILED {
                line.failures = failures(new);
                if line.failures.is_empty() {
                    line.failures = failures(base);
                }
            }
            comparison.lines.push(line);
        }
    }
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

/// A figure on one side.
struct Side {
    value: f64,
    /// One of each batch, or of each run.
    pieces: Vec<f64>,
    pins: f64,
}

impl Side {
    fn new(figure: &Figure, runs: &[&Group], by_run: bool) -> Option<Self> {
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
            pins: all.len() as f64,
        })
    }

    /// The share, with as many pins as would be independent: where batches differ by
    /// more than chance lets independent pins, there are fewer.
    fn share(&self) -> Option<Estimate> {
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
        stats::of_share(p * self.pins / effect, self.pins / effect)
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

fn line(key: &Key, figure: &Figure, base: &Side, new: &Side, threshold: f64) -> Line {
    let positive = |side: &Side| {
        side.pieces
            .iter()
            .chain([&side.value])
            .all(|value| *value > 0.0)
    };
    let is_ratio = figure.how != How::Share && positive(base) && positive(new);
    let logs = |side: &Side| {
        side.pieces
            .iter()
            .map(|value| value.ln())
            .collect::<Vec<_>>()
    };
    let change = if is_ratio {
        new.value / base.value
    } else {
        new.value - base.value
    };
    // Batches tell how wide an interval is; it lies around the figure of all pins.
    let around =
        |estimate: Estimate, middle: f64| estimate.map(|value| value - estimate.value + middle);
    let estimate = if figure.how == How::Share {
        let shares = base.share().zip(new.share());
        shares.and_then(|(base, new)| stats::of_share_difference(base, new))
    } else if is_ratio {
        let log = stats::of_difference(&logs(base), &logs(new));
        log.map(|log| around(log, change.ln()).map(f64::exp))
    } else {
        let difference = stats::of_difference(&base.pieces, &new.pieces);
        difference.map(|difference| around(difference, change))
    };
    let interval = estimate.and_then(|estimate| estimate.interval);
    let (least, most) = if is_ratio {
        (1.0 / (1.0 + threshold), 1.0 + threshold)
    } else if figure.how == How::Share {
        (-threshold / SHARE, threshold / SHARE)
    } else {
        let matters = threshold * base.value.abs().max(new.value.abs()).max(f64::MIN_POSITIVE);
        (-matters, matters)
    };
    let verdict = match interval {
        Some((low, _)) if low > most && figure.better == Better::Lower => Change::Worse,
        Some((_, high)) if high < least && figure.better == Better::Lower => Change::Better,
        Some((low, high)) if low > most || high < least => Change::Different,
        Some((low, high)) if low >= least && high <= most => Change::Same,
        _ => Change::Unclear,
    };
    Line {
        group: key.to_string(),
        figure: figure.name,
        unit: figure.unit,
        better: figure.better,
        base: base.value,
        new: new.value,
        change,
        interval,
        is_ratio,
        verdict,
        failures: Vec::new(),
    }
}

fn failures(runs: &[&Group]) -> Vec<String> {
    let mut sums = BTreeMap::new();
    for ((errno, cause), n) in runs.iter().flat_map(|group| &group.failures) {
        *sums.entry((errno, cause)).or_insert(0) += n;
    }
    let lines = sums.into_iter();
    lines
        .map(|((errno, cause), n)| format!("{n} {errno} ({cause})"))
        .collect()
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
