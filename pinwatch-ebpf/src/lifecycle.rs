//! Lifecycle of a pin: entry and return, for each function that makes pins.

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::FExitContext;
use aya_log_ebpf::{debug, warn};
use pinwatch_common::cells::{Alone, CpuCells, PinCells};
use pinwatch_common::fold::{Plain, fold_eventful, fold_plain, fold_sampled};
use pinwatch_common::limits::sample_gap;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{ENDED, ENTERED, Flight, ONE_PASS, Phase};

use crate::blockers;
use crate::event;
use crate::gup_fast;
use crate::kernel::{self, Thread, folio};
use crate::maps::{Shared, cells, has_followers, lose};
use crate::preemption;
use crate::slot::{self, Claim, Held};
use crate::unmatched::{self, Table};

/// Begins the running thread's pin.
///
/// `fill` calls [`slot::begin`] and stores the arguments that the return needs. It reads the context
/// late, so that no register holds an argument across earlier calls. `HAS_TWIN`: [`enter_second`]
/// follows.
#[inline(always)]
pub fn enter<const HAS_TWIN: bool>(
    ctx: &impl EbpfContext,
    frame: u64,
    fill: impl FnOnce(&mut Flight),
) {
    let seen_by_first = if HAS_TWIN { ENTERED } else { 0 };
    preemption::disabled::<HAS_TWIN, _>(|| {
        begin::<HAS_TWIN>(ctx, Thread::running(), frame, seen_by_first, fill);
    });
}

/// Begins the running thread's pin in the second program at an entry, if the kernel skipped the first.
#[inline(always)]
pub fn enter_second(ctx: &impl EbpfContext, frame: u64, fill: impl FnOnce(&mut Flight)) {
    let thread = Thread::running();
    if let Some(mut slot) = slot::find(thread.tid())
        && slot.pin.ended == ENTERED
        && slot.call.frame == frame
    {
        slot.pin.ended = 0;
        return;
    }
    preemption::disabled::<true, _>(|| begin::<true>(ctx, thread, frame, 0, fill));
}

#[inline(always)]
fn begin<const HAS_TWIN: bool>(
    ctx: &impl EbpfContext,
    thread: Thread,
    frame: u64,
    ended: u8,
    fill: impl FnOnce(&mut Flight),
) {
    let tid = thread.tid();
    let mut slot = match slot::claim(tid) {
        Claim::New(slot) => slot,
        Claim::Own(slot) => {
            take_over::<HAS_TWIN>(ctx, tid, slot, frame);
            slot
        }
        // The second program also finds out, and counts. If the kernel skips it, the return does.
        Claim::Full if ended == ENTERED => return,
        Claim::Full => return no_slot(ctx, tid),
    };
    fill(&mut slot);
    slot::set_origin(&mut slot, kernel::origin::<false>(), ended);
    slot::publish(&mut slot, thread, kernel::now());
}

/// Clears the slot of the thread's previous pin, which is lost unless it has returned.
///
/// A separate function, as [`no_slot`]: other pins then need no stack for its message.
#[inline(never)]
fn take_over<const HAS_TWIN: bool>(ctx: &impl EbpfContext, tid: u32, mut slot: Held, frame: u64) {
    if !slot.call.has_returned() {
        lose(Loss::EntryStale);
        if frame < slot.call.frame {
            unmatched::note_displaced(slot.call.frame);
        }
        debug!(
            ctx,
            "thread {}: its previous pin was not seen to return", tid
        );
    }
    slot::clear_events::<HAS_TWIN>(&mut slot);
}

/// Counts a pin that found no slot as lost.
#[inline(never)]
fn no_slot(ctx: &impl EbpfContext, tid: u32) {
    lose(Loss::SlotsFull);
    unmatched::note_without_room(Table::Pins);
    warn!(ctx, "thread {}: no slot for a pin in flight", tid);
}

/// Drops a pin whose return was missed, when a kprobe sees a short-term call enter at `frame`.
///
/// The stack grows downwards, so a pin at the same address or below has returned. The kretprobe of the
/// short-term call must not end that pin.
#[inline(always)]
pub fn forget_returned(frame: u64) {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.call.frame <= frame
    {
        lose(Loss::EntryStale);
        slot::release::<true>(slot);
    }
}

