//! A comparison for the cover letter of a patch: plain ASCII of at most 30 lines of 72 columns.

#![forbid(unsafe_code)]

use super::conclusion::{by_figure, range_of_boots, size};
use super::shown::{Shown, amount, ascii, scaled, verdict};
use crate::evaluation::capture::Capture;
use crate::evaluation::compare::Comparison;
use crate::evaluation::figures::{Better, FAILED};
use crate::evaluation::line::{Change, Line};
use crate::evaluation::unreturned::ALL_PINS;

/// Maximum number of lines.
const LINES: usize = 30;
/// Maximum number of columns.
const COLUMNS: usize = 72;
/// Lines kept for figures that are better, if there are any.
const BETTER: usize = 3;

/// Renders the comparison.
#[must_use]
pub fn mail(shown: &Shown) -> String {
    let mut lines = header(shown);
    let footer = footer(shown.comparison);
    // A line says how many figures are not listed.
    let space = LINES.saturating_sub(lines.len() + footer.len() + 1);
    let figures = selected(shown.comparison, space);
    let (mut changed, mut listed) = (0, 0);
    for line in deciding(shown.comparison) {
        changed += usize::from(exceeds(line));
        listed +=
            usize::from(exceeds(line) && figures.iter().any(|figure| std::ptr::eq(*figure, line)));
    }
    lines.extend(figures.into_iter().map(row));
    if listed < changed {
        lines.push(format!(
            "{} more changes; `pinwatch compare` lists them",
            changed - listed
        ));
    }
    lines.extend(footer);
    lines.truncate(LINES);
    let lines = lines.iter().map(|line| cut(&ascii(line), COLUMNS) + "\n");
    lines.collect()
}

fn deciding(comparison: &Comparison) -> impl Iterator<Item = &Line> {
    comparison
        .lines
        .iter()
        .filter(|line| line.better == Better::Lower)
}

/// Whether the change exceeds the noise and what matters.
fn exceeds(line: &Line) -> bool {
    matches!(line.verdict, Change::Worse | Change::Better)
}

/// The most important figures: of those that changed, pins that fail or do not return first, then by size of the
/// change.
fn selected(comparison: &Comparison, space: usize) -> Vec<&Line> {
    let with = |verdict: Change| {
        let mut lines: Vec<_> = deciding(comparison)
            .filter(|line| line.verdict == verdict)
            .collect();
        lines.sort_by(|a, b| {
            let first =
                |line: &Line| exceeds(line) && line.group != ALL_PINS && line.figure != FAILED;
            first(a).cmp(&first(b)).then(size(b).total_cmp(&size(a)))
        });
        lines
    };
    let mut lines = with(Change::Worse);
    let better = with(Change::Better);
    lines.truncate(space - better.len().min(BETTER).min(space));
    lines.extend(better);
    lines.extend(with(Change::Unclear));
    lines.extend(with(Change::Same));
    lines.truncate(space);
    lines
}

/// Verdict, kernels, machine, boots, load, the commands that repeat it, and the titles of the columns.
fn header(shown: &Shown) -> Vec<String> {
    let first = &shown.base[0];
    let machine = &first.header.machine;
    let mut lines = vec![format!("Long-term pins: {}", verdict(shown.comparison))];
    for (name, side) in [("base", shown.base), ("new", shown.new)] {
        let mut releases: Vec<_> = side
            .iter()
            .map(|run| run.header.start.release.as_str())
            .collect();
        releases.dedup();
        lines.extend(wrapped(name, &releases.join(", "), 1));
    }
    let described = format!(
        "{} x {}, {} MiB, {} node(s), clock {}{}",
        machine.cpus,
        machine.cpu,
        machine.memory_kib / 1024,
        machine.nodes,
        machine.clocksource,
        match machine.counts_instructions {
            Some(true) => ", counts instructions",
            Some(false) | None => "",
        }
    );
    lines.extend(wrapped("machine", &described, 2));
    lines.extend(wrapped("boots", &boots_and_order(shown), 2));
    let command = first.header.command.as_deref();
    let load = command.map_or_else(
        || "not started by pinwatch".to_owned(),
        |words| words.join(" "),
    );
    lines.extend(wrapped("load", &load, 2));
    lines.extend(wrapped("repeat", &commands(shown), 3));
    lines.push("< lower is better; +- 95 % of each side; * beyond noise and threshold".to_owned());
    lines.push(columns([
        "scenario", "figure", "unit", "", "base", "new", "change", "",
    ]));
    lines
}

