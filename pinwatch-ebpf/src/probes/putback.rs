//! Folios that a migration inside a pin left behind: `putback_movable_pages(struct list_head *l)`.
//!
//! The kernel calls it once for each migration of this path, with the folios that are still isolated. Up
//! to 5.12 it does so only if some are left. Other callers, such as compaction, pay for a slot look-up. Hooked only where
//! the return of `migrate_pages` does not show the list.

use super::programs::programs;
use crate::blockers::left_behind;
use crate::kernel;
use crate::slot;

programs! {
    fentry putback_fentry(ctx) { put_back(|| kernel::raw_arg(&ctx, 0)) }
    fentry putback_fentry_second(ctx) { put_back(|| kernel::raw_arg(&ctx, 0)) }
    kprobe putback_kprobe(ctx) { put_back(|| ctx.arg(0).unwrap_or_default()) }
}

#[inline(always)]
fn put_back(list: impl FnOnce() -> u64) {
    if let Some(slot) = slot::find(kernel::tid()) {
        left_behind(slot, list);
    }
}
