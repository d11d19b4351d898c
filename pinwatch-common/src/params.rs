//! Bounds and names that both sides must agree on.

/// Version of everything in this crate that crosses the kernel boundary. Raise
/// it with any change of a `repr(C)` type or of a map's meaning.
pub const ABI_VERSION: u32 = 6;

/// Name of the BPF object's symbol that carries [`ABI_VERSION`]; an object built
/// for another version does not have it and is refused before it is loaded.
pub const ABI_SYMBOL: &str = "PINWATCH_ABI_6";

/// Pins that can be in flight at once before one is counted as
/// [`Loss::SlotsFull`](crate::counter::Loss::SlotsFull) instead of measured.
pub const SLOTS: u32 = SLOT_SETS * SLOT_WAYS as u32;

/// The slots are in sets, and a thread uses those of one: a power of two, as
/// the thread id's low bits choose it. Thread ids of one process are close
/// together, so they spread evenly.
pub const SLOT_SETS: u32 = 1024;

/// Slots of a set: so many threads whose ids differ by multiples of
/// [`SLOT_SETS`] may pin at once.
pub const SLOT_WAYS: usize = 4;

/// Bytes of the ring buffer that carries a [`PinEvent`](crate::record::PinEvent)
/// per pin while somebody listens.
pub const RING_BYTES: u32 = 1 << 20;

/// Retries of a pin that a listener is told of one by one. Of later ones, only those
/// whose pass before called `migrate_pages`: a pin that loops on isolation would
/// fill the ring buffer.
pub const RETRIES_TOLD: u32 = 16;

/// Kernel functions that programs call to disable preemption, with their calls in the BPF object as
/// [`kfunc_call`] makes them. The last of them came with 6.14.
pub const KFUNCS: [&str; 4] = [
    "bpf_preempt_disable",
    "bpf_local_irq_save",
    "bpf_preempt_enable",
    "bpf_local_irq_restore",
];

/// The instruction that stands in the BPF object for a call of [`KFUNCS`]`[number]`: a call of a
/// kernel function whose BTF id is not known yet. User space replaces it before it loads the object.
#[must_use]
pub const fn kfunc_call(number: u32) -> u64 {
    /// In place of an id, which is never as large.
    const UNRESOLVED: u32 = 0x7057_0000;
    kernel_call(UNRESOLVED + number)
}

/// The instruction that calls the kernel function with this BTF id: `BPF_JMP | BPF_CALL` with the
/// source register `BPF_PSEUDO_KFUNC_CALL`.
#[must_use]
pub const fn kernel_call(btf_id: u32) -> u64 {
    0x2085 | (btf_id as u64) << 32
}

/// An instruction without effect: `goto +0`.
pub const NO_OPERATION: u64 = 0x05;

/// Pins between one of which a page is looked at and the next: 0 to 31, by a
/// moment that nobody chooses, so that no pattern of a program's pins matters.
#[inline(always)]
#[must_use]
pub const fn zone_gap(ns: u64) -> u64 {
    ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59
}

/// The set that a thread's slot is in.
#[inline(always)]
#[must_use]
pub const fn slot_set(tid: u32) -> u32 {
    tid & (SLOT_SETS - 1)
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
