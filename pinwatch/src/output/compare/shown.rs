//! Parts that the text, the JSON and the page of a comparison share.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::evaluation::capture::Capture;
use crate::evaluation::claims::{Finding, findings};
use crate::evaluation::comparability::{Difference, environment};
use crate::evaluation::compare::{Comparison, Unresolved};
use crate::evaluation::figures::Unit;
use crate::evaluation::line::{Change, Line, NotCompared};
use crate::model::format::{Clock, printable};

/// A comparison with its recordings.
pub struct Shown<'a> {
    pub base: &'a [Capture],
    pub new: &'a [Capture],
    pub comparison: &'a Comparison,
    /// Differences between the sides that `--allow` accepted.
    pub allowed: &'a [Difference],
}

/// Verdict in one sentence.
#[must_use]
pub fn verdict(comparison: &Comparison) -> String {
    let count = |change| comparison.with(change).count();
    let (worse, better) = (count(Change::Worse), count(Change::Better));
    let judged = comparison
        .lines
        .iter()
        .filter(|line| line.verdict != Change::Different);
    let judged = judged
        .filter(|line| line.better == crate::evaluation::figures::Better::Lower)
        .count();
    match (worse, better) {
        (0, 0) => format!("no difference: none of {judged} figures is worse or better"),
        (0, _) => format!("better: {better} of {judged} figures are better, none is worse"),
        (_, 0) => format!("worse: {worse} of {judged} figures are worse, none is better"),
        _ => format!("worse: {worse} of {judged} figures are worse, {better} are better"),
    }
}

/// Note on a machine whose speed changed between recordings by 5 % or more; `None` if it did not.
pub(super) fn unsteady(comparison: &Comparison) -> Option<String> {
    let times = comparison.unsteadiness;
    (times >= 1.05).then(|| {
        format!(
            "the machine was x{times:.2} slower at one time than at another, at work that has nothing to do with pins: \
             durations of single runs are compared as roughly as that"
        )
    })
}

/// A figure that is not compared, with the reason, in one line.
pub(super) fn not_compared(left_out: &NotCompared) -> String {
    let NotCompared {
        figure,
        group,
        reason,
    } = left_out;
    match group {
        Some(group) => format!("{figure}, {}: {reason}", printable(group)),
        None => format!("{figure}: {reason}"),
    }
}

/// Formats the value of a figure in its unit.
pub(super) fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Share => format!("{:.1} %", 100.0 * value),
        Unit::Nanoseconds => Clock::Time.span(value as u64),
        Unit::NanosecondsPerPage => Clock::Time.fine(value),
        Unit::Instructions => Clock::Instructions.span(value as u64),
        Unit::InstructionsPerPage => Clock::Instructions.fine(value),
        Unit::Number => format!("{value:.2}"),
    }
}

/// Formats the change of a figure from base to new, with its interval.
pub(super) fn change(line: &Line) -> String {
    let each = |value: f64| match (line.is_ratio, line.unit) {
        (true, _) => format!("x{value:.3}"),
        (false, Unit::Share) => format!("{:+.1} %", 100.0 * value),
        (false, _) => format!("{value:+.2}"),
    };
    match line.interval {
        Some((low, high)) => format!("{} ({} to {})", each(line.change), each(low), each(high)),
        None => format!("{} (too few pins for an interval)", each(line.change)),
    }
}

/// The change without its interval: `+20.1%`, `x15.2`, or percentage points.
pub(super) fn amount(line: &Line) -> String {
    match (line.is_ratio, line.unit) {
        (true, _) if (0.5..2.0).contains(&line.change) => {
            format!("{:+.1}%", 100.0 * (line.change - 1.0))
        }
        (true, _) => format!("x{}", short(line.change)),
        (false, Unit::Share) if line.change.abs() >= 0.9995 => {
            format!("{:+.0}pp", 100.0 * line.change)
        }
        (false, Unit::Share) => format!("{:+.1}pp", 100.0 * line.change),
        (false, _) if line.change < 0.0 => format!("-{}", short(-line.change)),
        (false, _) => format!("+{}", short(line.change)),
    }
}

/// A number of few characters.
fn short(value: f64) -> String {
    match value {
        1e4.. => format!("{value:.0e}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Unit of a figure, and both values with half the widths of their intervals in that unit.
pub(super) fn scaled(line: &Line) -> (&'static str, (String, String)) {
    let larger = line.base.abs().max(line.new.abs());
    let (unit, divisor) = match (line.unit, larger) {
        (Unit::Share, _) => ("%", 0.01),
        (Unit::Nanoseconds | Unit::NanosecondsPerPage, 1e9..) => ("s", 1e9),
        (Unit::Nanoseconds | Unit::NanosecondsPerPage, 1e6..) => ("ms", 1e6),
        (Unit::Nanoseconds | Unit::NanosecondsPerPage, 1e3..) => ("us", 1e3),
        (Unit::Nanoseconds | Unit::NanosecondsPerPage, _) => ("ns", 1.0),
        (Unit::Instructions | Unit::InstructionsPerPage, 1e6..) => ("Minstr", 1e6),
        (Unit::Instructions | Unit::InstructionsPerPage, 1e3..) => ("kinstr", 1e3),
        (Unit::Instructions | Unit::InstructionsPerPage, _) => ("instr", 1.0),
        (Unit::Number, _) => ("number", 1.0),
    };
    let text = |value: f64, half: Option<f64>| {
        let value = short(value / divisor);
        half.map_or(value.clone(), |half| {
            format!("{value}+-{}", short(half / divisor))
        })
    };
    let halves = line.half_widths.unzip();
    (unit, (text(line.base, halves.0), text(line.new, halves.1)))
}

/// Printable ASCII alone; `?` for each other character.
pub(super) fn ascii(text: &str) -> String {
    let chars = text.chars();
    chars
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() {
                c
            } else {
                '?'
            }
        })
        .collect()
}

/// Name of a verdict, also used as a CSS class.
pub(super) fn word(change: Change) -> &'static str {
    match change {
        Change::Worse => "worse",
        Change::Better => "better",
        Change::Different => "different",
        Change::Same => "same",
        Change::Unclear => "no difference shown",
    }
}

/// Object of `pinwatch compare --json`.
#[derive(Serialize)]
struct Json<'a> {
    verdict: String,
    worse: bool,
    #[serde(flatten)]
    comparison: &'a Comparison,
    unresolved: Vec<Unresolved>,
    allowed: &'a [Difference],
    base: Vec<Side>,
    new: Vec<Side>,
}

/// One recording in the JSON object.
#[derive(Serialize)]
struct Side {
    file: String,
    pins: u64,
    failed: u64,
    lost: u64,
    environment: Vec<(String, String)>,
    claims: Vec<Finding>,
}

/// The comparison as one JSON object; docs/json.md lists its fields.
///
/// # Errors
///
/// If serialising fails.
pub fn json(shown: &Shown) -> serde_json::Result<String> {
    let side = |capture: &Capture| Side {
        file: capture.path.display().to_string(),
        pins: capture.evidence.pins,
        failed: capture.evidence.failed,
        lost: capture.lost.total(),
        environment: environment(capture).collect(),
        claims: findings(capture),
    };
    serde_json::to_string_pretty(&Json {
        verdict: verdict(shown.comparison),
        worse: shown.comparison.is_worse(),
        comparison: shown.comparison,
        unresolved: shown.comparison.unresolved().collect(),
        allowed: shown.allowed,
        base: shown.base.iter().map(side).collect(),
        new: shown.new.iter().map(side).collect(),
    })
}
