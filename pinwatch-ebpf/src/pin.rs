//! Beginning and end of a pin, whatever function it goes through.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, warn};
use pinwatch_common::counter::Loss;
use pinwatch_common::fold::{CpuCells, Plain, fold_course, fold_plain, fold_zone};
use pinwatch_common::params::zone_gap;
use pinwatch_common::record::{ONE_SWEEP, Phase, Slot};

use crate::emit::emit;
use crate::fast;
use crate::kernel::{self, Thread};
use crate::maps::{cells, listened_to, lose};
use crate::slot::{self, Claim};

/// Begins this thread's pin of so many base pages. `keep` keeps what its return will want.
#[inline(always)]
pub fn enter(ctx: &impl EbpfContext, gup_flags: u32, requested: u64, keep: impl FnOnce(&mut Slot)) {
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
    slot::begin(slot, gup_flags, requested);
    keep(slot);
    slot.pin.origin = kernel::origin();
    slot.pin.start_ns = kernel::now();
    slot::show(slot, thread);
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

/// Ends this thread's pin; false if it has none. `ret` is what the function
/// returned: so many entries of the array, or `-errno`. `base_pages` turns it
/// into base pages, `pages` tells where the array is.
#[inline(always)]
pub fn exit(ret: i64, base_pages: impl FnOnce(&Slot) -> i64, pages: impl Fn(&Slot) -> u64) -> bool {
    let tid = kernel::tid();
    let Some(slot) = slot::find(tid) else {
        return false;
    };
    let now = kernel::now();
    let returned = base_pages(slot);
    let listened = listened_to();
    let Some(cells) = cells() else {
        slot::release(slot);
        return true;
    };
    let look = |slot: &mut Slot, cells: &mut CpuCells| {
        if is_sampled(&mut cells.zone_gap, now, listened) {
            // The nanosecond of the return is dice enough.
            slot.pin.sampled_zone = kernel::sample_zone(|| pages(slot), ret as u64, now);
            fold_zone(&mut cells.pins, slot.pin.sampled_zone);
        }
    };
    let is_plain = slot::course(slot) == ONE_SWEEP && returned == slot.pin.requested as i64;
    if is_plain && !listened {
        look(slot, cells);
        fold_plain(&mut cells.pins, plain(slot, now));
        slot::release_plain(slot);
        return true;
    }
    if ret > 0 {
        look(slot, cells);
    } else if ret < 0 {
        fast::slow_path_failed(tid);
    }
    end(slot, cells, now, returned);
    true
}

#[inline(always)]
fn plain(slot: &Slot, now: u64) -> Plain {
    let Slot { mark_ns, pin, .. } = slot;
    Plain {
        origin: pin.origin,
        pages: pin.requested,
        gup_flags: pin.gup_flags,
        gup_ns: mark_ns.wrapping_sub(pin.start_ns),
        collect_ns: now.wrapping_sub(*mark_ns),
    }
}

/// Ends any pin. A function of its own: most are plain, with nobody to hear of them.
#[inline(never)]
fn end(slot: &mut Slot, cells: &mut CpuCells, now: u64, returned: i64) {
    slot.begin_events();
    let Slot { mark_ns, pin, .. } = slot;
    pin.enter_phase(mark_ns, now, Phase::Other);
    pin.duration_ns = now.wrapping_sub(pin.start_ns);
    pin.returned = returned;
    pin.ended = 1;
    emit(pin);
    // Last: the verifier goes each of its many ways to the end.
    fold_course(&mut cells.pins, pin);
    slot::release(slot);
}

/// Whether a page of this pin is looked at: a look costs as much as half of the
/// rest. A listener's event wants it of every pin.
#[inline(always)]
fn is_sampled(gap: &mut u64, now: u64, listened: bool) -> bool {
    if *gap == 0 {
        *gap = zone_gap(now);
        return true;
    }
    *gap -= 1;
    listened
}
