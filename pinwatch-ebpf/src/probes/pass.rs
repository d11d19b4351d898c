//! Passes, whether each one found unpinnable pages, and the phases between them:
//!
//! ```c
//! int migrate_longterm_unpinnable_folios(struct list_head *, ...);  // after a collect that found something
//! [unsigned] long collect_longterm_unpinnable_pages(struct list_head *, unsigned long nr, ...);  // to 6.10
//! [unsigned] long collect_longterm_unpinnable_folios(struct list_head *, unsigned long nr, ...); // 6.11
//! long collect_longterm_unpinnable_folios(struct list_head *, struct pages_or_folios *);         // 6.12-
//! long __get_user_pages(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
//!                       unsigned int gup_flags, ...);             // where collect is inlined
//! ```
//!
//! Collect returns nothing in the stable kernels of 2025.

use aya_ebpf::programs::{FExitContext, RetProbeContext};
use pinwatch_common::limits::RETRIES_REPORTED;
use pinwatch_common::record::Phase;

use super::programs::programs;
use crate::event;
use crate::kernel;
use crate::slot::{self, Held, enter_phase};
use crate::unpinnable;

programs! {
    /// Collect with the number of pages or folios as argument.
    fentry pass_nr_fentry(ctx) { begin(|| ctx.arg(1)) }
    fentry pass_nr_fentry_second(ctx) { begin_second(|| ctx.arg(1)) }
    kprobe pass_nr_kprobe(ctx) { begin(|| ctx.arg(1).unwrap_or_default()) }
    /// Collect with a `struct pages_or_folios` as argument.
    fentry pass_pofs_fentry(ctx) { begin(|| kernel::nr_entries(ctx.arg(1))) }
    fentry pass_pofs_fentry_second(ctx) { begin_second(|| kernel::nr_entries(ctx.arg(1))) }
    kprobe pass_pofs_kprobe(ctx) { begin(|| kernel::nr_entries(ctx.arg(1).unwrap_or_default())) }
    /// `__get_user_pages`, where collect is inlined: pins the range, again if this is a retry.
    /// Uncounted where the kernel skips no program, since every short-term pin runs it too.
    uncounted_kprobe gup_kprobe(ctx) {
        if let Some(gup_flags) = ctx.arg(3) {
            gup(gup_flags);
        }
    }
    kprobe gup_kprobe_counted(ctx) {
        if let Some(gup_flags) = ctx.arg(3) {
            gup(gup_flags);
        }
    }
    fentry gup_fentry(ctx) { gup(ctx.arg(3)) }
    fentry gup_fentry_second(ctx) { gup(ctx.arg(3)) }
    /// A pass follows if pages were pinned. Otherwise the pin ends.
    uncounted_kretprobe pass_gup_kretprobe(ctx) { pinned(ctx) }
    kretprobe pass_gup_kretprobe_counted(ctx) { pinned(ctx) }
    /// Six arguments: from 6.5 on. The flag test excludes short-term pins made during a migration.
    fexit pass_gup_fexit6(ctx) {
        if let Some(pinned) = pinned_longterm(&ctx) {
            begin(|| pinned);
        }
    }
    fexit pass_gup_fexit6_second(ctx) {
        if let Some(pinned) = pinned_longterm(&ctx) {
            begin_second(|| pinned);
        }
    }
    /// Return of collect with the number of unpinnable pages.
    fexit collected_fexit2(ctx) { collected(ctx.arg(2), || kernel::raw_arg(&ctx, 0)) }
    fexit collected_fexit2_second(ctx) {
        collected_second(ctx.arg(2), || kernel::raw_arg(&ctx, 0));
    }
    fexit collected_fexit3(ctx) { collected(ctx.arg(3), || kernel::raw_arg(&ctx, 0)) }
    fexit collected_fexit3_second(ctx) {
        collected_second(ctx.arg(3), || kernel::raw_arg(&ctx, 0));
    }
    /// Does not see the list.
    kretprobe collected_kretprobe(ctx) {
        let unpinnable: u64 = ctx.ret();
        if unpinnable != 0
            && let Some(mut slot) = slot::find(kernel::tid())
        {
            found_in(&mut slot);
        }
    }
    /// Migration begins, so the collect before it found something.
    fentry found_fentry(ctx) { found(|| kernel::raw_arg(&ctx, 0)) }
    fentry found_fentry_second(ctx) { found_second(|| kernel::raw_arg(&ctx, 0)) }
    kprobe found_kprobe(ctx) { found(|| ctx.arg(0).unwrap_or_default()) }
    /// Collect without a return value.
    fexit swept_fexit(_ctx) { swept() }
    fexit swept_fexit_second(_ctx) { swept_second() }
    kretprobe swept_kretprobe(_ctx) { swept() }
}

