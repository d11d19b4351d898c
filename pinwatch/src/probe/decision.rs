//! What becomes of a measurement: attached, and how, or why not.

use serde::Serialize;

pub use super::attachment::{Attachment, Kind};
use super::table::Measurement;

/// What becomes of a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// It is taken; `note` says what is not as one might expect.
    Attach {
        attachments: Vec<Attachment>,
        note: Option<String>,
    },
    /// This kernel has nothing to measure here.
    NotApplicable { reason: String },
    /// The user does not want it.
    Off { reason: String },
    /// It cannot be taken.
    Lost { reason: String },
}

/// A measurement and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub measurement: Measurement,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Decision {
    /// The programs that take it; none where it is not taken.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        match &self.verdict {
            Verdict::Attach { attachments, .. } => attachments,
            Verdict::NotApplicable { .. } | Verdict::Off { .. } | Verdict::Lost { .. } => &[],
        }
    }
}
