//! Blockers in words: folios that a failed migration left behind.
#![forbid(unsafe_code)]

use pinwatch_common::blocker::{BLOCKERS, Blocker, HOLD_NAMES, MAPPED_MAX, MEMORY_NAMES, blockers};
use pinwatch_common::cells::HoldCells;
use pinwatch_common::hold::HOLD_EDGES_NS;
use pinwatch_common::record::Pin;
use serde::{Deserialize, Serialize};

use super::bounded;
use super::places::{PlaceNames, UNKNOWN};
use super::state::State;

/// A blocker, as `pinwatch tail` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockerRow {
    /// What held the folio.
    pub kind: &'static str,
    pub memory: &'static str,
    pub zone: &'static str,
    pub pageblock: &'static str,
    /// Number of its mappings; [`MAPPED_MAX`] stands for all larger numbers too.
    pub mapped: u8,
}

/// Blockers of a pin, at most [`BLOCKERS`].
#[must_use]
pub fn rows(pin: &Pin, names: &PlaceNames) -> Vec<BlockerRow> {
    const { assert!(MAPPED_MAX < 16 && BLOCKERS == 4) }
    let row = |blocker: Blocker| BlockerRow {
        kind: HOLD_NAMES[usize::from(blocker.hold)],
        memory: MEMORY_NAMES[usize::from(blocker.memory)],
        zone: names.zone(blocker.zone.into()),
        pageblock: names.pageblock(blocker.pageblock.into()),
        mapped: blocker.mapped,
    };
    blockers(pin.blockers).map(row).collect()
}

/// Words for the blockers of a pin, such as `2 pinned anon in movable`; empty without blockers.
#[must_use]
pub fn words(rows: &[BlockerRow]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for row in rows {
        let BlockerRow {
            kind,
            memory,
            zone,
            pageblock,
            mapped: _,
        } = row;
        let words = if pageblock == zone || *pageblock == UNKNOWN {
            format!("{kind} {memory} in {zone}")
        } else {
            format!("{kind} {memory} in {zone}/{pageblock}")
        };
        match counts.iter_mut().find(|(seen, _)| *seen == words) {
            Some((_, count)) => *count += 1,
            None => counts.push((words, 1)),
        }
    }
    let counts = counts
        .into_iter()
        .map(|(words, count)| format!("{count} {words}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Folios by what held them and by memory, without combinations that had none.
pub fn blocker_holds(state: &State) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let holds = HOLD_NAMES.into_iter().zip(state.cells.blockers.holds);
    holds.flat_map(|(kind, memories)| {
        let memories = MEMORY_NAMES.into_iter().zip(memories);
        let seen = memories.filter(|(_, folios)| *folios > 0);
        seen.map(move |(memory, folios)| (kind, memory, folios))
    })
}

/// Folios that failed migrations left behind, of one kind and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blockers {
    /// What held them.
    pub kind: String,
    pub memory: String,
    pub folios: u64,
    /// Half of the watched folios were held for at most this long; null if none was watched, or if half of them were cut
    /// off.
    pub held_p50_ns: Option<u64>,
    /// Folios that were still held after 10 s.
    pub cut_off: u64,
}

/// Folios by what held them and by memory, with their holds; without combinations that had none.
#[must_use]
pub fn summary(state: &State) -> Vec<Blockers> {
    let cells = &state.cells;
    let kinds = HOLD_NAMES.iter().zip(&cells.blockers.holds);
    let kinds = kinds.zip(&cells.holds);
    let rows = kinds.flat_map(|((kind, folios), holds)| {
        let memories = MEMORY_NAMES.iter().zip(folios).zip(holds);
        let seen = memories.filter(|((_, folios), _)| **folios > 0);
        seen.map(move |((memory, folios), holds)| Blockers {
            kind: (*kind).to_owned(),
            memory: (*memory).to_owned(),
            folios: *folios,
            held_p50_ns: median_ns(holds),
            cut_off: holds.cut_off,
        })
    });
    rows.collect()
}

/// Edge of the histogram up to which half of the watched folios were held.
fn median_ns(holds: &HoldCells) -> Option<u64> {
    let ended = bounded::sum(holds.buckets.iter().copied());
    let half = ended.saturating_add(holds.cut_off).div_ceil(2).max(1);
    let mut below = 0_u64;
    let bucket = holds.buckets.iter().position(|holds| {
        below = below.saturating_add(*holds);
        below >= half
    });
    HOLD_EDGES_NS.get(bucket?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::named_places;
    use bytemuck::Zeroable as _;
    use pinwatch_common::blocker::{BLOCKER_BITS, Hold, Memory};
    use pinwatch_common::cells::Alone;
    use pinwatch_common::fold::fold_blockers;
    use pinwatch_common::place::UNKNOWN_PLACE;

    fn packed(hold: Hold, zone: u8, pageblock: u8) -> u64 {
        let blocker = Blocker {
            hold: hold as u8,
            memory: Memory::Anon as u8,
            zone,
            pageblock,
            mapped: 1,
        };
        blocker.pack()
    }

    fn names() -> PlaceNames {
        let mut names = PlaceNames::default();
        names.zones[2] = Some("normal");
        names.zones[3] = Some("movable");
        names.pageblocks[1] = Some("movable");
        names.pageblocks[4] = Some("cma");
        names
    }

    #[test]
    fn alike_blockers_are_counted_and_cma_inside_another_zone_is_named() {
        let movable = packed(Hold::Pinned, 3, 1);
        let cma = packed(Hold::Referenced, 2, 4);
        let pin = Pin {
            blockers: movable | cma << BLOCKER_BITS | movable << (2 * BLOCKER_BITS),
            ..Pin::zeroed()
        };
        assert_eq!(
            words(&rows(&pin, &names())),
            "2 pinned anon in movable, 1 referenced anon in normal/cma"
        );
        assert_eq!(words(&rows(&Pin::zeroed(), &names())), "");
    }

    #[test]
    fn places_without_a_name_are_one_series() {
        let mut state = State::empty("", "");
        for zone in [5, 6, UNKNOWN_PLACE] {
            let one = packed(Hold::Gone, zone, UNKNOWN_PLACE);
            fold_blockers::<Alone>(&mut state.cells.blockers, one);
        }
        let places = named_places(&state.cells.blockers.places, &state.place_names());
        assert_eq!(places, [((UNKNOWN, UNKNOWN), 3)].into());
        let holds: Vec<_> = blocker_holds(&state).collect();
        assert_eq!(holds, [("gone", "anon", 3)]);
    }

    #[test]
    fn half_of_the_watched_folios_were_held_for_at_most_the_median() {
        let mut state = State::empty("6.12", "folios");
        state.cells.blockers.holds[1][2] = 9;
        let median = |state: &State| summary(state)[0].held_p50_ns;
        assert_eq!(median(&state), None);
        let cells = &mut state.cells.holds[1][2];
        cells.buckets[3] = 4;
        cells.buckets[5] = 4;
        assert_eq!(median(&state), Some(HOLD_EDGES_NS[3]));
        state.cells.holds[1][2].cut_off = 1;
        assert_eq!(median(&state), Some(HOLD_EDGES_NS[5]));
        state.cells.holds[1][2].cut_off = 9;
        assert_eq!(median(&state), None);
        let row = &summary(&state)[0];
        assert_eq!((row.folios, row.cut_off), (9, 9));
        assert_eq!(row.kind, HOLD_NAMES[1]);
    }
}
