//! HTML page of a comparison, in one file. Process names in recordings are not trusted: maud escapes them,
//! and the page has no script.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use maud::{Markup, html as markup};

use super::conclusion::conclusion;
use super::plot;
use super::shown::{Shown, change, not_compared, unsteady, value, verdict, word};
use crate::evaluation::capture::Capture;
use crate::evaluation::claims::{Finding, findings};
use crate::evaluation::comparability::environment;
use crate::evaluation::group::Key;
use crate::evaluation::line::{Change, Line};
use crate::evaluation::sample::Sample;
use crate::evaluation::unreturned::ALL_PINS;
use crate::model::format::printable;
use crate::output::html_page::html_page;
use crate::output::report::words;

/// Renders the page.
#[must_use]
pub fn html(shown: &Shown) -> String {
    let title = format!(
        "pinwatch: {} against {}",
        releases(shown.base),
        releases(shown.new)
    );
    let body = markup! {
        h1 { (title) }
        (banner(shown))
        (sides(shown))
        (without_group(shown))
        @for group in groups(shown) { (card(shown, group)) }
        (claims(shown))
        (environments(shown))
    };
    html_page(&title, &body)
}

/// Kernel releases of one side, separated by commas.
fn releases(side: &[Capture]) -> String {
    let mut releases: Vec<_> = side
        .iter()
        .map(|capture| printable(&capture.header.start.release))
        .collect();
    releases.dedup();
    releases.join(", ")
}

fn banner(shown: &Shown) -> Markup {
    let class = match () {
        () if shown.comparison.is_worse() => "worse",
        () if shown.comparison.with(Change::Better).next().is_some() => "better",
        () => "same",
    };
    markup! {
        p.verdict.(class) { (verdict(shown.comparison)) }
        ul.note { @for sentence in conclusion(shown.comparison) { li { (sentence) } } }
        @if let Some(note) = unsteady(shown.comparison) {
            p.note { (note) }
        }
        @if !shown.comparison.not_compared.is_empty() {
            p.note { "Not compared:" }
            ul.note {
                @for left_out in &shown.comparison.not_compared { li { (not_compared(left_out)) } }
            }
        }
        p.note {
            "Intervals have 95 % confidence. " (shown.comparison.rules) ". A figure is worse or better only if its whole interval lies beyond that."
        }
    }
}

/// Table of the recordings, and the differences that `--allow` accepted.
fn sides(shown: &Shown) -> Markup {
    markup! {
        table {
            thead { tr { th {} th { "file" } th { "kernel" } th { "pins" } th { "failed" } th { "lost" } } }
            tbody {
                @for (name, side) in [("base", shown.base), ("new", shown.new)] {
                    @for capture in side {
                        tr {
                            td { span.key { span.dot.(name) {} (name) } }
                            td { (printable(&capture.path.display().to_string())) }
                            td { (printable(&capture.header.start.release)) }
                            td.n { (capture.evidence.pins) }
                            td.n { (capture.evidence.failed) }
                            td.n { (capture.lost.total()) }
                        }
                    }
                }
            }
        }
        @if !shown.allowed.is_empty() {
            p.note { "The sides differ in these aspects, which --allow accepted:" }
            ul.note {
                @for difference in shown.allowed {
                    li { (difference.aspect.words()) ": " (printable(&difference.base)) " | " (printable(&difference.new)) }
                }
            }
        }
    }
}

/// Groups that occur on both sides.
fn groups<'a>(shown: &Shown<'a>) -> Vec<&'a Key> {
    let has = |side: &[Capture], key: &Key| {
        side.iter()
            .any(|capture| capture.groups.0.contains_key(key))
    };
    let mut keys: BTreeMap<&Key, ()> = BTreeMap::new();
    for capture in shown.base {
        keys.extend(capture.groups.0.keys().map(|key| (key, ())));
    }
    keys.into_keys().filter(|key| has(shown.new, key)).collect()
}

