//! A pin in the form that recordings hold: independent of the BPF layout, and small, since postcard
//! encodes small numbers in few bytes.
#![forbid(unsafe_code)]

use pinwatch_common::cause::PassOutcome;
use pinwatch_common::record::{ISOLATES, PHASES, Pin, PinEvent};
use pinwatch_common::weak::Holder;
use serde::{Deserialize, Serialize};

use crate::model::bounded::at_most;
use crate::model::trace::{PASSES_KEPT, Pass, Traced};

/// `TASK_COMM_LEN`.
const NAME: usize = 16;

/// A recorded pin with its blockers, as format 3 has it. The order of the fields is part of the format: any
/// change makes a new format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinWithBlockers {
    pin: PinWithOutcome,
    blockers: u64,
}

impl PinWithBlockers {
    /// Converts a pin. `before_ns` as in [`PortablePin::new`].
    #[must_use]
    pub fn new(event: &PinEvent, passes: &[Pass], before_ns: &mut u64) -> Self {
        Self {
            pin: PinWithOutcome::new(event, passes, before_ns),
            blockers: event.pin.blockers,
        }
    }

    /// Restores the pin with its passes. `before_ns` as in [`PortablePin::new`].
    pub fn traced(self, before_ns: &mut u64) -> Traced {
        let mut traced = self.pin.traced(before_ns);
        traced.event.pin.blockers = self.blockers;
        traced
    }
}

/// A recorded pin with the outcome of its last pass, as format 2 has it. The order of the fields is part of
/// the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinWithOutcome {
    pin: PortablePin,
    outcome: u8,
}

impl PinWithOutcome {
    /// Converts a pin. `before_ns` as in [`PortablePin::new`].
    #[must_use]
    pub fn new(event: &PinEvent, passes: &[Pass], before_ns: &mut u64) -> Self {
        Self {
            pin: PortablePin::new(event, passes, before_ns),
            outcome: event.pin.outcome,
        }
    }

    /// Restores the pin with its passes. `before_ns` as in [`PortablePin::new`].
    pub fn traced(self, before_ns: &mut u64) -> Traced {
        let mut traced = self.pin.traced(before_ns);
        traced.event.pin.outcome = self.outcome;
        traced
    }
}

/// A recorded pin, as format 1 has it. The order of the fields is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortablePin {
    /// Nanoseconds from the entry of the previous pin in the frame to this entry. In the first pin of a
    /// frame the time of entry, in nanoseconds of `CLOCK_MONOTONIC`.
    start_after_ns: i64,
    duration_ns: u64,
    tgid: u32,
    /// `tid - tgid`.
    thread: i64,
    requested: u64,
    returned: i64,
    passes: u32,
    unpinnable: u64,
    repinned: u64,
    migrate_calls: u32,
    migrate_ret: i32,
    moved: u64,
    failed: u64,
    drains: u32,
    isolate_failures: [u32; ISOLATES],
    phase_ns: [u64; PHASES],
    gup_flags: u32,
    origin: u8,
    sampled_place: u8,
    /// Name of the thread, without the padding.
    #[serde(deserialize_with = "at_most::<_, _, NAME>")]
    comm: Vec<u8>,
    /// Recorded passes; empty for a pin without a reported retry.
    #[serde(deserialize_with = "at_most::<_, _, PASSES_KEPT>")]
    passes_told: Vec<Pass>,
}

impl PortablePin {
    /// Converts a pin. `before_ns` holds the entry of the previous pin in the frame, and is set to the
    /// entry of this one.
    #[must_use]
    pub fn new(event: &PinEvent, passes: &[Pass], before_ns: &mut u64) -> Self {
        let PinEvent { pin, comm, .. } = event;
        let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
        let start_after_ns = pin.start_ns.wrapping_sub(*before_ns) as i64;
        *before_ns = pin.start_ns;
        Self {
            start_after_ns,
            duration_ns: pin.duration_ns,
            tgid: pin.tgid,
            thread: i64::from(pin.tid) - i64::from(pin.tgid),
            requested: pin.requested,
            returned: pin.returned,
            passes: pin.passes,
            unpinnable: pin.unpinnable,
            repinned: pin.repinned,
            migrate_calls: pin.migrate_calls,
            migrate_ret: pin.migrate_ret,
            moved: pin.moved,
            failed: pin.failed,
            drains: pin.drains,
            isolate_failures: pin.isolate_failures,
            phase_ns: pin.phase_ns,
            gup_flags: pin.gup_flags,
            origin: pin.origin,
            sampled_place: pin.sampled_place,
            comm: name.to_vec(),
            passes_told: passes.to_vec(),
        }
    }

    /// Restores the pin with its passes. `before_ns` as in [`PortablePin::new`].
    pub fn traced(self, before_ns: &mut u64) -> Traced {
        Traced {
            event: self.event(before_ns),
            passes: self.passes_told,
        }
    }

    /// Restores the pin. `before_ns` as in [`PortablePin::new`].
    #[must_use]
    pub fn event(&self, before_ns: &mut u64) -> PinEvent {
        let start_ns = before_ns.wrapping_add(self.start_after_ns as u64);
        *before_ns = start_ns;
        let mut comm = [0; NAME];
        for (to, from) in comm.iter_mut().zip(&self.comm) {
            *to = *from;
        }
        let pin = Pin {
            start_ns,
            duration_ns: self.duration_ns,
            tgid: self.tgid,
            tid: (i64::from(self.tgid).wrapping_add(self.thread)) as u32,
            requested: self.requested,
            returned: self.returned,
            unpinnable: self.unpinnable,
            moved: self.moved,
            failed: self.failed,
            repinned: self.repinned,
            phase_ns: self.phase_ns,
            migrate_calls: self.migrate_calls,
            passes: self.passes,
            drains: self.drains,
            gup_flags: self.gup_flags,
            isolate_failures: self.isolate_failures,
            migrate_ret: self.migrate_ret,
            origin: self.origin,
            sampled_place: self.sampled_place,
            ended: u8::from(self.duration_ns > 0),
            outcome: self.outcome() as u8,
            ..bytemuck::Zeroable::zeroed()
        };
        PinEvent {
            pin,
            comm,
            holder: Holder::NONE,
        }
    }

    /// Outcome of the last pass, as far as the counts show it. Of passes that are recorded as a sum, a
    /// failed migration was in the last one: the kernels of that time ended the pin with it.
    fn outcome(&self) -> PassOutcome {
        const ENOMEM: i32 = 12;
        let last = self.passes_told.last().copied().unwrap_or(Pass {
            passes: self.passes,
            unpinnable: self.unpinnable,
            failed: self.failed,
            migrate_calls: self.migrate_calls,
            isolate_failures: self.isolate_failures,
            ..Pass::default()
        });
        let not_isolated = last.isolate_failures.iter().any(|n| *n > 0);
        match self.migrate_ret {
            1.. if last.migrate_calls > 0 => PassOutcome::Busy,
            ret if ret == -ENOMEM && last.migrate_calls > 0 => PassOutcome::NoTarget,
            ..=-1 if last.migrate_calls > 0 => PassOutcome::Unclear,
            _ if last.migrate_calls > 0 && last.failed > 0 => PassOutcome::Unclear,
            _ if not_isolated => PassOutcome::NotIsolated,
            _ if last.unpinnable > 0 && last.migrate_calls < last.passes.max(1) => {
                if self.passes > 1 {
                    PassOutcome::FoundAgain
                } else {
                    PassOutcome::Found
                }
            }
            _ => PassOutcome::Nothing,
        }
    }
}
