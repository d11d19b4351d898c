//! Fold: adds a finished pin, or a finished call of `migrate_pages`, to the statistics.
//!
//! The BPF programs and the daemon call the same functions on the same cells. The BPF verifier must see
//! a check of every index. If LLVM might remove it, the index goes through `verifier_hint::opaque`.

use bytemuck::{Pod, Zeroable};

use crate::blocker::{BLOCKER_BITS, BLOCKERS, Blocker, HOLDS, MEMORIES, PLACES};
use crate::cause::{FAILURES, failure_index};
use crate::histogram::{DURATION_BUCKETS, PASS_BUCKETS, duration_bucket, pass_bucket};
use crate::hold::{HOLD_BUCKETS, HoldOutcome, HoldRecord, hold_bucket};
use crate::loss::LOSSES;
use crate::origin::origin_index;
use crate::record::{ISOLATES, ORIGINS, PHASES, Phase, Pin, ZONES};
use crate::verifier_hint::opaque;
use crate::weak::{WEAK_ORIGINS, weak_origin_index};

/// Histogram of durations. The number of durations is the sum of the buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DurationCells {
    /// Sum of all durations in nanoseconds.
    pub sum_ns: u64,
    /// By [`duration_bucket`].
    pub buckets: [u64; DURATION_BUCKETS],
}

/// Histogram of passes per pin. The number of pins is the sum of the buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PassCells {
    /// Passes of all pins.
    pub sum: u64,
    /// By [`pass_bucket`].
    pub buckets: [u64; PASS_BUCKETS],
}

/// Statistics of plain pins: see [`Plain`].
///
/// The accessors of [`OriginCells`] and [`PinCells`] include these cells in their sums, so that a
/// plain pin adds to few cells. Cells only grow, so the sums do too.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct PlainCells {
    /// Number of pins by passes (0 or 1), then by write access (without, with).
    pins: [[u64; 2]; 2],
    pages: u64,
    gup_ns: u64,
    collect_ns: u64,
}

/// Statistics of one origin. The number of pins is the sum of either histogram's buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OriginCells {
    plain: PlainCells,
    /// Number of all pins by [`duration_bucket`].
    pub durations: [u64; DURATION_BUCKETS],
    /// Only of pins that are not plain.
    duration_ns: u64,
    /// Only of pins that are not plain.
    passes: PassCells,
    /// Failed pins by [`failure_index`].
    pub failures: [u64; FAILURES],
}

/// Statistics of pins on one CPU. The return programs of all pins write them, as [`Add`] describes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinCells {
    /// By [`Origin`](crate::record::Origin).
    pub origins: [OriginCells; ORIGINS],
    /// Sampled returned pages by `enum zone_type`.
    pub zones: [u64; ZONES],
    // These four only of pins that are not plain: their accessors add the others.
    requested: u64,
    returned: u64,
    writes: u64,
    /// By [`Phase`].
    phase_ns: [u64; PHASES],
    /// As [`Pin::unpinnable`].
    pub unpinnable: u64,
    /// As [`Pin::migrate_calls`].
    pub migrate_calls: u64,
    /// As [`Pin::moved`].
    pub moved: u64,
    /// As [`Pin::failed`].
    pub failed: u64,
    /// As [`Pin::repinned`].
    pub repinned: u64,
    /// As [`Pin::drains`].
    pub drains: u64,
    /// By [`Isolate`](crate::record::Isolate).
    pub isolate_failures: [u64; ISOLATES],
}

impl OriginCells {
    /// Sum of the durations of all pins, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        let PlainCells {
            gup_ns, collect_ns, ..
        } = self.plain;
        gup_ns
            .wrapping_add(collect_ns)
            .wrapping_add(self.duration_ns)
    }

    /// Histogram of the passes of all pins.
    #[must_use]
    pub fn passes(&self) -> PassCells {
        let mut passes = self.passes;
        for (n, [reads, writes]) in (0..).zip(self.plain.pins) {
            let pins = reads.wrapping_add(writes);
            Alone::add(&mut passes.sum, pins.wrapping_mul(n.into()));
            Alone::add(&mut passes.buckets[pass_bucket(n)], pins);
        }
        passes
    }
}

