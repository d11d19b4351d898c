//! How long blockers held: text, JSON and page of `pinwatch report`.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use maud::{Markup, html as markup};
use pinwatch_common::hold::{HOLD_EDGES_NS, WATCH_LIMIT_NS};
use serde_json::{Value, json};

use crate::evaluation::capture::Capture;
use crate::evaluation::holds::{Holds, Unknown, Wait};
use crate::evaluation::survival::{Step, at, survival};
use crate::model::format::{Clock, printable};
use crate::output::html_page::html_page;

/// How the curve is estimated, and which folios are left out.
const METHOD: &str = "Kaplan-Meier estimate with a 95 % interval. A hold begins at the failed migration and ends at the \
first sample that finds nothing beyond the folio's mappings, its cache and the LRU, or another folio. Samples are 1 ms \
apart at first, later 1/32 of the hold. A folio that is still held after 10 s is censored there. Folios that were not \
watched are left out.";

/// Writes the curve as text. Nothing if the recording has no holds.
///
/// # Errors
///
/// If writing fails.
pub fn text(capture: &Capture, out: &mut impl Write) -> io::Result<()> {
    let holds = &capture.holds;
    if holds.watched.seen() == 0 && holds.unwatched == 0 {
        return Ok(());
    }
    writeln!(out, "\nHow long blockers held: {}", summary(holds))?;
    let steps = survival(&holds.watched);
    if !steps.is_empty() {
        for Step {
            ns,
            share,
            low,
            high,
        } in table(&steps)
        {
            const BAR: usize = 40;
            let bar = "#".repeat((share * BAR as f64).round() as usize);
            writeln!(
                out,
                "  > {:>6}  {:>5.1} %  ({:.1} to {:.1})  {bar}",
                capture.clock().span(ns),
                100.0 * share,
                100.0 * low,
                100.0 * high
            )?;
        }
    }
    writeln!(out, "  {METHOD}")
}

/// The curve at round times.
fn table(steps: &[Step]) -> impl Iterator<Item = Step> {
    HOLD_EDGES_NS.into_iter().map(|ns| Step {
        ns,
        ..at(steps, ns)
    })
}

fn summary(holds: &Holds) -> String {
    format!(
        "{} folios watched, {} of them still held after 10 s, {} not watched",
        holds.watched.seen(),
        holds.cut_off,
        holds.unwatched
    )
}

/// Says how the failed pins would have ended under one longest wait, in a sentence that a mail can quote.
#[must_use]
pub fn wait(wait: &Wait, clock: Clock) -> String {
    let Wait {
        wait_ns,
        failed,
        would_succeed,
        would_fail,
        unknown,
        waited_ns,
        longest_ns,
    } = *wait;
    let mut text = format!(
        "waiting up to {} for busy folios: {would_succeed} of {failed} long-term pins that failed on busy folios would \
         have succeeded",
        clock.span(wait_ns)
    );
    if let Some(mean) = waited_ns.checked_div(would_succeed) {
        text += &format!(
            ", after {} on average and {} at most",
            clock.span(mean),
            clock.span(longest_ns)
        );
    }
    text += &format!(
        "; {would_fail} would have failed all the same, {} later",
        clock.span(wait_ns)
    );
    if unknown.total() > 0 {
        text += &format!("; {} are unknown ({})", unknown.total(), reasons(&unknown));
    }
    text
}

fn reasons(unknown: &Unknown) -> String {
    let Unknown {
        no_blockers,
        more_folios,
        not_watched,
        cut_off,
        too_close,
    } = *unknown;
    let all = [
        (no_blockers, "no blocker seen"),
        (more_folios, "more than four folios left"),
        (not_watched, "a blocker not watched"),
        (cut_off, "cut off before the wait was over"),
        (too_close, "end too close to the wait"),
    ];
    let seen = all.into_iter().filter(|(count, _)| *count > 0);
    let seen: Vec<_> = seen.map(|(count, why)| format!("{count}: {why}")).collect();
    seen.join(", ")
}

