//! Text and JSON of `pinwatch report`.

#![forbid(unsafe_code)]

use std::io::{self, Write};

use pinwatch_common::blocker::BLOCKERS;
use pinwatch_common::record::PHASE_NAMES;
use serde_json::{Value, json};

use super::holds;
use crate::evaluation::capture::Capture;
use crate::evaluation::claims::{Finding, Verdict, findings};
use crate::evaluation::what_if::{Outcome, Rule};
use crate::model::blockers::blocker_holds;
use crate::model::format::{Clock, printable};
use crate::model::pin_json::Ended;
use crate::model::places::named_places;
use crate::model::session::Start;
use crate::model::state::{State, quantile_ns};
use crate::model::trace::Traced;
use crate::model::view::View;

/// Assumptions of the model behind [`Outcome`].
const MODEL: &str = "A model, not a measurement. It takes each recorded pin and ends it where the rule would have ended \
it. It leaves out the caller's reaction to an error, and obstacles that would have gone away meanwhile. It assumes that \
passes recorded as a sum are alike, and that pinning a page again costs as much as the first time.";

/// Writes the report as text.
///
/// # Errors
///
/// If writing fails.
pub fn text(capture: &Capture, out: &mut impl Write) -> io::Result<()> {
    let header = &capture.header;
    let evidence = &capture.evidence;
    writeln!(
        out,
        "{}: kernel {}, era {}, {} pins, {} failed, {} lost",
        printable(&capture.path.display().to_string()),
        printable(&header.start.release),
        printable(&header.start.era),
        evidence.pins,
        evidence.failed,
        capture.lost.total()
    )?;
    if let Some(damage) = capture.damage {
        writeln!(out, "{damage}")?;
    }
    if let Some(command) = &header.command {
        writeln!(out, "load: {}", printable(&command.join(" ")))?;
    }
    if !header.filter.is_empty() {
        writeln!(out, "only: {}", printable(&header.filter.join(" ")))?;
    }
    writeln!(out, "\nBy origin and size")?;
    groups(capture, out)?;
    writeln!(
        out,
        "\n{} per page of pins that succeeded, by pages asked for",
        capitalised(capture.clock().words())
    )?;
    write!(out, "  {:>9} {:>9}", "pages", "pins")?;
    for phase in PHASE_NAMES {
        write!(out, " {phase:>9}")?;
    }
    writeln!(out)?;
    for (size, pins, phases) in evidence.costs_per_page() {
        write!(out, "  {size:>9} {pins:>9}")?;
        for ns in phases {
            write!(out, " {ns:>9.1}")?;
        }
        writeln!(out)?;
    }
    blockers(&capture.state, out)?;
    holds::text(capture, out)?;
    writeln!(out, "\nClaims")?;
    for finding in findings(capture) {
        claim(&finding, out)?;
    }
    if !capture.outcomes.is_empty() || !capture.holds.waits.is_empty() {
        writeln!(out, "\nWhat if")?;
        for wait in &capture.holds.waits {
            writeln!(out, "  {}", holds::wait(wait, capture.clock()))?;
        }
        for outcome in &capture.outcomes {
            writeln!(out, "  {}", what_if(outcome, capture.clock()))?;
        }
        writeln!(out, "  {MODEL}")?;
    }
    writeln!(out, "\nSlowest pins")?;
    for traced in &evidence.slowest {
        let pin = ended(traced, capture);
        let result = match (&pin.errno, pin.cause) {
            (Some(errno), Some(cause)) => format!("{errno} ({cause})"),
            _ => format!("{} pages", pin.pages_returned),
        };
        writeln!(
            out,
            "  {:>8} {} {} {}: {} of {} asked for, {} passes, {} migrated, {} not",
            capture.clock().span(pin.duration_ns),
            printable(&pin.comm),
            pin.pid,
            pin.origin,
            result,
            pin.pages_requested,
            pin.passes,
            pin.migrated,
            pin.migrate_failed
        )?;
    }
    Ok(())
}

fn ended(traced: &Traced, capture: &Capture) -> Ended {
    let Start {
        wall_offset_ns,
        status,
        ..
    } = &capture.header.start;
    Ended::new(&traced.event, *wall_offset_ns, &status.place_names())
}

