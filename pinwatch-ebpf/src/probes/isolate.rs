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
use pinwatch_common::counter::probe_number;
use pinwatch_common::record::{Flight, Isolate, Phase};

use super::pass::enter_phase;
use crate::kernel;
use crate::maps::ran;
use crate::slot::{self, Held};

/// Where the sweep's own count cannot be had: it isolates each unpinnable folio
/// once.
#[fentry]
fn isolate_fentry(_ctx: FEntryContext) -> u32 {
    isolating()
}

#[fentry]
fn isolate_fentry_second(_ctx: FEntryContext) -> u32 {
    isolating_second()
}

#[kprobe]
fn isolate_kprobe(_ctx: ProbeContext) -> u32 {
    ran(const { probe_number("isolate_kprobe") });
    isolating()
}

#[fentry]
fn isolate_hugetlb_fentry(_ctx: FEntryContext) -> u32 {
    isolating()
}

#[fentry]
fn isolate_hugetlb_fentry_second(_ctx: FEntryContext) -> u32 {
    isolating_second()
}

#[kprobe]
fn isolate_hugetlb_kprobe(_ctx: ProbeContext) -> u32 {
    ran(const { probe_number("isolate_hugetlb_kprobe") });
    isolating()
}

#[fexit]
fn isolated_lru_fexit(ctx: FExitContext) -> u32 {
    isolated(Isolate::Lru, ctx.arg(1))
}

#[fexit]
fn isolated_lru_fexit_second(ctx: FExitContext) -> u32 {
    isolated_second(Isolate::Lru, ctx.arg(1))
}

#[kretprobe]
fn isolated_lru_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("isolated_lru_kretprobe") });
    isolated(Isolate::Lru, ctx.ret())
}

#[fexit]
fn isolated_hugetlb_fexit(ctx: FExitContext) -> u32 {
    isolated(Isolate::Hugetlb, ctx.arg(2))
}

#[fexit]
fn isolated_hugetlb_fexit_second(ctx: FExitContext) -> u32 {
    isolated_second(Isolate::Hugetlb, ctx.arg(2))
}

#[kretprobe]
fn isolated_hugetlb_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("isolated_hugetlb_kretprobe") });
    isolated(Isolate::Hugetlb, ctx.ret())
}

#[fexit]
fn isolated_movable_fexit(ctx: FExitContext) -> u32 {
    isolated(Isolate::MovableOps, ctx.arg(2))
}

#[fexit]
fn isolated_movable_fexit_second(ctx: FExitContext) -> u32 {
    isolated_second(Isolate::MovableOps, ctx.arg(2))
}

#[kretprobe]
fn isolated_movable_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("isolated_movable_kretprobe") });
    isolated(Isolate::MovableOps, ctx.ret())
}

#[fentry]
fn drain_fentry(_ctx: FEntryContext) -> u32 {
    draining()
}

#[fentry]
fn drain_fentry_second(_ctx: FEntryContext) -> u32 {
    draining_second()
}

#[kprobe]
fn drain_kprobe(_ctx: ProbeContext) -> u32 {
    ran(const { probe_number("drain_kprobe") });
    draining()
}

#[fexit]
fn drained_fexit(_ctx: FExitContext) -> u32 {
    drained()
}

#[fexit]
fn drained_fexit_second(_ctx: FExitContext) -> u32 {
    drained()
}

#[kretprobe]
fn drained_kretprobe(_ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("drained_kretprobe") });
    drained()
}

#[inline(always)]
fn isolating() -> u32 {
    if let Some(mut slot) = collecting() {
        count_unpinnable(&mut slot);
    }
    0
}

#[inline(always)]
fn isolating_second() -> u32 {
    if let Some(mut slot) = collecting() {
        if !seen_unpinnable(&slot) {
            count_unpinnable(&mut slot);
        }
        slot.seen.unpinnable = slot.pin.unpinnable;
    }
    0
}

#[inline(always)]
fn isolated(kind: Isolate, returned: u64) -> u32 {
    let (failed, counted) = wanted(kind, returned);
    if (failed || counted)
        && let Some(mut slot) = collecting()
    {
        if counted {
            count_unpinnable(&mut slot);
        }
        if failed {
            count_failure(&mut slot, kind);
        }
    }
    0
}

#[inline(always)]
fn isolated_second(kind: Isolate, returned: u64) -> u32 {
    let (failed, counted) = wanted(kind, returned);
    if (failed || counted)
        && let Some(mut slot) = collecting()
    {
        if counted {
            if !seen_unpinnable(&slot) {
                count_unpinnable(&mut slot);
            }
            slot.seen.unpinnable = slot.pin.unpinnable;
        }
        if failed {
            let kind_at = kind as usize;
            if slot.pin.isolate_failures[kind_at] == slot.seen.isolate_failures[kind_at] {
                count_failure(&mut slot, kind);
            }
            slot.seen.isolate_failures[kind_at] = slot.pin.isolate_failures[kind_at];
        }
    }
    0
}

/// Whether this return is a failure that is wanted, and whether it counts an unpinnable page.
#[inline(always)]
fn wanted(kind: Isolate, returned: u64) -> (bool, bool) {
    let failed = kernel::counts_failures(kind) && kernel::isolation_failed(kind, returned);
    // The sweep isolates no others.
    let counted = kernel::counts_isolations() && !matches!(kind, Isolate::MovableOps);
    (failed, counted)
}

/// The slot of a thread that is inside a sweep.
#[inline(always)]
fn collecting() -> Option<Held> {
    slot::find(kernel::tid()).filter(|slot| slot.pin.phase == Phase::Collect as u8)
}

#[inline(always)]
fn count_unpinnable(slot: &mut Held) {
    slot.begin_events();
    slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(1);
}

#[inline(always)]
fn count_failure(slot: &mut Held, kind: Isolate) {
    slot.begin_events();
    let failures = &mut slot.pin.isolate_failures[kind as usize];
    *failures = failures.saturating_add(1);
}

/// Whether the first program has counted since the second looked last.
#[inline(always)]
pub fn seen_unpinnable(slot: &Flight) -> bool {
    slot.pin.unpinnable != slot.seen.unpinnable
}

#[inline(always)]
fn draining() -> u32 {
    if let Some(slot) = slot::find(kernel::tid()) {
        drain(slot);
    }
    0
}

#[inline(always)]
fn draining_second() -> u32 {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.pin.phase != Phase::Drain as u8
    {
        drain(slot);
    }
    0
}

#[inline(always)]
fn drain(mut slot: Held) {
    slot.pin.drained_in = slot.pin.phase;
    enter_phase(&mut slot, Phase::Drain);
    slot.pin.drains = slot.pin.drains.saturating_add(1);
}

/// Of two programs the second finds the phase left.
#[inline(always)]
fn drained() -> u32 {
    if let Some(mut slot) = slot::find(kernel::tid())
        && slot.pin.phase == Phase::Drain as u8
    {
        let in_sweep = slot.pin.drained_in == Phase::Collect as u8;
        enter_phase(
            &mut slot,
            if in_sweep { Phase::Collect } else { Phase::Gup },
        );
    }
    0
}
