//! Losses: pins, events and calls that happened and were not measured or delivered. One cell per CPU
//! and kind; several programs add to it, so they add atomically.

/// Kind of a loss. The discriminant is the index of its cell.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Pin whose return was not seen before its thread entered the next one.
    EntryStale = 0,
    /// Pin whose return was not seen before its thread exited.
    EntryReaped = 1,
    /// Long-term pin whose return was seen and whose entry was not. Counted by fexit only: a
    /// kretprobe cannot tell it from a short-term pin.
    ExitUnmatched = 2,
    /// Pin that found all slots of its set taken and is not measured. Its return adds no further
    /// loss.
    SlotsFull = 3,
    /// Event that found the ring buffer full. Followers lose it; statistics include the pin.
    RingFull = 4,
    /// Call of GUP-fast whose return was not seen before its thread entered the next one.
    FastStale = 5,
    /// Call of GUP-fast whose return was not seen before its thread exited.
    FastReaped = 6,
    /// Call of GUP-fast whose return was seen and whose entry was not. Counted by fexit only, as
    /// [`Self::ExitUnmatched`].
    FastUnmatched = 7,
    /// Call of GUP-fast that found the table of calls full. Its return adds no further loss.
    FastFull = 8,
    /// Folio of a weak pin that found no room, or a weak pin with more pages than are looked at. They are never named as a
    /// holder.
    WeakFull = 9,
    /// Folio of a weak pin that another weak pin held already, which stands for both.
    WeakShared = 10,
    /// Weak pin whose return or release was not seen by kretprobe: its call found no room.
    WeakUnmatched = 11,
    /// Failed migration whose return was not seen, or whose folios were not found on the stack. Their number counts, but not what
    /// held them.
    BlockersUnseen = 12,
    /// Migration whose end was not seen, although its return was. Its pages count nowhere.
    MigrationUnseen = 13,
}

/// Number of [`Loss`] kinds.
pub const LOSSES: usize = 14;

/// Kprobe and kretprobe programs of preemptible kernels, in the order of their run counters.
///
/// The kernel can skip such programs, and before 6.7 it does not count how often. The number of
/// skipped runs is the probe's hits minus the program's runs.
pub const PROBES: [&str; 32] = [
    "pin_enter_kprobe",
    "pin_enter_kprobe_stack",
    "pin_exit_kretprobe",
    "memfd_enter_kprobe",
    "memfd_exit_kretprobe",
    "fast_enter_kprobe",
    "fast_exit_kretprobe",
    "fast_slow_kprobe",
    "fast_slow_short_kprobe",
    "isolate_kprobe",
    "isolate_hugetlb_kprobe",
    "isolated_lru_kretprobe",
    "isolated_hugetlb_kretprobe",
    "isolated_movable_kretprobe",
    "drain_kprobe",
    "drained_kretprobe",
    "migrate_start_kprobe",
    "migrate_list_kprobe",
    "migrate_ret_kretprobe",
    "pass_nr_kprobe",
    "pass_pofs_kprobe",
    "gup_kprobe_counted",
    "pass_gup_kretprobe_counted",
    "collected_kretprobe",
    "found_kprobe",
    "swept_kretprobe",
    "putback_kprobe",
    "io_account_kretprobe",
    "umem_create_kretprobe",
    "locked_account_kretprobe",
    "weak_remote_kprobe",
    "weak_kretprobe",
];

/// Index of a program in [`PROBES`].
///
/// # Panics
///
/// If `program` is not in [`PROBES`].
#[must_use]
pub const fn probe_number(program: &str) -> usize {
    let mut number = 0;
    while !is_same(PROBES[number], program) {
        number += 1;
    }
    number
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut n = 0;
    while n < a.len() && n < b.len() && a[n] == b[n] {
        n += 1;
    }
    n == a.len() && n == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_its_own_number() {
        for (number, program) in PROBES.iter().enumerate() {
            assert_eq!(probe_number(program), number);
        }
    }
}