/// Array of a pin's pages or folios: address and number of entries.
pub type Pages = (u64, u64);

/// Pages of a call with six arguments, of which the fourth is the page array, at its fexit. Keeps the
/// context in a register: few returns read it.
#[inline(always)]
pub fn returned_pages(ctx: &FExitContext) -> impl Fn(&Flight) -> Pages + Copy + use<> {
    let ctx = ctx.as_ptr();
    move |_| {
        let ctx = FExitContext::new(ctx);
        (kernel::raw_arg(&ctx, 3), ctx.arg(6))
    }
}

/// Ends the running thread's pin if it belongs to this call. Returns false if it does not, or if there
/// is none.
///
/// `returned` is the number of base pages, or `-errno`. With `HAS_TWIN` the slot is left for
/// [`exit_last`]. A second program calls this too, and ends the pin if the kernel skipped the first.
#[inline(always)]
pub fn exit<const HAS_TWIN: bool>(
    frame: u64,
    start: impl FnOnce() -> u64,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) -> bool {
    preemption::disabled::<HAS_TWIN, _>(|| {
        let Some(mut slot) = slot::find(kernel::tid()) else {
            return false;
        };
        if !slot::is_of_call::<HAS_TWIN>(&slot, frame, start) {
            return false;
        }
        end::<HAS_TWIN>(slot, returned, pages);
        if HAS_TWIN {
            slot::retire(&mut slot);
        } else {
            slot::release_plain::<false>(slot);
        }
        true
    })
}

/// Ends the running thread's pin in a kretprobe, which has no twin.
///
/// Where programs preempt each other, programs of another hook may add to the same cells.
#[inline(always)]
pub fn exit_by_kretprobe(
    frame: u64,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) {
    let Some(slot) = slot::find(kernel::tid()) else {
        return;
    };
    if !slot::is_of_call::<false>(&slot, frame, || 0) {
        return;
    }
    if kernel::preempts() {
        end::<true>(slot, returned, pages);
        slot::release_plain::<true>(slot);
    } else {
        end::<false>(slot, returned, pages);
        slot::release_plain::<false>(slot);
    }
}

/// Ends the running thread's pin in the last program at a return, if the kernel skipped the others, and
/// releases the slot. Returns false as [`exit`] does.
///
/// Where programs cannot disable preemption, a return has three. While a preempted task is inside the
/// first, the second does all the work, and may then be preempted itself.
#[inline(always)]
pub fn exit_last(
    frame: u64,
    start: u64,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) -> bool {
    let Some(slot) = slot::find(kernel::tid()) else {
        return false;
    };
    if slot::is_of_call::<true>(&slot, frame, || start) {
        preemption::disabled::<true, _>(|| end::<true>(slot, returned, pages));
    } else if !slot::has_returned_from(&slot, frame) {
        return false;
    }
    slot::release_plain::<true>(slot);
    true
}

/// Counts a long-term call at `frame` that returned without a pin, unless it is counted already.
#[inline(never)]
pub fn count_unmatched<const HAS_TWIN: bool>(ctx: &impl EbpfContext, frame: u64) {
    if unmatched::must_count::<HAS_TWIN>(Table::Pins, frame) {
        lose(Loss::ExitUnmatched);
        debug!(ctx, "a pin returned that was not seen to enter");
    }
}

/// Adds a pin to the statistics and clears the fields of an eventful one.
#[inline(always)]
fn end<const HAS_TWIN: bool>(
    mut slot: Held,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) {
    let now = kernel::now();
    let Some(cells) = cells() else { return };
    let returned = returned(&slot);
    if slot::progress(&slot) == ONE_PASS && is_complete(&slot, returned) && !has_followers() {
        if is_sampled(&mut cells.place_gap, now) {
            sample_page(&mut slot, cells, now, pages);
        }
        let plain = plain(&slot, slot.mark_ns, now, 1);
        fold::<HAS_TWIN>(&mut cells.pins, plain, &mut slot);
    } else {
        end_any::<HAS_TWIN>(slot, cells, returned, now, pages);
    }
}

/// Whether another program can add to the same cells at the same time. Programs have twins where they
/// can preempt each other.
#[inline(always)]
fn shares_cells<const HAS_TWIN: bool>() -> bool {
    HAS_TWIN && !kernel::can_disable_preemption()
}

