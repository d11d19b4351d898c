//! The claims of the review of December 2020 about the path, one row each, and what a
//! recording says of them. <https://lore.kernel.org/linux-mm/> has the thread ("limit
//! number of gup migration failures, honor failures", version 4).

use pinwatch_common::record::Phase;
use serde::Serialize;

use super::capture::Capture;
use super::evidence::{Evidence, Tries};
use super::stats::{self, Estimate, LEVEL, of_share};

/// A share below which something does not happen, for the purpose of a claim.
const RARE: f64 = 0.05;
/// An exponent below which a cost is linear.
const LINEAR: f64 = 1.1;
/// A sweep of less is mostly what it costs whatever the size.
const LARGE: f64 = 64.0;
/// Sizes, and the ratio of the largest to the smallest, that a fit needs.
const SIZES: usize = 3;
const SPAN: f64 = 8.0;

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    Supported,
    Refuted,
    /// `needs` says of what, and about how many more.
    NotEnoughData {
        needs: String,
    },
    /// This recording cannot tell, whatever its length.
    NotMeasured {
        reason: String,
    },
}

/// A claim and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub claim: &'static str,
    pub figures: Vec<(String, String)>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Names and values, and what they say.
type Judged = (Vec<(String, String)>, Verdict);

struct Claim {
    id: &'static str,
    claim: &'static str,
    judge: fn(&Capture) -> Judged,
}

const CLAIMS: &[Claim] = &[
    Claim {
        id: "C1",
        claim: "migration fails only when the machine is short of memory",
        judge: only_under_stress,
    },
    Claim {
        id: "C2",
        claim: "after migration failed, trying again at once is unlikely to help",
        judge: trying_again,
    },
    Claim {
        id: "C3",
        claim: "failures to isolate are transient",
        judge: transient,
    },
    Claim {
        id: "C4",
        claim: "sweeping the pages is O(N)",
        judge: linear,
    },
    Claim {
        id: "C5",
        claim: "unpinning everything is no loss: pages are not pinned over and over",
        judge: amplification,
    },
    Claim {
        id: "C6",
        claim: "keeping the pages that were fine would gain nothing",
        judge: forward_progress,
    },
    Claim {
        id: "C7",
        claim: "pins do not fail at random",
        judge: flaky,
    },
    Claim {
        id: "C8",
        claim: "without FOLL_WRITE the zero page breaks the pin",
        judge: zero_page,
    },
    Claim {
        id: "C9",
        claim: "after a failure no page stays pinned",
        judge: leaks,
    },
    Claim {
        id: "C10",
        claim: "pages slip back into per-CPU lists after draining",
        judge: slip_back,
    },
];

/// All claims, judged.
#[must_use]
pub fn findings(capture: &Capture) -> Vec<Finding> {
    let rows = CLAIMS.iter().map(|Claim { id, claim, judge }| {
        let (figures, verdict) = judge(capture);
        Finding {
            id,
            claim,
            figures,
            verdict,
        }
    });
    rows.collect()
}

