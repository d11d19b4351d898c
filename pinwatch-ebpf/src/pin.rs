//! Beginning and end of a pin, whatever function it goes through.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, warn};
use pinwatch_common::counter::Loss;
use pinwatch_common::fold::{fold_events, fold_every};
use pinwatch_common::params::zone_gap;
use pinwatch_common::record::{Phase, Slot};

use crate::emit::emit;
use crate::fast;
use crate::kernel;
use crate::maps::{cells, listened_to, lose};
use crate::slot::{self, Claim};

/// What a caller asked for.
pub struct Asked {
    pub gup_flags: u32,
    /// In base pages.
    pub requested: u64,
    /// The array for what is pinned, where the return cannot tell: a kretprobe.
    pub pages: u64,
    /// Its room, where the caller names it: `memfd_pin_folios`.
    pub max_folios: u32,
}

#[inline(always)]
pub fn enter(ctx: &impl EbpfContext, asked: Asked) {
    let (tgid, tid) = kernel::tgid_tid();
    fast::slow_path_taken(tid);
    let slot = match slot::claim(tid) {
        Claim::New(slot) => slot,
        Claim::Stale(slot) => {
            lose(Loss::EntryStale);
            debug!(
                ctx,
                "thread {}: its previous pin was not seen to return", tid
            );
            slot
        }
        Claim::Full => {
            lose(Loss::SlotsFull);
            warn!(ctx, "thread {}: no slot for a pin in flight", tid);
            return;
        }
    };
    slot::clear(slot, asked.max_folios as u64, asked.pages);
    let now = kernel::now();
    slot.mark_ns = now;
    let pin = &mut slot.pin;
    pin.start_ns = now;
    pin.tgid = tgid;
    pin.requested = asked.requested;
    pin.gup_flags = asked.gup_flags;
    pin.origin = kernel::origin();
    slot::show(slot, tid);
}

/// Ends this thread's pin; false if it has none. `ret` is what the function
/// returned: so many entries of the array, or `-errno`. `base_pages` turns it
/// into base pages, `pages` tells where the array is.
#[inline(always)]
pub fn exit(
    ret: i64,
    base_pages: impl FnOnce(&Slot) -> i64,
    pages: impl FnOnce(&Slot) -> u64,
) -> bool {
    let tid = kernel::tid();
    let Some(slot) = slot::find(tid) else {
        return false;
    };
    let returned = base_pages(slot);
    let now = kernel::now();
    if ret < 0 {
        fast::slow_path_failed(tid);
    }
    let Slot { pin, mark_ns, .. } = slot;
    pin.enter_phase(mark_ns, now, Phase::Other);
    pin.duration_ns = now.wrapping_sub(pin.start_ns);
    pin.returned = returned;
    pin.ended = 1;
    let listened = listened_to();
    if let Some(cells) = cells() {
        if ret > 0 && is_sampled(&mut cells.zone_gap, now, listened) {
            // The nanosecond of the return is dice enough.
            slot.pin.sampled_zone = kernel::sample_zone(|| pages(slot), ret as u64, now);
        }
        fold_every(&mut cells.pins, &slot.pin);
        if slot.eventful != 0 {
            fold_events(&mut cells.pins, &slot.pin);
        }
    }
    if listened {
        emit(&slot.pin);
    }
    slot::release(slot);
    true
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
