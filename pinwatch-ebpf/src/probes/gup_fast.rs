//! Entry and return of GUP-fast:
//!
//! ```c
//! int gup_fast_fallback(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
//!                       struct page **pages);         // internal_get_user_pages_fast to 6.9
//! ```
//!
//! Most calls are short-term and pay only for the flag test. A kretprobe cannot see the flags and looks
//! for the thread's call instead. So does the kprobe at a short-term entry.

use aya_ebpf::programs::{FEntryContext, FExitContext};
use pinwatch_common::loss::Loss;
use pinwatch_common::record::Call;

use super::programs::programs;
use crate::arch;
use crate::gup_fast::{enter, enter_second, exit, exit_second, forget_returned};
use crate::kernel;
use crate::maps::lose;

programs! {
    fentry fast_enter_fentry(ctx) { entered::<false>(ctx) }
    fentry fast_enter_fentry_first(ctx) { entered::<true>(ctx) }
    fentry fast_enter_fentry_second(ctx) {
        if kernel::is_longterm(ctx.arg(2)) {
            let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
            enter_second(Call { frame, start });
        }
    }
    kprobe fast_enter_kprobe(ctx) {
        let frame = arch::entry_frame(&ctx);
        if ctx.arg(2).is_some_and(kernel::is_longterm) {
            enter::<false>(Call::at(frame));
        } else {
            forget_returned(frame);
        }
    }
    fexit fast_exit_fexit(ctx) { exited::<false>(ctx) }
    fexit fast_exit_fexit_first(ctx) { exited::<true>(ctx) }
    fexit fast_exit_fexit_second(ctx) {
        if kernel::is_longterm(ctx.arg(2)) {
            let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
            exit_second(Call { frame, start }, ctx.arg(4));
        }
    }
    kretprobe fast_exit_kretprobe(ctx) {
        let frame = arch::return_frame(&ctx);
        exit::<false>(Call::at(frame), ctx.ret());
    }
}

#[inline(always)]
fn entered<const HAS_TWIN: bool>(ctx: FEntryContext) {
    if kernel::is_longterm(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        enter::<HAS_TWIN>(Call { frame, start });
    }
}

#[inline(always)]
fn exited<const HAS_TWIN: bool>(ctx: FExitContext) {
    if kernel::is_longterm(ctx.arg(2)) {
        let (frame, start) = (kernel::frame(&ctx), ctx.arg(0));
        if !exit::<HAS_TWIN>(Call { frame, start }, ctx.arg(4)) {
            lose(Loss::FastUnmatched);
        }
    }
}
