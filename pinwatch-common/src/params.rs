//! Bounds and names that both sides must agree on.

/// Version of everything in this crate that crosses the kernel boundary. Raise
/// it with any change of a `repr(C)` type or of a map's meaning.
pub const ABI_VERSION: u32 = 2;

/// Name of the BPF object's symbol that carries [`ABI_VERSION`]; an object built
/// for another version does not have it and is refused before it is loaded.
pub const ABI_SYMBOL: &str = "PINWATCH_ABI_2";

/// Pins that can be in flight at once before one is counted as
/// [`Loss::SlotsFull`](crate::counter::Loss::SlotsFull) instead of measured.
/// A power of two: the thread id's low bits are the first slot tried.
pub const SLOTS: u32 = 4096;

/// Slots tried for one thread. Thread ids of one process are close together, so
/// the first try nearly always succeeds.
pub const SLOT_TRIES: u32 = 4;

/// Distance between the tries; odd, and large enough to leave a run of
/// consecutive thread ids.
pub const SLOT_STRIDE: u32 = 1031;

/// Bytes of the ring buffer that carries a [`PinEvent`](crate::record::PinEvent)
/// per pin while somebody listens.
pub const RING_BYTES: u32 = 1 << 20;

/// The slot for a thread's `attempt`.
#[inline(always)]
#[must_use]
pub const fn slot_index(tid: u32, attempt: u32) -> u32 {
    tid.wrapping_add(attempt.wrapping_mul(SLOT_STRIDE)) & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_names_the_version() {
        extern crate std;
        assert_eq!(ABI_SYMBOL, std::format!("PINWATCH_ABI_{ABI_VERSION}"));
    }

    #[test]
    fn the_tries_of_a_thread_are_distinct_slots() {
        for tid in [1, 2, 4095, 4096, u32::MAX] {
            for a in 0..SLOT_TRIES {
                for b in 0..a {
                    assert_ne!(slot_index(tid, a), slot_index(tid, b));
                }
            }
        }
    }
}