/// Pages that a long-term `__get_user_pages` with six arguments returned, if any.
#[inline(always)]
fn pinned_longterm(ctx: &FExitContext) -> Option<u64> {
    let pinned: i64 = ctx.arg(6);
    (pinned > 0 && kernel::is_longterm(ctx.arg(3))).then_some(pinned as u64)
}

/// Begins a pass after `__get_user_pages` returned pages.
#[inline(always)]
fn pinned(ctx: RetProbeContext) {
    let pinned: i64 = ctx.ret();
    if pinned > 0 {
        begin(|| pinned as u64);
    } else if kernel::gup_shows_found()
        && let Some(mut slot) = slot::find(kernel::tid())
        && slot::progress(&slot) != 0
    {
        slot.begin_events();
        slot.pin.pinned_again();
    }
}

/// Enters the phase in which a retry pins the range. After the first of two programs nothing is left to
/// do for the second.
#[inline(always)]
fn gup(gup_flags: u32) {
    if kernel::is_longterm(gup_flags)
        && let Some(mut slot) = slot::find(kernel::tid())
        && slot::progress(&slot) != 0
        && slot.pin.phase != Phase::Gup as u8
    {
        enter_phase(&mut slot, Phase::Gup);
        if kernel::gup_shows_found() {
            slot.pin.pinned_again();
        }
    }
}

/// Begins a pass over the pages or folios that `pinned` counts.
#[inline(always)]
fn begin(pinned: impl FnOnce() -> u64) {
    if let Some(slot) = slot::find(kernel::tid()) {
        begin_in(slot, pinned);
    }
}

#[inline(always)]
fn begin_second(pinned: impl FnOnce() -> u64) {
    if let Some(mut slot) = slot::find(kernel::tid()) {
        if slot.pin.passes == slot.seen.passes {
            begin_in(slot, pinned);
        }
        slot.seen.passes = slot.pin.passes;
    }
}

#[inline(always)]
fn begin_in(mut slot: Held, pinned: impl FnOnce() -> u64) {
    if slot::progress(&slot) == 0 {
        slot::begin_first_pass(&mut slot, kernel::now());
    } else {
        begin_any(slot, pinned());
    }
}

/// Begins a pass that is not the pin's first event. A separate function: most pins have one pass.
#[inline(never)]
fn begin_any(mut slot: Held, pinned: u64) {
    enter_phase(&mut slot, Phase::Collect);
    if kernel::scans_again() {
        slot.scan_page = 0;
    }
    let pin = &mut slot.pin;
    if kernel::gup_shows_found() {
        pin.pinned_again();
    }
    let migrated = pin.begin_pass();
    if pin.passes > 1 {
        pin.repinned = pin.repinned.wrapping_add(pinned);
        if migrated || pin.passes <= RETRIES_REPORTED + 1 {
            event::send_retry(pin);
        }
    }
}

/// Ends a collect that returned the number of unpinnable pages. The kernel then unpins the range, before
/// a retry.
///
/// With none the pin ends soon, so nothing is written: most pins save a clock read.
#[inline(always)]
fn collected(unpinnable: u64, list: impl FnOnce() -> u64) {
    if unpinnable != 0 {
        found(list);
    }
}

#[inline(always)]
fn collected_second(unpinnable: u64, list: impl FnOnce() -> u64) {
    if unpinnable != 0 {
        found_second(list);
    }
}

/// Ends a collect that found unpinnable pages, those that it could isolate in a list.
#[inline(always)]
fn found(list: impl FnOnce() -> u64) {
    if let Some(mut slot) = slot::find(kernel::tid()) {
        found_in(&mut slot);
        unpinnable::received(slot.mark_ns, list);
    }
}

#[inline(always)]
fn found_second(list: impl FnOnce() -> u64) {
    if let Some(mut slot) = slot::find(kernel::tid())
        && slot.pin.phase != Phase::Gup as u8
    {
        found_in(&mut slot);
        unpinnable::received(slot.mark_ns, list);
    }
}

#[inline(always)]
fn found_in(slot: &mut Held) {
    enter_phase(slot, Phase::Gup);
    if !kernel::sees_isolations() {
        slot.pin.page_found();
    }
}

/// Ends a collect that does not report whether it found something.
#[inline(always)]
fn swept() {
    if let Some(mut slot) = slot::find(kernel::tid()) {
        enter_phase(&mut slot, Phase::Other);
    }
}

#[inline(always)]
fn swept_second() {
    if let Some(mut slot) = slot::find(kernel::tid())
        && slot.pin.phase != Phase::Other as u8
    {
        enter_phase(&mut slot, Phase::Other);
    }
}
