//! The pin itself: entry and return of
//!
//! ```c
//! long __gup_longterm_locked(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                            struct page **pages, [struct vm_area_struct **vmas | int *locked,]
//!                            unsigned int gup_flags);            // 5.9-6.1, 6.5-
//! long __gup_longterm_locked(mm, start, nr_pages, pages, vmas, locked, gup_flags);  // 6.2-6.4
//! ```
//!
//! which short-term pins also go through: they pay for the flag test only.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use aya_log_ebpf::{debug, warn};
use pinwatch_common::counter::Loss;
use pinwatch_common::fold::fold_pin;
use pinwatch_common::record::Pin;

use crate::emit::emit;
use crate::kernel;
use crate::maps::{cells, lose};
use crate::slot::{self, Claim};

#[fentry]
fn pin_enter_fentry(ctx: FEntryContext) -> u32 {
    enter(&ctx, ctx.arg(5), ctx.arg(2));
    0
}

#[kprobe]
fn pin_enter_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(flags), Some(nr_pages)) = (ctx.arg(5), ctx.arg(2)) {
        enter(&ctx, flags, nr_pages);
    }
    0
}

/// For 6.2 to 6.4, where x86 passes `gup_flags` on the stack.
#[kprobe]
fn pin_enter_kprobe_stack(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a kprobe is the probed function's registers.
    let sp = unsafe { (*ctx.regs).rsp };
    // SAFETY: the helper checks the address. At entry rsp points to the return
    // address, with the seventh argument above it.
    let flags = unsafe { bpf_probe_read_kernel((sp + 8) as *const u32) };
    if let (Ok(flags), Some(nr_pages)) = (flags, ctx.arg(2)) {
        enter(&ctx, flags, nr_pages);
    }
    0
}

#[fexit]
fn pin_exit_fexit(ctx: FExitContext) -> u32 {
    // With six arguments the return value is the seventh word.
    if kernel::is_longterm(ctx.arg(5)) && !exit(ctx.arg(6)) {
        lose(Loss::ExitUnmatched);
        debug!(&ctx, "a pin returned that was not seen to enter");
    }
    0
}

#[kretprobe]
fn pin_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    // A return without a slot is nearly always a short-term pin: nothing to count.
    exit(ctx.ret());
    0
}

#[inline(always)]
fn enter(ctx: &impl EbpfContext, gup_flags: u32, nr_pages: u64) {
    if !kernel::is_longterm(gup_flags) {
        return;
    }
    let (tgid, tid) = kernel::tgid_tid();
    let slot = match slot::claim(tid) {
        Claim::New(slot) => slot,
        Claim::Stale(slot) => {
            lose(Loss::EntryStale);
            debug!(
                ctx,
                "thread {}: its previous pin was not seen to return", tid
            );
            slot
        }
        Claim::Full => {
            lose(Loss::SlotsFull);
            warn!(ctx, "thread {}: no slot for a pin in flight", tid);
            return;
        }
    };
    slot::start(
        slot,
        Pin {
            start_ns: kernel::now(),
            duration_ns: 0,
            tgid,
            tid,
            requested: nr_pages,
            returned: 0,
            unpinnable: 0,
            moved: 0,
            failed: 0,
            migrate_ns: 0,
            migrate_calls: 0,
            passes: 0,
            gup_flags,
            origin: 0,
            migrated_last: 0,
            reserved: [0; 2],
            migrate_ret: 0,
            reserved2: 0,
        },
    );
}

/// Ends this thread's pin; false if it has none.
#[inline(always)]
fn exit(returned: i64) -> bool {
    let Some(slot) = slot::find(kernel::tid()) else {
        return false;
    };
    let pin = &mut slot.pin;
    pin.duration_ns = kernel::now().wrapping_sub(pin.start_ns);
    pin.returned = returned;
    // Where a pass is counted as the range is pinned, a pin that failed before
    // it could sweep (a fault, a DAX mapping) has counted one sweep too many;
    // one that failed in migration has not.
    if kernel::passes_are_counted_by_gup() && returned < 0 && pin.migrated_last == 0 {
        pin.passes = pin.passes.saturating_sub(1);
    }
    if let Some(cells) = cells() {
        fold_pin(&mut cells.pins, pin);
    }
    emit(pin);
    slot::release(slot);
    true
}
