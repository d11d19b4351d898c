//! The planner's decision on each measurement: attached (with which programs), or the reason against it.
#![forbid(unsafe_code)]

use serde::Serialize;

pub use super::attachment::{Attachment, Kind};
use super::table::Measurement;

/// Verdict on a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Attached. `note` lists limitations, such as a count that is a lower bound.
    Attach {
        attachments: Vec<Attachment>,
        note: Option<String>,
    },
    /// This kernel has nothing of this kind to measure.
    NotApplicable { reason: String },
    /// Not selected by the user.
    Off { reason: String },
    /// Not measurable on this kernel.
    Lost { reason: String },
}

/// A measurement with its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub measurement: Measurement,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Decision {
    /// Programs that take the measurement; empty unless the verdict is `Attach`.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        match &self.verdict {
            Verdict::Attach { attachments, .. } => attachments,
            Verdict::NotApplicable { .. } | Verdict::Off { .. } | Verdict::Lost { .. } => &[],
        }
    }
}
