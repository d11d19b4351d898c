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

/// Maximum number of pages that are looked at per weak pin and per release: as many as `process_vm_readv` pins at once.
pub const WEAK_PAGES: u32 = 1024;

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