/// Samples of a group in all recordings of one side.
fn samples<'a>(side: &'a [Capture], key: &Key) -> Vec<&'a Sample> {
    let groups = side.iter().filter_map(|capture| capture.groups.0.get(key));
    groups.flat_map(|group| group.samples.iter()).collect()
}

/// Figures of all pins, which belong to no group.
fn without_group(shown: &Shown) -> Markup {
    let lines = &shown.comparison.lines;
    let lines: Vec<_> = lines.iter().filter(|line| line.group == ALL_PINS).collect();
    markup! {
        @if !lines.is_empty() {
            h2 { (ALL_PINS) }
            table {
                thead { tr { th { "figure" } th { "base" } th { "new" } th { "change" } th {} } }
                tbody { @for line in lines { (row(line)) } }
            }
        }
    }
}

/// Section of one group: plots and figures. It is open if a figure is worse or better.
fn card(shown: &Shown, key: &Key) -> Markup {
    let (base, new) = (samples(shown.base, key), samples(shown.new, key));
    let clock = shown.comparison.clock;
    let name = key.to_string();
    let lines: Vec<_> = shown
        .comparison
        .lines
        .iter()
        .filter(|line| line.group == name)
        .collect();
    let worst = [Change::Worse, Change::Better].into_iter();
    let mut worst = worst.filter(|verdict| lines.iter().any(|line| line.verdict == *verdict));
    markup! {
        details open[worst.next().is_some()] {
            summary { h2 { (printable(&name)) } @for line in &lines { @if matches!(line.verdict, Change::Worse | Change::Better) {
                span.badge.(word(line.verdict)) { (line.figure) }
            } } }
            div.plots {
                figure { figcaption { "duration" } (plot::durations(&base, &new, clock)) }
                figure {
                    @if let Some(phases) = plot::phases(&base, &new, clock) {
                        figcaption { "mean " (clock.words()) " per page, by phase " (plot::phase_legend()) }
                        (phases)
                    } @else {
                        figcaption { "no pin succeeded: no costs per page" }
                    }
                }
                figure { figcaption { "passes per pin" } (plot::passes(&base, &new)) }
            }
            table {
                thead { tr { th { "figure" } th { "base" } th { "new" } th { "change" } th {} } }
                tbody { @for line in lines { (row(line)) } }
            }
        }
    }
}

fn row(line: &Line) -> Markup {
    markup! {
        tr {
            td { (line.figure) @for why in &line.failures { br; span.note { (why) } } }
            td.n { (value(line.unit, line.base)) }
            td.n { (value(line.unit, line.new)) }
            td.n { (change(line)) }
            td { @if line.verdict != Change::Unclear { span.badge.(word(line.verdict)) { (word(line.verdict)) } } }
        }
    }
}

fn claims(shown: &Shown) -> Markup {
    let of = |side: &[Capture]| side.first().map(findings).unwrap_or_default();
    let (base, new) = (of(shown.base), of(shown.new));
    markup! {
        h2 { "Claims" }
        p.note { "Judged for the first recording of each side." }
        table.claims {
            thead { tr { th { "claim" } th { "base" } th { "new" } } }
            tbody {
                @for (base, new) in base.iter().zip(&new) {
                    tr { td { b { (base.id) } " " (base.claim) } td { (finding(base)) } td { (finding(new)) } }
                }
            }
        }
    }
}

fn finding(finding: &Finding) -> Markup {
    markup! {
        b { (words(&finding.verdict)) }
        ul { @for (name, value) in &finding.figures { li { (printable(name)) ": " (printable(value)) } } }
    }
}

fn environments(shown: &Shown) -> Markup {
    let of = |side: &[Capture]| {
        side.first()
            .map(|capture| environment(capture).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (base, new) = (of(shown.base), of(shown.new));
    markup! {
        h2 { "Environment" }
        table.environment {
            thead { tr { th {} th { "base" } th { "new" } } }
            tbody {
                @for ((name, base), (_, new)) in base.iter().zip(&new) {
                    tr.differs[base != new] { td { (name) } td { (printable(base)) } td { (printable(new)) } }
                }
            }
        }
    }
}
