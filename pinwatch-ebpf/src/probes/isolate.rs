//! Steps inside a collect: isolation of single pages, and drains.
//!
//! ```c
//! bool folio_isolate_lru(struct folio *);             // int, 0 = isolated, to 6.2
//! int isolate_lru_page(struct page *);                // to 5.15
//! bool folio_isolate_hugetlb(struct folio *, struct list_head *);  // isolate_hugetlb before, int to 6.2
//! bool isolate_movable_page(struct page *, isolate_mode_t);        // isolate_movable_ops_page later
//! void lru_add_drain_all(void);
//! ```
//!
//! All have other callers too. An isolation counts only inside a collect, a drain only inside a pin.

use pinwatch_common::record::{Isolate, Phase};

use super::programs::programs;
use crate::kernel;
use crate::slot::{self, Held, enter_phase};

programs! {
    /// For the loop up to 5.12: shows the page that each scan tries first.
    kprobe isolate_kprobe(ctx) { scan(ctx.arg(0).unwrap_or_default()) }
    kprobe isolate_hugetlb_kprobe(ctx) { scan(ctx.arg(0).unwrap_or_default()) }
    fexit isolated_lru_fexit(ctx) { isolated(Isolate::Lru, ctx.arg(1)) }
    fexit isolated_lru_fexit_second(ctx) { isolated_second(Isolate::Lru, ctx.arg(1)) }
    kretprobe isolated_lru_kretprobe(ctx) { isolated(Isolate::Lru, ctx.ret()) }
    fexit isolated_hugetlb_fexit(ctx) { isolated(Isolate::Hugetlb, ctx.arg(2)) }
    fexit isolated_hugetlb_fexit_second(ctx) { isolated_second(Isolate::Hugetlb, ctx.arg(2)) }
    kretprobe isolated_hugetlb_kretprobe(ctx) { isolated(Isolate::Hugetlb, ctx.ret()) }
    fexit isolated_movable_fexit(ctx) { isolated(Isolate::MovableOps, ctx.arg(2)) }
    fexit isolated_movable_fexit_second(ctx) { isolated_second(Isolate::MovableOps, ctx.arg(2)) }
    kretprobe isolated_movable_kretprobe(ctx) { isolated(Isolate::MovableOps, ctx.ret()) }
    fentry drain_fentry(_ctx) { draining() }
    fentry drain_fentry_second(_ctx) { draining_second() }
    kprobe drain_kprobe(_ctx) { draining() }
    fexit drained_fexit(_ctx) { drained() }
    fexit drained_fexit_second(_ctx) { drained() }
    kretprobe drained_kretprobe(_ctx) { drained() }
}

/// Begins a pass if the kernel repeats its scan without pinning again: see `Flight::isolating`.
#[inline(always)]
fn scan(page: u64) {
    if kernel::scans_again()
        && let Some(mut slot) = collecting()
    {
        slot.begin_events();
        slot.isolating(page);
    }
}

#[inline(always)]
fn isolated(kind: Isolate, returned: u64) {
    if has_failed(kind, returned) {
        if let Some(mut slot) = collecting() {
            count_failure(&mut slot, kind);
        }
    } else {
        note_isolated();
    }
}

#[inline(always)]
fn isolated_second(kind: Isolate, returned: u64) {
    if has_failed(kind, returned) {
        if let Some(mut slot) = collecting() {
            let kind_at = kind as usize;
            if slot.pin.isolate_failures[kind_at] == slot.seen.isolate_failures[kind_at] {
                count_failure(&mut slot, kind);
            }
            slot.seen.isolate_failures[kind_at] = slot.pin.isolate_failures[kind_at];
        }
    } else {
        note_isolated();
    }
}

/// Whether a return reports a failure of a kind that is counted.
#[inline(always)]
fn has_failed(kind: Isolate, returned: u64) -> bool {
    kernel::counts_failures(kind) && kernel::isolation_failed(kind, returned)
}

/// Notes that the running scan isolated a page: the kernel pins again before the next.
#[inline(always)]
fn note_isolated() {
    if kernel::scans_again()
        && let Some(mut slot) = collecting()
    {
        slot.scan_isolated = 1;
    }
}

/// Slot of the running thread, if it is inside a collect.
#[inline(always)]
fn collecting() -> Option<Held> {
    slot::find(kernel::tid()).filter(|slot| slot.pin.phase == Phase::Collect as u8)
}

#[inline(always)]
fn count_failure(slot: &mut Held, kind: Isolate) {
    slot.begin_events();
    let failures = &mut slot.pin.isolate_failures[kind as usize];
    *failures = failures.saturating_add(1);
    // Collect isolates only pages of the other kinds.
    if kernel::counts_unpinnable() && !matches!(kind, Isolate::MovableOps) {
        slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(1);
    }
    slot.pin.page_not_isolated();
}

#[inline(always)]
fn draining() {
    if let Some(slot) = slot::find(kernel::tid()) {
        drain(slot);
    }
}

#[inline(always)]
fn draining_second() {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.pin.phase != Phase::Drain as u8
    {
        drain(slot);
    }
}

#[inline(always)]
fn drain(mut slot: Held) {
    slot.pin.drained_in = slot.pin.phase;
    enter_phase(&mut slot, Phase::Drain);
    slot.pin.drains = slot.pin.drains.saturating_add(1);
}

/// Ends a drain and resumes the interrupted phase. After the first of two programs nothing is left to do
/// for the second.
#[inline(always)]
fn drained() {
    if let Some(mut slot) = slot::find(kernel::tid())
        && slot.pin.phase == Phase::Drain as u8
    {
        let in_collect = slot.pin.drained_in == Phase::Collect as u8;
        let resumed = if in_collect {
            Phase::Collect
        } else {
            Phase::Gup
        };
        enter_phase(&mut slot, resumed);
    }
}
