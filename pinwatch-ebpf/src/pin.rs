//! Beginning and end of a pin, whatever function it goes through.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, warn};
use pinwatch_common::counter::Loss;
use pinwatch_common::fold::fold_pin;
use pinwatch_common::record::{ISOLATES, PHASES, Phase, Pin, Slot};

use crate::emit::emit;
use crate::kernel;
use crate::maps::{cells, lose};
use crate::slot::{self, Claim};

#[inline(always)]
pub fn enter(ctx: &impl EbpfContext, gup_flags: u32, requested: u64, max_folios: u32) {
    let (tgid, tid) = kernel::tgid_tid();
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
    slot.max_folios = max_folios as u64;
    slot::start(
        slot,
        Pin {
            start_ns: kernel::now(),
            duration_ns: 0,
            tgid,
            tid,
            requested,
            returned: 0,
            unpinnable: 0,
            moved: 0,
            failed: 0,
            repinned: 0,
            phase_ns: [0; PHASES],
            migrate_calls: 0,
            passes: 0,
            drains: 0,
            gup_flags,
            isolate_failures: [0; ISOLATES],
            migrate_ret: 0,
            origin: kernel::origin(),
            phase: Phase::Gup as u8,
            drained_in: 0,
            awaits_result: 0,
            reserved: 0,
        },
    );
}

/// Ends this thread's pin; false if it has none. `returned` turns what the
/// function returned into base pages or `-errno`.
#[inline(always)]
pub fn exit(returned: impl FnOnce(&Slot) -> i64) -> bool {
    let Some(slot) = slot::find(kernel::tid()) else {
        return false;
    };
    let returned = returned(slot);
    let now = kernel::now();
    let Slot { pin, mark_ns, .. } = slot;
    pin.enter_phase(mark_ns, now, Phase::Other);
    pin.duration_ns = now.wrapping_sub(pin.start_ns);
    pin.returned = returned;
    if let Some(cells) = cells() {
        fold_pin(&mut cells.pins, pin);
    }
    emit(pin);
    slot::release(slot);
    true
}
