//! Long-term pins beside the measured one: registrations of io_uring.
#![forbid(unsafe_code)]

use std::ops::Range;

use anyhow::Context as _;
use libc::iovec;

use crate::memory::mapping::Mapping;
use crate::pinner::{self, Ring};
use crate::spec::{Via, page_size};

/// Pages that are registered until this is dropped.
pub struct LongTermPin {
    ring: Ring,
}

impl LongTermPin {
    /// Registers `pages`. From 5.13 on, none of them is in ZONE_MOVABLE when this returns.
    pub fn new(map: &Mapping, pages: Range<usize>) -> anyhow::Result<Self> {
        let mut ring = Ring::open()?;
        let bytes = pinner::io_uring_pages_per_pin() * page_size();
        let pieces: Vec<iovec> = map.iovecs_of(pages, bytes).collect();
        ring.register(&pieces)
            .context("io_uring cannot register the pages before the pin")?;
        Ok(Self { ring })
    }

    /// Long-term pins that [`LongTermPin::new`] makes.
    pub fn pins(pages: usize) -> u64 {
        pinner::pins_of(Via::IoUring, pages)
    }
}

impl Drop for LongTermPin {
    fn drop(&mut self) {
        // Closing the ring releases them too, some time later.
        let _ = self.ring.unregister();
    }
}
