//! Weak pins: returns of the functions that make them, and of those that release pages.
//!
//! ```c
//! long pin_user_pages(unsigned long start, unsigned long nr_pages, unsigned int gup_flags,
//!                     struct page **pages);             // up to 6.4 with vmas
//! long pin_user_pages_remote(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                            unsigned int gup_flags, struct page **pages,
//!                            int *locked);               // up to 6.4 with vmas before locked
//! int pin_user_pages_fast(unsigned long start, int nr_pages, unsigned int gup_flags, struct page **pages);
//! ```
//!
//! Each of them sets FOLL_PIN. A release is looked at when it returns: only then does a folio show whether it is
//! still pinned.

use super::programs::programs;
use crate::arch;
use crate::kernel;
use crate::weak::{enter, exit, forget, pinned, released};

programs! {
    fexit weak_pin_fexit4(ctx) {
        if !kernel::is_longterm(ctx.arg(2)) {
            pinned::<true>(kernel::raw_arg(&ctx, 3), ctx.arg(4));
        }
    }
    fexit weak_pin_fexit5(ctx) {
        if !kernel::is_longterm(ctx.arg(2)) {
            pinned::<true>(kernel::raw_arg(&ctx, 3), ctx.arg(5));
        }
    }
    fexit weak_remote_fexit6(ctx) {
        if !kernel::is_longterm(ctx.arg(3)) {
            pinned::<true>(kernel::raw_arg(&ctx, 4), ctx.arg(6));
        }
    }
    /// O_DIRECT comes here too, from 6.5 on.
    fexit weak_fast_fexit(ctx) {
        if !kernel::is_longterm(ctx.arg(2)) {
            pinned::<false>(kernel::raw_arg(&ctx, 3), ctx.arg::<i32>(4).into());
        }
    }
    /// For up to 6.4, where the function has seven arguments.
    kprobe weak_remote_kprobe(ctx) {
        if ctx.arg(3).is_some_and(|flags| !kernel::is_longterm(flags))
            && let Some(pages) = ctx.arg(4)
        {
            enter(arch::entry_frame(&ctx), pages);
        }
    }
    kretprobe weak_kretprobe(ctx) { exit(arch::return_frame(&ctx), ctx.ret()) }
    fexit weak_unpin_pages_fexit(ctx) { released(kernel::raw_arg(&ctx, 0), ctx.arg(1)) }
    fexit weak_unpin_dirty_fexit(ctx) { released(kernel::raw_arg(&ctx, 0), ctx.arg(1)) }
    fexit weak_unpin_page_fexit(ctx) { forget(kernel::raw_arg(&ctx, 0)); }
    fexit weak_unpin_folio_fexit(ctx) { forget(kernel::raw_arg(&ctx, 0)); }
}
