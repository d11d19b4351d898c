//! The only writer to the ring buffer. Does nothing unless somebody listens.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_get_current_comm;
use pinwatch_common::counter::Loss;
use pinwatch_common::params::RING_BYTES;
use pinwatch_common::record::{Pin, PinEvent};

use crate::maps::{EVENTS, listened_to, lose};

/// A wake-up costs more than all of a pin's measurement, so the reader polls and
/// is woken only when a quarter of the buffer waits for it.
const WAKE_AT: u64 = RING_BYTES as u64 / 4;

#[inline(always)]
pub fn emit(pin: &Pin) {
    if !listened_to() {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<PinEvent>(0) else {
        lose(Loss::RingFull);
        return;
    };
    entry.write(PinEvent {
        pin: *pin,
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
    let flags = if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(flags));
}
