//! The fold: adds one ended pin, or one ended migration, to the statistics.
//! The BPF programs and the daemon both call it, on the same cells.
//!
//! The BPF verifier must see the bound of every index checked: one that LLVM might follow, and
//! then leave unchecked, goes through [`opaque`].

use bytemuck::{Pod, Zeroable};

use crate::counter::LOSSES;
use crate::histogram::{DURATION_BUCKETS, PASS_BUCKETS, duration_bucket, pass_bucket};
use crate::opaque::opaque;
use crate::record::{CAUSES, Cause, ISOLATES, ORIGINS, PHASES, Phase, Pin, ZONES};

/// A histogram of durations.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DurationCells {
    pub sum_ns: u64,
    pub buckets: [u64; DURATION_BUCKETS],
}

/// A histogram of passes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PassCells {
    pub sum: u64,
    pub buckets: [u64; PASS_BUCKETS],
}

/// What most pins have in common is counted once: see [`Plain`]. All of it is part of what the
/// accessors of [`OriginCells`] and [`PinCells`] give, each a sum of cells that only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct PlainCells {
    /// By passes, none or one, and without and with write access.
    pins: [[u64; 2]; 2],
    pages: u64,
    gup_ns: u64,
    collect_ns: u64,
}

/// What is kept per origin. The number of pins is the sum of either histogram's
/// buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OriginCells {
    plain: PlainCells,
    /// By duration, of all pins.
    pub durations: [u64; DURATION_BUCKETS],
    /// Of pins that are not plain, as what follows.
    duration_ns: u64,
    passes: PassCells,
    /// Failures by cause and errno class.
    pub failures: [u64; CAUSES * ERRNOS],
}

/// Everything folded from pins. The return programs of all pins write it: [`Add`] says how.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinCells {
    pub origins: [OriginCells; ORIGINS],
    /// Sampled pages by `enum zone_type`.
    pub zones: [u64; ZONES],
    /// Of pins that are not plain, as the next three.
    requested: u64,
    returned: u64,
    writes: u64,
    /// By [`Phase`](crate::record::Phase).
    phase_ns: [u64; PHASES],
    pub unpinnable: u64,
    pub migrate_calls: u64,
    pub moved: u64,
    pub failed: u64,
    pub repinned: u64,
    pub drains: u64,
    /// By [`Isolate`](crate::record::Isolate).
    pub isolate_failures: [u64; ISOLATES],
}

impl OriginCells {
    /// From entry to return, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        let PlainCells {
            gup_ns, collect_ns, ..
        } = self.plain;
        gup_ns
            .wrapping_add(collect_ns)
            .wrapping_add(self.duration_ns)
    }

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
    /// The same figures with nothing left in the cells of plain pins. Which pins are counted there is
    /// a matter of cost: two folds of the same pins may differ in it.
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

    fn with_plain(&self, rest: u64, plain: fn(&PlainCells) -> u64) -> u64 {
        let origins = self.origins.iter().map(|origin| plain(&origin.plain));
        origins.fold(rest, u64::wrapping_add)
    }

    /// Base pages that pins asked for.
    #[must_use]
    pub fn requested(&self) -> u64 {
        self.with_plain(self.requested, |plain| plain.pages)
    }

    /// Base pages that pins returned.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.with_plain(self.returned, |plain| plain.pages)
    }

    /// Pins that asked for write access.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.with_plain(self.writes, |plain| {
            plain.pins[0][1].wrapping_add(plain.pins[1][1])
        })
    }

    /// Nanoseconds by [`Phase`](crate::record::Phase).
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

/// Long-term calls of GUP-fast.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FastCells {
    /// Served without the slow path.
    pub fast: u64,
    /// The slow path was called.
    pub slow: u64,
    /// Of those, how many returned a smaller count in place of its errno.
    pub hidden: u64,
}

/// One CPU's cells. A program that is preempted in the middle of an update can be overtaken on the
/// same CPU by another program, or by the same one in another task: [`Add`] says why no update is
/// lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CpuCells {
    pub pins: PinCells,
    /// Pins until one more of their pages is looked at; no statistic, so an update that is lost
    /// changes only which pin is sampled.
    pub zone_gap: u64,
    pub migrate: DurationCells,
    pub fast: FastCells,
    /// By [`crate::counter::Loss`].
    pub losses: [u64; LOSSES],
}

