//! A line of `pinwatch tail --json`: a pin that ended. docs/tail.md documents the fields.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use jiff::Timestamp;
use pinwatch_common::record::{ISOLATE_NAMES, ISOLATES, PHASE_NAMES, PHASES, Pin, PinEvent};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::blockers::{self, BlockerRow};
use super::holders::{self, HolderRow};
use super::labels;
use super::places::PlaceNames;
use crate::model::errno::{errno_name, errno_of};
use crate::model::format::name;

/// A pin that ended, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// Time of return.
    pub time: Timestamp,
    pub comm: String,
    pub pid: u32,
    pub tid: u32,
    pub origin: Cow<'static, str>,
    pub duration_ns: u64,
    pub ok: bool,
    /// Name of the errno of a failed pin.
    pub errno: Option<String>,
    pub cause: Option<&'static str>,
    pub pages_requested: u64,
    pub pages_returned: u64,
    pub passes: u32,
    pub unpinnable: u64,
    pub migrate_calls: u32,
    pub migrated: u64,
    pub migrate_failed: u64,
    pub pages_repinned: u64,
    pub lru_drains: u32,
    #[serde(serialize_with = "by_kind")]
    pub isolate_failures: [u32; ISOLATES],
    #[serde(serialize_with = "by_phase")]
    pub phase_ns: [u64; PHASES],
    pub gup_flags: u32,
    /// Folios that the first failed migration left behind, at most four.
    pub blockers: Vec<BlockerRow>,
    /// Holder of a weak pin of one of them; null if none is known.
    pub holder: Option<HolderRow>,
}

impl Ended {
    /// Converts a pin. `wall_offset_ns` is the time of day minus `CLOCK_MONOTONIC`, in nanoseconds.
    #[must_use]
    pub fn new(
        PinEvent { pin, comm, holder }: &PinEvent,
        wall_offset_ns: i64,
        places: &PlaceNames,
    ) -> Self {
        let Pin {
            start_ns,
            duration_ns,
            returned,
            ..
        } = *pin;
        let ended_ns = i128::from(start_ns) + i128::from(duration_ns) + i128::from(wall_offset_ns);
        let errno = errno_of(returned).map(errno_name);
        Self {
            time: Timestamp::from_nanosecond(ended_ns).unwrap_or_default(),
            comm: name(comm),
            pid: pin.tgid,
            tid: pin.tid,
            origin: labels::shown_origin(pin),
            duration_ns,
            ok: errno.is_none(),
            cause: errno.is_some().then(|| labels::cause(pin)),
            errno,
            pages_requested: pin.requested,
            pages_returned: returned.try_into().unwrap_or(0),
            passes: pin.passes,
            unpinnable: pin.unpinnable,
            migrate_calls: pin.migrate_calls,
            migrated: pin.moved,
            migrate_failed: pin.failed,
            pages_repinned: pin.repinned,
            lru_drains: pin.drains,
            isolate_failures: pin.isolate_failures,
            phase_ns: pin.phase_ns,
            gup_flags: pin.gup_flags,
            blockers: blockers::rows(pin, places),
            holder: holders::row(holder),
        }
    }
}

fn by_kind<S: Serializer>(counts: &[u32; ISOLATES], out: S) -> Result<S::Ok, S::Error> {
    by_name(&ISOLATE_NAMES, counts, out)
}

fn by_phase<S: Serializer>(ns: &[u64; PHASES], out: S) -> Result<S::Ok, S::Error> {
    by_name(&PHASE_NAMES, ns, out)
}

fn by_name<S: Serializer>(
    names: &[&str],
    values: &[impl Serialize],
    out: S,
) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(names.len()))?;
    for (name, value) in names.iter().zip(values) {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
