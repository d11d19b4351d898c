//! GUP-fast:
//!
//! ```c
//! int gup_fast_fallback(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
//!                       struct page **pages);         // internal_get_user_pages_fast to 6.9
//! ```
//!
//! Short-term calls, by far the most, pay for the flag test only. A kretprobe cannot see the flags
//! and looks for the thread's entry, and so does the kprobe.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::counter::{Loss, probe_number};
use pinwatch_common::record::Call;

use crate::fast::{enter, enter_second, exit, exit_second, forget_returned};
use crate::kernel;
use crate::maps::{lose, ran};

#[fentry]
fn fast_enter_fentry(ctx: FEntryContext) -> u32 {
    entered::<false>(ctx)
}

#[fentry]
fn fast_enter_fentry_first(ctx: FEntryContext) -> u32 {
    entered::<true>(ctx)
}

#[inline(always)]
fn entered<const HAS_TWIN: bool>(ctx: FEntryContext) -> u32 {
    if kernel::is_longterm(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        enter::<HAS_TWIN>(Call { frame, start });
    }
    0
}

#[fentry]
fn fast_enter_fentry_second(ctx: FEntryContext) -> u32 {
    if kernel::is_longterm(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        enter_second(Call { frame, start });
    }
    0
}

#[kprobe]
fn fast_enter_kprobe(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("fast_enter_kprobe") });
    let frame = kernel::entry_frame(&ctx);
    if ctx.arg(2).is_some_and(kernel::is_longterm) {
        enter::<false>(Call::at(frame));
    } else {
        forget_returned(frame);
    }
    0
}

#[fexit]
fn fast_exit_fexit(ctx: FExitContext) -> u32 {
    exited::<false>(ctx)
}

#[fexit]
fn fast_exit_fexit_first(ctx: FExitContext) -> u32 {
    exited::<true>(ctx)
}

#[inline(always)]
fn exited<const HAS_TWIN: bool>(ctx: FExitContext) -> u32 {
    if kernel::is_longterm(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        if !exit::<HAS_TWIN>(Call { frame, start }, ctx.arg(4)) {
            lose(Loss::FastUnmatched);
        }
    }
    0
}

#[fexit]
fn fast_exit_fexit_second(ctx: FExitContext) -> u32 {
    if kernel::is_longterm(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        exit_second(Call { frame, start }, ctx.arg(4));
    }
    0
}

#[kretprobe]
fn fast_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("fast_exit_kretprobe") });
    let frame = kernel::return_frame(&ctx);
    exit::<false>(Call::at(frame), ctx.ret());
    0
}
