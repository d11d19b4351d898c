//! The pin itself: entry and return of
//!
//! ```c
//! long __gup_longterm_locked(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                            struct page **pages, [struct vm_area_struct **vmas | int *locked,]
//!                            unsigned int gup_flags);            // 5.9-6.1, 6.5-
//! long __gup_longterm_locked(mm, start, nr_pages, pages, vmas, locked, gup_flags);  // 6.2-6.4
//! ```
//!
//! which short-term pins also go through: they pay for the flag test only. A kretprobe sees no
//! flags, so by kprobe they pay for a look-up at entry and return.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::counter::probe_number;
use pinwatch_common::record::Flight;

use crate::kernel;
use crate::maps::ran;
use crate::pin::{
    enter, enter_second, exit, exit_by_kretprobe, exit_last, forget_returned, unmatched,
};
use crate::slot;

#[fentry]
fn pin_enter_fentry(ctx: FEntryContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        enter_longterm::<false>(ctx);
    }
    0
}

#[fentry]
fn pin_enter_fentry_first(ctx: FEntryContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        enter_longterm::<true>(ctx);
    }
    0
}

#[fentry]
fn pin_enter_fentry_second(ctx: FEntryContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        enter_longterm_second(ctx);
    }
    0
}

/// A function of its own, as those below, so that a short-term pin saves no registers for it.
#[inline(never)]
fn enter_longterm<const HAS_TWIN: bool>(ctx: FEntryContext) {
    let frame = kernel::frame(&ctx);
    enter::<HAS_TWIN>(&ctx, frame, |slot| fill::<HAS_TWIN>(&ctx, slot));
}

#[inline(never)]
fn enter_longterm_second(ctx: FEntryContext) {
    enter_second(&ctx, kernel::frame(&ctx), |slot| fill::<true>(&ctx, slot));
}

/// Does not store the address of the page array: fexit sees that argument at the return.
#[inline(always)]
fn fill<const HAS_TWIN: bool>(ctx: &FEntryContext, slot: &mut Flight) {
    slot::identify::<HAS_TWIN>(slot, kernel::frame(ctx), || ctx.arg(1));
    slot::begin(slot, ctx.arg(5), ctx.arg(2));
}

#[kprobe]
fn pin_enter_kprobe(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("pin_enter_kprobe") });
    if let Some(gup_flags) = ctx.arg(5) {
        enter_by_kprobe(&ctx, gup_flags);
    }
    0
}

/// For 6.2 to 6.4, where x86 passes `gup_flags` on the stack.
#[kprobe]
fn pin_enter_kprobe_stack(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("pin_enter_kprobe_stack") });
    // At entry the stack pointer leads to the return address, with the seventh argument above it.
    let at = kernel::entry_frame(&ctx).wrapping_add(8);
    // SAFETY: the helper checks the address.
    if let Ok(gup_flags) = unsafe { bpf_probe_read_kernel(at as *const u32) } {
        enter_by_kprobe(&ctx, gup_flags);
    }
    0
}

#[inline(always)]
fn enter_by_kprobe(ctx: &ProbeContext, gup_flags: u32) {
    let frame = kernel::entry_frame(ctx);
    if !kernel::is_longterm(gup_flags) {
        return forget_returned(frame);
    }
    enter::<false>(ctx, frame, |slot| {
        let requested = ctx.arg(2);
        slot::identify::<false>(slot, frame, || 0);
        slot::begin(slot, gup_flags, requested.unwrap_or_default());
        slot.pages = ctx.arg(3).unwrap_or_default();
    });
}

#[fexit]
fn pin_exit_fexit(ctx: FExitContext) -> u32 {
    // With six arguments the return value is the seventh word.
    if kernel::is_longterm(ctx.arg(5)) {
        exit_longterm::<false>(ctx);
    }
    0
}

#[fexit]
fn pin_exit_fexit_first(ctx: FExitContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        exit_longterm::<true>(ctx);
    }
    0
}

#[fexit]
fn pin_exit_fexit_second(ctx: FExitContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        exit_longterm_second(ctx);
    }
    0
}

#[fexit]
fn pin_exit_fexit_third(ctx: FExitContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        exit_longterm_third(ctx);
    }
    0
}

#[inline(never)]
fn exit_longterm<const HAS_TWIN: bool>(ctx: FExitContext) {
    let pages = |_: &Flight| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    let frame = kernel::frame(&ctx);
    if !exit::<HAS_TWIN>(frame, || ctx.arg(1), |_| ctx.arg(6), pages) {
        unmatched(&ctx, frame);
    }
}

/// The first has counted a return without a pin.
#[inline(never)]
fn exit_longterm_second(ctx: FExitContext) {
    let pages = |_: &Flight| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    let frame = kernel::frame(&ctx);
    exit::<true>(frame, || ctx.arg(1), |_| ctx.arg(6), pages);
}

#[inline(never)]
fn exit_longterm_third(ctx: FExitContext) {
    let pages = |_: &Flight| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    exit_last(kernel::frame(&ctx), ctx.arg(1), |_| ctx.arg(6), pages);
}

#[kretprobe]
fn pin_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("pin_exit_kretprobe") });
    let returned = ctx.ret();
    let frame = kernel::return_frame(&ctx);
    let pages = move |slot: &Flight| (slot.pages, returned as u64);
    // A return without a slot is nearly always a short-term pin: nothing to count.
    exit_by_kretprobe(frame, move |_| returned, pages);
    0
}
