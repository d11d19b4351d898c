//! One BPF program and where it goes.

use std::fmt;

use serde::{Deserialize, Serialize};

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
