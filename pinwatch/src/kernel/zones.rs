//! Where in a page's flags its zone is: include/linux/page-flags-layout.h.
//!
//! From the top, the flags of a 64-bit kernel hold the node and below it the
//! zone. Without a virtual memmap the section would come first.

use pinwatch_common::record::ZONES;

use super::facts::{Facts, VMEMMAP};

/// How to read the zone of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ZoneBits {
    pub flags_offset: u64,
    pub shift: u32,
    pub mask: u32,
}

/// Zones, with the label value of each.
const NAMES: [(&str, &str); 6] = [
    ("ZONE_DMA", "dma"),
    ("ZONE_DMA32", "dma32"),
    ("ZONE_NORMAL", "normal"),
    ("ZONE_HIGHMEM", "highmem"),
    ("ZONE_MOVABLE", "movable"),
    ("ZONE_DEVICE", "device"),
];
const HOW_MANY: &str = "__MAX_NR_ZONES";
/// `MAX_NUMNODES * MAX_NR_ZONES + 1` elements long.
const ZONEREFS: &str = "zonelist._zonerefs";
const FLAGS: &str = "page.flags";

/// Constants that this needs.
pub const CONSTANTS: [&str; 7] = [
    NAMES[0].0, NAMES[1].0, NAMES[2].0, NAMES[3].0, NAMES[4].0, NAMES[5].0, HOW_MANY,
];
/// Members that this needs.
pub const MEMBERS: [(&str, &str); 2] = [("page", "flags"), ("zonelist", "_zonerefs")];

/// Where the zone is; the missing fact otherwise.
pub fn zone_bits(facts: &Facts) -> Result<ZoneBits, &'static str> {
    let zones = *facts.constants.get(HOW_MANY).ok_or(HOW_MANY)?;
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
        _ => return Err(HOW_MANY),
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

/// The label value that a text is, if it is one.
#[must_use]
pub fn known(text: &str) -> Option<&'static str> {
    let mut names = NAMES.iter().map(|(_, name)| *name);
    names.find(|name| *name == text)
}

/// Label values by `enum zone_type`.
#[must_use]
pub fn zone_names(facts: &Facts) -> [Option<&'static str>; ZONES] {
    let mut names = [None; ZONES];
    for (constant, name) in NAMES {
        let zone = facts.constants.get(constant);
        if let Some(slot) = zone.and_then(|zone| names.get_mut(*zone as usize)) {
            *slot = Some(name);
        }
    }
    names
}
