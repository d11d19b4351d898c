//! Threads in pins, and where their names come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A thread, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    pub comm: Option<String>,
    pub cgroup: Option<String>,
    pub container: Option<String>,
}

/// Where the names of threads come from. A state has the source's own, so that threads of a
/// recording are never looked up on the machine that replays it.
#[derive(Clone, Debug, Default)]
pub enum Threads {
    #[default]
    Unknown,
    /// The machine that is watched, which is asked only when somebody looks at pins in flight.
    Live(fn(u32) -> Thread),
    /// A recording, by thread id.
    Recorded(BTreeMap<u32, Thread>),
}

impl Threads {
    #[must_use]
    pub fn get(&self, tid: u32) -> Thread {
        match self {
            Self::Unknown => Thread::default(),
            Self::Live(ask) => ask(tid),
            Self::Recorded(threads) => threads.get(&tid).cloned().unwrap_or_default(),
        }
    }
}
