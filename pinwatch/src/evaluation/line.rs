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
    pub figure: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub base: f64,
    pub new: f64,
    /// New divided by base if [`Line::is_ratio`], otherwise new minus base.
    pub change: f64,
    /// Interval of the change, of 95 %.
    pub interval: Option<(f64, f64)>,
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