/// The curve as JSON; docs/json.md lists the fields.
#[must_use]
pub fn json(holds: &Holds) -> Value {
    let steps = survival(&holds.watched);
    json!({
        "watched": holds.watched.seen(),
        "cut_off": holds.cut_off,
        "unwatched": holds.unwatched,
        "survival": if steps.is_empty() { Vec::new() } else { table(&steps).collect() },
        "method": METHOD,
    })
}

/// The page of `--html`: the curve, its table and the waits.
#[must_use]
pub fn html(capture: &Capture) -> String {
    let holds = &capture.holds;
    let steps = survival(&holds.watched);
    let clock = capture.clock();
    let release = printable(&capture.header.start.release);
    let title = format!("pinwatch: how long blockers held, kernel {release}");
    let body = markup! {
        h1 { (title) }
        p { (summary(holds)) }
        @if !steps.is_empty() {
            (curve(&steps, clock))
            table {
                tr { th { "Longer than" } th { "Share" } th { "95 % interval" } }
                @for step in table(&steps) {
                    tr {
                        td.n { (clock.span(step.ns)) }
                        td.n { (format!("{:.1} %", 100.0 * step.share)) }
                        td.n { (format!("{:.1} to {:.1} %", 100.0 * step.low, 100.0 * step.high)) }
                    }
                }
            }
        }
        ul { @for one in &holds.waits { li { (wait(one, clock)) } } }
        p.note { (METHOD) }
    };
    html_page(&title, &body)
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 180.0;
/// Left end of the time axis.
const FIRST_NS: u64 = 100_000;

/// The curve over a logarithmic time axis, with its interval.
fn curve(steps: &[Step], clock: Clock) -> Markup {
    let log = |ns: u64| (ns.max(FIRST_NS) as f64 / FIRST_NS as f64).log10();
    let x = |ns: u64| (log(ns) / log(WATCH_LIMIT_NS)).min(1.0) * WIDTH;
    let y = |share: f64| HEIGHT * (1.0 - share);
    let path = |share: fn(&Step) -> f64| {
        let mut path = format!("M0 {:.1}", y(1.0));
        for step in steps {
            path += &format!("H{:.1}V{:.1}", x(step.ns), y(share(step)));
        }
        path + &format!("H{WIDTH}")
    };
    let ticks = (0..).map(|n| FIRST_NS * 10u64.pow(n));
    let ticks: Vec<_> = ticks.take_while(|ns| *ns <= WATCH_LIMIT_NS).collect();
    markup! {
        svg role="img" aria-label="Share of folios that were still held" viewBox={ "-40 -6 " (WIDTH + 40.0) " " (HEIGHT + 28.0) } {
            @for (share, dashes) in [((|step| step.share) as fn(&Step) -> f64, "none"), (|step| step.low, "3 3"), (|step| step.high, "3 3")] {
                path fill="none" stroke="var(--base)" stroke-dasharray=(dashes) d=(path(share)) {}
            }
            @for percent in [0.0, 50.0, 100.0] {
                line class="tick" x1="-4" x2="0" y1=(y(percent / 100.0)) y2=(y(percent / 100.0)) {}
                text x="-6" y=(y(percent / 100.0) + 4.0) text-anchor="end" { (percent) " %" }
            }
            @for ns in ticks {
                line class="tick" x1=(x(ns)) x2=(x(ns)) y1=(HEIGHT) y2=(HEIGHT + 4.0) {}
                text x=(x(ns)) y=(HEIGHT + 17.0) text-anchor=(if x(ns) < 20.0 { "start" } else if x(ns) > WIDTH - 20.0 { "end" } else { "middle" }) { (clock.span(ns)) }
            }
            line class="axis" x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
            line class="axis" x1="0" x2="0" y1="0" y2=(HEIGHT) {}
        }
    }
}
