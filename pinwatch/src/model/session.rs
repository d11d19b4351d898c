//! First message to a follower, and its counts of lost events.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::agent_status::AgentStatus;

/// First message of a feed. The header of a recording contains it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the pinwatch that measures.
    pub version: String,
    /// `ABI_VERSION` of its events.
    pub abi: u32,
    pub release: String,
    pub era: String,
    /// Time of day minus `CLOCK_MONOTONIC`, in nanoseconds.
    pub wall_offset_ns: i64,
    /// Agent status before the first pin.
    #[serde(default, rename = "rest")]
    pub status: Box<AgentStatus>,
}

/// Events that a follower lost since it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Events that found the ring buffer full.
    pub ring: u64,
    /// Events that the follower was too slow to take.
    pub behind: u64,
}

impl Lost {
    #[must_use]
    pub fn total(self) -> u64 {
        // Forged counts can be any.
        self.ring.saturating_add(self.behind)
    }
}
