//! Fold: adds a finished pin, or a finished call of `migrate_pages`, to the statistics.
//!
//! The BPF programs and the daemon call the same functions on the same cells. The BPF verifier must see
//! a check of every index. If LLVM might remove it, the index goes through `verifier_hint::opaque`.

use crate::blocker::{BLOCKER_BITS, BLOCKERS, Blocker};
use crate::cause::failure_index;
use crate::cells::{
    Add, AllHoldCells, Alone, BlockerCells, DurationCells, PinCells, PlainCells, WeakCells,
};
use crate::histogram::{duration_bucket, pass_bucket, rare_duration_bucket};
use crate::hold::{HoldOutcome, HoldRecord, hold_bucket};
use crate::origin::origin_index;
use crate::place::{Place, PlaceCells};
use crate::record::{ISOLATES, ORIGINS, PHASES, Pin};
use crate::verifier_hint::{forgotten, opaque};
use crate::weak::weak_origin_index;

/// `FOLL_WRITE`, the only `FOLL_*` flag with the same value on all kernels.
const FOLL_WRITE: u32 = 1;

/// Adds 1 to the cell at `index`, if there is one.
#[inline(always)]
pub(crate) fn count<A: Add, const N: usize>(cells: &mut [u64; N], index: usize) {
    if let Some(cell) = cells.get_mut(index) {
        A::add(cell, 1);
    }
}

/// Contribution of a plain pin: one pass that found no unpinnable page, and all requested pages
/// returned. Nearly every pin is plain.
///
/// Where passes cannot be seen, a plain pin has none.
#[derive(Clone, Copy)]
pub struct Plain {
    /// As [`Pin::origin`].
    pub origin: u8,
    /// 0 or 1.
    pub passes: u32,
    /// Base pages requested and returned.
    pub pages: u64,
    /// As [`Pin::gup_flags`].
    pub gup_flags: u32,
    /// Nanoseconds in [`Phase::Gup`].
    pub gup_ns: u64,
    /// Nanoseconds in [`Phase::Collect`].
    pub collect_ns: u64,
}

impl Plain {
    /// Contribution of `pin` if it is plain. Without branches, since the verifier would follow both
    /// sides of each.
    #[inline(always)]
    #[must_use]
    pub fn of(pin: &Pin) -> Option<Self> {
        let [gup_ns, collect_ns, drain_ns, migrate_ns, other_ns] = pin.phase_ns;
        let [lru, hugetlb, movable_ops] = pin.isolate_failures;
        let small = pin.migrate_calls | pin.drains | lru | hugetlb | movable_ops | pin.passes & !1;
        let is_plain = drain_ns
            | migrate_ns
            | other_ns
            | pin.unpinnable
            | pin.moved
            | pin.failed
            | pin.repinned
            | small as u64
            | pin.returned as u64 ^ pin.requested
            | pin.duration_ns ^ gup_ns.wrapping_add(collect_ns)
            == 0;
        is_plain.then_some(Self {
            origin: pin.origin,
            passes: pin.passes,
            pages: pin.requested,
            gup_flags: pin.gup_flags,
            gup_ns,
            collect_ns,
        })
    }
}

/// Counts a registration that RLIMIT_MEMLOCK refused. `origin` is as in [`Pin::origin`].
#[inline(always)]
pub fn count_memlock_refusal<A: Add>(refusals: &mut [u64; ORIGINS], origin: u8) {
    count::<A, _>(refusals, opaque(origin_index(origin)));
}

/// Adds a finished pin.
#[inline(always)]
pub fn fold_pin(cells: &mut PinCells, pin: &Pin) {
    fold_sampled::<Alone>(&mut cells.places, pin.sampled_place);
    match Plain::of(pin) {
        Some(plain) => fold_plain::<Alone>(cells, plain, &mut 0),
        None => fold_eventful::<Alone>(cells, pin, &mut 0),
    }
}

/// Adds a page at a place.
#[inline(always)]
fn fold_place<A: Add>(cells: &mut PlaceCells, place: Place) {
    if let Some(pageblocks) = cells.get_mut(opaque(place.zone.into())) {
        count::<A, _>(pageblocks, opaque(place.pageblock.into()));
    }
}

/// Adds a sampled page, given as in [`Pin::sampled_place`].
#[inline(always)]
pub fn fold_sampled<A: Add>(cells: &mut PlaceCells, sampled_place: u8) {
    if let Some(place) = Place::unpack(sampled_place) {
        fold_place::<A>(cells, place);
    }
}

