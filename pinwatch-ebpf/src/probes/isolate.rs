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
use crate::slot::{self, Held, enter_phase, first_counted_unpinnable};

programs! {
    /// For kernels whose collect does not return its count: it isolates each unpinnable folio once.
    fentry isolate_fentry(ctx) { isolating(|| ctx.arg(0)) }
    fentry isolate_fentry_second(ctx) { isolating_second(|| ctx.arg(0)) }
    kprobe isolate_kprobe(ctx) { isolating(|| ctx.arg(0).unwrap_or_default()) }
    fentry isolate_hugetlb_fentry(ctx) { isolating(|| ctx.arg(0)) }
    fentry isolate_hugetlb_fentry_second(ctx) { isolating_second(|| ctx.arg(0)) }
    kprobe isolate_hugetlb_kprobe(ctx) { isolating(|| ctx.arg(0).unwrap_or_default()) }
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

#[inline(always)]
fn isolating(page: impl FnOnce() -> u64) {
    if let Some(mut slot) = collecting() {
        scan(&mut slot, page);
        count_unpinnable(&mut slot);
    }
}

#[inline(always)]
fn isolating_second(page: impl FnOnce() -> u64) {
    if let Some(mut slot) = collecting() {
        if !first_counted_unpinnable(&slot) {
            scan(&mut slot, page);
            count_unpinnable(&mut slot);
        }
        slot.seen.unpinnable = slot.pin.unpinnable as u32;
    }
}

/// Begins a pass if the kernel repeats its scan without pinning again: see `Flight::isolating`.
#[inline(always)]
fn scan(slot: &mut Held, page: impl FnOnce() -> u64) {
    if kernel::scans_again() {
        slot.begin_events();
        let page = page();
        slot.isolating(page);
    }
}

#[inline(always)]
fn isolated(kind: Isolate, returned: u64) {
    let (failed, unpinnable) = additions(kind, returned);
    if (failed || unpinnable)
        && let Some(mut slot) = collecting()
    {
        if unpinnable {
            count_unpinnable(&mut slot);
        }
        if failed {
            count_failure(&mut slot, kind);
        }
    }
}

#[inline(always)]
fn isolated_second(kind: Isolate, returned: u64) {
    let (failed, unpinnable) = additions(kind, returned);
    if (failed || unpinnable)
        && let Some(mut slot) = collecting()
    {
        if unpinnable {
            if !first_counted_unpinnable(&slot) {
                count_unpinnable(&mut slot);
            }
            slot.seen.unpinnable = slot.pin.unpinnable as u32;
        }
        if failed {
            let kind_at = kind as usize;
            if slot.pin.isolate_failures[kind_at] == slot.seen.isolate_failures[kind_at] {
                count_failure(&mut slot, kind);
            }
            slot.seen.isolate_failures[kind_at] = slot.pin.isolate_failures[kind_at];
        }
    }
}

/// Whether a return adds a failed isolation, and whether it adds an unpinnable page.
#[inline(always)]
fn additions(kind: Isolate, returned: u64) -> (bool, bool) {
    let failed = kernel::counts_failures(kind) && kernel::isolation_failed(kind, returned);
    // Collect isolates only pages of the other kinds.
    let unpinnable = kernel::counts_isolations() && !matches!(kind, Isolate::MovableOps);
    (failed, unpinnable)
}

/// Slot of the running thread, if it is inside a collect.
#[inline(always)]
fn collecting() -> Option<Held> {
    slot::find(kernel::tid()).filter(|slot| slot.pin.phase == Phase::Collect as u8)
}

#[inline(always)]
fn count_unpinnable(slot: &mut Held) {
    slot.begin_events();
    slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(1);
    if !kernel::sees_isolations() {
        slot.pin.page_found();
    }
}

#[inline(always)]
fn count_failure(slot: &mut Held, kind: Isolate) {
    slot.begin_events();
    let failures = &mut slot.pin.isolate_failures[kind as usize];
    *failures = failures.saturating_add(1);
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
