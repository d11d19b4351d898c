//! Passes, what each found unpinnable, and the phases between them:
//!
//! ```c
//! int migrate_longterm_unpinnable_folios(struct list_head *, ...);  // after a sweep that found something
//! [unsigned] long collect_longterm_unpinnable_pages(struct list_head *, unsigned long nr, ...);  // to 6.10
//! [unsigned] long collect_longterm_unpinnable_folios(struct list_head *, unsigned long nr, ...); // 6.11
//! long collect_longterm_unpinnable_folios(struct list_head *, struct pages_or_folios *);         // 6.12-
//! long __get_user_pages(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                       unsigned int gup_flags, ...);             // where the sweep is inlined
//! ```
//!
//! The sweep returned nothing in the stable kernels of 2025.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use pinwatch_common::counter::probe_number;
use pinwatch_common::params::RETRIES_TOLD;
use pinwatch_common::record::{Flight, Phase};

use super::isolate::seen_unpinnable;
use crate::emit::emit_retry;
use crate::kernel;
use crate::maps::ran;
use crate::slot::{self, Held};

#[fentry]
fn pass_nr_fentry(ctx: FEntryContext) -> u32 {
    sweep(|| ctx.arg(1))
}

#[fentry]
fn pass_nr_fentry_second(ctx: FEntryContext) -> u32 {
    sweep_second(|| ctx.arg(1))
}

#[kprobe]
fn pass_nr_kprobe(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("pass_nr_kprobe") });
    sweep(|| ctx.arg(1).unwrap_or_default())
}

#[fentry]
fn pass_pofs_fentry(ctx: FEntryContext) -> u32 {
    sweep(|| entries(ctx.arg(1)))
}

#[fentry]
fn pass_pofs_fentry_second(ctx: FEntryContext) -> u32 {
    sweep_second(|| entries(ctx.arg(1)))
}

#[kprobe]
fn pass_pofs_kprobe(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("pass_pofs_kprobe") });
    sweep(|| entries(ctx.arg(1).unwrap_or_default()))
}

/// Where the sweep is inlined: the range is pinned, again if this is a retry.
/// Short-term pins run it too, so there is one that does not even ask whether to count its runs.
#[kprobe]
fn gup_kprobe(ctx: ProbeContext) -> u32 {
    ctx.arg(3).map_or(0, gup)
}

#[kprobe]
fn gup_kprobe_counted(ctx: ProbeContext) -> u32 {
    ran(const { probe_number("gup_kprobe_counted") });
    ctx.arg(3).map_or(0, gup)
}

#[fentry]
fn gup_fentry(ctx: FEntryContext) -> u32 {
    gup(ctx.arg(3))
}

#[fentry]
fn gup_fentry_second(ctx: FEntryContext) -> u32 {
    gup(ctx.arg(3))
}

/// What was pinned is swept next; what was not is the end of the pin.
#[kretprobe]
fn pass_gup_kretprobe(ctx: RetProbeContext) -> u32 {
    pinned(ctx)
}

#[kretprobe]
fn pass_gup_kretprobe_counted(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("pass_gup_kretprobe_counted") });
    pinned(ctx)
}

#[inline(always)]
fn pinned(ctx: RetProbeContext) -> u32 {
    let pinned: i64 = ctx.ret();
    if pinned > 0 {
        sweep(|| pinned as u64)
    } else {
        0
    }
}

/// Six arguments: from 6.5 on. A pin that migrates may also pin for others meanwhile.
#[fexit]
fn pass_gup_fexit6(ctx: FExitContext) -> u32 {
    let pinned: i64 = ctx.arg(6);
    if pinned > 0 && kernel::is_longterm(ctx.arg(3)) {
        sweep(|| pinned as u64)
    } else {
        0
    }
}

#[fexit]
fn pass_gup_fexit6_second(ctx: FExitContext) -> u32 {
    let pinned: i64 = ctx.arg(6);
    if pinned > 0 && kernel::is_longterm(ctx.arg(3)) {
        sweep_second(|| pinned as u64)
    } else {
        0
    }
}

#[fexit]
fn unpinnable_fexit2(ctx: FExitContext) -> u32 {
    found(ctx.arg(2))
}

#[fexit]
fn unpinnable_fexit2_second(ctx: FExitContext) -> u32 {
    found_second(ctx.arg(2))
}

#[fexit]
fn unpinnable_fexit3(ctx: FExitContext) -> u32 {
    found(ctx.arg(3))
}

#[fexit]
fn unpinnable_fexit3_second(ctx: FExitContext) -> u32 {
    found_second(ctx.arg(3))
}

#[kretprobe]
fn unpinnable_kretprobe(ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("unpinnable_kretprobe") });
    found(ctx.ret())
}

#[fentry]
fn found_fentry(_ctx: FEntryContext) -> u32 {
    swept(0, Phase::Gup)
}

