//! C4, C5 and C6: what sweeping and going round cost.

use super::verdict::{below, lost, of, row, share};
use super::{Judged, RARE, Verdict};
use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::{Evidence, Tries};
use crate::evaluation::stats;
use crate::probe::table::Measurement;

/// An exponent below which a cost is linear.
const LINEAR: f64 = 1.1;
/// A sweep of less is mostly what it costs whatever the size.
const LARGE: f64 = 64.0;
/// Sizes, and the ratio of the largest to the smallest, that a fit needs.
const SIZES: usize = 3;
const SPAN: f64 = 8.0;

pub fn linear(capture: &Capture) -> Judged {
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
    if let Some(lost) = lost(capture, &[Measurement::Phases]) {
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

pub fn amplification(capture: &Capture) -> Judged {
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
    if let Some(lost) = lost(capture, &[Measurement::Passes]) {
        return (figures, lost);
    }
    (
        figures,
        below(mean, 1.0 + RARE, pins.seen(), "pins that succeed"),
    )
}

pub fn forward_progress(capture: &Capture) -> Judged {
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
    if let Some(lost) = lost(capture, &[Measurement::Passes, Measurement::Unpinnable]) {
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