/// Adds a plain pin, without its sampled page. `scratch` is the word of [`forgotten`].
#[inline(always)]
pub fn fold_plain<A: Add>(cells: &mut PinCells, pin: Plain, scratch: &mut u32) {
    let origin = &mut cells.origins[origin_index(pin.origin)];
    let PlainCells {
        pins,
        pages,
        gup_ns,
        collect_ns,
    } = &mut origin.plain;
    let pins = &mut pins[(pin.passes & 1) as usize];
    A::add(&mut pins[(pin.gup_flags & FOLL_WRITE) as usize], 1);
    A::add(pages, pin.pages);
    A::add(gup_ns, pin.gup_ns);
    A::add(collect_ns, pin.collect_ns);
    // Last: the search for the bucket then has all registers.
    let bucket = duration_bucket(pin.gup_ns.wrapping_add(pin.collect_ns));
    count::<A, _>(&mut origin.durations, forgotten(bucket, scratch));
}

/// Adds a pin that is not plain, without its sampled page. `scratch` is the word of [`forgotten`].
#[inline(always)]
pub fn fold_eventful<A: Add>(cells: &mut PinCells, pin: &Pin, scratch: &mut u32) {
    A::add(&mut cells.requested, pin.requested);
    if pin.returned > 0 {
        A::add(&mut cells.returned, pin.returned as u64);
    }
    A::add(&mut cells.writes, (pin.gup_flags & FOLL_WRITE) as u64);
    for phase in 0..PHASES {
        A::add(&mut cells.phase_ns[phase], pin.phase_ns[phase]);
    }
    A::add(&mut cells.unpinnable, pin.unpinnable);
    A::add(&mut cells.migrate_calls, pin.migrate_calls as u64);
    A::add(&mut cells.moved, pin.moved);
    A::add(&mut cells.failed, pin.failed);
    A::add(&mut cells.repinned, pin.repinned);
    A::add(&mut cells.drains, pin.drains as u64);
    for kind in 0..ISOLATES {
        A::add(
            &mut cells.isolate_failures[kind],
            pin.isolate_failures[kind] as u64,
        );
    }
    let origin = &mut cells.origins[origin_index(pin.origin)];
    A::add(&mut origin.duration_ns, pin.duration_ns);
    A::add(&mut origin.passes.sum, pin.passes as u64);
    if pin.returned < 0 {
        let failure = forgotten(failure_index(pin), scratch);
        count::<A, _>(&mut origin.failures, failure);
    }
    let passes = forgotten(pass_bucket(pin.passes), scratch);
    count::<A, _>(&mut origin.passes.buckets, passes);
    let duration = rare_duration_bucket(pin.duration_ns);
    count::<A, _>(&mut origin.durations, duration);
}

/// Adds a finished call of `migrate_pages` that took `ns` nanoseconds.
#[inline(always)]
pub fn fold_migrate<A: Add>(cells: &mut DurationCells, ns: u64) {
    A::add(&mut cells.sum_ns, ns);
    count::<A, _>(&mut cells.buckets, rare_duration_bucket(ns));
}

/// Adds a weak pin that returned.
#[inline(always)]
pub fn fold_weak_pin<A: Add>(cells: &mut WeakCells, origin: u8) {
    count::<A, _>(&mut cells.pins, opaque(weak_origin_index(origin)));
}

/// Adds the time that a released weak pin was held, in nanoseconds.
#[inline(always)]
pub fn fold_weak_held<A: Add>(cells: &mut WeakCells, ns: u64) {
    fold_migrate::<A>(&mut cells.held, ns);
}

/// Adds blockers, given as in [`Pin::blockers`].
#[inline(always)]
pub fn fold_blockers<A: Add>(cells: &mut BlockerCells, packed: u64) {
    for n in 0..BLOCKERS {
        let one = packed >> (n * BLOCKER_BITS) & 0xffff;
        if one & 7 != 0 {
            fold_blocker::<A>(cells, Blocker::unpack(one));
        }
    }
}

#[inline(always)]
fn fold_blocker<A: Add>(cells: &mut BlockerCells, blocker: Blocker) {
    let Blocker {
        hold,
        memory,
        zone,
        pageblock,
        mapped: _,
    } = blocker;
    if let Some(memories) = cells.holds.get_mut(opaque(hold.into())) {
        count::<A, _>(memories, opaque(memory.into()));
    }
    fold_place::<A>(&mut cells.places, Place { zone, pageblock });
}