/// Writes what stood in the way of failed migrations, by what held it and by where it was.
fn blockers(state: &State, out: &mut impl Write) -> io::Result<()> {
    let mut holds = blocker_holds(state).peekable();
    if holds.peek().is_none() {
        return Ok(());
    }
    writeln!(
        out,
        "\nIn the way of failed migrations (at most {BLOCKERS} folios of each pin)"
    )?;
    for (kind, memory, folios) in holds {
        writeln!(out, "  {folios:>9} {kind}, {memory}")?;
    }
    for ((zone, pageblock), folios) in
        named_places(&state.cells.blockers.places, &state.place_names())
    {
        writeln!(
            out,
            "  {folios:>9} in zone {zone}, pageblock type {pageblock}"
        )?;
    }
    Ok(())
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// Writes a line per origin, then a line per group.
fn groups(capture: &Capture, out: &mut impl Write) -> io::Result<()> {
    let view = View::new(&capture.state);
    for origin in &view.origins {
        let quantile = |q| {
            quantile_ns(&origin.buckets(), q)
                .map_or_else(|| "-".to_owned(), |ns| capture.clock().span(ns as u64))
        };
        writeln!(
            out,
            "  {}: {} pins, p50 {}, p90 {}, p99 {}, {:.2} passes",
            origin.origin,
            origin.pins,
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            origin.passes_sum as f64 / origin.pins.max(1) as f64
        )?;
    }
    for (key, group) in &capture.groups.0 {
        let mut ns: Vec<_> = group.samples.iter().map(|pin| pin.duration_ns).collect();
        ns.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| {
            ns.get((q * ns.len() as f64) as usize)
                .map_or(0, |ns| *ns as u64)
        };
        writeln!(
            out,
            "  {}: {} pins, {} failed, p50 {}, p99 {}",
            printable(&key.to_string()),
            group.pins,
            group.failed,
            capture.clock().span(at(0.5)),
            capture.clock().span(at(0.99))
        )?;
    }
    Ok(())
}

/// Writes a claim with its verdict and figures.
fn claim(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "  {} \"{}\": {}",
        finding.id,
        finding.claim,
        words(&finding.verdict)
    )?;
    for (name, value) in &finding.figures {
        writeln!(out, "      {}: {}", printable(name), printable(value))?;
    }
    Ok(())
}

/// Verdict of a claim in words, with the reason if there is none.
#[must_use]
pub fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Supported => "supported".to_owned(),
        Verdict::Refuted => "refuted".to_owned(),
        Verdict::NotEnoughData { needs } => format!("not enough data: {needs}"),
        Verdict::NotMeasured { reason } => format!("not measured: {}", printable(reason)),
    }
}

/// Describes the outcome of a rule in one line.
fn what_if(outcome: &Outcome, clock: Clock) -> String {
    let Outcome {
        rule,
        pins,
        would_fail,
        saved_ns,
        total_ns,
    } = outcome;
    let saved = format!(
        "{} of {} would not have been spent",
        clock.span(*saved_ns as u64),
        clock.span(*total_ns as u64)
    );
    match rule {
        Rule::Wait { .. } => saved,
        Rule::ForwardProgress => format!("forward progress instead of starting again: {saved}"),
        Rule::Limits {
            migrate_max,
            isolate_max,
        } => {
            let limit = |max: &Option<u32>| {
                max.map_or_else(|| "never".to_owned(), |max| format!("after {max}"))
            };
            format!(
                "giving up on migration {}, on isolation {}: {would_fail} of {pins} pins would have failed that \
                 succeeded; {saved}",
                limit(migrate_max),
                limit(isolate_max)
            )
        }
    }
}

/// The report as one JSON object; docs/json.md lists its fields.
#[must_use]
pub fn json(capture: &Capture) -> Value {
    let evidence = &capture.evidence;
    let slowest = evidence.slowest.iter();
    let slowest = slowest.map(|traced| ended(traced, capture));
    let groups = capture.groups.0.iter().map(|(key, group)| {
        let failures = group.failures.iter();
        let failures =
            failures.map(|((errno, cause), n)| json!({"errno": errno, "cause": cause, "pins": n}));
        json!({
            "comm": key.comm,
            "origin": key.origin,
            "pages": key.pages,
            "pins": group.pins,
            "failed": group.failed,
            "failures": failures.collect::<Vec<_>>(),
        })
    });
    let costs = evidence.costs_per_page().map(|(pages, pins, phases)| {
        let phases: serde_json::Map<_, _> = PHASE_NAMES
            .iter()
            .zip(phases)
            .map(|(name, ns)| ((*name).to_owned(), json!(ns)))
            .collect();
        json!({"pages": pages, "pins": pins, "ns_per_page": phases})
    });
    let blockers = blocker_holds(&capture.state);
    let blockers = blockers
        .map(|(kind, memory, folios)| json!({"kind": kind, "memory": memory, "folios": folios}));
    let state = &capture.state;
    let places = named_places(&state.cells.blockers.places, &state.place_names()).into_iter();
    let places = places.map(|((zone, pageblock), folios)| {
        json!({"zone": zone, "pageblock": pageblock, "folios": folios})
    });
    json!({
        "header": capture.header,
        "clock": capture.clock(),
        "pins": evidence.pins,
        "failed": evidence.failed,
        "lost": capture.lost,
        "complete": capture.damage.is_none(),
        "groups": groups.collect::<Vec<_>>(),
        "blockers": blockers.collect::<Vec<_>>(),
        "blocker_places": places.collect::<Vec<_>>(),
        "costs": costs.collect::<Vec<_>>(),
        "holds": holds::json(&capture.holds),
        "claims": findings(capture),
        "what_if": {"model": MODEL, "outcomes": capture.outcomes, "waits": capture.holds.waits},
        "slowest": slowest.collect::<Vec<_>>(),
    })
}
