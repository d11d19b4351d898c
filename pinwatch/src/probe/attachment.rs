//! Attachment of a BPF program: type, programs and target.

#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Attachment type of a BPF program.
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
    /// Whether the program runs from a kprobe. The kernel skips such programs on a CPU inside bpf(2).
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

/// A BPF program, its twins, and the function or tracepoint to attach them to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    pub program: &'static str,
    /// Programs that do the work if the kernel skips those before them, in running order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<&'static str>,
    pub target: &'static str,
    pub kind: Kind,
}

impl Attachment {
    /// The program and its twins, in running order.
    pub fn programs(&self) -> impl DoubleEndedIterator<Item = &'static str> + '_ {
        [self.program].into_iter().chain(self.twins.iter().copied())
    }
}
