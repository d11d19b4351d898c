//! Weak pins: pins without FOLL_LONGTERM, whose pages stay in ZONE_MOVABLE and in CMA pageblocks. While one
//! lasts, a long-term pin of the same pages fails.

use bytemuck::{Pod, Zeroable};

pub use crate::holder::Holder;
use crate::origin::origin_index;
use crate::record::{ORIGIN_NAMES, ORIGINS, PROCESS_VM};

/// Number of origins of weak pins: every [`Origin`](crate::record::Origin), and [`PROCESS_VM`].
pub const WEAK_ORIGINS: usize = ORIGINS + 1;

/// Label value of an origin of weak pins, by the byte in [`Holder::origin`].
#[must_use]
pub fn weak_origin_name(origin: u8) -> &'static str {
    if origin == PROCESS_VM {
        "process_vm"
    } else {
        ORIGIN_NAMES[origin_index(origin)]
    }
}

/// Index of the origin of a weak pin among [`WEAK_ORIGINS`].
#[inline(always)]
#[must_use]
pub const fn weak_origin_index(origin: u8) -> usize {
    if (origin as usize) < WEAK_ORIGINS {
        origin as usize
    } else {
        0
    }
}

/// Maximum number of pages that are looked at per weak pin and per release.
pub const WEAK_PAGES: u32 = 64;

/// Pages from the first on of which each is looked at; the rest of [`WEAK_PAGES`] is spread over the others.
const IN_A_ROW: u32 = WEAK_PAGES / 2;

/// Index of the page with this number among those that are looked at, of `count` pages. Beyond the last one for
/// a number that is not needed.
#[inline(always)]
#[must_use]
pub const fn weak_page(number: u32, count: u32) -> u32 {
    if number < IN_A_ROW || count <= WEAK_PAGES {
        number
    } else {
        IN_A_ROW + ((number - IN_A_ROW) as u64 * (count - IN_A_ROW) as u64 / IN_A_ROW as u64) as u32
    }
}

/// Folios of weak pins that are remembered at once. One more is counted as
/// [`Loss::WeakFull`](crate::loss::Loss::WeakFull).
pub const WEAK_FOLIOS: u32 = 8192;

/// Number of [`Blocked`] entries: those of threads whose ids are equal modulo this number share one.
pub const HOLDERS: u32 = 64;

/// The holder that was in the way of a pin.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Blocked {
    /// The holder.
    pub holder: Holder,
    /// End of the weak pin in nanoseconds of `CLOCK_MONOTONIC`; 0 while it lasts, or if its end was not seen.
    pub ended_ns: u64,
    /// Thread and process of the pin, as in [`Slot::owner`](crate::record::Slot::owner).
    pub owner: u64,
    /// Entry of the pin, as [`Pin::start_ns`](crate::record::Pin::start_ns).
    pub pin_ns: u64,
    /// Address of the folio. It never leaves the agent.
    pub folio: u64,
}

const _: () = assert!(size_of::<Holder>() == 48 && size_of::<Blocked>() == 80);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn looked_at(count: u32) -> Vec<u32> {
        let pages = (0..WEAK_PAGES).map(|number| weak_page(number, count));
        pages.filter(|page| *page < count).collect()
    }

    #[test]
    fn few_pages_are_all_looked_at() {
        for count in 0..=WEAK_PAGES {
            assert_eq!(looked_at(count), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_many_pages_the_first_ones_and_a_spread_are_looked_at() {
        for count in [65, 100, 1024, 1 << 20, u32::MAX] {
            let pages = looked_at(count);
            assert_eq!(pages.len(), WEAK_PAGES as usize, "{count}");
            assert!(pages.is_sorted_by(|a, b| a < b), "{count}: {pages:?}");
            assert!(pages[63] >= count / 32 * 31, "{count}: {pages:?}");
        }
    }
}
