//! Folios that a migration inside a pin left behind: `putback_movable_pages(struct list_head *l)`.
//!
//! The kernel calls it once for each migration of this path, with the folios that are still isolated. Up
//! to 5.12 it does so only if some are left. Other callers, such as compaction, pay for a slot look-up.

use pinwatch_common::blocker::{BLOCKER_BITS, BLOCKERS};
use pinwatch_common::fold::fold_blockers;

use super::programs::programs;
use crate::kernel::{self, folio};
use crate::maps::{Shared, cells};
use crate::slot::{self, Held};
use crate::{watch, weak};

programs! {
    fentry putback_fentry(ctx) { put_back(|| kernel::raw_arg(&ctx, 0)) }
    fentry putback_fentry_second(ctx) { put_back(|| kernel::raw_arg(&ctx, 0)) }
    kprobe putback_kprobe(ctx) { put_back(|| ctx.arg(0).unwrap_or_default()) }
}

/// Inspects what the pin's first failed migration left. After the first of two programs nothing is left to
/// do for the second.
#[inline(always)]
fn put_back(list: impl FnOnce() -> u64) {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.pin.failed != 0
        && slot.pin.blockers == 0
        && slot.pin.left_folios()
    {
        inspect(slot, list());
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
