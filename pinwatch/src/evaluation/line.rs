//! Lines of a comparison: figures of both sides with their verdicts, and figures that are not compared.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::figures::{Better, Unit};

/// Verdict on one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Worse,
    Better,
    /// Changed, in a figure that only explains others.
    Different,
    /// The whole interval is within the threshold.
    Same,
    /// The interval includes changes within the threshold and beyond it, or there is no interval.
    Unclear,
}

/// A figure of a group on both sides, with its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub group: String,
    /// Name of the group's threads, which `pinwatch load` names by scenario, and its size.
    #[serde(skip)]
    pub scenario: String,
    pub figure: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub base: f64,
    pub new: f64,
    /// New divided by base if [`Line::is_ratio`], otherwise new minus base.
    pub change: f64,
    /// Interval of the change, of 95 %.
    pub interval: Option<(f64, f64)>,
    /// Half the width of the intervals of base and new, of 95 % each, in the unit of the figure.
    pub half_widths: Option<(f64, f64)>,
    /// Estimated number of boots of each kernel at which an unclear figure gets a verdict, if later boots
    /// resemble these. `None` with another verdict, without an interval, and beyond
    /// [`MOST_BOOTS`](super::pair::MOST_BOOTS).
    pub boots_needed: Option<u64>,
    /// False for shares, and for values that are not all positive.
    pub is_ratio: bool,
    pub verdict: Change,
    /// In the line of failed pins: errnos and causes in new, or in base if no pin failed in new. In the
    /// line of pins that do not return: what the oldest does.
    pub failures: Vec<String>,
}

/// A figure that is not compared because a side has no value, or one without a part of its measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    pub figure: &'static str,
    /// The group; `None` if it is all of them.
    pub group: Option<String>,
    pub reason: String,
}
