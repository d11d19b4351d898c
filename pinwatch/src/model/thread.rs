//! Threads in pins: their names, and the source of the names.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use pinwatch_common::record::Pin;
use serde::{Deserialize, Serialize};

use super::stall::{Moment, Stall};

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
    /// Reads threads of this machine. Called only when an output lists pins in flight.
    Live(Arc<dyn Observe>),
    /// Threads of a recording, by thread id.
    Recorded(BTreeMap<u32, (Thread, Stall)>),
}

/// Reads threads.
pub trait Observe: Debug + Send + Sync {
    /// Reads a thread by its id.
    fn thread(&self, tid: u32) -> Thread;

    /// Observes the thread of a pin in flight.
    fn stall(&self, pin: &Pin, moment: &Moment<'_>) -> Stall;
}

impl Threads {
    /// Looks up a thread; all fields are `None` if it is unknown.
    #[must_use]
    pub fn get(&self, tid: u32) -> Thread {
        match self {
            Self::Unknown => Thread::default(),
            Self::Live(threads) => threads.thread(tid),
            Self::Recorded(threads) => threads
                .get(&tid)
                .map(|(thread, _)| thread.clone())
                .unwrap_or_default(),
        }
    }

    /// Observes the thread of a pin in flight.
    #[must_use]
    pub fn stall(&self, pin: &Pin, moment: &Moment<'_>) -> Stall {
        match self {
            Self::Unknown => Stall::default(),
            Self::Live(threads) => threads.stall(pin, moment),
            Self::Recorded(threads) => threads
                .get(&pin.tid)
                .map(|(_, stall)| *stall)
                .unwrap_or_default(),
        }
    }
}
