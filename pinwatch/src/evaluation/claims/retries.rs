//! C1, C2, C3 and C10: why pins go round, and whether another pass helps.

use super::verdict::{above, below, lost, of, row, share};
use super::{Judged, RARE};
use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::{Evidence, Tries};
use crate::evaluation::stats;
use crate::probe::table::Measurement;

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
            of(Tries {
                n: pins,
                hits: failed,
            }),
        ),
        row("failed in migration", migration),
        row("of those, a page stayed referenced", of(still_referenced)),
        row("of those, no page to move to", nomem),
    ];
    (
        figures,
        below(
            share(still_referenced),
            RARE,
            migration,
            "failures in migration",
        ),
    )
}

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
            of(after_failure),
        ),
        row(
            "pins of the same thread and size after a failure that succeeded",
            of(again),
        ),
        row(
            "gap to that pin, median",
            gap.unwrap_or_else(|| "-".to_owned()),
        ),
    ];
    (
        figures,
        below(share(both), 0.5, both.n, "tries after a failed migration"),
    )
}

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
            of(evidence.after_isolation),
        ),
    ];
    if let Some(in_flight) = in_flight {
        figures.push(row(
            "pins that had not ended when the recording did",
            in_flight.len(),
        ));
    }
    if let Some(lost) = lost(capture, &[Measurement::IsolateLru]) {
        return (figures, lost);
    }
    let tries = evidence.after_isolation;
    (
        figures,
        above(share(tries), 0.5, tries.n, "failures to isolate"),
    )
}

pub fn slip_back(capture: &Capture) -> Judged {
    let tries = capture.evidence.after_drain;
    let figures = vec![row(
        "passes that drained and failed to isolate a page",
        of(tries),
    )];
    if let Some(lost) = lost(capture, &[Measurement::Drains, Measurement::IsolateLru]) {
        return (figures, lost);
    }
    (
        figures,
        above(share(tries), RARE, tries.n, "passes that drain"),
    )
}
