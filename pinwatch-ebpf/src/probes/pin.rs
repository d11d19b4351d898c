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

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use aya_log_ebpf::debug;
use pinwatch_common::counter::Loss;
use pinwatch_common::record::Slot;

use crate::kernel;
use crate::maps::lose;
use crate::pin::{enter, exit};
use crate::slot;

#[fentry]
fn pin_enter_fentry(ctx: FEntryContext) -> u32 {
    if kernel::is_longterm(ctx.arg(5)) {
        enter_longterm(ctx);
    }
    0
}

#[kprobe]
fn pin_enter_kprobe(ctx: ProbeContext) -> u32 {
    if ctx.arg(5).is_some_and(kernel::is_longterm) {
        enter_longterm_keeping(ctx);
    }
    0
}

/// A function of its own, so that a short-term pin saves no registers for it.
#[inline(never)]
fn enter_longterm(ctx: FEntryContext) {
    // The return tells where the array is.
    enter(&ctx, |slot| slot::begin(slot, ctx.arg(5), ctx.arg(2)));
}

/// The same, for a return that cannot tell where the array is.
#[inline(never)]
fn enter_longterm_keeping(ctx: ProbeContext) {
    enter(&ctx, |slot| {
        let (gup_flags, requested) = (ctx.arg(5), ctx.arg(2));
        slot::begin(
            slot,
            gup_flags.unwrap_or_default(),
            requested.unwrap_or_default(),
        );
        slot.pages = ctx.arg(3).unwrap_or_default();
    });
}

/// For 6.2 to 6.4, where x86 passes `gup_flags` on the stack.
#[kprobe]
fn pin_enter_kprobe_stack(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a kprobe is the probed function's registers.
    let sp = unsafe { (*ctx.regs).rsp };
    // SAFETY: the helper checks the address. At entry rsp points to the return
    // address, with the seventh argument above it.
    let flags = unsafe { bpf_probe_read_kernel((sp + 8) as *const u32) };
    if let (Ok(flags), Some(nr_pages), Some(pages)) = (flags, ctx.arg(2), ctx.arg(3))
        && kernel::is_longterm(flags)
    {
        enter(&ctx, |slot| {
            slot::begin(slot, flags, nr_pages);
            slot.pages = pages;
        });
    }
    0
}

#[fexit]
fn pin_exit_fexit(ctx: FExitContext) -> u32 {
    // With six arguments the return value is the seventh word.
    if kernel::is_longterm(ctx.arg(5)) {
        exit_longterm(ctx);
    }
    0
}

/// A function of its own for the same reason.
#[inline(never)]
fn exit_longterm(ctx: FExitContext) {
    let pages = |_: &Slot| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    if !exit(|_| ctx.arg(6), pages) {
        lose(Loss::ExitUnmatched);
        debug!(&ctx, "a pin returned that was not seen to enter");
    }
}

#[kretprobe]
fn pin_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    // A return without a slot is nearly always a short-term pin: nothing to count.
    let returned = ctx.ret();
    exit(move |_| returned, move |slot| (slot.pages, returned as u64));
    0
}
