//! Sizes and rates that the BPF programs and user space must agree on.

/// Pins that can be in flight at once. One more is counted as
/// [`Loss::SlotsFull`](crate::loss::Loss::SlotsFull) instead of measured.
pub const SLOTS: u32 = SLOT_SETS * SLOT_WAYS as u32;

/// Number of slot sets, a power of two: see [`slot_set`].
pub const SLOT_SETS: u32 = 1 << SET_BITS;
const SET_BITS: u32 = 10;

/// Slots per set: the number of threads that can pin at once if their ids are in the same set.
pub const SLOT_WAYS: usize = 4;

/// Size in bytes of the ring buffer. It carries one [`PinEvent`](crate::record::PinEvent) per pin
/// while a follower is connected.
pub const RING_BYTES: u32 = 1 << 20;

/// Retries of a pin that are reported to followers one by one. Later ones are reported only if the
/// pass before called `migrate_pages`: a pin that loops on isolation would fill the ring buffer.
pub const RETRIES_REPORTED: u32 = 16;

/// Number of pins, or of migrations, to skip before the next one with a sampled page: 0 to 63.
///
/// Derived from the time, which no program controls, so that sampling cannot follow a
/// pattern in a program's pins.
#[inline(always)]
#[must_use]
pub const fn sample_gap(ns: u64) -> u64 {
    ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58
}

/// Index of the slot set of a thread, from 0 to [`SLOT_SETS`]` - 1`.
///
/// Thread ids of one process are close together: each block of [`SLOT_SETS`] ids has one in every set. The
/// set that a block begins with depends on `secret`, an odd number that the agent draws at its start. A user
/// who chooses thread ids therefore cannot fill the set of another thread, except by chance.
#[inline(always)]
#[must_use]
pub const fn slot_set(tid: u32, secret: u32) -> u32 {
    let first = (tid >> SET_BITS).wrapping_mul(secret) >> (u32::BITS - SET_BITS);
    tid.wrapping_add(first) & (SLOT_SETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_any_of_sixty_four_whatever_the_clocks_step() {
        for step in [1, 10, 41, 1000, 4_000_000] {
            let mut counts = [0; 64];
            (0..64_000).for_each(|n| counts[sample_gap(7 + n * step) as usize] += 1);
            let even = counts.iter().all(|count| (800..1200).contains(count));
            assert!(even, "{step}: {counts:?}");
        }
    }

    /// Threads per set, for these ids.
    fn loads(ids: impl Iterator<Item = u32>, secret: u32) -> [usize; SLOT_SETS as usize] {
        let mut loads = [0; SLOT_SETS as usize];
        ids.for_each(|tid| loads[slot_set(tid, secret) as usize] += 1);
        loads
    }

    #[test]
    fn ids_in_a_row_fit() {
        for secret in [1, 0x9e37_79b9, u32::MAX, 0x1357_9bdf] {
            for first in [0, 1, 300_000, 4_194_304 - 3_072] {
                let most = loads(first..first + 3 * SLOT_SETS, secret)
                    .into_iter()
                    .max();
                assert!(
                    most <= Some(SLOT_WAYS),
                    "{secret:#x}, from {first}: {most:?}"
                );
            }
        }
    }

    #[test]
    fn ids_that_are_chosen_to_collide_do_not() {
        let chosen = || (0..64).map(|n| 5 + n * SLOT_SETS);
        let most = |secret| loads(chosen(), secret).into_iter().max().unwrap();
        assert_eq!(most(0), 64, "without a secret all are in one set");
        let secrets = (0..1_000_u32).map(|n| n.wrapping_mul(0x9e37_79b9) | 1);
        let full = secrets.filter(|secret| most(*secret) > SLOT_WAYS).count();
        assert!(
            full <= 20,
            "{full} of 1,000 secrets put five of 64 ids into a set"
        );
    }
}
