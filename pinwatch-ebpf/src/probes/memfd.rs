//! The other way to a long-term pin, from 6.11 on (89c1905d9c14):
//!
//! ```c
//! long memfd_pin_folios(struct file *memfd, loff_t start, loff_t end, struct folio **folios,
//!                       unsigned int max_folios, pgoff_t *offset);
//! ```
//!
//! It pins each folio of the byte range `start..=end` once and returns their
//! number. Sweep and migration are those of the other path.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::counter::probe_number;
use pinwatch_common::record::Flight;

use crate::kernel;
use crate::maps::ran;
use crate::pin::{enter, enter_second, exit, exit_by_kretprobe, exit_last, unmatched};
use crate::slot;

const PAGE_SHIFT: u32 = 12;

#[fentry]
fn memfd_enter_fentry(ctx: FEntryContext) -> u32 {
    enter::<false>(&ctx, kernel::frame(&ctx), |slot| fill::<false>(&ctx, slot));
    0
}

#[fentry]
fn memfd_enter_fentry_first(ctx: FEntryContext) -> u32 {
    enter::<true>(&ctx, kernel::frame(&ctx), |slot| fill::<true>(&ctx, slot));
    0
}

#[fentry]
fn memfd_enter_fentry_second(ctx: FEntryContext) -> u32 {
    enter_second(&ctx, kernel::frame(&ctx), |slot| fill::<true>(&ctx, slot));
    0
}

#[inline(always)]
fn fill<const HAS_TWIN: bool>(ctx: &FEntryContext, slot: &mut Flight) {
    let start = ctx.arg(1);
    slot::identify::<HAS_TWIN>(slot, kernel::frame(ctx), || start);
    begin(slot, [start, ctx.arg(2)], ctx.arg(4));
}

#[kprobe]
fn memfd_enter_kprobe(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("memfd_enter_kprobe") });
    if let (Some(start), Some(end), Some(folios), Some(max_folios)) =
        (ctx.arg(1), ctx.arg(2), ctx.arg(3), ctx.arg(4))
    {
        let frame = kernel::entry_frame(&ctx);
        enter::<false>(&ctx, frame, |slot| {
            slot::identify::<false>(slot, frame, || 0);
            begin(slot, [start, end], max_folios);
            slot.pages = folios;
        });
    }
    0
}

#[fexit]
fn memfd_exit_fexit(ctx: FExitContext) -> u32 {
    exited::<false>(ctx)
}

#[fexit]
fn memfd_exit_fexit_first(ctx: FExitContext) -> u32 {
    exited::<true>(ctx)
}

#[inline(always)]
fn exited<const HAS_TWIN: bool>(ctx: FExitContext) -> u32 {
    let pages = |_: &Flight| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    let returned = |slot: &Flight| base_pages(slot, ctx.arg(6));
    let frame = kernel::frame(&ctx);
    if !exit::<HAS_TWIN>(frame, || ctx.arg(1), returned, pages) {
        unmatched(&ctx, frame);
    }
    0
}

/// The first has counted a return without a pin.
#[fexit]
fn memfd_exit_fexit_second(ctx: FExitContext) -> u32 {
    let pages = |_: &Flight| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    let returned = |slot: &Flight| base_pages(slot, ctx.arg(6));
    exit::<true>(kernel::frame(&ctx), || ctx.arg(1), returned, pages);
    0
}

#[fexit]
fn memfd_exit_fexit_third(ctx: FExitContext) -> u32 {
    let pages = |_: &Flight| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    let returned = |slot: &Flight| base_pages(slot, ctx.arg(6));
    exit_last(kernel::frame(&ctx), ctx.arg(1), returned, pages);
    0
}

#[kretprobe]
fn memfd_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("memfd_exit_kretprobe") });
    let folios = ctx.ret();
    let frame = kernel::return_frame(&ctx);
    let pages = move |slot: &Flight| (slot.pages, folios as u64);
    exit_by_kretprobe(frame, move |slot| base_pages(slot, folios), pages);
    0
}

/// Begins a pin of the byte range `first..=last`.
#[inline(always)]
fn begin(slot: &mut Flight, [first, last]: [u64; 2], max_folios: u32) {
    let pages = (last >> PAGE_SHIFT).wrapping_sub(first >> PAGE_SHIFT);
    slot::begin(slot, 0, pages.wrapping_add(1));
    slot.max_folios = max_folios.into();
}

/// Base pages of a result in folios: all that were asked for, unless the caller
/// had room for fewer folios, which is only ever as many as there are pages.
#[inline(always)]
fn base_pages(slot: &Flight, folios: i64) -> i64 {
    let truncated = folios as u64 == slot.max_folios && slot.max_folios < slot.pin.requested;
    if folios <= 0 || truncated {
        folios
    } else {
        slot.pin.requested as i64
    }
}
