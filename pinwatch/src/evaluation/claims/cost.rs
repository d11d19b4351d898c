//! Claims C4, C5 and C6: the cost of collect and of retries.
#![forbid(unsafe_code)]

use super::verdict::{not_measured, of_all, row, supported_below};
use super::{Judged, RARE, Verdict};
use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::{Evidence, Tries};
use crate::evaluation::stats;
use crate::probe::table::Measurement;

/// Exponents below this count as linear.
const LINEAR: f64 = 1.1;
/// Minimum number of pages for the fit. In a smaller collect the fixed cost dominates.
const LARGE: f64 = 64.0;
/// Minimum number of distinct sizes for the fit.
const SIZES: usize = 3;
/// Minimum ratio of the largest to the smallest size.
const SPAN: f64 = 8.0;

/// C4: collect is O(N).
pub fn linear(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let collects = evidence.clean_collects.iter();
    let large = collects.filter(|(pages, _)| *pages >= LARGE);
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
    let none = || "-".to_owned();
    let (range, each) = if points.is_empty() {
        (none(), none())
    } else {
        let each = points.iter().map(|(pages, ns)| ns / pages).sum::<f64>() / points.len() as f64;
        let range = format!("{sizes}, {least} to {most} pages");
        (range, capture.clock().fine(each))
    };
    let figures = vec![
        row(
            "first collects of 64 pages or more that found nothing",
            points.len(),
        ),
        row("their sizes", range),
        row("time per page", each),
        row("exponent of pages in the time", text),
    ];
    if let Some(verdict) = not_measured(capture, &[Measurement::Phases]) {
        return (figures, verdict);
    }
    if sizes < SIZES || most < SPAN * least {
        let needs = format!(
            "pins of {SIZES} sizes of 64 pages or more, the largest {SPAN} times the smallest"
        );
        return (figures, Verdict::NotEnoughData { needs });
    }
    (
        figures,
        supported_below(exponent, LINEAR, points.len() as u64, "pins of other sizes"),
    )
}

/// C5: pages are not pinned over and over.
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
    if let Some(verdict) = not_measured(capture, &[Measurement::Passes]) {
        return (figures, verdict);
    }
    (
        figures,
        supported_below(mean, 1.0 + RARE, pins.seen(), "pins that succeed"),
    )
}

/// C6: keeping the pinnable pages over a retry would gain nothing.
pub fn forward_progress(capture: &Capture) -> Judged {
    let Evidence {
        unpinning_passes,
        unpinned_pages,
        unpinnable_pages,
        ..
    } = capture.evidence;
    let pinnable = Tries {
        n: unpinned_pages,
        hits: unpinned_pages - unpinnable_pages,
    };
    // The pages of one pass are unpinned together, so that they are one trial.
    let passes = unpinning_passes as f64;
    let part = pinnable.hits as f64 / (pinnable.n as f64).max(1.0);
    let share = stats::of_share(part * passes, passes, stats::LEVEL);
    let figures = vec![
        row("passes that found some unfit", unpinning_passes),
        row(
            "pages unpinned by passes that found some unfit",
            unpinned_pages,
        ),
        row("of those, pages that were fine", of_all(pinnable, share)),
    ];
    if let Some(verdict) = not_measured(capture, &[Measurement::Passes, Measurement::Unpinnable]) {
        return (figures, verdict);
    }
    (
        figures,
        supported_below(
            share,
            RARE,
            unpinning_passes,
            "passes that unpin pages for a retry",
        ),
    )
}
