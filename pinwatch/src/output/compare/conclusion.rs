//! The conclusion of a comparison in words: what is worse or better, by how much, in which scenarios, and
//! what is not resolved.

#![forbid(unsafe_code)]

use super::shown::amount;
use crate::evaluation::compare::Comparison;
use crate::evaluation::figures::{Better, FIGURES};
use crate::evaluation::line::{Change, Line};
use crate::evaluation::pair::MOST_BOOTS;
use crate::model::format::printable;

/// Maximum number of scenarios that a sentence names.
const NAMED: usize = 3;

/// Sentences of the conclusion: one per figure that is worse, then one per better one, then one per figure
/// that is not resolved.
#[must_use]
pub fn conclusion(comparison: &Comparison) -> Vec<String> {
    let verdicts = [
        (Change::Worse, "worse"),
        (Change::Better, "better"),
        (Change::Unclear, "not resolved"),
    ];
    let sentences = verdicts.into_iter().flat_map(|(verdict, word)| {
        let figures = by_figure(comparison, verdict).into_iter();
        figures.map(move |lines| format!("{word}: {}", sentence(comparison, lines, verdict)))
    });
    sentences.collect()
}

/// Deciding lines with this verdict, by figure, in the order of the figures.
pub(super) fn by_figure(comparison: &Comparison, verdict: Change) -> Vec<Vec<&Line>> {
    let mut figures: Vec<Vec<&Line>> = Vec::new();
    let lines = comparison.with(verdict);
    for line in lines.filter(|line| line.better == Better::Lower) {
        match figures.iter_mut().find(|of| of[0].figure == line.figure) {
            Some(of) => of.push(line),
            None => figures.push(vec![line]),
        }
    }
    figures.sort_by_key(|of| {
        FIGURES
            .iter()
            .position(|figure| figure.name == of[0].figure)
    });
    figures
}

fn sentence(comparison: &Comparison, mut lines: Vec<&Line>, verdict: Change) -> String {
    let figure = lines[0].figure;
    let compared = comparison.lines.iter().filter(|line| line.figure == figure);
    let of = compared.count();
    if verdict == Change::Unclear {
        lines.sort_by_key(|line| line.boots_needed.unwrap_or(u64::MAX));
        let first = boots(lines[0]);
        if lines.iter().all(|line| boots(line) == first) {
            let names = names(&lines, |_| String::new());
            return format!(
                "{figure} in {} of {of} scenarios ({first}): {names}",
                lines.len()
            );
        }
        let names = names(&lines, |line| format!(" ({})", boots(line)));
        return format!("{figure} in {} of {of} scenarios: {names}", lines.len());
    }
    lines.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let (most, least) = (lines[0], lines[lines.len() - 1]);
    let by = match (amount(least), amount(most)) {
        (least, most) if least == most => most,
        (least, most) => format!("{least} to {most}"),
    };
    let names = names(&lines, |_| String::new());
    format!(
        "{figure} by {by} in {} of {of} scenarios: {names}",
        lines.len()
    )
}

/// Scenarios of the first lines, and the number of the others.
fn names(lines: &[&Line], note: impl Fn(&Line) -> String) -> String {
    let named = lines.iter().take(NAMED);
    let named = named.map(|line| printable(&line.scenario) + &note(line));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if lines.len() > NAMED {
        text += &format!(", and {} more", lines.len() - NAMED);
    }
    text
}

/// How many boots would give an unclear figure a verdict.
pub(super) fn boots(line: &Line) -> String {
    match (line.boots_needed, line.interval) {
        (Some(boots), _) => format!("{boots} boots"),
        (None, None) => "too few pins for an estimate".to_owned(),
        (None, Some(_)) => format!("more than {MOST_BOOTS} boots"),
    }
}

/// Range of the boots that would give unclear figures a verdict.
pub(super) fn range_of_boots(lines: &[&Line]) -> String {
    let mut known: Vec<_> = lines.iter().filter_map(|line| line.boots_needed).collect();
    known.sort_unstable();
    let without = |estimated: bool| {
        let mut lines = lines.iter().filter(|line| line.boots_needed.is_none());
        lines.find(|line| line.interval.is_some() == estimated)
    };
    let (beyond, unknown) = (without(true), without(false));
    let mut parts = Vec::new();
    match (known.first(), known.last(), beyond) {
        (Some(least), _, Some(beyond)) => parts.push(format!("{least} to {}", boots(beyond))),
        (Some(least), Some(most), None) if least != most => {
            parts.push(format!("{least} to {most} boots"));
        }
        (Some(boots), ..) => parts.push(format!("{boots} boots")),
        (None, _, Some(beyond)) => parts.push(boots(beyond)),
        (None, _, None) => {}
    }
    parts.extend(unknown.map(|line| boots(line)));
    parts.join(" or ")
}

/// Size of a change, for sorting: its logarithm, or percentage points.
pub(super) fn size(line: &Line) -> f64 {
    if line.is_ratio {
        line.change.max(f64::MIN_POSITIVE).ln().abs()
    } else {
        100.0 * line.change.abs()
    }
}