/// Adds a hold that ended, or a folio that was not watched.
#[inline(always)]
pub fn fold_hold<A: Add>(cells: &mut AllHoldCells, hold: &HoldRecord) {
    const RELEASED: u8 = HoldOutcome::Released as u8;
    const FREED: u8 = HoldOutcome::Freed as u8;
    const CUT_OFF: u8 = HoldOutcome::CutOff as u8;
    const NO_ROOM: u8 = HoldOutcome::NoRoom as u8;
    let blocker = Blocker::unpack(hold.blocker.into());
    let Some(memories) = cells.get_mut(opaque(blocker.hold.into())) else {
        return;
    };
    let Some(cells) = memories.get_mut(opaque(blocker.memory.into())) else {
        return;
    };
    match hold.outcome {
        RELEASED | FREED => {
            A::add(&mut cells.sum_ns, hold.ns);
            count::<A, _>(&mut cells.buckets, opaque(hold_bucket(hold.ns)));
        }
        CUT_OFF => A::add(&mut cells.cut_off, 1),
        NO_ROOM => A::add(&mut cells.no_room, 1),
        _ => A::add(&mut cells.unclear, 1),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::cause::{ERRNO_CLASSES, ERRNOS, cause, cause_at};
    use crate::histogram::{DURATION_BUCKETS, PASS_EDGES, duration_upper_ns};
    use crate::record::CAUSES;
    use bytemuck::Zeroable as _;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn a_forged_return_value_is_counted_as_another_errno() {
        let mut cells = PinCells::zeroed();
        let pin = Pin {
            returned: i64::MIN,
            ..Pin::zeroed()
        };
        fold_pin(&mut cells, &pin);
        let other = ERRNOS - 1;
        assert_eq!(cells.origins[0].failures[other], 1);
    }

    #[test]
    fn a_complete_pin_without_a_pass_is_told_from_a_failed_one() {
        let mut cells = PinCells::zeroed();
        let pin = |passes, returned| Pin {
            passes,
            requested: 1,
            returned,
            ..Pin::zeroed()
        };
        for pin in [pin(0, 1), pin(1, 1), pin(0, -14)] {
            fold_pin(&mut cells, &pin);
        }
        assert_eq!(cells.without_pass(), 1);
    }

    fn pins() -> impl Strategy<Value = Vec<Pin>> {
        let returned = prop_oneof![-140i64..0, 0i64..1 << 20];
        let size = (0..1u64 << 45, 0..300u32, 0..1u64 << 20, returned);
        let inside = (
            0..99u64,
            0..9u64,
            -20i32..5,
            0..3u32,
            0..ORIGINS as u8,
            any::<u8>(),
            0..2u32,
            any::<u8>(),
        );
        let pin =
            (size, inside).prop_map(|((duration_ns, passes, requested, returned), inside)| {
                let (unpinnable, failed, migrate_ret, drains, origin, outcome, gup_flags, place) =
                    inside;
                Pin {
                    duration_ns,
                    passes,
                    requested,
                    returned,
                    unpinnable,
                    failed,
                    migrate_ret,
                    drains,
                    origin,
                    gup_flags,
                    migrate_calls: drains,
                    sampled_place: place,
                    outcome,
                    ..Pin::zeroed()
                }
            });
        let pin = (pin, 0..4u32, 0..4u32).prop_map(|(pin, parts, passes)| {
            let gup = pin.duration_ns * u64::from(parts) / 4;
            let pin = Pin {
                phase_ns: [gup, pin.duration_ns - gup, 0, 0, 0],
                ..pin
            };
            if passes < 2 {
                as_plain(pin, passes)
            } else {
                pin
            }
        });
        prop::collection::vec(pin, 0..40)
    }

    fn as_plain(pin: Pin, passes: u32) -> Pin {
        Pin {
            passes,
            returned: pin.requested as i64,
            unpinnable: 0,
            failed: 0,
            drains: 0,
            migrate_calls: 0,
            ..pin
        }
    }

    #[test]
    fn an_ioctl_without_an_origin_counts_as_other() {
        let mut cells = PinCells::zeroed();
        let failed = Pin {
            origin: 0xfa,
            returned: -12,
            ..Pin::zeroed()
        };
        fold_pin(&mut cells, &failed);
        fold_pin(&mut cells, &as_plain(failed, 1));
        assert_eq!(cells.origins[0].durations.iter().sum::<u64>(), 2);
    }

    #[test]
    fn a_plain_pin_has_at_most_one_pass_and_no_event() {
        let pin = Pin {
            requested: 3,
            duration_ns: 5,
            phase_ns: [4, 1, 0, 0, 0],
            ..Pin::zeroed()
        };
        let plain = as_plain(pin, 1);
        assert!(Plain::of(&plain).is_some());
        assert!(Plain::of(&Pin { passes: 0, ..plain }).is_some());
        let changes: [fn(&mut Pin); 7] = [
            |pin| pin.passes = 2,
            |pin| pin.returned = 2,
            |pin| pin.returned = -12,
            |pin| pin.drains = 1,
            |pin| pin.unpinnable = 1,
            |pin| pin.isolate_failures[2] = 1,
            |pin| pin.phase_ns = [3, 1, 1, 0, 0],
        ];
        for change in changes {
            let mut pin = plain;
            change(&mut pin);
            assert!(Plain::of(&pin).is_none(), "{pin:?}");
        }
    }

    proptest! {
        /// Compares with filters and sums, without the fold's index arithmetic.
        #[test]
        fn every_pin_is_in_the_cells_it_belongs_to(pins in pins()) {
            let mut cells = PinCells::zeroed();
            pins.iter().for_each(|pin| fold_pin(&mut cells, pin));
            let sum = |value: fn(&Pin) -> u64| pins.iter().map(value).sum::<u64>();
            prop_assert_eq!(cells.requested(), sum(|pin| pin.requested));
            prop_assert_eq!(cells.returned(), sum(|pin| pin.returned.max(0) as u64));
            prop_assert_eq!(cells.unpinnable, sum(|pin| pin.unpinnable));
            prop_assert_eq!(cells.failed, sum(|pin| pin.failed));
            prop_assert_eq!(cells.drains, sum(|pin| pin.drains.into()));
            for (phase, ns) in cells.phase_ns().iter().enumerate() {
                prop_assert_eq!(*ns, pins.iter().map(|pin| pin.phase_ns[phase]).sum::<u64>());
            }
            prop_assert_eq!(cells.writes(), sum(|pin| u64::from(pin.gup_flags == 1)));
            for (zone, pageblocks) in (0..).zip(cells.places) {
                for (pageblock, sampled) in (0..).zip(pageblocks) {
                    let place = Some(Place { zone, pageblock });
                    let there = pins.iter().filter(|pin| Place::unpack(pin.sampled_place) == place);
                    prop_assert_eq!(sampled, there.count() as u64);
                }
            }
            for (n, origin) in cells.origins.iter().enumerate() {
                let mine: Vec<_> = pins.iter().filter(|pin| pin.origin as usize == n).collect();
                prop_assert_eq!(origin.passes().sum, mine.iter().map(|pin| u64::from(pin.passes)).sum::<u64>());
                prop_assert_eq!(origin.duration_ns(), mine.iter().map(|pin| pin.duration_ns).sum::<u64>());
                for bucket in 0..DURATION_BUCKETS {
                    let upper = duration_upper_ns(bucket).unwrap_or(u64::MAX);
                    let below = mine.iter().filter(|pin| pin.duration_ns <= upper).count();
                    prop_assert_eq!(origin.durations[..=bucket].iter().sum::<u64>(), below as u64);
                }
                for (bucket, edge) in PASS_EDGES.iter().enumerate() {
                    let below = mine.iter().filter(|pin| pin.passes <= *edge).count();
                    prop_assert_eq!(origin.passes().buckets[..=bucket].iter().sum::<u64>(), below as u64);
                }
                let failed = mine.iter().filter(|pin| pin.returned < 0).count();
                prop_assert_eq!(origin.failures.iter().sum::<u64>(), failed as u64);
                let mut causes = [0; CAUSES];
                for (index, count) in origin.failures.iter().enumerate() {
                    causes[cause_at(index) as usize] += count;
                }
                for (number, count) in causes.into_iter().enumerate() {
                    let failed = mine.iter().filter(|pin| pin.returned < 0);
                    let of_cause = failed.filter(|pin| cause(pin) as usize == number);
                    prop_assert_eq!(count, of_cause.count() as u64);
                }
                for (class, (errno, _)) in ERRNO_CLASSES.iter().enumerate() {
                    let failed = mine.iter().filter(|pin| pin.returned == -i64::from(*errno)).count();
                    let counted = origin.failures.iter().skip(class).step_by(ERRNOS).sum::<u64>();
                    prop_assert_eq!(counted, failed as u64);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn merged_cells_give_the_same_figures(pins in pins()) {
            let mut cells = PinCells::zeroed();
            let mut eventful = PinCells::zeroed();
            for pin in &pins {
                fold_pin(&mut cells, pin);
                fold_sampled::<Alone>(&mut eventful.places, pin.sampled_place);
                fold_eventful::<Alone>(&mut eventful, pin, &mut 0);
            }
            prop_assert!(cells.merged() == eventful);
            prop_assert_eq!(cells.merged().requested(), cells.requested());
        }
    }
}
