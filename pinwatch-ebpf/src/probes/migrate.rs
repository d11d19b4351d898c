//! Migration inside a pin:
//!
//! ```c
//! TRACE_EVENT(mm_migrate_pages_start, (enum migrate_mode mode, int reason))    // 5.13-
//! TRACE_EVENT(mm_migrate_pages, (unsigned long succeeded, unsigned long failed, [...],
//!                                enum migrate_mode mode, int reason))
//! int migrate_pages(from, get_new_page, put_new_page, private, mode, int reason, ...);
//! ```
//!
//! A pinning thread may also compact memory, so the reason is looked at.

use aya_ebpf::macros::{fexit, kprobe, kretprobe, raw_tracepoint};
use aya_ebpf::programs::{FExitContext, ProbeContext, RawTracePointContext, RetProbeContext};
use pinwatch_common::counter::probe_number;
use pinwatch_common::fold::fold_migrate;
use pinwatch_common::record::Phase;

use super::pass::enter_phase;
use crate::kernel;
use crate::maps::{Shared, cells, ran};
use crate::slot::{self, Held};

#[raw_tracepoint(tracepoint = "mm_migrate_pages_start")]
fn migrate_start_tp(ctx: RawTracePointContext) -> i32 {
    start(ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages_start")]
fn migrate_start_tp_second(ctx: RawTracePointContext) -> i32 {
    start_second(ctx.arg(1));
    0
}

#[kprobe]
fn migrate_start_kprobe(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("migrate_start_kprobe") });
    if let Some(reason) = ctx.arg(5) {
        start(reason);
    }
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
fn migrate_end_tp4(ctx: RawTracePointContext) -> i32 {
    end(ctx.arg(3), ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
fn migrate_end_tp4_second(ctx: RawTracePointContext) -> i32 {
    end_second(ctx.arg(3), ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
fn migrate_end_tp7(ctx: RawTracePointContext) -> i32 {
    end(ctx.arg(6), ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
fn migrate_end_tp7_second(ctx: RawTracePointContext) -> i32 {
    end_second(ctx.arg(6), ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
fn migrate_end_tp8(ctx: RawTracePointContext) -> i32 {
    end(ctx.arg(7), ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "mm_migrate_pages")]
fn migrate_end_tp8_second(ctx: RawTracePointContext) -> i32 {
    end_second(ctx.arg(7), ctx.arg(0), ctx.arg(1));
    0
}

/// Six arguments: up to 5.14.
#[fexit]
fn migrate_ret_fexit6(ctx: FExitContext) -> u32 {
    result(ctx.arg(6));
    0
}

#[fexit]
fn migrate_ret_fexit6_second(ctx: FExitContext) -> u32 {
    result(ctx.arg(6));
    0
}

/// Seven arguments: from 5.15 on.
#[fexit]
fn migrate_ret_fexit7(ctx: FExitContext) -> u32 {
    result(ctx.arg(7));
    0
}

#[fexit]
fn migrate_ret_fexit7_second(ctx: FExitContext) -> u32 {
    result(ctx.arg(7));
    0
}

#[kretprobe]
fn migrate_ret_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("migrate_ret_kretprobe") });
    result(ctx.ret());
    0
}

#[inline(always)]
fn start(reason: u32) {
    if let Some(mut slot) = pinning(reason) {
        enter_phase(&mut slot, Phase::Migrate);
    }
}

#[inline(always)]
fn start_second(reason: u32) {
    if let Some(mut slot) = pinning(reason)
        && slot.pin.phase != Phase::Migrate as u8
    {
        enter_phase(&mut slot, Phase::Migrate);
    }
}

#[inline(always)]
fn end(reason: u32, moved: u64, failed: u64) {
    if let Some(slot) = pinning(reason) {
        ended(slot, moved, failed);
    }
}

#[inline(always)]
fn end_second(reason: u32, moved: u64, failed: u64) {
    if let Some(mut slot) = pinning(reason) {
        if slot.pin.migrate_calls == slot.seen.migrate_calls {
            ended(slot, moved, failed);
        }
        slot.seen.migrate_calls = slot.pin.migrate_calls;
    }
}

/// The slot of a thread whose pin migrates.
#[inline(always)]
fn pinning(reason: u32) -> Option<Held> {
    if kernel::is_longterm_migration(reason) {
        slot::find(kernel::tid())
    } else {
        None
    }
}

#[inline(always)]
fn ended(mut slot: Held, moved: u64, failed: u64) {
    slot.begin_events();
    let pin = &mut slot.pin;
    pin.migrate_calls = pin.migrate_calls.saturating_add(1);
    pin.moved = pin.moved.wrapping_add(moved);
    pin.failed = pin.failed.wrapping_add(failed);
    pin.migrated = 1;
    pin.awaits_result = 1;
    pin.migrate_ret = 0;
    if pin.phase == Phase::Migrate as u8 {
        let start_ns = slot.mark_ns;
        enter_phase(&mut slot, Phase::Gup);
        if let Some(cells) = cells() {
            fold_migrate::<Shared>(&mut cells.migrate, slot.mark_ns.wrapping_sub(start_ns));
        }
    }
}

/// The event precedes the return, so the first return after it is the right one,
/// and one of a compaction nested in the migration is not. Of two programs the second finds the
/// result taken.
#[inline(always)]
fn result(ret: i32) {
    if let Some(mut slot) = slot::find(kernel::tid())
        && slot.pin.awaits_result != 0
    {
        slot.pin.awaits_result = 0;
        slot.pin.migrate_ret = ret;
    }
}
