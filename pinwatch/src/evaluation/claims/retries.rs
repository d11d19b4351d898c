//! Claims C1, C2, C3 and C10: causes of failures and retries, and whether another pass helps.
#![forbid(unsafe_code)]

use super::verdict::{fraction, not_measured, row, share, supported_above, supported_below};
use super::{Judged, RARE};
use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::{Evidence, Tries};
use crate::evaluation::stats;
use crate::probe::table::Measurement;

/// C1: migration fails only for want of memory.
pub fn only_under_stress(capture: &Capture) -> Judged {
    let Evidence {
        pins,
        failed,
        busy,
        nomem,
        ..
    } = capture.evidence;
    let migration = busy + nomem;
    let still_referenced = Tries {
        n: migration,
        hits: busy,
    };
    let figures = vec![
        row(
            "failed pins",
            fraction(Tries {
                n: pins,
                hits: failed,
            }),
        ),
        row("failed in migration", migration),
        row(
            "of those, a page stayed referenced",
            fraction(still_referenced),
        ),
        row("of those, no page to move to", nomem),
    ];
    (
        figures,
        supported_below(
            share(still_referenced),
            RARE,
            migration,
            "failures in migration",
        ),
    )
}

/// C2: after a failed migration another try is unlikely to help.
pub fn trying_again(capture: &Capture) -> Judged {
    let Evidence {
        after_failure,
        again,
        ref gaps_ns,
        ..
    } = capture.evidence;
    let mut gaps = gaps_ns.to_vec();
    gaps.sort_unstable_by(f64::total_cmp);
    let gap = stats::of_quantile(&gaps, 0.5).map(|gap| format!("{:.1} us", gap.value / 1e3));
    let both = Tries {
        n: after_failure.n + again.n,
        hits: after_failure.hits + again.hits,
    };
    let figures = vec![
        row(
            "passes after a failure, inside the pin, that left nothing",
            fraction(after_failure),
        ),
        row(
            "pins of the same thread and size after a failure that succeeded",
            fraction(again),
        ),
        row(
            "gap to that pin, median",
            gap.unwrap_or_else(|| "-".to_owned()),
        ),
    ];
    (
        figures,
        supported_below(share(both), 0.5, both.n, "tries after a failed migration"),
    )
}

/// C3: failed isolations are transient.
pub fn transient(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let mut passes = evidence.passes.to_vec();
    passes.sort_unstable_by(f64::total_cmp);
    let quantile = |q| stats::of_quantile(&passes, q).map_or(0.0, |estimate| estimate.value);
    let looping = evidence.looping_ns as f64 / (evidence.duration_ns as f64).max(1.0);
    let in_flight = capture.end.as_ref().map(|end| &end.status.in_flight);
    let mut figures = vec![
        row(
            "passes per pin: p50, p99, most",
            format!(
                "{}, {}, {}",
                quantile(0.5),
                quantile(0.99),
                evidence.most_passes
            ),
        ),
        row(
            "time behind the first pass",
            format!("{:.1} % of all", 100.0 * looping),
        ),
        row(
            "passes after a failed isolation without another",
            fraction(evidence.after_isolation),
        ),
    ];
    if let Some(in_flight) = in_flight {
        figures.push(row(
            "pins that had not ended when the recording did",
            in_flight.len(),
        ));
    }
    if let Some(verdict) = not_measured(capture, &[Measurement::IsolateLru]) {
        return (figures, verdict);
    }
    let tries = evidence.after_isolation;
    (
        figures,
        supported_above(share(tries), 0.5, tries.n, "failures to isolate"),
    )
}

/// C10: pages return to the per-CPU LRU batches after a drain.
pub fn slip_back(capture: &Capture) -> Judged {
    let tries = capture.evidence.after_drain;
    let figures = vec![row(
        "passes that drained and failed to isolate a page",
        fraction(tries),
    )];
    if let Some(verdict) = not_measured(capture, &[Measurement::Drains, Measurement::IsolateLru]) {
        return (figures, verdict);
    }
    (
        figures,
        supported_above(share(tries), RARE, tries.n, "passes that drain"),
    )
}
