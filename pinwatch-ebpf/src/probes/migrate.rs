//! Migration inside a pin:
//!
//! ```c
//! TRACE_EVENT(mm_migrate_pages_start, (enum migrate_mode mode, int reason))    // 5.13-
//! TRACE_EVENT(mm_migrate_pages, (unsigned long succeeded, unsigned long failed, [...],
//!                                enum migrate_mode mode, int reason))
//! int migrate_pages(from, get_new_page, put_new_page, private, mode, int reason, ...);
//! ```
//!
//! A pinning thread may also compact memory, so only migrations with this path's reason count.

use aya_ebpf::programs::FExitContext;
use pinwatch_common::fold::fold_migrate;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::Phase;

use super::programs::programs;
use crate::arch;
use crate::blockers::left_behind;
use crate::kernel::{self, folio_list};
use crate::maps::{Shared, cells, lose};
use crate::preemption;
use crate::slot::{self, Held, enter_phase};
use crate::unpinnable;

programs! {
    raw_tracepoint("mm_migrate_pages_start") migrate_start_tp(ctx) {
        start(ctx.arg(1), || folio_list::find(folio_list::stack_at(&ctx)));
    }
    raw_tracepoint("mm_migrate_pages_start") migrate_start_tp_second(ctx) {
        start_second(ctx.arg(1));
    }
    kprobe migrate_start_kprobe(ctx) {
        if let Some(reason) = ctx.arg(5) {
            start_with_list(reason, || ctx.arg(0).unwrap_or_default());
        }
    }
    /// Where no other hook shows the list, and it cannot be found on the stack.
    kprobe migrate_list_kprobe(ctx) {
        if ctx.arg(5).is_some_and(|reason| migrating(reason).is_some()) {
            unpinnable::received(kernel::now(), || ctx.arg(0).unwrap_or_default());
        }
    }
    raw_tracepoint("mm_migrate_pages") migrate_end_tp4(ctx) {
        end(ctx.arg(3), ctx.arg(0), ctx.arg(1));
    }
    raw_tracepoint("mm_migrate_pages") migrate_end_tp4_second(ctx) {
        end_second(ctx.arg(3), ctx.arg(0), ctx.arg(1));
    }
    raw_tracepoint("mm_migrate_pages") migrate_end_tp7(ctx) {
        end(ctx.arg(6), ctx.arg(0), ctx.arg(1));
    }
    raw_tracepoint("mm_migrate_pages") migrate_end_tp7_second(ctx) {
        end_second(ctx.arg(6), ctx.arg(0), ctx.arg(1));
    }
    raw_tracepoint("mm_migrate_pages") migrate_end_tp8(ctx) {
        end(ctx.arg(7), ctx.arg(0), ctx.arg(1));
    }
    raw_tracepoint("mm_migrate_pages") migrate_end_tp8_second(ctx) {
        end_second(ctx.arg(7), ctx.arg(0), ctx.arg(1));
    }
    /// Six arguments: up to 5.14.
    fexit migrate_ret_fexit6(ctx) { returned(&ctx, ctx.arg(6)) }
    fexit migrate_ret_fexit6_second(ctx) { returned(&ctx, ctx.arg(6)) }
    /// Seven arguments: from 5.15 on.
    fexit migrate_ret_fexit7(ctx) { returned(&ctx, ctx.arg(7)) }
    fexit migrate_ret_fexit7_second(ctx) { returned(&ctx, ctx.arg(7)) }
    kretprobe migrate_ret_kretprobe(ctx) {
        if let Some(slot) = slot::find(kernel::tid()) {
            result::<false>(slot, ctx.ret(), || folio_list::find(arch::return_frame(&ctx)));
        }
    }
}

/// `list` finds the list of folios.
#[inline(always)]
fn start(reason: u32, list: impl FnOnce() -> u64) {
    if let Some(mut slot) = migrating(reason) {
        enter_phase(&mut slot, Phase::Migrate);
        if kernel::samples_unpinnable_at_start() {
            unpinnable::received(slot.mark_ns, list);
        }
    }
}

