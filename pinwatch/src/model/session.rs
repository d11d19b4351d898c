//! What surrounds the pins that a follower gets: the beginning, and what was lost.

use serde::{Deserialize, Serialize};

use super::agent_status::AgentStatus;

/// The first thing a follower learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Of the pinwatch that watches.
    pub version: String,
    /// Of its records.
    pub abi: u32,
    pub release: String,
    pub era: String,
    /// What to add to `CLOCK_MONOTONIC` for the time of day, in nanoseconds.
    pub wall_offset_ns: i64,
    /// Before the first pin.
    #[serde(default, rename = "rest")]
    pub status: Box<AgentStatus>,
}

/// Pins that ended and that a follower was not given, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The ring buffer was full.
    pub ring: u64,
    /// The follower fell behind.
    pub behind: u64,
}

impl Lost {
    #[must_use]
    pub fn total(self) -> u64 {
        self.ring + self.behind
    }
}
