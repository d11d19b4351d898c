//! Holds in the forms that leave the process: a record of a recording, and a JSON object.
#![forbid(unsafe_code)]

use pinwatch_common::blocker::{Blocker, HOLD_NAMES, MEMORY_NAMES};
use pinwatch_common::hold::{HoldOutcome, HoldRecord};
use serde::{Deserialize, Serialize};

/// A recorded hold. The order of the fields is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortableHold {
    pin_start_ns: u64,
    tid: u32,
    tgid: u32,
    ns: u64,
    held_ns: u64,
    blocker: u16,
    number: u8,
    outcome: u8,
}

impl From<HoldRecord> for PortableHold {
    fn from(hold: HoldRecord) -> Self {
        let HoldRecord {
            pin_start_ns,
            tid,
            tgid,
            ns,
            held_ns,
            blocker,
            number,
            outcome,
            reserved: _,
        } = hold;
        Self {
            pin_start_ns,
            tid,
            tgid,
            ns,
            held_ns,
            blocker,
            number,
            outcome,
        }
    }
}

impl From<PortableHold> for HoldRecord {
    fn from(hold: PortableHold) -> Self {
        let PortableHold {
            pin_start_ns,
            tid,
            tgid,
            ns,
            held_ns,
            blocker,
            number,
            outcome,
        } = hold;
        Self {
            pin_start_ns,
            tid,
            tgid,
            ns,
            held_ns,
            blocker,
            number,
            outcome,
            reserved: 0,
        }
    }
}

/// A hold, as `pinwatch tail --json` shows it. docs/tail.md documents the fields.
#[derive(Clone, Debug, Serialize)]
pub struct HoldRow {
    pub pid: u32,
    pub tid: u32,
    /// Entry of the pin, in nanoseconds of `CLOCK_MONOTONIC`.
    pub pin_start_ns: u64,
    /// Index of the folio in the pin's `blockers`.
    pub blocker: u8,
    pub kind: &'static str,
    pub memory: &'static str,
    pub outcome: &'static str,
    /// Nanoseconds from the failed migration to the end; `None` if the folio was not watched.
    pub hold_ns: Option<u64>,
    /// Nanoseconds from the failed migration at which the folio was last seen held.
    pub held_ns: Option<u64>,
}

impl From<&HoldRecord> for HoldRow {
    fn from(hold: &HoldRecord) -> Self {
        let blocker = Blocker::unpack(hold.blocker.into());
        let watched = is_watched(hold.outcome);
        Self {
            pid: hold.tgid,
            tid: hold.tid,
            pin_start_ns: hold.pin_start_ns,
            blocker: hold.number,
            kind: HOLD_NAMES[usize::from(blocker.hold)],
            memory: MEMORY_NAMES[usize::from(blocker.memory)],
            outcome: outcome_name(hold.outcome),
            hold_ns: watched.then_some(hold.ns),
            held_ns: watched.then_some(hold.held_ns),
        }
    }
}

/// Whether a folio with this [`HoldOutcome`] was watched.
#[must_use]
pub fn is_watched(outcome: u8) -> bool {
    const LAST: u8 = HoldOutcome::CutOff as u8;
    (1..=LAST).contains(&outcome)
}

/// Name of a [`HoldOutcome`]. Unknown numbers, as in a recording of a later version, are `unclear`.
#[must_use]
pub fn outcome_name(outcome: u8) -> &'static str {
    match outcome {
        1 => "released",
        2 => "freed",
        3 => "cut_off",
        4 => "no_room",
        _ => "unclear",
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn every_outcome_has_its_name() {
        use HoldOutcome as O;
        let named = [O::Released, O::Freed, O::CutOff, O::NoRoom, O::Unclear];
        assert_eq!(
            named.map(|outcome| outcome_name(outcome as u8)),
            ["released", "freed", "cut_off", "no_room", "unclear"]
        );
        assert_eq!(
            named.map(|outcome| is_watched(outcome as u8)),
            [true, true, true, false, false]
        );
        assert!(!is_watched(0) && !is_watched(9));
    }

    #[test]
    fn a_recorded_hold_is_the_same() {
        let hold = HoldRecord {
            pin_start_ns: 5,
            tid: 1,
            tgid: 2,
            ns: 3,
            held_ns: 4,
            blocker: 6,
            number: 7,
            outcome: 8,
            ..HoldRecord::zeroed()
        };
        assert_eq!(HoldRecord::from(PortableHold::from(hold)), hold);
    }
}
