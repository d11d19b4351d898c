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
use aya_log_ebpf::debug;
use pinwatch_common::counter::Loss;

use crate::kernel;
use crate::maps::lose;
use crate::pin::{enter, exit};

#[fentry]
fn pin_enter_fentry(ctx: FEntryContext) -> u32 {
    // The return tells where the array is.
    entered(&ctx, ctx.arg(5), ctx.arg(2), None)
}

#[kprobe]
fn pin_enter_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(flags), Some(nr_pages), Some(pages)) = (ctx.arg(5), ctx.arg(2), ctx.arg(3)) {
        entered(&ctx, flags, nr_pages, Some(pages));
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
    if let (Ok(flags), Some(nr_pages), Some(pages)) = (flags, ctx.arg(2), ctx.arg(3)) {
        entered(&ctx, flags, nr_pages, Some(pages));
    }
    0
}

#[inline(always)]
fn entered(ctx: &impl EbpfContext, gup_flags: u32, requested: u64, pages: Option<u64>) -> u32 {
    if kernel::is_longterm(gup_flags) {
        match pages {
            None => enter_longterm(ctx, gup_flags, requested),
            Some(pages) => enter_longterm_keeping(ctx, gup_flags, requested, pages),
        }
    }
    0
}

/// A function of its own, so that a short-term pin saves no registers for it.
#[inline(never)]
fn enter_longterm(ctx: &impl EbpfContext, gup_flags: u32, requested: u64) {
    enter(ctx, gup_flags, requested, |_| ());
}

/// The same, for a return that cannot tell where the array is.
#[inline(never)]
fn enter_longterm_keeping(ctx: &impl EbpfContext, gup_flags: u32, requested: u64, pages: u64) {
    enter(ctx, gup_flags, requested, |slot| slot.pages = pages);
}

#[fexit]
fn pin_exit_fexit(ctx: FExitContext) -> u32 {
    // With six arguments the return value is the seventh word.
    if kernel::is_longterm(ctx.arg(5)) {
        exit_longterm(&ctx, ctx.arg(6));
    }
    0
}

/// A function of its own for the same reason.
#[inline(never)]
fn exit_longterm(ctx: &FExitContext, returned: i64) {
    if !exit(returned, |_| returned, |_| kernel::raw_arg(ctx, 3)) {
        lose(Loss::ExitUnmatched);
        debug!(ctx, "a pin returned that was not seen to enter");
    }
}

#[kretprobe]
fn pin_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    // A return without a slot is nearly always a short-term pin: nothing to count.
    let ret = ctx.ret();
    exit(ret, |_| ret, |slot| slot.pages);
    0
}
