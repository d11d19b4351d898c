//! Failed pins by origin, errno and cause.
#![forbid(unsafe_code)]

use pinwatch_common::cause::{ERRNO_CLASSES, ERRNOS, cause_at};
use pinwatch_common::cells::PinCells;
use pinwatch_common::record::{CAUSE_NAMES, CAUSES, Cause, ORIGIN_NAMES};

/// Number of failed pins of one origin, errno and cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    pub origin: &'static str,
    pub errno: &'static str,
    pub cause: &'static str,
    pub count: u64,
}

/// Failures with a count above 0.
pub fn failures(cells: &PinCells) -> impl Iterator<Item = Failures> + '_ {
    failures_and_zeros(cells).filter(|failures| failures.count > 0)
}

/// Failures of each origin by every errno and cause that can occur together, also those with a count
/// of 0: Prometheus sees no increase in the first value of a series.
pub fn failures_and_zeros(cells: &PinCells) -> impl Iterator<Item = Failures> + '_ {
    let origins = ORIGIN_NAMES.into_iter().zip(&cells.origins);
    origins.flat_map(|(origin, cells)| {
        let mut counts = [[0; CAUSES]; ERRNOS];
        for (index, count) in cells.failures.iter().enumerate() {
            let sum: &mut u64 = &mut counts[index % ERRNOS][cause_at(index) as usize];
            *sum = sum.wrapping_add(*count);
        }
        let pairs = (0..CAUSES).flat_map(|cause| (0..ERRNOS).map(move |class| (class, cause)));
        pairs.filter_map(move |(class, cause)| {
            let errno = ERRNO_CLASSES.get(class).map_or("other", |(_, name)| name);
            let (count, cause) = (counts[class][cause], CAUSE_NAMES[cause]);
            (count > 0 || can_have(errno, cause)).then_some(Failures {
                origin,
                errno,
                cause,
                count,
            })
        })
    })
}

/// Whether known kernels can fail a pin with this errno for this cause.
fn can_have(errno: &str, cause: &str) -> bool {
    let causes: &[Cause] = match errno {
        "ENOMEM" => &[
            Cause::MigrateBusy,
            Cause::MigrateNomem,
            Cause::Nomem,
            Cause::Other,
        ],
        "EINTR" | "ERESTARTSYS" => &[Cause::Isolate, Cause::Fault],
        "EFAULT" | "EHWPOISON" => &[Cause::Fault],
        "EOPNOTSUPP" => &[Cause::Dax],
        // Version 4 of the review of December 2020 gives up with it.
        "EBUSY" => &[Cause::MigrateBusy, Cause::Isolate, Cause::Other],
        _ => &[Cause::Other],
    };
    causes
        .iter()
        .any(|possible| CAUSE_NAMES[*possible as usize] == cause)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytemuck::Zeroable as _;
    use pinwatch_common::cause::PassOutcome;
    use pinwatch_common::fold::fold_pin;
    use pinwatch_common::record::Pin;

    use super::*;

    /// Errno and cause of each failure of the first origin.
    fn kinds(failures: impl Iterator<Item = Failures>) -> BTreeSet<(&'static str, &'static str)> {
        failures
            .filter(|failures| failures.origin == ORIGIN_NAMES[0])
            .map(|failures| (failures.errno, failures.cause))
            .collect()
    }

    #[test]
    fn every_failure_that_can_occur_has_a_zero_before() {
        let mut cells = PinCells::zeroed();
        let zeros = failures_and_zeros(&cells);
        assert_eq!(zeros.count(), 20 * ORIGIN_NAMES.len());
        let before = kinds(failures_and_zeros(&cells));
        // Each errno of a pin in which nothing failed, and the failures that known kernels report.
        use PassOutcome::{Busy, NoTarget, NotIsolated, Nothing, Unclear};
        let nothing = (1..600).map(|errno| (errno, Nothing));
        let migrations = [(12, Busy), (12, NoTarget), (12, Unclear)];
        let version_4 = [(16, Busy), (16, NotIsolated)];
        let killed = [(4, NotIsolated), (512, NotIsolated)];
        let others = migrations.into_iter().chain(version_4).chain(killed);
        for (errno, outcome) in nothing.chain(others) {
            let pin = Pin {
                returned: -errno,
                outcome: outcome as u8,
                ..Pin::zeroed()
            };
            fold_pin(&mut cells, &pin);
        }
        assert_eq!(kinds(failures(&cells)), before);
    }
}
