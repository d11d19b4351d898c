//! Threads in pins: their names, and the source of the names.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name and cgroup of a thread; unknown fields are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    pub comm: Option<String>,
    pub cgroup: Option<String>,
    pub container: Option<String>,
}

/// Source of thread names. Each state has its own, so that a replay never looks up the threads of a
/// recording on the local machine.
#[derive(Clone, Debug, Default)]
pub enum Threads {
    #[default]
    Unknown,
    /// Reads a thread of this machine by its id. Called only when an output lists pins in flight.
    Live(fn(u32) -> Thread),
    /// Threads of a recording, by thread id.
    Recorded(BTreeMap<u32, Thread>),
}

impl Threads {
    /// Looks up a thread; all fields are `None` if it is unknown.
    #[must_use]
    pub fn get(&self, tid: u32) -> Thread {
        match self {
            Self::Unknown => Thread::default(),
            Self::Live(look_up) => look_up(tid),
            Self::Recorded(threads) => threads.get(&tid).cloned().unwrap_or_default(),
        }
    }
}
