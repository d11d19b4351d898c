//! Beginning and end of a pin, whatever function it goes through.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, warn};
use pinwatch_common::counter::Loss;
use pinwatch_common::fold::{
    Alone, CpuCells, PinCells, Plain, fold_eventful, fold_plain, fold_zone,
};
use pinwatch_common::params::zone_gap;
use pinwatch_common::record::{ENDED, ENTERED, Flight, ONE_SWEEP, Phase};

use crate::emit::emit;
use crate::fast;
use crate::kernel::{self, Thread};
use crate::maps::{Shared, cells, listened_to, lose};
use crate::preemption;
use crate::slot::{self, Claim, Held};

/// Begins this thread's pin. `fill` calls [`slot::begin`] and keeps what the return will want; what
/// it reads of the context it reads late, so that nothing of it is kept across the calls before.
/// `HAS_TWIN` says whether [`enter_second`] follows.
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

/// The same by the second program at an entry: does it where the kernel skipped the first.
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
    fast::slow_path_taken(tid);
    let mut slot = match slot::claim(tid) {
        Claim::New(slot) => slot,
        Claim::Own(slot) => {
            take_over::<HAS_TWIN>(ctx, tid, slot, frame);
            slot
        }
        Claim::Full => return full(ctx, tid),
    };
    fill(&mut slot);
    slot::set_origin(&mut slot, kernel::origin(), ended);
    slot::show(&mut slot, thread, kernel::now());
}

/// The thread's slot still holds its previous pin, which is lost unless it has returned. A function
/// of its own, as the next, so that no other pin makes room for its message.
#[inline(never)]
fn take_over<const HAS_TWIN: bool>(ctx: &impl EbpfContext, tid: u32, mut slot: Held, frame: u64) {
    if !slot.call.has_returned() {
        lose(Loss::EntryStale);
        if frame < slot.call.frame {
            slot::note_displaced(tid, slot.call.frame);
        }
        debug!(
            ctx,
            "thread {}: its previous pin was not seen to return", tid
        );
    }
    slot::clear_events::<HAS_TWIN>(&mut slot);
}

#[inline(never)]
fn full(ctx: &impl EbpfContext, tid: u32) {
    lose(Loss::SlotsFull);
    slot::note_without_slot(tid);
    warn!(ctx, "thread {}: no slot for a pin in flight", tid);
}

/// A short-term call begins at `frame`, seen by a kprobe. A stack grows downwards: if the thread's
/// pin is at the same address or below, its return was missed. The kretprobe of this call must not
/// end it.
#[inline(always)]
pub fn forget_returned(frame: u64) {
    if let Some(slot) = slot::find(kernel::tid())
        && slot.call.frame <= frame
    {
        lose(Loss::EntryStale);
        slot::release::<true>(slot);
    }
}

/// Where a pin's pages are: the address of an array, and how many entries it has.
pub type Pages = (u64, u64);

