//! Beginning and end of a pin, whatever function it goes through.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, warn};
use pinwatch_common::counter::Loss;
use pinwatch_common::fold::{CpuCells, Plain, fold_eventful, fold_plain, fold_zone};
use pinwatch_common::params::zone_gap;
use pinwatch_common::record::{ONE_SWEEP, Phase, Slot};

use crate::emit::emit;
use crate::fast;
use crate::kernel::{self, Thread};
use crate::maps::{cells, listened_to, lose};
use crate::slot::{self, Claim};

/// Begins this thread's pin. `fill` calls [`slot::begin`] and keeps what the return will want; what
/// it reads of the context it reads late, so that nothing of it is kept across the calls before.
#[inline(always)]
pub fn enter(ctx: &impl EbpfContext, fill: impl FnOnce(&mut Slot)) {
    let thread = Thread::running();
    let tid = thread.tid();
    fast::slow_path_taken(tid);
    let slot = match slot::claim(tid) {
        Claim::New(slot) => slot,
        Claim::Stale(slot) => {
            stale(ctx, tid);
            slot
        }
        Claim::Full => return full(ctx, tid),
    };
    fill(slot);
    slot::set_origin(slot, kernel::origin());
    slot::show(slot, thread, kernel::now());
}

/// A function of its own, as the next, so that no other pin makes room for its message.
#[inline(never)]
fn stale(ctx: &impl EbpfContext, tid: u32) {
    lose(Loss::EntryStale);
    debug!(
        ctx,
        "thread {}: its previous pin was not seen to return", tid
    );
}

#[inline(never)]
fn full(ctx: &impl EbpfContext, tid: u32) {
    lose(Loss::SlotsFull);
    warn!(ctx, "thread {}: no slot for a pin in flight", tid);
}

/// Where a pin's pages are: the address of an array, and how many entries it has.
pub type Pages = (u64, u64);

/// Ends this thread's pin; false if it has none. `returned` is so many base pages, or `-errno`.
#[inline(always)]
pub fn exit(returned: impl FnOnce(&Slot) -> i64, pages: impl Fn(&Slot) -> Pages + Copy) -> bool {
    let Some(slot) = slot::find(kernel::tid()) else {
        return false;
    };
    let now = kernel::now();
    let Some(cells) = cells() else {
        slot::release(slot);
        return true;
    };
    let returned = returned(slot);
    if slot::course(slot) == ONE_SWEEP && is_whole(slot, returned) && !listened_to() {
        if is_sampled(&mut cells.zone_gap, now) {
            look(slot, cells, now, pages);
        }
        fold_plain(&mut cells.pins, plain(slot, slot.mark_ns, now, 1));
        slot::release_plain(slot);
    } else {
        end(slot, cells, returned, now, pages);
    }
    true
}

#[inline(always)]
fn is_whole(slot: &Slot, returned: i64) -> bool {
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
fn look(slot: &mut Slot, cells: &mut CpuCells, now: u64, pages: impl Fn(&Slot) -> Pages) {
    // The nanosecond of the return is dice enough.
    slot.pin.sampled_zone = kernel::sample_zone(|| pages(slot), now);
    fold_zone(&mut cells.pins, slot.pin.sampled_zone);
}

/// What a pin adds that is told nobody, after its one sweep, which began at `mark_ns`, or after none.
#[inline(always)]
fn plain(slot: &Slot, mark_ns: u64, now: u64, passes: u32) -> Plain {
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
fn end(
    slot: &mut Slot,
    cells: &mut CpuCells,
    returned: i64,
    now: u64,
    pages: impl Fn(&Slot) -> Pages,
) {
    let listened = listened_to();
    // A listener's event wants a page of every pin looked at.
    if returned > 0 && (is_sampled(&mut cells.zone_gap, now) || listened) {
        look(slot, cells, now, pages);
    }
    if returned < 0 {
        fast::slow_path_failed(slot.pin.tid);
    }
    let plain = if slot::course(slot) == 0 && is_whole(slot, returned) && !listened {
        // Nobody wants passes, or they cannot be had.
        Some(plain(slot, now, now, 0))
    } else {
        slot.begin_events();
        let Slot { mark_ns, pin, .. } = slot;
        pin.enter_phase(mark_ns, now, Phase::Other);
        pin.duration_ns = now.wrapping_sub(pin.start_ns);
        pin.returned = returned;
        pin.ended = 1;
        emit(pin);
        Plain::of(pin)
    };
    // Last: the verifier goes each of its many ways to the end.
    match plain {
        Some(plain) => fold_plain(&mut cells.pins, plain),
        None => fold_eventful(&mut cells.pins, &slot.pin),
    }
    slot::release(slot);
}