fn row(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn share(tries: Tries) -> Option<Estimate> {
    of_share(tries.hits as f64, tries.n as f64, LEVEL)
}

fn of(tries: Tries) -> String {
    match share(tries) {
        Some(estimate) => format!("{} of {} = {}", tries.hits, tries.n, percent(estimate)),
        None => "none seen".to_owned(),
    }
}

fn percent(estimate: Estimate) -> String {
    let each = |share: f64| format!("{:.1}", 100.0 * share);
    match estimate.interval {
        Some((low, high)) => format!(
            "{} % ({} to {})",
            each(estimate.value),
            each(low),
            each(high)
        ),
        None => format!("{} %", each(estimate.value)),
    }
}

/// Supported if surely above `than`, refuted if surely below.
fn above(estimate: Option<Estimate>, than: f64, seen: u64, what: &str) -> Verdict {
    match estimate.and_then(|estimate| estimate.interval) {
        Some((low, _)) if low > than => Verdict::Supported,
        Some((_, high)) if high < than => Verdict::Refuted,
        _ => more(seen, than, what),
    }
}

/// As [`above`], the other way round.
fn below(estimate: Option<Estimate>, than: f64, seen: u64, what: &str) -> Verdict {
    match above(estimate, than, seen, what) {
        Verdict::Supported => Verdict::Refuted,
        Verdict::Refuted => Verdict::Supported,
        other => other,
    }
}

/// How many more it takes until Wilson's interval around what is clearly on one side of a
/// share leaves it: none of them, or twice as many.
fn more(seen: u64, than: f64, what: &str) -> Verdict {
    let clear = |n: u64, share: f64| {
        let interval =
            of_share(share * n as f64, n as f64, LEVEL).and_then(|estimate| estimate.interval);
        interval.is_some_and(|(low, high)| low > than || high < than)
    };
    let likely = if than < 0.5 { 0.0 } else { 1.0 };
    let enough = (1..=20).map(|exp| 1u64 << exp).find(|n| clear(*n, likely));
    let needs = match enough {
        Some(enough) if enough > seen => format!("about {} more {what}", enough - seen),
        _ => format!("twice as many {what} ({seen} were seen)"),
    };
    Verdict::NotEnoughData { needs }
}

fn only_under_stress(capture: &Capture) -> Judged {
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

fn trying_again(capture: &Capture) -> Judged {
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

fn transient(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let mut passes = evidence.passes.to_vec();
    passes.sort_unstable_by(f64::total_cmp);
    let quantile = |q| stats::of_quantile(&passes, q).map_or(0.0, |estimate| estimate.value);
    let looping = evidence.looping_ns as f64 / (evidence.duration_ns as f64).max(1.0);
    let in_flight = capture.end.as_ref().map(|end| &end.rest.in_flight);
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
    if let Some(lost) = lost(capture, &["isolate_lru"]) {
        return (figures, lost);
    }
    let tries = evidence.after_isolation;
    (
        figures,
        above(share(tries), 0.5, tries.n, "failures to isolate"),
    )
}

fn linear(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let large = evidence.sweeps.iter().filter(|(pages, _)| *pages >= LARGE);
    let points: Vec<_> = large.copied().collect();
    let sizes = evidence
        .sizes
        .iter()
        .filter(|pages| **pages as f64 >= LARGE)
        .count();
    let most = points.iter().fold(0.0f64, |most, point| most.max(point.0));
    let least = points
        .iter()
        .fold(f64::INFINITY, |least, point| least.min(point.0));
    let exponent = stats::of_exponent(&points);
    let text = match exponent.and_then(|estimate| Some((estimate.value, estimate.interval?))) {
        Some((value, (low, high))) => format!("{value:.3} ({low:.3} to {high:.3})"),
        None => "-".to_owned(),
    };
    let each: f64 =
        points.iter().map(|(pages, ns)| ns / pages).sum::<f64>() / points.len().max(1) as f64;
    let figures = vec![
        row(
            "first sweeps of 64 pages or more that found nothing",
            points.len(),
        ),
        row("their sizes", format!("{sizes}, {least} to {most} pages")),
        row("time per page", format!("{each:.1} ns")),
        row("exponent of pages in the time", text),
    ];
    if let Some(lost) = lost(capture, &["phases"]) {
        return (figures, lost);
    }
    if sizes < SIZES || most < SPAN * least {
        let needs = format!(
            "pins of {SIZES} sizes of 64 pages or more, the largest {SPAN} times the smallest"
        );
        return (figures, Verdict::NotEnoughData { needs });
    }
    (
        figures,
        below(exponent, LINEAR, points.len() as u64, "pins of other sizes"),
    )
}

fn amplification(capture: &Capture) -> Judged {
    let pins = &capture.evidence.pinned;
    let each = pins.iter().filter(|(returned, _)| *returned > 0.0);
    let ratios: Vec<_> = each.map(|(returned, pinned)| pinned / returned).collect();
    let mean = stats::of_mean(&ratios);
    let (returned, pinned) = pins
        .iter()
        .fold((0.0, 0.0), |sum, pin| (sum.0 + pin.0, sum.1 + pin.1));
    let text = mean.map_or_else(
        || "-".to_owned(),
        |mean| match mean.interval {
            Some((low, high)) => format!("{:.3} ({low:.3} to {high:.3})", mean.value),
            None => format!("{:.3}", mean.value),
        },
    );
    let figures = vec![
        row(
            "pages pinned over all passes / returned, all pages",
            format!("{:.3}", pinned / f64::max(returned, 1.0)),
        ),
        row("the same, mean over pins", text),
    ];
    if let Some(lost) = lost(capture, &["passes"]) {
        return (figures, lost);
    }
    (
        figures,
        below(mean, 1.0 + RARE, pins.seen(), "pins that succeed"),
    )
}

fn forward_progress(capture: &Capture) -> Judged {
    let Evidence {
        unpinned_pages,
        unfit_pages,
        ..
    } = capture.evidence;
    let fine = Tries {
        n: unpinned_pages,
        hits: unpinned_pages - unfit_pages,
    };
    let figures = vec![
        row(
            "pages unpinned by passes that found some unfit",
            unpinned_pages,
        ),
        row("of those, pages that were fine", of(fine)),
    ];
    if let Some(lost) = lost(capture, &["passes", "unpinnable"]) {
        return (figures, lost);
    }
    (
        figures,
        below(
            share(fine),
            RARE,
            unpinned_pages,
            "pages unpinned for a retry",
        ),
    )
}

fn flaky(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let failed = Tries {
        n: evidence.pins,
        hits: evidence.failed,
    };
    let mut figures = vec![row("failed pins", of(failed))];
    let mut mixed = 0;
    for (key, group) in &capture.groups.0 {
        if group.failed > 0 {
            let failures = group.failures.iter();
            let failures = failures.map(|((errno, cause), n)| format!("{n} {errno} ({cause})"));
            let text = format!(
                "{} of {}: {}",
                group.failed,
                group.pins,
                failures.collect::<Vec<_>>().join(", ")
            );
            figures.push(row(&key.to_string(), text));
            mixed += u64::from(group.failed < group.pins);
        }
    }
    let verdict = match mixed {
        0 if evidence.failed > 0 => Verdict::Supported,
        0 => more(evidence.pins, 0.001, "pins"),
        _ => Verdict::Refuted,
    };
    figures.push(row(
        "groups in which some pins failed and some did not",
        mixed,
    ));
    (figures, verdict)
}

fn zero_page(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let [read, write] = evidence.failed_by_write;
    let [read_again, write_again] = evidence.retried_by_write;
    let difference = share(write)
        .zip(share(read))
        .and_then(|(write, read)| stats::of_share_difference(write, read));
    let figures = vec![
        row("failed, without FOLL_WRITE", of(read)),
        row("failed, with it", of(write)),
        row("with retries, without FOLL_WRITE", of(read_again)),
        row("with retries, with it", of(write_again)),
    ];
    let verdict = match above(difference, 0.0, read.n, "") {
        Verdict::NotEnoughData { .. } => more(read.n, RARE, "pins without FOLL_WRITE"),
        clear => clear,
    };
    (figures, verdict)
}

fn leaks(capture: &Capture) -> Judged {
    let before = capture.header.machine.foll_pins;
    let after = capture.end.as_ref().and_then(|end| end.foll_pins);
    let Some((before, after)) = before.zip(after) else {
        let reason = "the recording has no count of pinned pages at both of its ends".to_owned();
        return (Vec::new(), Verdict::NotMeasured { reason });
    };
    let acquired = after.acquired.wrapping_sub(before.acquired);
    let released = after.released.wrapping_sub(before.released);
    let still = acquired.wrapping_sub(released) as i64;
    let figures = vec![
        row("pages pinned on the machine meanwhile", acquired),
        row("pages unpinned meanwhile", released),
        row("more pinned at the end", still),
        row("failed pins", capture.evidence.failed),
    ];
    let verdict = if capture.evidence.failed == 0 {
        Verdict::NotEnoughData {
            needs: "pins that fail".to_owned(),
        }
    } else if still <= 0 {
        Verdict::Supported
    } else {
        Verdict::NotEnoughData {
            needs: "an end of the recording at which nobody holds pins that succeeded".to_owned(),
        }
    };
    (figures, verdict)
}

fn slip_back(capture: &Capture) -> Judged {
    let tries = capture.evidence.after_drain;
    let figures = vec![row(
        "passes that drained and failed to isolate a page",
        of(tries),
    )];
    if let Some(lost) = lost(capture, &["drains", "isolate_lru"]) {
        return (figures, lost);
    }
    (
        figures,
        above(share(tries), RARE, tries.n, "passes that drain"),
    )
}

/// Why a claim cannot be judged, where a measurement that it needs was not taken.
fn lost(capture: &Capture, needed: &[&str]) -> Option<Verdict> {
    let plan = &capture.header.start.rest.plan;
    let missing = plan.iter().find(|line| {
        needed.contains(&line.measurement.as_str())
            && !matches!(line.verdict.as_str(), "attached" | "not_applicable")
    })?;
    let why = missing.note.as_deref().unwrap_or(&missing.verdict);
    let reason = format!("{} was not measured: {why}", missing.measurement);
    Some(Verdict::NotMeasured { reason })
}

/// Nanoseconds per page of each phase, by pages asked for (rounded up to a power of two).
#[must_use]
pub fn costs(evidence: &Evidence) -> Vec<(u64, u64, Vec<f64>)> {
    let rows = evidence.costs.iter().filter(|(_, cost)| cost.pages > 0);
    let phases = [
        Phase::Gup,
        Phase::Collect,
        Phase::Drain,
        Phase::Migrate,
        Phase::Other,
    ];
    rows.map(|(size, cost)| {
        let each = |phase: Phase| cost.phase_ns[phase as usize] as f64 / cost.pages as f64;
        (*size, cost.pins, phases.map(each).to_vec())
    })
    .collect()
}
