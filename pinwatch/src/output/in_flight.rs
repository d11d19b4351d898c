//! Pins in flight as JSON, oldest first: the first thing to look at when
//! something hangs. docs/metrics.md documents the fields.

use pinwatch_common::record::{ORIGIN_NAMES, PHASE_NAMES, Pin};
use serde::Serialize;

use crate::aggregate::{State, signature};
use crate::enrich::{self, Thread};

/// A pin in flight, and who it belongs to.
#[derive(Debug, Serialize)]
struct Row {
    age_seconds: f64,
    stuck: bool,
    /// What it is doing, in words.
    signature: String,
    origin: &'static str,
    pid: u32,
    tid: u32,
    #[serde(flatten)]
    thread: Thread,
    phase: &'static str,
    pages_requested: u64,
    passes: u32,
    unpinnable: u64,
    migrate_calls: u32,
    migrated: u64,
    migrate_failed: u64,
    lru_drains: u32,
    isolate_failures: u64,
}

/// All pins in flight.
pub fn json(state: &State) -> serde_json::Result<String> {
    let mut pins: Vec<&Pin> = state.in_flight.iter().collect();
    pins.sort_by_key(|pin| pin.start_ns);
    let rows: Vec<_> = pins.into_iter().map(|pin| row(state, pin)).collect();
    serde_json::to_string_pretty(&rows)
}

fn row(state: &State, pin: &Pin) -> Row {
    let age_ns = state.age_ns(pin);
    let name =
        |names: &[&'static str], n: u8| names.get(usize::from(n)).copied().unwrap_or("other");
    Row {
        age_seconds: age_ns as f64 / 1e9,
        stuck: age_ns >= state.stuck_after_ns,
        signature: signature(pin),
        origin: name(&ORIGIN_NAMES, pin.origin),
        pid: pin.tgid,
        tid: pin.tid,
        thread: enrich::thread(pin.tid),
        phase: name(&PHASE_NAMES, pin.phase),
        pages_requested: pin.requested,
        passes: pin.passes,
        unpinnable: pin.unpinnable,
        migrate_calls: pin.migrate_calls,
        migrated: pin.moved,
        migrate_failed: pin.failed,
        lru_drains: pin.drains,
        isolate_failures: pin.isolate_failures.iter().map(|n| u64::from(*n)).sum(),
    }
}