#[fentry]
fn found_fentry_second(_ctx: FEntryContext) -> u32 {
    swept_second(Phase::Gup)
}

#[kprobe]
fn found_kprobe(_ctx: ProbeContext) -> u32 {
    ran(const { probe_number("found_kprobe") });
    swept(0, Phase::Gup)
}

/// The void form: what was found is counted by its isolation.
#[fexit]
fn swept_fexit(_ctx: FExitContext) -> u32 {
    swept(0, Phase::Other)
}

#[fexit]
fn swept_fexit_second(_ctx: FExitContext) -> u32 {
    swept_second(Phase::Other)
}

#[kretprobe]
fn swept_kretprobe(_ctx: RetProbeContext) -> u32 {
    ran(const { probe_number("swept_kretprobe") });
    swept(0, Phase::Other)
}

/// `pages_or_folios.nr_entries`, or 0. Without an offset the verifier sees that
/// the helper is not called, and kernel lockdown does not refuse the program.
#[inline(always)]
fn entries(pofs: u64) -> u64 {
    let Some(offset) = kernel::nr_entries_offset() else {
        return 0;
    };
    let at = pofs.wrapping_add(offset) as *const u64;
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(at) }.unwrap_or_default()
}

/// Of two programs the second finds the phase entered.
#[inline(always)]
fn gup(gup_flags: u32) -> u32 {
    if kernel::is_longterm(gup_flags)
        && let Some(mut slot) = slot::find(kernel::tid())
        && slot::course(&slot) != 0
        && slot.pin.phase != Phase::Gup as u8
    {
        enter_phase(&mut slot, Phase::Gup);
    }
    0
}

#[inline(always)]
fn sweep(pinned: impl FnOnce() -> u64) -> u32 {
    if let Some(slot) = slot::find(kernel::tid()) {
        sweep_in(slot, pinned);
    }
    0
}

#[inline(always)]
fn sweep_second(pinned: impl FnOnce() -> u64) -> u32 {
    if let Some(mut slot) = slot::find(kernel::tid()) {
        if slot.pin.passes == slot.seen.passes {
            sweep_in(slot, pinned);
        }
        slot.seen.passes = slot.pin.passes;
    }
    0
}

#[inline(always)]
fn sweep_in(mut slot: Held, pinned: impl FnOnce() -> u64) {
    if slot::course(&slot) == 0 {
        slot::begin_sweep(&mut slot, kernel::now());
    } else {
        sweep_again(slot, pinned());
    }
}

/// A function of its own: most pins have one pass.
#[inline(never)]
fn sweep_again(mut slot: Held, pinned: u64) {
    enter_phase(&mut slot, Phase::Collect);
    let pin = &mut slot.pin;
    pin.passes = pin.passes.saturating_add(1);
    if pin.passes > 1 {
        pin.repinned = pin.repinned.wrapping_add(pinned);
        let migrated = core::mem::take(&mut pin.migrated) != 0;
        if migrated || pin.passes <= RETRIES_TOLD + 1 {
            emit_retry(pin);
        }
    }
}

/// Nothing found is the end of the pin, and nothing to do: it costs most pins
/// a look at the clock. Else the range is unpinned, before a retry.
#[inline(always)]
fn found(unpinnable: u64) -> u32 {
    if unpinnable == 0 {
        return 0;
    }
    swept(unpinnable, Phase::Gup)
}

#[inline(always)]
fn found_second(unpinnable: u64) -> u32 {
    if unpinnable != 0
        && let Some(mut slot) = slot::find(kernel::tid())
    {
        if !seen_unpinnable(&slot) {
            sweep_ended(&mut slot, unpinnable, Phase::Gup);
        }
        slot.seen.unpinnable = slot.pin.unpinnable;
    }
    0
}

#[inline(always)]
fn swept(unpinnable: u64, next: Phase) -> u32 {
    if let Some(mut slot) = slot::find(kernel::tid()) {
        sweep_ended(&mut slot, unpinnable, next);
    }
    0
}

#[inline(always)]
fn swept_second(next: Phase) -> u32 {
    if let Some(mut slot) = slot::find(kernel::tid())
        && slot.pin.phase != next as u8
    {
        sweep_ended(&mut slot, 0, next);
    }
    0
}

#[inline(always)]
fn sweep_ended(slot: &mut Held, unpinnable: u64, next: Phase) {
    enter_phase(slot, next);
    slot.pin.unpinnable = slot.pin.unpinnable.wrapping_add(unpinnable);
}

/// Begins a phase now, of a pin that is no plain one for it.
#[inline(always)]
pub fn enter_phase(slot: &mut Held, next: Phase) {
    slot.begin_events();
    let Flight { pin, mark_ns, .. } = &mut **slot;
    pin.enter_phase(mark_ns, kernel::now(), next);
}
