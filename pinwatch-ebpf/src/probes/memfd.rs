//! Entry and return of a pin by `memfd_pin_folios`, from 6.11 on (89c1905d9c14):
//!
//! ```c
//! long memfd_pin_folios(struct file *memfd, loff_t start, loff_t end, struct folio **folios,
//!                       unsigned int max_folios, pgoff_t *offset);
//! ```
//!
//! It pins each folio of the byte range `start..=end` once and returns their number. Passes and migration
//! are the same as in the slow path of GUP.

use aya_ebpf::programs::{FEntryContext, FExitContext};
use pinwatch_common::record::Flight;

use super::programs::programs;
use crate::arch;
use crate::kernel;
use crate::lifecycle::{
    count_unmatched, enter, enter_second, exit, exit_by_kretprobe, exit_last, returned_pages,
};
use crate::slot;

const PAGE_SHIFT: u32 = 12;

programs! {
    fentry memfd_enter_fentry(ctx) {
        enter::<false>(&ctx, kernel::frame(&ctx), |slot| fill::<false>(&ctx, slot));
    }
    fentry memfd_enter_fentry_first(ctx) {
        enter::<true>(&ctx, kernel::frame(&ctx), |slot| fill::<true>(&ctx, slot));
    }
    fentry memfd_enter_fentry_second(ctx) {
        enter_second(&ctx, kernel::frame(&ctx), |slot| fill::<true>(&ctx, slot));
    }
}

#[inline(always)]
fn fill<const HAS_TWIN: bool>(ctx: &FEntryContext, slot: &mut Flight) {
    let start = ctx.arg(1);
    slot::identify::<HAS_TWIN>(slot, kernel::frame(ctx), || start);
    begin(slot, [start, ctx.arg(2)], ctx.arg(4));
}

programs! {
    kprobe memfd_enter_kprobe(ctx) {
        if let (Some(start), Some(end), Some(folios), Some(max_folios)) =
            (ctx.arg(1), ctx.arg(2), ctx.arg(3), ctx.arg(4))
        {
            let frame = arch::entry_frame(&ctx);
            enter::<false>(&ctx, frame, |slot| {
                slot::identify::<false>(slot, frame, || 0);
                begin(slot, [start, end], max_folios);
                slot.pages = folios;
            });
        }
    }
    fexit memfd_exit_fexit(ctx) { exited::<false>(ctx) }
    fexit memfd_exit_fexit_first(ctx) { exited::<true>(ctx) }
}

#[inline(always)]
fn exited<const HAS_TWIN: bool>(ctx: FExitContext) {
    let pages = returned_pages(&ctx);
    let returned = |slot: &Flight| base_pages(slot, ctx.arg(6));
    let frame = kernel::frame(&ctx);
    if !exit::<HAS_TWIN>(frame, || ctx.arg(1), returned, pages) {
        count_unmatched::<HAS_TWIN>(&ctx, frame);
    }
}

programs! {
    /// Does not count a return without a pin: the first program has, or the third will.
    fexit memfd_exit_fexit_second(ctx) {
        let pages = returned_pages(&ctx);
        let returned = |slot: &Flight| base_pages(slot, ctx.arg(6));
        exit::<true>(kernel::frame(&ctx), || ctx.arg(1), returned, pages);
    }
    fexit memfd_exit_fexit_third(ctx) {
        let pages = returned_pages(&ctx);
        let returned = |slot: &Flight| base_pages(slot, ctx.arg(6));
        let frame = kernel::frame(&ctx);
        if !exit_last(frame, ctx.arg(1), returned, pages) {
            count_unmatched::<false>(&ctx, frame);
        }
    }
    kretprobe memfd_exit_kretprobe(ctx) {
        let folios = ctx.ret();
        let frame = arch::return_frame(&ctx);
        let pages = move |slot: &Flight| (slot.pages, folios as u64);
        exit_by_kretprobe(frame, move |slot| base_pages(slot, folios), pages);
    }
}

/// Begins a pin of the byte range `first..=last`.
#[inline(always)]
fn begin(slot: &mut Flight, [first, last]: [u64; 2], max_folios: u32) {
    let pages = (last >> PAGE_SHIFT).wrapping_sub(first >> PAGE_SHIFT);
    slot::begin(slot, 0, pages.wrapping_add(1));
    slot.max_folios = max_folios;
}

/// Base pages of a result in folios: all requested ones, unless the result was truncated.
///
/// A result is truncated if it fills the caller's array and that array has fewer entries than the range
/// has pages. Callers pass at most one entry per page.
#[inline(always)]
fn base_pages(slot: &Flight, folios: i64) -> i64 {
    let max_folios = u64::from(slot.max_folios);
    let truncated = folios as u64 == max_folios && max_folios < slot.pin.requested;
    if folios <= 0 || truncated {
        folios
    } else {
        slot.pin.requested as i64
    }
}