/// Adds a plain pin to the statistics.
#[inline(always)]
fn fold<const HAS_TWIN: bool>(cells: &mut PinCells, pin: Plain, slot: &mut Flight) {
    let scratch = &mut slot.seen.scratch;
    if shares_cells::<HAS_TWIN>() {
        fold_plain::<Shared>(cells, pin, scratch);
    } else {
        fold_plain::<Alone>(cells, pin, scratch);
    }
}

/// Whether a pin returned all requested pages.
#[inline(always)]
fn is_complete(slot: &Flight, returned: i64) -> bool {
    returned == slot.pin.requested as i64
}

/// Whether to sample a page of this pin or migration. Not of each: a sample costs about as much as the rest of
/// the measurement.
#[inline(always)]
pub fn is_sampled(gap: &mut u64, now: u64) -> bool {
    if *gap == 0 {
        *gap = sample_gap(now);
        return true;
    }
    *gap -= 1;
    false
}

/// Samples the place of one of the pin's pages. A separate function: other pins, most of them, then have
/// more registers.
#[inline(never)]
fn sample_page(
    slot: &mut Flight,
    cells: &mut CpuCells,
    now: u64,
    pages: impl Fn(&Flight) -> Pages,
) {
    // The nanosecond of the return is random enough to select the page.
    slot.pin.sampled_place = folio::sample_place(|| pages(slot), now);
    // Atomic everywhere: samples are rare, so the cost does not matter.
    fold_sampled::<Shared>(&mut cells.pins.places, slot.pin.sampled_place);
}

/// Contribution of a plain pin that no follower wants. Its pass, if it has one, began at `mark_ns`.
#[inline(always)]
fn plain(slot: &Flight, mark_ns: u64, now: u64, passes: u32) -> Plain {
    let pin = &slot.pin;
    Plain {
        origin: pin.origin,
        passes,
        pages: pin.requested,
        gup_flags: pin.gup_flags,
        gup_ns: mark_ns.wrapping_sub(pin.start_ns),
        collect_ns: now.wrapping_sub(mark_ns),
    }
}

/// Ends a pin of any kind. A separate function: most pins are plain and have no followers.
#[inline(never)]
fn end_any<const HAS_TWIN: bool>(
    mut slot: Held,
    cells: &mut CpuCells,
    returned: i64,
    now: u64,
    pages: impl Fn(&Flight) -> Pages,
) {
    let has_followers = has_followers();
    // Followers get a sampled page of every pin.
    if returned > 0 && (is_sampled(&mut cells.place_gap, now) || has_followers) {
        sample_page(&mut slot, cells, now, pages);
    }
    if returned < 0 {
        gup_fast::slow_path_failed(kernel::tid());
        blockers::count_unseen(&slot.pin);
    }
    let plain = if slot::progress(&slot) == 0 && is_complete(&slot, returned) && !has_followers {
        // Passes are off, or this kernel does not show them.
        Some(plain(&slot, now, now, 0))
    } else {
        slot.begin_events();
        let Flight { mark_ns, pin, .. } = &mut *slot;
        pin.enter_phase(mark_ns, now, Phase::Other);
        pin.duration_ns = now.wrapping_sub(pin.start_ns);
        pin.returned = returned;
        pin.ended = ENDED;
        let unseen = kernel::unseen();
        if unseen != 0 && returned < 0 {
            pin.forget_unseen(unseen);
        }
        event::send_return(pin);
        let plain = Plain::of(pin);
        if plain.is_some() {
            slot::clear_events::<HAS_TWIN>(&mut slot);
        }
        plain
    };
    let Flight { pin, seen, .. } = &mut *slot;
    let (cells, scratch) = (&mut cells.pins, &mut seen.scratch);
    // With a twin atomically, also where it would not be needed: few pins get here.
    match plain {
        Some(plain) if HAS_TWIN => fold_plain::<Shared>(cells, plain, scratch),
        Some(plain) => fold_plain::<Alone>(cells, plain, scratch),
        None => {
            if HAS_TWIN {
                fold_eventful::<Shared>(cells, pin, scratch);
            } else {
                fold_eventful::<Alone>(cells, pin, scratch);
            }
            slot::clear_events::<HAS_TWIN>(&mut slot);
        }
    }
}
