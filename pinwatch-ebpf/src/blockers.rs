//! Blockers: the folios that the first failed migration of a pin left behind.

use pinwatch_common::blocker::{BLOCKER_BITS, BLOCKERS};
use pinwatch_common::fold::fold_blockers;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::Pin;

use crate::kernel::{self, folio};
use crate::maps::{Shared, cells, lose};
use crate::slot::Held;
use crate::{watch, weak};

/// Inspects what the pin's first failed migration left in a list. After the first of two programs nothing is left to
/// do for the second.
#[inline(always)]
pub fn left_behind(slot: Held, list: impl FnOnce() -> u64) {
    if slot.pin.failed != 0 && slot.pin.blockers == 0 && slot.pin.left_folios() {
        match list() {
            0 => lose(Loss::BlockersUnseen),
            list => inspect(slot, list),
        }
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

/// A separate function: few pins get here.
///
/// Stores each result in the slot. The verifier knows nothing about a value that it loads from memory, so it does not follow
/// each path through one folio into the next folio.
#[inline(never)]
fn inspect(mut slot: Held, list: u64) {
    let blockers = &raw mut slot.pin.blockers;
    let mut entry = folio::next_entry(list);
    for n in 0..BLOCKERS {
        if entry == 0 || entry == list {
            break;
        }
        let blocker = folio::blocker(entry);
        // SAFETY: an aligned u64 of a live reference.
        unsafe {
            blockers.write_volatile(blockers.read_volatile() | blocker << (n * BLOCKER_BITS))
        };
        if kernel::watches_weak_pins() {
            weak::note_blocker(folio::of_entry(entry), slot.pin.start_ns);
        }
        if kernel::watches() {
            watch::begin(slot, entry, blocker | (n << 16) as u64);
        }
        entry = folio::next_entry(entry);
    }
    if let Some(cells) = cells() {
        // SAFETY: as above.
        fold_blockers::<Shared>(&mut cells.blockers, unsafe { blockers.read_volatile() });
    }
}
