//! The other way to a long-term pin, from 6.11 on (89c1905d9c14):
//!
//! ```c
//! long memfd_pin_folios(struct file *memfd, loff_t start, loff_t end, struct folio **folios,
//!                       unsigned int max_folios, pgoff_t *offset);
//! ```
//!
//! It pins each folio of the byte range `start..=end` once and returns their
//! number. Sweep and migration are those of the other path.

use core::ops::RangeInclusive;

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::counter::Loss;
use pinwatch_common::record::Slot;

use crate::kernel;
use crate::maps::lose;
use crate::pin::{enter, exit};
use crate::slot;

const PAGE_SHIFT: u32 = 12;

#[fentry]
fn memfd_enter_fentry(ctx: FEntryContext) -> u32 {
    entered(&ctx, ctx.arg(1)..=ctx.arg(2), 0, ctx.arg(4))
}

#[kprobe]
fn memfd_enter_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(start), Some(end), Some(folios), Some(max_folios)) =
        (ctx.arg(1), ctx.arg(2), ctx.arg(3), ctx.arg(4))
    {
        entered(&ctx, start..=end, folios, max_folios);
    }
    0
}

#[fexit]
fn memfd_exit_fexit(ctx: FExitContext) -> u32 {
    let pages = |_: &Slot| (kernel::raw_arg(&ctx, 3), ctx.arg(6));
    if !exit(|slot| base_pages(slot, ctx.arg(6)), pages) {
        lose(Loss::ExitUnmatched);
    }
    0
}

#[kretprobe]
fn memfd_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    let folios = ctx.ret();
    let pages = move |slot: &Slot| (slot.pages, folios as u64);
    exit(move |slot| base_pages(slot, folios), pages);
    0
}

#[inline(always)]
fn entered(
    ctx: &impl EbpfContext,
    bytes: RangeInclusive<u64>,
    folios: u64,
    max_folios: u32,
) -> u32 {
    let (first, last) = (bytes.start() >> PAGE_SHIFT, bytes.end() >> PAGE_SHIFT);
    let requested = last.wrapping_sub(first).wrapping_add(1);
    enter(ctx, |slot| {
        slot::begin(slot, 0, requested);
        slot.pages = folios;
        slot.max_folios = max_folios.into();
    });
    0
}

/// Base pages of a result in folios: all that were asked for, unless the caller
/// had room for fewer folios, which is only ever as many as there are pages.
#[inline(always)]
fn base_pages(slot: &Slot, folios: i64) -> i64 {
    let truncated = folios as u64 == slot.max_folios && slot.max_folios < slot.pin.requested;
    if folios <= 0 || truncated {
        folios
    } else {
        slot.pin.requested as i64
    }
}
