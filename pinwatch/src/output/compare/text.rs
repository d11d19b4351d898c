//! Text of a comparison.

#![forbid(unsafe_code)]

use std::io::{self, Write};

use super::conclusion::conclusion;
use super::shown::{Shown, change, not_compared, unsteady, value, verdict};
use crate::evaluation::capture::Capture;
use crate::evaluation::line::{Change, Line};
use crate::model::format::{pad, printable};

/// Writes the verdict and the conclusion, then the recordings and figures behind it. `all` also lists figures without a
/// difference.
///
/// # Errors
///
/// If writing fails.
pub fn text(shown: &Shown, all: bool, out: &mut impl Write) -> io::Result<()> {
    let comparison = shown.comparison;
    writeln!(out, "{}", verdict(comparison))?;
    for sentence in conclusion(comparison) {
        writeln!(out, "  {sentence}")?;
    }
    for (name, side) in [("base", shown.base), ("new", shown.new)] {
        for capture in side {
            writeln!(out, "  {name}: {}", described(capture))?;
        }
    }
    for difference in shown.allowed {
        writeln!(
            out,
            "  allowed: {} differs: {} | {}",
            difference.aspect.words(),
            printable(&difference.base),
            printable(&difference.new)
        )?;
    }
    if let Some(note) = unsteady(comparison) {
        writeln!(out, "  note: {note}")?;
    }
    for (verdict, title) in [
        (Change::Worse, "Worse"),
        (Change::Better, "Better"),
        (Change::Different, "Different, and neither"),
        (Change::Unclear, "No difference shown"),
        (Change::Same, "Same"),
    ] {
        let quiet = matches!(verdict, Change::Unclear | Change::Same);
        let lines: Vec<_> = comparison.with(verdict).collect();
        if lines.is_empty() {
            continue;
        }
        if quiet && !all {
            writeln!(out, "\n{title}: {} figures; --all lists them", lines.len())?;
            continue;
        }
        writeln!(out, "\n{title}")?;
        for line in lines {
            write_line(line, out)?;
        }
    }
    if !comparison.not_compared.is_empty() {
        writeln!(out, "\nNot compared")?;
        for left_out in &comparison.not_compared {
            writeln!(out, "  {}", not_compared(left_out))?;
        }
    }
    for (side, groups) in [
        ("base", &comparison.only_base),
        ("new", &comparison.only_new),
    ] {
        for (group, pins) in groups {
            writeln!(out, "\nOnly in {side}: {} ({pins} pins)", printable(group))?;
        }
    }
    writeln!(
        out,
        "\nIntervals are of 95 %. {}. A figure is worse or better if its whole interval matters.",
        comparison.rules
    )
}

/// One recording in a line: file, kernel, and counts of pins.
fn described(capture: &Capture) -> String {
    let mut text = format!(
        "{}, kernel {}, {} pins, {} failed, {} lost",
        printable(&capture.path.display().to_string()),
        printable(&capture.header.start.release),
        capture.evidence.pins,
        capture.evidence.failed,
        capture.lost.total()
    );
    if let Some(damage) = capture.damage {
        text += &format!("; {damage}");
    }
    text
}

/// Writes a figure: values, change, group, and failures if there are any.
fn write_line(line: &Line, out: &mut impl Write) -> io::Result<()> {
    let figure = pad(line.figure, 27, false);
    let values = format!(
        "{} -> {}",
        value(line.unit, line.base),
        value(line.unit, line.new)
    );
    writeln!(
        out,
        "  {figure} {} {}   {}",
        pad(&values, 28, false),
        pad(&change(line), 34, false),
        printable(&line.group)
    )?;
    if line.failures.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {:27} {}", "", line.failures.join(", "))
}
