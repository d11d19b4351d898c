//! What happens inside a sweep: isolation of single pages, and drains.
//!
//! ```c
//! bool folio_isolate_lru(struct folio *);             // int, 0 = isolated, to 6.2
//! int isolate_lru_page(struct page *);                // to 5.15
//! bool folio_isolate_hugetlb(struct folio *, struct list_head *);  // isolate_hugetlb before, int to 6.2
//! bool isolate_movable_page(struct page *, isolate_mode_t);        // isolate_movable_ops_page later
//! void lru_add_drain_all(void);
//! ```
//!
//! All have other callers; only those inside a sweep count.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::record::{Isolate, Phase};

use super::pass::enter_phase;
use crate::kernel;
use crate::slot;

/// Where the sweep's own count cannot be had: it isolates each unpinnable folio
/// once.
#[fentry]
fn isolate_fentry(_ctx: FEntryContext) -> u32 {
    isolating()
}

#[kprobe]
fn isolate_kprobe(_ctx: ProbeContext) -> u32 {
    isolating()
}

#[fentry]
fn isolate_hugetlb_fentry(_ctx: FEntryContext) -> u32 {
    isolating()
}

#[kprobe]
fn isolate_hugetlb_kprobe(_ctx: ProbeContext) -> u32 {
    isolating()
}

#[fexit]
fn isolated_lru_fexit(ctx: FExitContext) -> u32 {
    isolated(Isolate::Lru, ctx.arg(1))
}

#[kretprobe]
fn isolated_lru_kretprobe(ctx: RetProbeContext) -> u32 {
    isolated(Isolate::Lru, ctx.ret())
}

#[fexit]
fn isolated_hugetlb_fexit(ctx: FExitContext) -> u32 {
    isolated(Isolate::Hugetlb, ctx.arg(2))
}

#[kretprobe]
fn isolated_hugetlb_kretprobe(ctx: RetProbeContext) -> u32 {
    isolated(Isolate::Hugetlb, ctx.ret())
}

#[fexit]
fn isolated_movable_fexit(ctx: FExitContext) -> u32 {
    isolated(Isolate::MovableOps, ctx.arg(2))
}

#[kretprobe]
fn isolated_movable_kretprobe(ctx: RetProbeContext) -> u32 {
    isolated(Isolate::MovableOps, ctx.ret())
}

#[fentry]
fn drain_fentry(_ctx: FEntryContext) -> u32 {
    draining()
}

#[kprobe]
fn drain_kprobe(_ctx: ProbeContext) -> u32 {
    draining()
}

#[fexit]
fn drained_fexit(_ctx: FExitContext) -> u32 {
    drained()
}

#[kretprobe]
fn drained_kretprobe(_ctx: RetProbeContext) -> u32 {
    drained()
}

#[inline(always)]
fn isolating() -> u32 {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.pin.phase == Phase::Collect as u8
    {
        slot.begin_events();
        slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(1);
    }
    0
}

#[inline(always)]
fn isolated(kind: Isolate, returned: u64) -> u32 {
    let failed = kernel::counts_failures(kind) && kernel::isolation_failed(kind, returned);
    // The sweep isolates no others.
    let counted = kernel::counts_isolations() && !matches!(kind, Isolate::MovableOps);
    if (failed || counted)
        && let Some(slot) = slot::find(kernel::tid())
        && slot.pin.phase == Phase::Collect as u8
    {
        slot.begin_events();
        if counted {
            slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(1);
        }
        if failed {
            let failures = &mut slot.pin.isolate_failures[kind as usize];
            *failures = failures.saturating_add(1);
        }
    }
    0
}

#[inline(always)]
fn draining() -> u32 {
    if let Some(slot) = slot::find(kernel::tid()) {
        slot.pin.drained_in = slot.pin.phase;
        enter_phase(slot, Phase::Drain);
        slot.pin.drains = slot.pin.drains.saturating_add(1);
    }
    0
}

#[inline(always)]
fn drained() -> u32 {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.pin.phase == Phase::Drain as u8
    {
        let in_sweep = slot.pin.drained_in == Phase::Collect as u8;
        enter_phase(slot, if in_sweep { Phase::Collect } else { Phase::Gup });
    }
    0
}
