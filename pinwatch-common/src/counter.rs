//! What was lost: one cell per CPU and kind, added to atomically, since several programs write it.

/// Something that happened and could not be measured.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A thread entered a pin while its previous one had not been seen to return: that one is
    /// lost.
    EntryStale = 0,
    /// A thread exited while a pin of its had not been seen to return.
    EntryReaped = 1,
    /// A long-term pin returned that had not been seen to enter. A kretprobe cannot tell it from a
    /// short-term pin, so this is counted by fexit only.
    ExitUnmatched = 2,
    /// All slots that the thread may use were taken: the pin is not measured. Its return counts as
    /// nothing else.
    SlotsFull = 3,
    /// The ring buffer had no room for a pin's event: listeners miss it, the
    /// statistics do not.
    RingFull = 4,
    /// A thread entered GUP-fast while its previous long-term call had not been
    /// seen to return.
    FastStale = 5,
    /// A thread exited while a long-term call of GUP-fast had not been seen to
    /// return.
    FastReaped = 6,
    /// A long-term call of GUP-fast returned that had not been seen to enter, or
    /// had found no room. Counted by fexit only, as [`Self::ExitUnmatched`].
    FastUnmatched = 7,
    /// The table of calls of GUP-fast was full.
    FastFull = 8,
}

/// Number of [`Loss`] kinds.
pub const LOSSES: usize = 9;

/// The programs that run through a kprobe where the kernel preempts, in the order of their counters of runs. It
/// skips such programs, and before 6.7 it does not count how often. The number of skipped runs is
/// the probe's hits minus the program's runs.
pub const PROBES: [&str; 23] = [
    "pin_enter_kprobe",
    "pin_enter_kprobe_stack",
    "pin_exit_kretprobe",
    "memfd_enter_kprobe",
    "memfd_exit_kretprobe",
    "fast_enter_kprobe",
    "fast_exit_kretprobe",
    "isolate_kprobe",
    "isolate_hugetlb_kprobe",
    "isolated_lru_kretprobe",
    "isolated_hugetlb_kretprobe",
    "isolated_movable_kretprobe",
    "drain_kprobe",
    "drained_kretprobe",
    "migrate_start_kprobe",
    "migrate_ret_kretprobe",
    "pass_nr_kprobe",
    "pass_pofs_kprobe",
    "gup_kprobe_counted",
    "pass_gup_kretprobe_counted",
    "unpinnable_kretprobe",
    "found_kprobe",
    "swept_kretprobe",
];

/// The place of a program in [`PROBES`].
///
/// # Panics
///
/// If there is no such program.
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
