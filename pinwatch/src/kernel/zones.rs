//! Position of the zone in a page's flags, as in include/linux/page-flags-layout.h.
//!
//! The flags of a 64-bit kernel hold the node in the highest bits, and the zone below it. Without a
//! virtual memmap the section is above both.
#![forbid(unsafe_code)]

use pinwatch_common::place::PLACES;

use super::facts::{Facts, VMEMMAP};

/// Bit field that holds the zone of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ZoneBits {
    /// Byte offset of `flags` in `struct page`.
    pub flags_offset: u64,
    pub shift: u32,
    pub mask: u32,
}

/// Enum constant and label value of each zone.
const NAMES: [(&str, &str); 6] = [
    ("ZONE_DMA", "dma"),
    ("ZONE_DMA32", "dma32"),
    ("ZONE_NORMAL", "normal"),
    ("ZONE_HIGHMEM", "highmem"),
    ("ZONE_MOVABLE", "movable"),
    ("ZONE_DEVICE", "device"),
];
const MAX_NR_ZONES: &str = "__MAX_NR_ZONES";
/// An array of `MAX_NUMNODES * MAX_NR_ZONES + 1` elements.
const ZONEREFS: &str = "zonelist._zonerefs";
const FLAGS: &str = "page.flags";

/// Enum constants that [`zone_bits`] and [`zone_names`] need.
pub const CONSTANTS: [&str; 7] = [
    NAMES[0].0,
    NAMES[1].0,
    NAMES[2].0,
    NAMES[3].0,
    NAMES[4].0,
    NAMES[5].0,
    MAX_NR_ZONES,
];
/// Struct members that [`zone_bits`] needs.
pub const MEMBERS: [(&str, &str); 2] = [("page", "flags"), ("zonelist", "_zonerefs")];

/// Position of the zone in a page's flags. The error is the name of the fact that is missing.
pub fn zone_bits(facts: &Facts) -> Result<ZoneBits, &'static str> {
    let zones = *facts.constants.get(MAX_NR_ZONES).ok_or(MAX_NR_ZONES)?;
    let zonerefs = *facts.lengths.get(ZONEREFS).ok_or(ZONEREFS)?;
    let flags_offset = *facts.members.get(FLAGS).ok_or(FLAGS)?;
    if !facts.symbols.contains_key(VMEMMAP) {
        return Err(VMEMMAP);
    }
    let zone_width = match zones {
        0 | 1 => 0,
        2 => 1,
        3..=4 => 2,
        5..=8 => 3,
        _ => return Err(MAX_NR_ZONES),
    };
    let nodes = zonerefs.saturating_sub(1) / zones.max(1);
    if !nodes.is_power_of_two() || nodes * zones + 1 != zonerefs {
        return Err(ZONEREFS);
    }
    Ok(ZoneBits {
        flags_offset,
        shift: u64::BITS - nodes.trailing_zeros() - zone_width,
        mask: (1 << zone_width) - 1,
    })
}

/// The zone's label value that equals a text; `None` for other texts.
#[must_use]
pub fn known(text: &str) -> Option<&'static str> {
    let mut names = NAMES.iter().map(|(_, name)| *name);
    names.find(|name| *name == text)
}

/// Label value of each zone, by the kernel's number (`enum zone_type`).
#[must_use]
pub fn zone_names(facts: &Facts) -> [Option<&'static str>; PLACES] {
    let mut names = [None; PLACES];
    for (constant, name) in NAMES {
        let zone = facts.constants.get(constant);
        if let Some(slot) = zone.and_then(|zone| names.get_mut(*zone as usize)) {
            *slot = Some(name);
        }
    }
    names
}