/// Errnos with a class of their own; all others share the last class.
pub const ERRNO_CLASSES: [(i32, &str); 12] = [
    (12, "ENOMEM"),
    (14, "EFAULT"),
    (11, "EAGAIN"),
    (4, "EINTR"),
    (16, "EBUSY"),
    (95, "EOPNOTSUPP"),
    (22, "EINVAL"),
    (1, "EPERM"),
    (5, "EIO"),
    (133, "EHWPOISON"),
    (512, "ERESTARTSYS"),
    (75, "EOVERFLOW"),
];

/// Number of errno classes, the one for all others included.
pub const ERRNOS: usize = ERRNO_CLASSES.len() + 1;

/// `FOLL_WRITE`, the one flag with the same value on all kernels.
const FOLL_WRITE: u32 = 1;

/// The class of an errno.
#[inline(always)]
#[must_use]
pub fn errno_class(errno: i32) -> usize {
    let mut class = 0;
    while class < ERRNO_CLASSES.len() && ERRNO_CLASSES[class].0 != errno {
        class += 1;
    }
    class
}

/// The cause of a failure, from what was seen inside the pin.
///
/// All of the path's own failures to migrate reach the caller as -ENOMEM
/// (`migrate_longterm_unpinnable_folios`); what `migrate_pages` itself returned
/// tells a page that stayed referenced (a positive count) from a missing target.
/// The path retries isolation for ever, so a pin that fails on it was killed
/// while it did.
#[inline(always)]
#[must_use]
pub fn cause(pin: &Pin) -> Cause {
    const EINTR: i64 = 4;
    const ENOMEM: i64 = 12;
    const EFAULT: i64 = 14;
    const EOPNOTSUPP: i64 = 95;
    const EHWPOISON: i64 = 133;
    const ERESTARTSYS: i64 = 512;
    match -pin.returned {
        EOPNOTSUPP => Cause::Dax,
        ENOMEM if pin.migrate_ret > 0 => Cause::MigrateBusy,
        ENOMEM if pin.migrate_ret == -ENOMEM as i32 => Cause::MigrateNomem,
        ENOMEM if pin.migrate_calls == 0 => Cause::Nomem,
        EINTR | ERESTARTSYS if pin.unpinnable > 0 && pin.passes > pin.migrate_calls => {
            Cause::Isolate
        }
        EFAULT | EINTR | ERESTARTSYS | EHWPOISON => Cause::Fault,
        _ => Cause::Other,
    }
}

/// How to add to a cell. Where the kernel can preempt a BPF program, the BPF side adds by an atomic
/// instruction; elsewhere a program that runs on a CPU is alone with its cells.
pub trait Add {
    fn add(cell: &mut u64, n: u64);
}

/// Nobody else writes the cell meanwhile.
pub struct Alone;

impl Add for Alone {
    #[inline(always)]
    fn add(cell: &mut u64, n: u64) {
        *cell = cell.wrapping_add(n);
    }
}

#[inline(always)]
fn count<A: Add, const N: usize>(cells: &mut [u64; N], index: usize) {
    if let Some(cell) = cells.get_mut(index) {
        A::add(cell, 1);
    }
}

/// A pin of one sweep that found nothing, and got all pages that it asked for: nearly
/// every one. Or of none, where sweeps are not seen. This is all that such a pin adds.
#[derive(Clone, Copy)]
pub struct Plain {
    pub origin: u8,
    /// 0 or 1.
    pub passes: u32,
    /// Base pages asked for, and pinned.
    pub pages: u64,
    pub gup_flags: u32,
    pub gup_ns: u64,
    pub collect_ns: u64,
}

