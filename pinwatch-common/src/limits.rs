//! Sizes and rates that the BPF programs and user space must agree on.

/// Pins that can be in flight at once. One more is counted as
/// [`Loss::SlotsFull`](crate::loss::Loss::SlotsFull) instead of measured.
pub const SLOTS: u32 = SLOT_SETS * SLOT_WAYS as u32;

/// Number of slot sets. A power of two, since the low bits of the thread id choose the set. Thread
/// ids of one process are close together and spread evenly.
pub const SLOT_SETS: u32 = 1024;

/// Slots per set: the number of threads that can pin at once if their ids differ by multiples of
/// [`SLOT_SETS`].
pub const SLOT_WAYS: usize = 4;

/// Size in bytes of the ring buffer. It carries one [`PinEvent`](crate::record::PinEvent) per pin
/// while a follower is connected.
pub const RING_BYTES: u32 = 1 << 20;

/// Retries of a pin that are reported to followers one by one. Later ones are reported only if the
/// pass before called `migrate_pages`: a pin that loops on isolation would fill the ring buffer.
pub const RETRIES_REPORTED: u32 = 16;

/// Number of pins to skip before the next pin with a sampled page: 0 to 31.
///
/// Derived from the time of a return, which no program controls, so that sampling cannot follow a
/// pattern in a program's pins.
#[inline(always)]
#[must_use]
pub const fn zone_gap(ns: u64) -> u64 {
    ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59
}

/// Index of the slot set of a thread, from 0 to [`SLOT_SETS`]` - 1`.
#[inline(always)]
#[must_use]
pub const fn slot_set(tid: u32) -> u32 {
    tid & (SLOT_SETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_any_of_thirty_two_whatever_the_clocks_step() {
        for step in [1, 10, 41, 1000, 4_000_000] {
            let mut counts = [0; 32];
            (0..32_000).for_each(|n| counts[zone_gap(7 + n * step) as usize] += 1);
            let even = counts.iter().all(|count| (800..1200).contains(count));
            assert!(even, "{step}: {counts:?}");
        }
    }

    #[test]
    fn every_run_of_thread_ids_fits() {
        let first = u32::MAX - SLOTS / 2;
        let mut threads = [0; SLOT_SETS as usize];
        for n in 0..SLOTS {
            threads[slot_set(first.wrapping_add(n)) as usize] += 1;
        }
        assert_eq!(threads, [SLOT_WAYS; SLOT_SETS as usize]);
    }
}
