//! Entry and return of a pin:
//!
//! ```c
//! long __gup_longterm_locked(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                            struct page **pages, [struct vm_area_struct **vmas | int *locked,]
//!                            unsigned int gup_flags);            // 5.9-6.1, 6.5-
//! long __gup_longterm_locked(mm, start, nr_pages, pages, vmas, locked, gup_flags);  // 6.2-6.4
//! ```
//!
//! Short-term pins go through it too and pay only for the flag test. A kretprobe cannot see the flags,
//! so by kprobe they pay for a slot look-up at entry and return.

use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext};
use pinwatch_common::record::Flight;

use super::programs::programs;
use crate::arch;
use crate::kernel;
use crate::lifecycle::{
    count_unmatched, enter, enter_second, exit, exit_by_kretprobe, exit_last, forget_returned,
    returned_pages,
};
use crate::slot;

programs! {
    fentry pin_enter_fentry(ctx) {
        if kernel::is_longterm(ctx.arg(5)) {
            enter_longterm::<false>(ctx);
        }
    }
    fentry pin_enter_fentry_first(ctx) {
        if kernel::is_longterm(ctx.arg(5)) {
            enter_longterm::<true>(ctx);
        }
    }
    fentry pin_enter_fentry_second(ctx) {
        if kernel::is_longterm(ctx.arg(5)) {
            enter_longterm_second(ctx);
        }
    }
}

/// A separate function, as the similar ones below: a short-term pin then saves no registers.
#[inline(never)]
fn enter_longterm<const HAS_TWIN: bool>(ctx: FEntryContext) {
    let frame = kernel::frame(&ctx);
    enter::<HAS_TWIN>(&ctx, frame, |slot| fill::<HAS_TWIN>(&ctx, slot));
}

#[inline(never)]
fn enter_longterm_second(ctx: FEntryContext) {
    enter_second(&ctx, kernel::frame(&ctx), |slot| fill::<true>(&ctx, slot));
}

/// Begins the pin without the address of its page array: fexit sees that argument at the return.
#[inline(always)]
fn fill<const HAS_TWIN: bool>(ctx: &FEntryContext, slot: &mut Flight) {
    slot::identify::<HAS_TWIN>(slot, kernel::frame(ctx), || ctx.arg(1));
    slot::begin(slot, ctx.arg(5), ctx.arg(2));
}

programs! {
    kprobe pin_enter_kprobe(ctx) {
        if let Some(gup_flags) = ctx.arg(5) {
            enter_by_kprobe(&ctx, gup_flags);
        }
    }
    /// For 6.2 to 6.4, where `gup_flags` is the seventh argument.
    kprobe pin_enter_kprobe_stack(ctx) {
        if let Some(gup_flags) = arch::seventh_arg(&ctx) {
            enter_by_kprobe(&ctx, gup_flags);
        }
    }
}

#[inline(always)]
fn enter_by_kprobe(ctx: &ProbeContext, gup_flags: u32) {
    let frame = arch::entry_frame(ctx);
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

programs! {
    fexit pin_exit_fexit(ctx) {
        // Six arguments: the seventh word of the context is the return value.
        if kernel::is_longterm(ctx.arg(5)) {
            exit_longterm::<false>(ctx);
        }
    }
    fexit pin_exit_fexit_first(ctx) {
        if kernel::is_longterm(ctx.arg(5)) {
            exit_longterm::<true>(ctx);
        }
    }
    fexit pin_exit_fexit_second(ctx) {
        if kernel::is_longterm(ctx.arg(5)) {
            exit_longterm_second(ctx);
        }
    }
    fexit pin_exit_fexit_third(ctx) {
        if kernel::is_longterm(ctx.arg(5)) {
            exit_longterm_third(ctx);
        }
    }
}

#[inline(never)]
fn exit_longterm<const HAS_TWIN: bool>(ctx: FExitContext) {
    let pages = returned_pages(&ctx);
    let frame = kernel::frame(&ctx);
    if !exit::<HAS_TWIN>(frame, || ctx.arg(1), |_| ctx.arg(6), pages) {
        count_unmatched::<HAS_TWIN>(&ctx, frame);
    }
}

/// Does not count a return without a pin: the first program has, or the third will.
#[inline(never)]
fn exit_longterm_second(ctx: FExitContext) {
    let pages = returned_pages(&ctx);
    let frame = kernel::frame(&ctx);
    exit::<true>(frame, || ctx.arg(1), |_| ctx.arg(6), pages);
}

#[inline(never)]
fn exit_longterm_third(ctx: FExitContext) {
    let pages = returned_pages(&ctx);
    let frame = kernel::frame(&ctx);
    if !exit_last(frame, ctx.arg(1), |_| ctx.arg(6), pages) {
        count_unmatched::<false>(&ctx, frame);
    }
}

programs! {
    kretprobe pin_exit_kretprobe(ctx) {
        let returned = ctx.ret();
        let frame = arch::return_frame(&ctx);
        let pages = move |slot: &Flight| (slot.pages, returned as u64);
        // A return without a slot is nearly always that of a short-term pin, so none is counted as lost.
        exit_by_kretprobe(frame, move |_| returned, pages);
    }
}
