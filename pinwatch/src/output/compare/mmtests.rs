//! A comparison in the layout of MMTests' `compare-kernels.sh`: two columns, each value with its
//! improvement in per cent. Positive is better, and asterisks instead of brackets mark a change beyond the
//! noise.

#![forbid(unsafe_code)]

use super::mail::name;
use super::shown::{Shown, ascii};
use crate::evaluation::capture::Capture;
use crate::evaluation::figures::{Better, Unit};
use crate::evaluation::line::{Change, Line};

/// Columns of a value with its improvement, as in MMTests.
const COLUMN: usize = 23;

/// Renders the comparison.
#[must_use]
pub fn mmtests(shown: &Shown) -> String {
    let lines = shown.comparison.lines.iter();
    let lines: Vec<_> = lines.filter(|line| line.better == Better::Lower).collect();
    let rows: Vec<_> = lines
        .iter()
        .map(|line| (operation(line), ascii(&line.scenario).replace(' ', "_")))
        .collect();
    let width = |of: fn(&(String, String)) -> &String| {
        let widths = rows.iter().map(|row| of(row).len());
        widths.max().unwrap_or(0)
    };
    let (first, second) = (width(|row| &row.0), width(|row| &row.1));
    let sides = [shown.base, shown.new].map(kernel);
    let mut text = String::new();
    for part in [0, 1] {
        text += &" ".repeat(first + 1 + second);
        for side in &sides {
            text += &format!("{:>COLUMN$}", side[part]);
        }
        text.push('\n');
    }
    for (line, (operation, scenario)) in lines.iter().zip(&rows) {
        text += &format!("{operation:first$} {scenario:second$}");
        let (base, new) = (in_unit(line.unit, line.base), in_unit(line.unit, line.new));
        text += &format!("{base:12.2} ({:7.2}%)", 0.0);
        let better = improvement(base, new);
        text += &match line.verdict {
            Change::Worse | Change::Better => format!("{new:12.2} *{better:7.2}%*"),
            Change::Different | Change::Same | Change::Unclear => {
                format!("{new:12.2} ({better:7.2}%)")
            }
        };
        text.push('\n');
    }
    text
}

/// The two lines of a column's title. MMTests splits a name at the first hyphen that does not begin `-rc`.
fn kernel(side: &[Capture]) -> [String; 2] {
    let name = side
        .first()
        .map_or_else(String::new, |run| ascii(&run.header.start.release));
    let mut hyphens = name.match_indices('-').map(|(at, _)| at);
    let at = hyphens.find(|at| !name[*at..].starts_with("-rc"));
    let (version, rest) = at.map_or((name.as_str(), ""), |at| (&name[..at], &name[at + 1..]));
    [version, rest].map(|part| part.chars().take(COLUMN - 1).collect())
}

/// Figure and unit.
fn operation(line: &Line) -> String {
    let unit = match line.unit {
        Unit::Share => "pct",
        Unit::Nanoseconds => "us",
        Unit::NanosecondsPerPage => "ns",
        Unit::Instructions | Unit::InstructionsPerPage => "instr",
        Unit::Number => "mean",
    };
    format!("{}-{unit}", name(line.figure).replace(' ', "-"))
}

fn in_unit(unit: Unit, value: f64) -> f64 {
    match unit {
        Unit::Share => 100.0 * value,
        Unit::Nanoseconds => value / 1e3,
        Unit::NanosecondsPerPage
        | Unit::Instructions
        | Unit::InstructionsPerPage
        | Unit::Number => value,
    }
}

/// Improvement in per cent where lower is better, with MMTests' values for a side that is 0.
fn improvement(base: f64, new: f64) -> f64 {
    if base == new {
        0.0
    } else if new == 0.0 {
        100.0
    } else if base == 0.0 {
        -99.0
    } else {
        100.0 - 100.0 * new / base
    }
}
