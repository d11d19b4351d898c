//! A line of `pinwatch tail --json`: a registration that was refused. docs/tail.md documents the fields.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use jiff::Timestamp;
use pinwatch_common::refusal::Refusal;
use serde::Serialize;

use super::errno::{errno_name, errno_of};
use super::format::name;
use super::labels;

/// The only reason for a refusal that is measured: RLIMIT_MEMLOCK.
pub const MEMLOCK: &str = "memlock";

/// A registration that was refused, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalRow {
    /// Time of the refusal.
    pub time: Timestamp,
    pub comm: String,
    pub pid: u32,
    pub tid: u32,
    pub origin: Cow<'static, str>,
    pub errno: Option<String>,
    pub reason: &'static str,
}

impl RefusalRow {
    /// Converts a refusal. `wall_offset_ns` is the time of day minus `CLOCK_MONOTONIC`, in nanoseconds.
    #[must_use]
    pub fn new(refusal: &Refusal, wall_offset_ns: i64) -> Self {
        let at_ns = i128::from(refusal.at_ns) + i128::from(wall_offset_ns);
        let pin = refusal.pin();
        Self {
            time: Timestamp::from_nanosecond(at_ns).unwrap_or_default(),
            comm: name(&refusal.comm),
            pid: refusal.tgid,
            tid: refusal.tid,
            origin: labels::shown_origin(&pin),
            errno: errno_of(pin.returned).map(errno_name),
            reason: MEMLOCK,
        }
    }
}