impl PinCells {
    /// Same statistics with the cells of plain pins added to the others and zeroed. Makes two folds of
    /// the same pins comparable: they may count different pins as plain, to save cost.
    #[must_use]
    pub fn merged(&self) -> Self {
        let mut merged = *self;
        merged.requested = self.requested();
        merged.returned = self.returned();
        merged.writes = self.writes();
        merged.phase_ns = self.phase_ns();
        for origin in &mut merged.origins {
            (origin.duration_ns, origin.passes) = (origin.duration_ns(), origin.passes());
            origin.plain = PlainCells::zeroed();
        }
        merged
    }

    /// Adds a figure of the plain pins of every origin to `rest`.
    fn with_plain(&self, rest: u64, plain: fn(&PlainCells) -> u64) -> u64 {
        let origins = self.origins.iter().map(|origin| plain(&origin.plain));
        origins.fold(rest, u64::wrapping_add)
    }

    /// Base pages that all pins asked for.
    #[must_use]
    pub fn requested(&self) -> u64 {
        self.with_plain(self.requested, |plain| plain.pages)
    }

    /// Base pages that all pins returned.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.with_plain(self.returned, |plain| plain.pages)
    }

    /// Number of pins that asked for write access.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.with_plain(self.writes, |plain| {
            plain.pins[0][1].wrapping_add(plain.pins[1][1])
        })
    }

    /// Nanoseconds that all pins spent in each [`Phase`].
    #[must_use]
    pub fn phase_ns(&self) -> [u64; PHASES] {
        let mut phase_ns = self.phase_ns;
        let gup = &mut phase_ns[Phase::Gup as usize];
        *gup = self.with_plain(*gup, |plain| plain.gup_ns);
        let collect = &mut phase_ns[Phase::Collect as usize];
        *collect = self.with_plain(*collect, |plain| plain.collect_ns);
        phase_ns
    }
}

/// Number of long-term calls of GUP-fast, by the way they were served.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FastCells {
    /// Calls served without the slow path.
    pub fast: u64,
    /// Calls that took the slow path.
    pub slow: u64,
    /// Of the slow calls, those that returned a smaller count in place of the slow path's errno.
    pub hidden: u64,
}

/// Number of blockers ([`crate::blocker`]), by their properties.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockerCells {
    /// By [`Hold`](crate::blocker::Hold), then by [`Memory`](crate::blocker::Memory).
    pub holds: [[u64; MEMORIES]; HOLDS],
    /// By [`Blocker::zone`], then by [`Blocker::pageblock`].
    pub places: [[u64; PLACES]; PLACES],
}

/// Holds of one kind of blocker ([`crate::hold`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HoldCells {
    /// Sum of the holds that ended, in nanoseconds.
    pub sum_ns: u64,
    /// Holds that ended, by [`hold_bucket`].
    pub buckets: [u64; HOLD_BUCKETS],
    /// As [`HoldOutcome::CutOff`].
    pub cut_off: u64,
    /// As [`HoldOutcome::NoRoom`].
    pub no_room: u64,
    /// As [`HoldOutcome::Unclear`].
    pub unclear: u64,
}

/// Holds by [`Hold`](crate::blocker::Hold), then by [`Memory`](crate::blocker::Memory).
pub type AllHoldCells = [[HoldCells; MEMORIES]; HOLDS];

/// Weak pins ([`crate::weak`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct WeakCells {
    /// Number of weak pins by [`weak_origin_index`], counted at their return.
    pub pins: [u64; WEAK_ORIGINS],
    /// Time from return to release of those that were released.
    pub held: DurationCells,
}

/// Cells of one CPU.
///
/// While a program is preempted in the middle of an update, another program, or the same one in
/// another task, can update the same cells. [`Add`] describes why no update is lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CpuCells {
    /// Statistics of pins.
    pub pins: PinCells,
    /// Number of pins until the next sampled page. Not a statistic: a lost update changes only which
    /// pin is sampled.
    pub zone_gap: u64,
    /// Durations of `migrate_pages`.
    pub migrate: DurationCells,
    /// Calls of GUP-fast.
    pub fast: FastCells,
    /// Folios that failed migrations left behind.
    pub blockers: BlockerCells,
    /// Registrations that RLIMIT_MEMLOCK refused, by [`Origin`](crate::record::Origin).
    pub memlock_refusals: [u64; ORIGINS],
    /// How long they were held.
    pub holds: AllHoldCells,
    /// Weak pins.
    pub weak: WeakCells,
    /// By [`Loss`](crate::loss::Loss).
    pub losses: [u64; LOSSES],
}

