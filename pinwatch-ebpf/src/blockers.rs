//! Blockers: the folios that the first failed migration of a pin left behind.

use pinwatch_common::blocker::{BLOCKER_BITS, BLOCKERS};
use pinwatch_common::fold::fold_blockers;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::Pin;

use crate::kernel::memory::next_entry;
use crate::kernel::{self, folio};
use crate::maps::{Shared, cells, lose};
use crate::slot::Held;
use crate::{watch, weak};

/// Inspects what the pin's first failed migration left in a list, whose address is 0 if it was not found. After the first
/// of two programs nothing is left to do for the second.
#[inline(always)]
pub fn left_behind(slot: Held, list: impl FnOnce() -> u64) {
    if slot.pin.failed != 0 && slot.pin.blockers == 0 && slot.pin.left_folios() {
        inspect(slot, list());
    }
}

/// Counts a failed pin as lost here if the return of its failed migration was not seen.
#[inline(always)]
pub fn count_unseen(pin: &Pin) {
    if pin.failed != 0
        && pin.blockers == 0
        && pin.awaits_result != 0
        && kernel::shows_blockers_at_return()
    {
        lose(Loss::BlockersUnseen);
    }
}

/// A separate function: few pins get here. Without a `for`, which LLVM may compile to a loop, with more paths for the verifier.
#[inline(never)]
fn inspect(slot: Held, list: u64) {
    let first = next_entry(list);
    if let Some(second) = look::<0>(slot, list, first)
        && let Some(third) = look::<1>(slot, list, second)
        && let Some(fourth) = look::<2>(slot, list, third)
    {
        look::<{ BLOCKERS - 1 }>(slot, list, fourth);
    }
    fold(slot);
}

/// Looks at the folio of an entry, and returns the next one. `None` at the end of the list.
///
/// Stores each result in the slot. The verifier knows nothing about a value that it loads from memory, so it does not follow
/// each path through one folio into the next folio.
#[inline(always)]
fn look<const NUMBER: usize>(mut slot: Held, list: u64, entry: u64) -> Option<u64> {
    if entry == 0 || entry == list {
        return None;
    }
    let blocker = folio::blocker(entry);
    let blockers = &raw mut slot.pin.blockers;
    // SAFETY: an aligned u64 of a live reference.
    unsafe {
        blockers.write_volatile(blockers.read_volatile() | blocker << (NUMBER * BLOCKER_BITS))
    };
    if kernel::watches_weak_pins() {
        weak::note_blocker(folio::of_entry(entry), slot.pin.start_ns);
    }
    if kernel::watches() {
        watch::begin(slot, entry, blocker | (NUMBER << 16) as u64);
    }
    Some(next_entry(entry))
}

/// Adds the blockers of a pin to the statistics. A separate function: see [`look`].
#[inline(never)]
fn fold(slot: Held) {
    let blockers = &raw const slot.pin.blockers;
    // SAFETY: an aligned u64 of a live reference.
    let found = unsafe { blockers.read_volatile() };
    if found == 0 {
        lose(Loss::BlockersUnseen);
    } else if let Some(cells) = cells() {
        fold_blockers::<Shared>(&mut cells.blockers, found);
    }
}
