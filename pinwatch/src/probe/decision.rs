//! What becomes of a measurement: attached, and how, or why not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::Measurement;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Fentry,
    Fexit,
    Kprobe,
    Kretprobe,
    RawTracepoint,
}

impl Kind {
    /// Whether the kernel runs it through a kprobe, which a BPF agent in the middle of bpf(2) turns
    /// off on its CPU.
    #[must_use]
    pub fn is_probe(self) -> bool {
        matches!(self, Self::Kprobe | Self::Kretprobe)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
            Self::RawTracepoint => "raw_tracepoint",
        })
    }
}

/// One BPF program and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    pub program: &'static str,
    /// Programs that do the work where the kernel skips those before them; in the order in which they
    /// run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<&'static str>,
    pub target: &'static str,
    pub kind: Kind,
}

impl Attachment {
    /// The program, and its twins if it has some, in the order in which they run.
    pub fn programs(&self) -> impl DoubleEndedIterator<Item = &'static str> + '_ {
        [self.program].into_iter().chain(self.twins.iter().copied())
    }
}

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
