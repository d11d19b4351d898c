//! Pins in flight as JSON, oldest first: the place to look first when something hangs.
//! docs/metrics.md documents the fields.
#![forbid(unsafe_code)]

use pinwatch_common::record::Pin;
use serde::{Deserialize, Serialize};

use super::labels;
use super::stall::Behind;
use super::state::State;
use super::thread::Thread;

/// A pin in flight with its thread, as JSON has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Time of entry, in nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    pub age_seconds: f64,
    pub stuck: bool,
    /// The pin's activity, in words.
    #[serde(rename = "signature")]
    pub activity: String,
    pub origin: String,
    pub pid: u32,
    pub tid: u32,
    #[serde(flatten)]
    pub thread: Thread,
    pub phase: String,
    pub pages_requested: u64,
    pub passes: u32,
    pub unpinnable: u64,
    pub migrate_calls: u32,
    pub migrated: u64,
    pub migrate_failed: u64,
    pub lru_drains: u32,
    pub isolate_failures: u64,
    /// Other threads of the process, which may wait for a lock that the pin holds; only of stuck pins.
    pub behind: Option<Behind>,
}

/// The oldest pins in flight, at most `limit`, oldest first.
#[must_use]
pub fn rows(state: &State, limit: usize) -> Vec<Row> {
    let mut pins: Vec<&Pin> = state.in_flight.iter().collect();
    pins.sort_by_key(|pin| pin.start_ns);
    pins.truncate(limit);
    pins.into_iter().map(|pin| row(state, pin)).collect()
}

/// All pins in flight as a JSON array.
pub fn json(state: &State) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&rows(state, usize::MAX))
}

fn row(state: &State, pin: &Pin) -> Row {
    let stall = state.stall(pin);
    Row {
        start_ns: pin.start_ns,
        age_seconds: state.age_ns(pin) as f64 / 1e9,
        stuck: state.is_stuck(pin),
        activity: state.activity(pin, &stall),
        origin: labels::shown_origin(pin).into_owned(),
        pid: pin.tgid,
        tid: pin.tid,
        thread: state.threads.get(pin.tid),
        phase: labels::phase(pin).to_owned(),
        pages_requested: pin.requested,
        passes: pin.passes,
        unpinnable: pin.unpinnable,
        migrate_calls: pin.migrate_calls,
        migrated: pin.moved,
        migrate_failed: pin.failed,
        lru_drains: pin.drains,
        isolate_failures: pin.isolate_failures.iter().map(|n| u64::from(*n)).sum(),
        behind: stall.behind,
    }
}