/// Numbers of runs of both sides and of their boots, and the order in which they were recorded.
fn boots_and_order(shown: &Shown) -> String {
    let side = |side: &[Capture]| {
        // Time of day minus the monotonic clock: the same for all recordings of a boot, but for
        // adjustments of the time.
        const ADJUSTED_NS: i64 = 10_000_000_000;
        let mut offsets: Vec<_> = side
            .iter()
            .map(|run| run.header.start.wall_offset_ns)
            .collect();
        offsets.sort_unstable();
        offsets.dedup_by(|later, earlier| later.abs_diff(*earlier) < ADJUSTED_NS.unsigned_abs());
        format!("{} in {} boot(s)", side.len(), offsets.len())
    };
    let began = |run: &Capture| {
        let start = &run.header.start;
        i128::from(start.wall_offset_ns) + i128::from(start.status.now_ns)
    };
    let mut order: Vec<_> = shown.base.iter().map(|run| (began(run), 'B')).collect();
    order.extend(shown.new.iter().map(|run| (began(run), 'N')));
    order.sort_by_key(|(began, _)| *began);
    let order: String = order.into_iter().map(|(_, side)| side).collect();
    format!(
        "base {}, new {}; order {order}",
        side(shown.base),
        side(shown.new)
    )
}

/// The commands that record a run and compare the runs.
fn commands(shown: &Shown) -> String {
    let command = shown.base[0].header.command.as_deref();
    let load = command.map_or_else(String::new, |words| format!(" -- {}", words.join(" ")));
    let mut compare = "pinwatch compare --format mail".to_owned();
    for difference in shown.allowed {
        compare += &format!(" --allow {}", difference.aspect.words());
    }
    let more = |side: &[Capture]| match side.len() {
        1 => String::new(),
        runs => format!(" and {} more", runs - 1),
    };
    format!(
        "per boot: pinwatch record -o RUN{load}; then: {compare} BASE{} NEW{}",
        more(shown.base),
        more(shown.new)
    )
}

/// Figures that are not resolved, in how many scenarios, and how many boots of each kernel would resolve them.
fn footer(comparison: &Comparison) -> Vec<String> {
    let figures = by_figure(comparison, Change::Unclear).into_iter();
    let figures: Vec<_> = figures
        .enumerate()
        .map(|(at, lines)| {
            let (name, count) = (name(lines[0].figure), lines.len());
            let scenarios = if at == 0 { " scenarios" } else { "" };
            format!("{name} in {count}{scenarios}: {}", range_of_boots(&lines))
        })
        .collect();
    let text = match figures.len() {
        0 => "nothing".to_owned(),
        _ => figures.join("; ") + " (of each kernel)",
    };
    wrapped("not resolved", &text, 5)
}

fn row(line: &Line) -> String {
    let unit = scaled(line).0;
    let (base, new) = scaled(line).1;
    columns([
        &line.scenario,
        name(line.figure),
        unit,
        "<",
        &base,
        &new,
        &amount(line),
        if exceeds(line) { "*" } else { "" },
    ])
}

/// Short name of a deciding figure.
pub(super) fn name(figure: &'static str) -> &'static str {
    match figure {
        "pages left in ZONE_MOVABLE" => "in Movable",
        "duration, median" => "median",
        "duration, p99" => "p99",
        "duration per page" => "per page",
        "pins that do not return" => "no return",
        other => other,
    }
}

/// Cells of a row of 72 columns.
fn columns(cells: [&str; 8]) -> String {
    let [scenario, figure, unit, better, base, new, change, mark] = cells;
    let cell = |text: &str, width| cut(&ascii(text), width);
    format!(
        "{:15} {:11} {:8} {:1} {:>11} {:>11} {:>7}{:1}",
        cell(scenario, 15),
        cell(figure, 11),
        cell(unit, 8),
        better,
        cell(base, 11),
        cell(new, 11),
        cell(change, 7),
        mark
    )
    .trim_end()
    .to_owned()
}

/// Text behind a label, in up to `most` lines. A `~` marks where the last one is cut.
fn wrapped(label: &str, text: &str, most: usize) -> Vec<String> {
    let text = ascii(text);
    let mut lines = vec![format!("{:8}", format!("{label}:"))];
    for word in text.split(' ') {
        let full = lines
            .last()
            .is_some_and(|last| last.len() + 1 + word.len() > COLUMNS);
        if full && lines.len() < most {
            lines.push(" ".repeat(8));
        }
        if let Some(last) = lines.last_mut() {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines.iter().map(|line| cut(line, COLUMNS)).collect()
}

/// Cuts ASCII text to `width` columns; a `~` marks the cut.
fn cut(text: &str, width: usize) -> String {
    if text.len() <= width {
        text.to_owned()
    } else {
        format!("{}~", &text[..width - 1])
    }
}