impl Plain {
    /// A pin as one, if it is. Without branches, each of which would be a way for the verifier.
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

/// Adds an ended pin.
#[inline(always)]
pub fn fold_pin(cells: &mut PinCells, pin: &Pin) {
    fold_zone::<Alone>(cells, pin.sampled_zone);
    match Plain::of(pin) {
        Some(plain) => fold_plain::<Alone>(cells, plain),
        None => fold_eventful::<Alone>(cells, pin),
    }
}

/// Adds what was seen of one of its pages: 1 + its zone, or 0.
#[inline(always)]
pub fn fold_zone<A: Add>(cells: &mut PinCells, sampled_zone: u8) {
    if sampled_zone != 0 {
        count::<A, _>(&mut cells.zones, sampled_zone as usize - 1);
    }
}

/// Adds all but the zone of a plain pin.
#[inline(always)]
pub fn fold_plain<A: Add>(cells: &mut PinCells, pin: Plain) {
    let Some(origin) = cells.origins.get_mut(pin.origin as usize) else {
        return;
    };
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
    // Last, when nothing else needs a register.
    count::<A, _>(
        &mut origin.durations,
        duration_bucket(pin.gup_ns.wrapping_add(pin.collect_ns)),
    );
}

/// Adds all but the zone of a pin that is not plain. What takes many ways through it comes last, since
/// the verifier goes each of them to its end.
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
    let Some(origin) = cells.origins.get_mut(pin.origin as usize) else {
        return;
    };
    A::add(&mut origin.duration_ns, pin.duration_ns);
    A::add(&mut origin.passes.sum, pin.passes as u64);
    if pin.returned < 0 {
        let class = cause(pin) as usize * ERRNOS + errno_class(-pin.returned as i32);
        count::<A, _>(&mut origin.failures, opaque(class));
    }
    count::<A, _>(&mut origin.passes.buckets, opaque(pass_bucket(pin.passes)));
    count::<A, _>(&mut origin.durations, duration_bucket(pin.duration_ns));
}

/// Adds an ended call of `migrate_pages`.
#[inline(always)]
pub fn fold_migrate<A: Add>(cells: &mut DurationCells, ns: u64) {
    A::add(&mut cells.sum_ns, ns);
    count::<A, _>(&mut cells.buckets, duration_bucket(ns));
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::histogram::{PASS_EDGES, duration_upper_ns};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn pins() -> impl Strategy<Value = Vec<Pin>> {
        let returned = prop_oneof![-140i64..0, 0i64..1 << 20];
        let size = (0..1u64 << 45, 0..300u32, 0..1u64 << 20, returned);
        let inside = (
            0..99u64,
            0..9u64,
            -20i32..5,
            0..3u32,
            0..ORIGINS as u8,
            0..2u32,
            0..=ZONES as u8,
        );
        let pin =
            (size, inside).prop_map(|((duration_ns, passes, requested, returned), inside)| {
                let (unpinnable, failed, migrate_ret, drains, origin, gup_flags, sampled_zone) =
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
                    sampled_zone,
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
    fn plain_is_what_is_one_sweep_or_none_and_no_more() {
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
        /// Against counting by hand, with filters and sums and without the
        /// fold's own index arithmetic.
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

    #[test]
    fn causes_come_from_what_was_seen() {
        let pin = |returned, migrate_ret, migrate_calls, unpinnable, passes| {
            let pin = Pin {
                returned,
                migrate_ret,
                migrate_calls,
                unpinnable,
                passes,
                ..Pin::zeroed()
            };
            cause(&pin)
        };
        assert_eq!(pin(-12, 1, 1, 256, 1), Cause::MigrateBusy);
        assert_eq!(pin(-12, -12, 1, 256, 1), Cause::MigrateNomem);
        assert_eq!(pin(-12, 0, 0, 0, 0), Cause::Nomem);
        assert_eq!(
            pin(-12, 0, 1, 256, 1),
            Cause::Other,
            "what migrate_pages returned is not known"
        );
        assert_eq!(pin(-14, 0, 0, 0, 0), Cause::Fault);
        assert_eq!(pin(-4, 0, 0, 41_000, 41_000), Cause::Isolate);
        assert_eq!(pin(-4, 0, 0, 0, 0), Cause::Fault);
        assert_eq!(pin(-95, 0, 0, 0, 0), Cause::Dax);
        assert_eq!(pin(-16, 0, 1, 1, 1), Cause::Other);
    }
}
