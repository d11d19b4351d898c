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
use pinwatch_common::counter::Loss;
use pinwatch_common::record::Slot;

use crate::maps::lose;
use crate::pin::{enter, exit};

const PAGE_SHIFT: u32 = 12;

#[fentry]
fn memfd_enter_fentry(ctx: FEntryContext) -> u32 {
    enter(&ctx, 0, pages(ctx.arg(1), ctx.arg(2)), ctx.arg(4));
    0
}

#[kprobe]
fn memfd_enter_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(start), Some(end), Some(max_folios)) = (ctx.arg(1), ctx.arg(2), ctx.arg(4)) {
        enter(&ctx, 0, pages(start, end), max_folios);
    }
    0
}

#[fexit]
fn memfd_exit_fexit(ctx: FExitContext) -> u32 {
    if !exit(|slot| base_pages(slot, ctx.arg(6))) {
        lose(Loss::ExitUnmatched);
    }
    0
}

#[kretprobe]
fn memfd_exit_kretprobe(ctx: RetProbeContext) -> u32 {
    exit(|slot| base_pages(slot, ctx.ret()));
    0
}

#[inline(always)]
fn pages(start: u64, end: u64) -> u64 {
    (end >> PAGE_SHIFT)
        .wrapping_sub(start >> PAGE_SHIFT)
        .wrapping_add(1)
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
