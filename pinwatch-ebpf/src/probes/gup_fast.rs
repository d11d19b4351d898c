//! Entry and return of GUP-fast:
//!
//! ```c
//! int gup_fast_fallback(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
//!                       struct page **pages);         // internal_get_user_pages_fast to 6.9
//! long __gup_longterm_locked(...);      // the slow path; that of short-term calls from 6.2 on
//! long get_user_pages_unlocked(...);    // the slow path of short-term calls up to 6.1
//! ```
//!
//! A kretprobe cannot see the flags and looks for the thread's call instead.

use aya_ebpf::programs::{FEntryContext, FExitContext};
use pinwatch_common::record::Call;

use super::programs::programs;
use crate::arch;
use crate::gup_fast::{
    count_unmatched, enter, enter_second, exit, exit_second, is_measured, slow_path_taken,
};
use crate::kernel;

programs! {
    fentry fast_enter_fentry(ctx) { entered::<false>(ctx) }
    fentry fast_enter_fentry_first(ctx) { entered::<true>(ctx) }
    fentry fast_enter_fentry_second(ctx) {
        let gup_flags = ctx.arg(2);
        if is_measured(gup_flags) {
            let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
            enter_second(Call { frame, start }, gup_flags);
        }
    }
    kprobe fast_enter_kprobe(ctx) {
        if let Some(gup_flags) = ctx.arg(2)
            && is_measured(gup_flags)
        {
            enter::<false>(Call::at(arch::entry_frame(&ctx)), gup_flags);
        }
    }
    fexit fast_exit_fexit(ctx) { exited::<false>(ctx) }
    fexit fast_exit_fexit_first(ctx) { exited::<true>(ctx) }
    fexit fast_exit_fexit_second(ctx) {
        if is_measured(ctx.arg(2)) {
            let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
            if !exit_second(Call { frame, start }, ctx.arg(4)) {
                count_unmatched::<false>(frame);
            }
        }
    }
    kretprobe fast_exit_kretprobe(ctx) {
        let frame = arch::return_frame(&ctx);
        exit::<false>(Call::at(frame), ctx.ret());
    }
    /// The slow path, which has other callers too.
    fentry fast_slow_fentry(_ctx) { slow_path_taken(kernel::tid()) }
    fentry fast_slow_fentry_second(_ctx) { slow_path_taken(kernel::tid()) }
    kprobe fast_slow_kprobe(_ctx) { slow_path_taken(kernel::tid()) }
    fentry fast_slow_short_fentry(_ctx) { slow_path_taken(kernel::tid()) }
    fentry fast_slow_short_fentry_second(_ctx) { slow_path_taken(kernel::tid()) }
    kprobe fast_slow_short_kprobe(_ctx) { slow_path_taken(kernel::tid()) }
}

#[inline(always)]
fn entered<const HAS_TWIN: bool>(ctx: FEntryContext) {
    let gup_flags = ctx.arg(2);
    if is_measured(gup_flags) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        enter::<HAS_TWIN>(Call { frame, start }, gup_flags);
    }
}

#[inline(always)]
fn exited<const HAS_TWIN: bool>(ctx: FExitContext) {
    if is_measured(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        if !exit::<HAS_TWIN>(Call { frame, start }, ctx.arg(4)) {
            count_unmatched::<HAS_TWIN>(frame);
        }
    }
}