/// Ends this thread's pin if it is this call; false if it is not, or if there is none. `returned` is
/// so many base pages, or `-errno`. With `HAS_TWIN` the slot is left to [`exit_last`]; a second program
/// does the same and ends the pin where the kernel skipped the first.
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
        if !slot::is::<HAS_TWIN>(&slot, frame, start) {
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

/// The same by a kretprobe, which has no twin. Where programs preempt each other, those of another
/// hook may add to the same cells.
#[inline(always)]
pub fn exit_by_kretprobe(
    frame: u64,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) {
    let Some(slot) = slot::find(kernel::tid()) else {
        return;
    };
    if !slot::is::<false>(&slot, frame, || 0) {
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

/// The same by the last program at a return: ends the pin where the kernel skipped the others, and
/// gives the slot back. Where programs cannot disable preemption a return has three: the second does
/// all the work while a preempted task is inside the first, and may then be preempted itself.
#[inline(always)]
pub fn exit_last(
    frame: u64,
    start: u64,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) {
    let Some(slot) = slot::find(kernel::tid()) else {
        return;
    };
    if slot::is::<true>(&slot, frame, || start) {
        preemption::disabled::<true, _>(|| end::<true>(slot, returned, pages));
    } else if !slot::has_returned_from(&slot, frame) {
        return;
    }
    slot::release_plain::<true>(slot);
}

/// A long-term call at `frame` returned and has no pin.
#[inline(never)]
pub fn unmatched(ctx: &impl EbpfContext, frame: u64) {
    if slot::was_accounted_for(kernel::tid(), frame) {
        return;
    }
    lose(Loss::ExitUnmatched);
    debug!(ctx, "a pin returned that was not seen to enter");
}

/// Adds a pin to the statistics, and empties what an eventful one filled.
#[inline(always)]
fn end<const HAS_TWIN: bool>(
    mut slot: Held,
    returned: impl FnOnce(&Flight) -> i64,
    pages: impl Fn(&Flight) -> Pages + Copy,
) {
    let now = kernel::now();
    let Some(cells) = cells() else { return };
    let returned = returned(&slot);
    if slot::course(&slot) == ONE_SWEEP && is_whole(&slot, returned) && !listened_to() {
        if is_sampled(&mut cells.zone_gap, now) {
            look(&mut slot, cells, now, pages);
        }
        fold::<HAS_TWIN>(&mut cells.pins, plain(&slot, slot.mark_ns, now, 1));
    } else {
        end_any::<HAS_TWIN>(slot, cells, returned, now, pages);
    }
}

/// Whether another program can add to the same cells meanwhile. Programs have twins where they can
/// preempt each other.
#[inline(always)]
fn shares_cells<const HAS_TWIN: bool>() -> bool {
    HAS_TWIN && !preemption::can_be_disabled()
}

#[inline(always)]
fn fold<const HAS_TWIN: bool>(cells: &mut PinCells, pin: Plain) {
    if shares_cells::<HAS_TWIN>() {
        fold_plain::<Shared>(cells, pin);
    } else {
        fold_plain::<Alone>(cells, pin);
    }
}

#[inline(always)]
fn is_whole(slot: &Flight, returned: i64) -> bool {
    returned == slot.pin.requested as i64
}

/// Whether a page of this pin is looked at: a look costs as much as half of the rest.
#[inline(always)]
fn is_sampled(gap: &mut u64, now: u64) -> bool {
    if *gap == 0 {
        *gap = zone_gap(now);
        return true;
    }
    *gap -= 1;
    false
}

/// Looks where one of its pages lies. A function of its own: most pins go without, and keep more in
/// registers then.
#[inline(never)]
fn look(slot: &mut Flight, cells: &mut CpuCells, now: u64, pages: impl Fn(&Flight) -> Pages) {
    // The nanosecond of the return is dice enough.
    slot.pin.sampled_zone = kernel::sample_zone(|| pages(slot), now);
    // One of many pins: what the atomic addition costs does not matter.
    fold_zone::<Shared>(&mut cells.pins, slot.pin.sampled_zone);
}

/// What a pin adds that is told nobody, after its one sweep, which began at `mark_ns`, or after none.
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

/// Ends any pin. A function of its own: most are plain, with nobody to hear of them.
#[inline(never)]
fn end_any<const HAS_TWIN: bool>(
    mut slot: Held,
    cells: &mut CpuCells,
    returned: i64,
    now: u64,
    pages: impl Fn(&Flight) -> Pages,
) {
    let listened = listened_to();
    // A listener's event wants a page of every pin looked at.
    if returned > 0 && (is_sampled(&mut cells.zone_gap, now) || listened) {
        look(&mut slot, cells, now, pages);
    }
    if returned < 0 {
        fast::slow_path_failed(kernel::tid());
    }
    let plain = if slot::course(&slot) == 0 && is_whole(&slot, returned) && !listened {
        // Nobody wants passes, or they cannot be had.
        Some(plain(&slot, now, now, 0))
    } else {
        slot.begin_events();
        let Flight { mark_ns, pin, .. } = &mut *slot;
        pin.enter_phase(mark_ns, now, Phase::Other);
        pin.duration_ns = now.wrapping_sub(pin.start_ns);
        pin.returned = returned;
        pin.ended = ENDED;
        emit(pin);
        // By atomic additions both folds together are too many ways for the verifier. Figures are the
        // same: `PinCells::merged`.
        let plain = if shares_cells::<HAS_TWIN>() {
            None
        } else {
            Plain::of(pin)
        };
        if plain.is_some() {
            slot::clear_events::<HAS_TWIN>(&mut slot);
        }
        plain
    };
    // Last: the verifier goes each of its many ways to the end.
    match plain {
        Some(plain) => fold::<HAS_TWIN>(&mut cells.pins, plain),
        None => {
            if shares_cells::<HAS_TWIN>() {
                fold_eventful::<Shared>(&mut cells.pins, &slot.pin);
            } else {
                fold_eventful::<Alone>(&mut cells.pins, &slot.pin);
            }
            slot::clear_events::<HAS_TWIN>(&mut slot);
        }
    }
}
