//! GUP-fast:
//!
//! ```c
//! int gup_fast_fallback(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
//!                       struct page **pages);         // internal_get_user_pages_fast to 6.9
//! ```
//!
//! Short-term calls, by far the most, pay for the flag test only; a kretprobe
//! cannot see the flags and looks for the thread's entry.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::counter::Loss;

use crate::fast::{enter, exit};
use crate::kernel;
use crate::maps::lose;

#[fentry]
fn fast_enter_fentry(ctx: FEntryContext) -> u32 {
    entered(ctx.arg(2))
}

#[kprobe]
fn fast_enter_kprobe(ctx: ProbeContext) -> u32 {
    entered(ctx.arg(2).unwrap_or_default())
}

#[fexit]
fn fast_exit_fexit(ctx: FExitContext) -> u32 {
    if kernel::is_longterm(ctx.arg(2)) && !exit(ctx.arg(4)) {
        lose(Loss::FastUnmatched);
    }
    0
}

#[kretprobe]
fn fast_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    exit(ctx.ret());
    0
}

#[inline(always)]
fn entered(gup_flags: u32) -> u32 {
    if kernel::is_longterm(gup_flags) {
        enter();
    }
    0
}
