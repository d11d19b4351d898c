//! Texts of figures, and verdicts by comparing an interval with a limit.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::Tries;
use crate::evaluation::lost::lacking;
use crate::evaluation::stats::{Estimate, LEVEL, of_share};
use crate::probe::table::Measurement;

/// Verdict on a claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    Supported,
    Refuted,
    /// The interval includes the limit. `needs` has the kind and the estimated number of missing data.
    NotEnoughData {
        needs: String,
    },
    /// The recording lacks a measurement that the claim needs. More data would not help.
    NotMeasured {
        reason: String,
    },
}

/// Figures by name, and the verdict on the claim.
pub type Judged = (Vec<(String, String)>, Verdict);

/// Shares below this count as "does not happen".
pub const RARE: f64 = 0.05;

/// A figure by name.
pub fn row(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// Share of hits, with Wilson's interval; `None` without tries.
pub fn share(tries: Tries) -> Option<Estimate> {
    of_share(tries.hits as f64, tries.n as f64, LEVEL)
}

/// Text of a share, such as `3 of 12 = 25.0 % (8.9 to 53.2)`.
pub fn fraction(tries: Tries) -> String {
    of_all(tries, share(tries))
}

/// Text of a share whose interval comes from elsewhere, as [`fraction`].
pub fn of_all(tries: Tries, share: Option<Estimate>) -> String {
    match share {
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

/// Supported if the whole interval is above `limit`, refuted if it is below, otherwise [`too_little`] data.
/// `seen` is the number of data so far, `kind` names them.
pub fn supported_above(estimate: Option<Estimate>, limit: f64, seen: u64, kind: &str) -> Verdict {
    match estimate.and_then(|estimate| estimate.interval) {
        Some((low, _)) if low > limit => Verdict::Supported,
        Some((_, high)) if high < limit => Verdict::Refuted,
        _ => too_little(seen, limit, kind),
    }
}

/// Supported if the whole interval is below `limit`, refuted if it is above. Parameters as for
/// [`supported_above`].
pub fn supported_below(estimate: Option<Estimate>, limit: f64, seen: u64, kind: &str) -> Verdict {
    match supported_above(estimate, limit, seen, kind) {
        Verdict::Supported => Verdict::Refuted,
        Verdict::Refuted => Verdict::Supported,
        other => other,
    }
}

/// Too little data, with an estimate of the missing number.
///
/// The estimate is the smallest power of two for which Wilson's interval around a share of 0 or 1,
/// whichever is farther from `limit`, excludes `limit`. If `seen` is larger, it is twice `seen`.
pub fn too_little(seen: u64, limit: f64, kind: &str) -> Verdict {
    let excludes_limit = |n: u64, share: f64| {
        let interval =
            of_share(share * n as f64, n as f64, LEVEL).and_then(|estimate| estimate.interval);
        interval.is_some_and(|(low, high)| low > limit || high < limit)
    };
    let likely = if limit < 0.5 { 0.0 } else { 1.0 };
    let mut powers = (1..=20).map(|exp| 1u64 << exp);
    let enough = powers.find(|n| excludes_limit(*n, likely));
    let needs = match enough {
        Some(enough) if enough > seen => format!("about {} more {kind}", enough - seen),
        _ => format!("twice as many {kind} ({seen} were seen)"),
    };
    Verdict::NotEnoughData { needs }
}

/// [`Verdict::NotMeasured`] if the recording lacks a measurement that a claim needs.
pub fn not_measured(capture: &Capture, needed: &[Measurement]) -> Option<Verdict> {
    let missing = needed.iter().find_map(|needed| lacking(capture, *needed))?;
    let why = missing.note.as_deref().unwrap_or(missing.verdict.name());
    let reason = format!("{} was not measured: {why}", missing.measurement.name());
    Some(Verdict::NotMeasured { reason })
}
