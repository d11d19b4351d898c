//! Holds: how long what stood in the way of a failed migration stayed there.
//!
//! A hold begins at the failed migration and belongs to one [`Blocker`](crate::blocker::Blocker) of one pin. It
//! is watched by samples, so its end is known to lie between two of them.

use bytemuck::{Pod, Zeroable};

use crate::holder::Holder;
use crate::record::{Pin, PinEvent};

/// Number of folios that can be watched at once. One more is counted as [`HoldOutcome::NoRoom`].
pub const WATCHES: u32 = 64;

/// Nanoseconds after which a folio is no longer watched: [`HoldOutcome::CutOff`].
pub const WATCH_LIMIT_NS: u64 = 10_000_000_000;

/// Period of the samples, in nanoseconds, while a hold is young.
pub const WATCH_PERIOD_NS: u64 = 1_000_000;

/// A folio is sampled again once its hold has grown by this share: 2 to the power of -5, or 1/32.
pub const WATCH_SHARE: u32 = 5;

/// How the watch of a folio ended.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// Nothing holds the folio any more.
    Released = 1,
    /// The folio was freed, or has another owner.
    Freed = 2,
    /// It was still held after [`WATCH_LIMIT_NS`].
    CutOff = 3,
    /// All [`WATCHES`] were taken, so it was not watched.
    NoRoom = 4,
    /// Its references cannot be compared with its mappings on this kernel, so it was not watched:
    /// [`Hold::Unclear`](crate::blocker::Hold::Unclear).
    Unclear = 5,
}

/// Inclusive upper edges of the histogram of holds, in nanoseconds.
pub const HOLD_EDGES_NS: [u64; 13] = [
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Number of buckets of that histogram, including the one beyond the last edge.
pub const HOLD_BUCKETS: usize = HOLD_EDGES_NS.len() + 1;

/// Bucket of a hold, from 0 to [`HOLD_BUCKETS`]` - 1`. Without branches and without a loop.
#[inline(always)]
#[must_use]
pub fn hold_bucket(ns: u64) -> usize {
    let beyond = |edge: u64| edge.wrapping_sub(ns) >> 63;
    macro_rules! sum {
        ($($n:literal)*) => { 0 $(+ beyond(HOLD_EDGES_NS[$n]))* };
    }
    sum!(0 1 2 3 4 5 6 7 8 9 10 11 12) as usize
}

/// A hold that ended, or a folio that was not watched. One event carries it to followers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HoldRecord {
    /// [`Pin::start_ns`] of the pin that the folio was in the way of. Identifies the pin with `tid`.
    pub pin_start_ns: u64,
    /// [`Pin::tid`] of that pin.
    pub tid: u32,
    /// [`Pin::tgid`] of that pin.
    pub tgid: u32,
    /// Nanoseconds from the failed migration to the sample that saw the end.
    pub ns: u64,
    /// Nanoseconds from the failed migration to the last sample that saw the folio held; 0 without one.
    pub held_ns: u64,
    /// The packed [`Blocker`](crate::blocker::Blocker), as the failed migration left it.
    pub blocker: u16,
    /// Its number among the blockers of its pin, from 0 on.
    pub number: u8,
    /// A [`HoldOutcome`].
    pub outcome: u8,
    /// Always 0.
    pub reserved: u32,
}

/// [`Pin::ended`] of an event that carries a hold.
pub const HOLD: u8 = 3;

impl HoldRecord {
    /// The event that carries this hold.
    #[must_use]
    pub fn event(&self) -> PinEvent {
        PinEvent {
            pin: Pin {
                start_ns: self.pin_start_ns,
                duration_ns: self.ns,
                tid: self.tid,
                tgid: self.tgid,
                requested: self.held_ns,
                blockers: self.blocker.into(),
                passes: self.number.into(),
                outcome: self.outcome,
                ended: HOLD,
                ..Pin::zeroed()
            },
            comm: [0; 16],
            holder: Holder::NONE,
        }
    }

    /// The hold in an event; `None` for the event of a pin.
    #[must_use]
    pub fn of(event: &PinEvent) -> Option<Self> {
        let pin = &event.pin;
        (pin.ended == HOLD).then_some(Self {
            pin_start_ns: pin.start_ns,
            tid: pin.tid,
            tgid: pin.tgid,
            ns: pin.duration_ns,
            held_ns: pin.requested,
            blocker: pin.blockers as u16,
            number: pin.passes as u8,
            outcome: pin.outcome,
            reserved: 0,
        })
    }
}

/// Folio that is watched. Its addresses never leave the kernel: user space does not map this.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Watch {
    /// Number of programs that claim the entry: see [`Slot::claims`](crate::record::Slot::claims).
    pub claims: u64,
    /// Address of the folio; 0 until everything else is written, and after the end.
    pub folio: u64,
    /// The folio's mapping and the word after it, its index: another folio has others.
    pub identity: [u64; 2],
    /// Time of the failed migration, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began_ns: u64,
    /// Time of the last sample.
    pub checked_ns: u64,
    /// The hold so far.
    pub hold: HoldRecord,
}

/// What user space must know of all [`Watch`]es.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Watching {
    /// A bit for each entry that is taken. Claims decide; this shows which one to try first.
    pub taken: u64,
    /// [`Watch::began_ns`] of the newest.
    pub newest_ns: u64,
}

const _: () = assert!(WATCHES == u64::BITS);
const _: () = assert!(size_of::<HoldRecord>() == 40);
const _: () = assert!(size_of::<Watch>() == 88);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_inclusive() {
        for (bucket, edge) in HOLD_EDGES_NS.into_iter().enumerate() {
            assert_eq!(
                (hold_bucket(edge), hold_bucket(edge + 1)),
                (bucket, bucket + 1)
            );
        }
        assert_eq!(hold_bucket(0), 0);
        assert_eq!(HOLD_EDGES_NS[HOLD_EDGES_NS.len() - 1], WATCH_LIMIT_NS);
    }

    proptest! {
        #[test]
        fn an_event_carries_a_hold(start in any::<u64>(), tid in any::<u32>(), ns in any::<u64>(), blocker in any::<u16>(), number in 0..4u8, outcome in 1..6u8) {
            let hold = HoldRecord { pin_start_ns: start, tid, tgid: tid ^ 1, ns, held_ns: ns / 2, blocker, number, outcome, reserved: 0 };
            prop_assert_eq!(HoldRecord::of(&hold.event()), Some(hold));
            prop_assert_eq!(HoldRecord::of(&PinEvent::zeroed()), None);
        }
    }
}
