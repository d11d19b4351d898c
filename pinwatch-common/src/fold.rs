//! The fold: adds one ended pin, or one ended migration, to the statistics.
//! The BPF programs and the daemon both call it, on the same cells.
//!
//! Every index goes through [`cell`]: LLVM would otherwise prove the bound,
//! remove the check, and leave the BPF verifier without one.

use core::hint::black_box;

use bytemuck::{Pod, Zeroable};

use crate::counter::LOSSES;
use crate::histogram::{DURATION_BUCKETS, PASS_BUCKETS, duration_bucket, pass_bucket};
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

/// What is kept per origin. The number of pins is the sum of either histogram's
/// buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OriginCells {
    pub duration: DurationCells,
    pub passes: PassCells,
    /// Failures by cause and errno class.
    pub failures: [u64; CAUSES * ERRNOS],
}

/// Everything folded from pins. Written by the pin's exit program only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinCells {
    pub origins: [OriginCells; ORIGINS],
    pub requested: u64,
    pub returned: u64,
    pub unpinnable: u64,
    pub migrate_calls: u64,
    pub moved: u64,
    pub failed: u64,
    pub repinned: u64,
    pub drains: u64,
    /// Pins that asked for write access.
    pub writes: u64,
    /// Nanoseconds by [`Phase`](crate::record::Phase).
    pub phase_ns: [u64; PHASES],
    /// By [`Isolate`](crate::record::Isolate).
    pub isolate_failures: [u64; ISOLATES],
    /// Sampled pages by `enum zone_type`.
    pub zones: [u64; ZONES],
}

/// Long-term calls of GUP-fast. Written by its return program only.
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

/// One CPU's cells. Each part is written by one program, so that a program
/// preempted in the middle of an update is not overtaken by another.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CpuCells {
    pub pins: PinCells,
    /// Written by the end-of-migration program.
    pub migrate: DurationCells,
    pub fast: FastCells,
    /// Pins until one more of their pages is looked at; no statistic. Written by
    /// the pin's exit program only.
    pub zone_gap: u64,
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

/// The cell at `index`, if there is one, with the bound checked at run time.
#[inline(always)]
fn cell<T, const N: usize>(cells: &mut [T; N], index: usize) -> Option<&mut T> {
    cells.get_mut(black_box(index))
}

#[inline(always)]
fn add(cell: &mut u64, n: u64) {
    *cell = cell.wrapping_add(n);
}

impl DurationCells {
    #[inline(always)]
    fn fold(&mut self, ns: u64) {
        add(&mut self.sum_ns, ns);
        if let Some(bucket) = cell(&mut self.buckets, duration_bucket(ns)) {
            add(bucket, 1);
        }
    }
}

/// Adds an ended pin.
#[inline(always)]
pub fn fold_pin(cells: &mut PinCells, pin: &Pin) {
    fold_every(cells, pin);
    fold_events(cells, pin);
}

/// What every pin has.
#[inline(always)]
pub fn fold_every(cells: &mut PinCells, pin: &Pin) {
    if let Some(origin) = cell(&mut cells.origins, pin.origin as usize) {
        origin.duration.fold(pin.duration_ns);
        add(&mut origin.passes.sum, pin.passes as u64);
        if let Some(bucket) = cell(&mut origin.passes.buckets, pass_bucket(pin.passes)) {
            add(bucket, 1);
        }
        if pin.returned < 0 {
            let class = cause(pin) as usize * ERRNOS + errno_class(-pin.returned as i32);
            if let Some(failures) = cell(&mut origin.failures, class) {
                add(failures, 1);
            }
        }
    }
    add(&mut cells.requested, pin.requested);
    if pin.returned > 0 {
        add(&mut cells.returned, pin.returned as u64);
    }
    if pin.gup_flags & FOLL_WRITE != 0 {
        add(&mut cells.writes, 1);
    }
    if pin.sampled_zone != 0
        && let Some(zone) = cell(&mut cells.zones, pin.sampled_zone as usize - 1)
    {
        add(zone, 1);
    }
    for phase in [Phase::Gup as usize, Phase::Collect as usize] {
        add(&mut cells.phase_ns[phase], pin.phase_ns[phase]);
    }
}

/// What is 0 of most pins, those of one sweep that found nothing.
#[inline(always)]
pub fn fold_events(cells: &mut PinCells, pin: &Pin) {
    for phase in [Phase::Drain, Phase::Migrate, Phase::Other] {
        add(
            &mut cells.phase_ns[phase as usize],
            pin.phase_ns[phase as usize],
        );
    }
    add(&mut cells.unpinnable, pin.unpinnable);
    add(&mut cells.migrate_calls, pin.migrate_calls as u64);
    add(&mut cells.moved, pin.moved);
    add(&mut cells.failed, pin.failed);
    add(&mut cells.repinned, pin.repinned);
    add(&mut cells.drains, pin.drains as u64);
    for kind in 0..ISOLATES {
        add(
            &mut cells.isolate_failures[kind],
            pin.isolate_failures[kind] as u64,
        );
    }
}

/// Adds an ended call of `migrate_pages`.
#[inline(always)]
pub fn fold_migrate(cells: &mut DurationCells, ns: u64) {
    cells.fold(ns);
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
        prop::collection::vec(pin, 0..40)
    }

    proptest! {
        /// Against counting by hand, with filters and sums and without the
        /// fold's own index arithmetic.
        #[test]
        fn every_pin_is_in_the_cells_it_belongs_to(pins in pins()) {
            let mut cells = PinCells::zeroed();
            pins.iter().for_each(|pin| fold_pin(&mut cells, pin));
            let sum = |value: fn(&Pin) -> u64| pins.iter().map(value).sum::<u64>();
            prop_assert_eq!(cells.requested, sum(|pin| pin.requested));
            prop_assert_eq!(cells.returned, sum(|pin| pin.returned.max(0) as u64));
            prop_assert_eq!(cells.unpinnable, sum(|pin| pin.unpinnable));
            prop_assert_eq!(cells.failed, sum(|pin| pin.failed));
            prop_assert_eq!(cells.drains, sum(|pin| pin.drains.into()));
            prop_assert_eq!(cells.writes, sum(|pin| u64::from(pin.gup_flags == 1)));
            for (zone, sampled) in cells.zones.iter().enumerate() {
                let there = pins.iter().filter(|pin| usize::from(pin.sampled_zone) == zone + 1);
                prop_assert_eq!(*sampled, there.count() as u64);
            }
            for (n, origin) in cells.origins.iter().enumerate() {
                let mine: Vec<_> = pins.iter().filter(|pin| pin.origin as usize == n).collect();
                prop_assert_eq!(origin.duration.sum_ns, mine.iter().map(|pin| pin.duration_ns).sum::<u64>());
                for bucket in 0..DURATION_BUCKETS {
                    let upper = duration_upper_ns(bucket).unwrap_or(u64::MAX);
                    let below = mine.iter().filter(|pin| pin.duration_ns <= upper).count();
                    prop_assert_eq!(origin.duration.buckets[..=bucket].iter().sum::<u64>(), below as u64);
                }
                for (bucket, edge) in PASS_EDGES.iter().enumerate() {
                    let below = mine.iter().filter(|pin| pin.passes <= *edge).count();
                    prop_assert_eq!(origin.passes.buckets[..=bucket].iter().sum::<u64>(), below as u64);
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
