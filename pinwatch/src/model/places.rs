//! Places in words: memory zones, and types of pageblocks.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use pinwatch_common::place::{PLACES, PlaceCells};

use super::state::State;

/// Name of a zone or a type of pageblock that is not known.
pub(super) const UNKNOWN: &str = "unknown";

/// Names of places by the kernel's numbers: zones, or types of pageblocks.
type Names = [Option<&'static str>; PLACES];

/// Names of zones and of types of pageblocks, by the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceNames {
    pub zones: Names,
    pub pageblocks: Names,
}

impl PlaceNames {
    pub(super) fn zone(&self, number: usize) -> &'static str {
        self.zones.get(number).copied().flatten().unwrap_or(UNKNOWN)
    }

    pub(super) fn pageblock(&self, number: usize) -> &'static str {
        let name = self.pageblocks.get(number).copied().flatten();
        name.unwrap_or(UNKNOWN)
    }
}

impl State {
    /// Names of zones and of types of pageblocks.
    #[must_use]
    pub fn place_names(&self) -> PlaceNames {
        PlaceNames {
            zones: self.zones,
            pageblocks: self.pageblocks,
        }
    }
}

/// Sampled pages by zone and type of pageblock. Each zone begins with 0 pages in its usual pageblocks.
#[must_use]
pub fn sampled_places(
    cells: &PlaceCells,
    names: &PlaceNames,
) -> BTreeMap<(&'static str, &'static str), u64> {
    let known = names.pageblocks.iter().any(Option::is_some);
    let usual = if known { "movable" } else { UNKNOWN };
    let zones = names.zones.iter().flatten();
    let mut places: BTreeMap<_, _> = zones.map(|zone| ((*zone, usual), 0)).collect();
    places.append(&mut named_places(cells, names));
    places
}

/// Pages by zone and type of pageblock, without places that had none. Places without a name are summed up.
#[must_use]
pub fn named_places(
    cells: &PlaceCells,
    names: &PlaceNames,
) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut places = BTreeMap::new();
    for (zone, pageblocks) in cells.iter().enumerate() {
        for (pageblock, pages) in pageblocks.iter().enumerate() {
            if *pages > 0 {
                let name = (names.zone(zone), names.pageblock(pageblock));
                let sum: &mut u64 = places.entry(name).or_default();
                *sum = sum.saturating_add(*pages);
            }
        }
    }
    places
}