/// `FOLL_WRITE`, the only `FOLL_*` flag with the same value on all kernels.
const FOLL_WRITE: u32 = 1;

/// Way to add to a cell.
///
/// Where the kernel can preempt a BPF program, the BPF side adds by an atomic instruction.
/// Elsewhere a program is the only writer of its CPU's cells while it runs.
pub trait Add {
    /// Adds `n` to `cell`. Wraps around.
    fn add(cell: &mut u64, n: u64);
}

/// Plain addition, for a cell without a concurrent writer.
pub struct Alone;

impl Add for Alone {
    #[inline(always)]
    fn add(cell: &mut u64, n: u64) {
        *cell = cell.wrapping_add(n);
    }
}

/// Adds 1 to the cell at `index`, if there is one.
#[inline(always)]
fn count<A: Add, const N: usize>(cells: &mut [u64; N], index: usize) {
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
    fold_zone::<Alone>(cells, pin.sampled_zone);
    match Plain::of(pin) {
        Some(plain) => fold_plain::<Alone>(cells, plain),
        None => fold_eventful::<Alone>(cells, pin),
    }
}

/// Adds a pin's sampled page, given as in [`Pin::sampled_zone`].
#[inline(always)]
pub fn fold_zone<A: Add>(cells: &mut PinCells, sampled_zone: u8) {
    if sampled_zone != 0 {
        count::<A, _>(&mut cells.zones, sampled_zone as usize - 1);
    }
}

/// Adds a plain pin, without its sampled page.
#[inline(always)]
pub fn fold_plain<A: Add>(cells: &mut PinCells, pin: Plain) {
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
    count::<A, _>(
        &mut origin.durations,
        duration_bucket(pin.gup_ns.wrapping_add(pin.collect_ns)),
    );
}

/// Adds a pin that is not plain, without its sampled page.
///
/// Code with many branches comes last, since the verifier follows each path to the end.
#[inline(always)]
pub fn fold_eventful<A: Add>(cells: &mut PinCells, pin: &Pin) {
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
        count::<A, _>(&mut origin.failures, opaque(failure_index(pin)));
    }
    count::<A, _>(&mut origin.passes.buckets, opaque(pass_bucket(pin.passes)));
    count::<A, _>(&mut origin.durations, duration_bucket(pin.duration_ns));
}

/// Adds a finished call of `migrate_pages` that took `ns` nanoseconds.
#[inline(always)]
pub fn fold_migrate<A: Add>(cells: &mut DurationCells, ns: u64) {
    A::add(&mut cells.sum_ns, ns);
    count::<A, _>(&mut cells.buckets, duration_bucket(ns));
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
    if let Some(pageblocks) = cells.places.get_mut(opaque(zone.into())) {
        count::<A, _>(pageblocks, opaque(pageblock.into()));
    }
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
    use crate::histogram::{PASS_EDGES, duration_upper_ns};
    use crate::record::CAUSES;
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
            0..=ZONES as u8,
        );
        let pin =
            (size, inside).prop_map(|((duration_ns, passes, requested, returned), inside)| {
                let (unpinnable, failed, migrate_ret, drains, origin, outcome, gup_flags, zone) =
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
                    sampled_zone: zone,
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
            for (zone, sampled) in cells.zones.iter().enumerate() {
                let there = pins.iter().filter(|pin| usize::from(pin.sampled_zone) == zone + 1);
                prop_assert_eq!(*sampled, there.count() as u64);
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
                fold_zone::<Alone>(&mut eventful, pin.sampled_zone);
                fold_eventful::<Alone>(&mut eventful, pin);
            }
            prop_assert!(cells.merged() == eventful);
            prop_assert_eq!(cells.merged().requested(), cells.requested());
        }
    }
}
