//! Blockers: folios that a failed migration left behind, each packed into 16 bits of
//! [`Pin::blockers`](crate::record::Pin::blockers).

/// What held a folio when a failed migration had left it behind. The first that applies.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Pinned with `FOLL_PIN`, short-term or long-term.
    Pinned = 1,
    /// Under writeback.
    Writeback = 2,
    /// Locked by another task.
    Locked = 3,
    /// A large folio without the above. Its references cannot be compared with its mappings on this
    /// kernel, or it is in a cache.
    Unclear = 4,
    /// References beyond those of its mappings, of its cache and of its isolation.
    Referenced = 5,
    /// Nothing any more: what held it has gone since.
    Gone = 6,
}

/// Number of [`Hold`]s, with one for 0.
pub const HOLDS: usize = 7;

/// Label values of [`Hold`], by discriminant. 0 is unused.
pub const HOLD_NAMES: [&str; HOLDS] = [
    "none",
    "pinned",
    "writeback",
    "locked",
    "unclear",
    "referenced",
    "gone",
];

/// Memory of a blocker. The first that applies.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Folio of hugetlbfs.
    Hugetlb = 0,
    /// Large folio of another kind: a transparent huge page, or a smaller one.
    Thp = 1,
    /// Anonymous page.
    Anon = 2,
    /// None of the others.
    Other = 3,
    /// Page of shmem: tmpfs, memfd, shared anonymous memory.
    Shmem = 4,
    /// Page of a file.
    File = 5,
}

/// Number of [`Memory`] kinds.
pub const MEMORIES: usize = 6;

/// Label values of [`Memory`], by discriminant.
pub const MEMORY_NAMES: [&str; MEMORIES] = ["hugetlb", "thp", "anon", "other", "shmem", "file"];

/// Maximum number of blockers that are inspected per pin.
pub const BLOCKERS: usize = 4;

/// Highest [`Blocker::mapped`], which stands for all larger numbers too.
pub const MAPPED_MAX: u8 = 15;

/// Folio that a failed migration left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// A [`Hold`].
    pub hold: u8,
    /// A [`Memory`].
    pub memory: u8,
    /// As [`Place::zone`](crate::place::Place::zone).
    pub zone: u8,
    /// As [`Place::pageblock`](crate::place::Place::pageblock).
    pub pageblock: u8,
    /// Number of its mappings, at most [`MAPPED_MAX`]. 0 also where it cannot be read.
    pub mapped: u8,
}

/// Bits of a packed [`Blocker`].
pub const BLOCKER_BITS: usize = 16;

impl Blocker {
    /// Packs a blocker into the lowest [`BLOCKER_BITS`]. Not 0, since no [`Hold`] is.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        let Self {
            hold,
            memory,
            zone,
            pageblock,
            mapped,
        } = self;
        hold as u64 & 7
            | (memory as u64 & 7) << 3
            | (zone as u64 & 7) << 6
            | (pageblock as u64 & 7) << 9
            | (mapped as u64 & 15) << 12
    }

    /// Restores a blocker from the lowest [`BLOCKER_BITS`]. Any value has a meaning: unknown numbers, as in
    /// a recording of a later version, become [`Hold::Unclear`] and [`Memory::Other`].
    #[inline(always)]
    #[must_use]
    pub const fn unpack(packed: u64) -> Self {
        let (hold, memory) = (packed as u8 & 7, (packed >> 3) as u8 & 7);
        Self {
            hold: if (hold as usize) < HOLDS {
                hold
            } else {
                Hold::Unclear as u8
            },
            memory: if (memory as usize) < MEMORIES {
                memory
            } else {
                Memory::Other as u8
            },
            zone: (packed >> 6) as u8 & 7,
            pageblock: (packed >> 9) as u8 & 7,
            mapped: (packed >> 12) as u8 & 15,
        }
    }
}

/// The blockers in a [`Pin::blockers`](crate::record::Pin::blockers), in the order of the kernel's list.
pub fn blockers(packed: u64) -> impl Iterator<Item = Blocker> {
    (0..BLOCKERS)
        .map(move |n| packed >> (n * BLOCKER_BITS) & 0xffff)
        .filter(|one| one & 7 != 0)
        .map(Blocker::unpack)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::place::PLACES;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn blocker() -> impl Strategy<Value = Blocker> {
        let hold = 1..HOLDS as u8;
        let place = || 0..PLACES as u8;
        let blocker = (hold, 0..MEMORIES as u8, place(), place(), 0..=MAPPED_MAX);
        blocker.prop_map(|(hold, memory, zone, pageblock, mapped)| Blocker {
            hold,
            memory,
            zone,
            pageblock,
            mapped,
        })
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(all in prop::collection::vec(blocker(), 0..=BLOCKERS)) {
            let packed = all.iter().enumerate();
            let packed = packed.fold(0, |packed, (n, one)| packed | one.pack() << (n * BLOCKER_BITS));
            prop_assert_eq!(blockers(packed).collect::<Vec<_>>(), all);
        }

        #[test]
        fn any_number_has_names(packed in any::<u64>()) {
            for Blocker { hold, memory, .. } in blockers(packed) {
                prop_assert!(usize::from(hold) < HOLDS && usize::from(memory) < MEMORIES);
            }
        }
    }
}
