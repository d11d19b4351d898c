//! Places: the memory zone of a page, and the type of the pageblock that it is in.

/// Number of values of [`Place::zone`] and [`Place::pageblock`].
pub const PLACES: usize = 8;

/// [`Place::zone`] or [`Place::pageblock`] that could not be read. No kernel has that many.
pub const UNKNOWN_PLACE: u8 = 7;

/// Number of pages by zone, then by type of pageblock.
pub type PlaceCells = [[u64; PLACES]; PLACES];

/// Place of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `enum zone_type`, or [`UNKNOWN_PLACE`].
    pub zone: u8,
    /// `enum migratetype` of its pageblock, or [`UNKNOWN_PLACE`].
    pub pageblock: u8,
}

impl Place {
    /// Packs a place into a byte that is not 0: 1 + zone, and from bit 4 on 1 + type of the pageblock, where 0
    /// is unknown.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u8 {
        ((self.zone & 7) + 1) | (((self.pageblock + 1) & 7) << 4)
    }

    /// Restores a place; `None` from a byte without one.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(packed: u8) -> Option<Self> {
        match packed & 0xf {
            0 => None,
            zone => Some(Self {
                zone: (zone - 1) & 7,
                pageblock: (packed >> 4).wrapping_sub(1) & 7,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        for zone in 0..PLACES as u8 {
            for pageblock in 0..PLACES as u8 {
                let place = Place { zone, pageblock };
                assert_ne!(place.pack(), 0);
                assert_eq!(Place::unpack(place.pack()), Some(place));
            }
        }
    }

    #[test]
    fn a_byte_with_a_zone_alone_has_an_unknown_pageblock() {
        let place = Place {
            zone: 3,
            pageblock: UNKNOWN_PLACE,
        };
        assert_eq!(Place::unpack(4), Some(place));
        assert_eq!(Place::unpack(0), None);
    }
}