/// As [`start`], where the hook shows the list of folios.
#[inline(always)]
fn start_with_list(reason: u32, list: impl FnOnce() -> u64) {
    if let Some(mut slot) = migrating(reason) {
        enter_phase(&mut slot, Phase::Migrate);
        unpinnable::received(slot.mark_ns, list);
    }
}

#[inline(always)]
fn start_second(reason: u32) {
    if let Some(mut slot) = migrating(reason)
        && slot.pin.phase != Phase::Migrate as u8
    {
        enter_phase(&mut slot, Phase::Migrate);
    }
}

/// With preemption disabled: nothing else shows how many pages a migration moved, so a program that both twins miss is a loss.
#[inline(always)]
fn end(reason: u32, migrated: u64, migrate_failed: u64) {
    preemption::disabled::<true, _>(|| {
        if let Some(slot) = migrating(reason) {
            end_in(slot, migrated, migrate_failed);
        }
    });
}

#[inline(always)]
fn end_second(reason: u32, migrated: u64, migrate_failed: u64) {
    preemption::disabled::<true, _>(|| {
        if let Some(mut slot) = migrating(reason) {
            if slot.pin.migrate_calls == slot.seen.migrate_calls {
                end_in(slot, migrated, migrate_failed);
            }
            slot.seen.migrate_calls = slot.pin.migrate_calls;
        }
    });
}

/// Slot of the running thread, if the migration with this reason belongs to its pin.
#[inline(always)]
fn migrating(reason: u32) -> Option<Held> {
    if kernel::is_longterm_migration(reason) {
        slot::find(kernel::tid())
    } else {
        None
    }
}

#[inline(always)]
fn end_in(mut slot: Held, migrated: u64, migrate_failed: u64) {
    slot.begin_events();
    let pin = &mut slot.pin;
    pin.migrate_calls = pin.migrate_calls.saturating_add(1);
    pin.moved = pin.moved.wrapping_add(migrated);
    pin.failed = pin.failed.wrapping_add(migrate_failed);
    if kernel::counts_unpinnable() {
        let received = migrated.wrapping_add(migrate_failed);
        pin.unpinnable = pin.unpinnable.wrapping_add(received);
    }
    pin.migrate_ret = 0;
    pin.migration_ended(migrate_failed);
    if pin.phase == Phase::Migrate as u8 {
        let start_ns = slot.mark_ns;
        enter_phase(&mut slot, Phase::Gup);
        if let Some(cells) = cells() {
            fold_migrate::<Shared>(&mut cells.migrate, slot.mark_ns.wrapping_sub(start_ns));
        }
    }
}

/// Stores the return value of `migrate_pages`, and inspects the folios that it left in its list.
///
/// The tracepoint precedes the return, so the first return after it belongs to the same call. A
/// compaction nested in the migration returns before the tracepoint. After the first of two programs
/// nothing is left to do for the second.
///
/// An inspection takes long and wakes user space up, which would preempt it. Two such tasks on one CPU would be inside both programs.
#[inline(always)]
fn result<const HAS_TWIN: bool>(mut slot: Held, ret: i32, list: impl FnOnce() -> u64) {
    if slot.pin.awaits_result != 0 {
        slot.pin.migration_returned(ret);
        if kernel::shows_blockers_at_return() {
            preemption::disabled::<HAS_TWIN, _>(|| left_behind(slot, list));
        }
    }
}

/// Return of `migrate_pages`, by fexit.
#[inline(always)]
fn returned(ctx: &FExitContext, ret: i32) {
    if let Some(slot) = slot::find(kernel::tid()) {
        if kernel::preempts() {
            end_unseen(slot, ctx.arg(5), ret);
        }
        result::<true>(slot, ret, || kernel::raw_arg(ctx, 0));
    }
}

/// Counts a migration as lost if the kernel skipped both programs at its end. How many pages it left is not known.
#[inline(always)]
fn end_unseen(mut slot: Held, reason: u32, ret: i32) {
    if slot.pin.phase == Phase::Migrate as u8 && kernel::is_longterm_migration(reason) {
        lose(Loss::MigrationUnseen);
        enter_phase(&mut slot, Phase::Gup);
        slot.pin.migration_ended(u64::from(ret != 0));
    }
}
