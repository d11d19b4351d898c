//! Figures in words, and a verdict where their interval is clear of a limit.

use serde::Serialize;

use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::Tries;
use crate::evaluation::stats::{Estimate, LEVEL, of_share};
use crate::model::view::HookStatus;
use crate::probe::table::Measurement;

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

/// Names and values, and what they say.
pub type Judged = (Vec<(String, String)>, Verdict);

/// A share below which something does not happen, for the purpose of a claim.
pub const RARE: f64 = 0.05;

pub fn row(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

pub fn share(tries: Tries) -> Option<Estimate> {
    of_share(tries.hits as f64, tries.n as f64, LEVEL)
}

pub fn of(tries: Tries) -> String {
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
pub fn above(estimate: Option<Estimate>, than: f64, seen: u64, what: &str) -> Verdict {
    match estimate.and_then(|estimate| estimate.interval) {
        Some((low, _)) if low > than => Verdict::Supported,
        Some((_, high)) if high < than => Verdict::Refuted,
        _ => more(seen, than, what),
    }
}

/// As [`above`], the other way round.
pub fn below(estimate: Option<Estimate>, than: f64, seen: u64, what: &str) -> Verdict {
    match above(estimate, than, seen, what) {
        Verdict::Supported => Verdict::Refuted,
        Verdict::Refuted => Verdict::Supported,
        other => other,
    }
}

/// How many more it takes until Wilson's interval around what is clearly on one side of a
/// share leaves it: none of them, or twice as many.
pub fn more(seen: u64, than: f64, what: &str) -> Verdict {
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

/// Why a claim cannot be judged, where a measurement that it needs was not taken.
pub fn lost(capture: &Capture, needed: &[Measurement]) -> Option<Verdict> {
    let plan = &capture.header.start.status.plan;
    let missing = plan.iter().find(|line| {
        needed.contains(&line.measurement)
            && !matches!(
                line.verdict,
                HookStatus::Attached | HookStatus::NotApplicable
            )
    })?;
    let why = missing.note.as_deref().unwrap_or(missing.verdict.name());
    let reason = format!("{} was not measured: {why}", missing.measurement.name());
    Some(Verdict::NotMeasured { reason })
}
