//! Events: the only writer of the ring buffer. Sends nothing while no follower is connected.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use pinwatch_common::hold::HoldRecord;
use pinwatch_common::limits::RING_BYTES;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::refusal::Refusal;

use crate::kernel;
use crate::maps::{EVENTS, event_filter, has_followers, lose};
use crate::weak;

/// Number of unread bytes at which the reader is woken.
///
/// A wake-up costs more than measuring a pin. The reader polls, and is woken only when a quarter of
/// the buffer is full.
const WAKE_AT: u64 = RING_BYTES as u64 / 4;

/// Sends the event of a pin that returned, if a follower wants it.
#[inline(always)]
pub fn send_return(pin: &Pin) {
    if !has_followers() {
        return;
    }
    let comm = kernel::comm();
    if event_filter().wants(pin, comm) {
        send(pin, comm);
    }
}

/// Sends an event of a pin that begins a retry, if a follower wants it.
#[inline(always)]
pub fn send_retry(pin: &Pin) {
    if !has_followers() {
        return;
    }
    let comm = kernel::comm();
    if event_filter().wants_retry(pin, comm) {
        send(pin, comm);
    }
}

/// Sends the end of a hold. User space selects the followers that had its pin.
#[inline(always)]
pub fn send_hold(hold: &HoldRecord) {
    if has_followers() {
        send(&hold.event().pin, [0; 2]);
    }
}

/// Sends a refusal. User space selects the followers that want it.
#[inline(always)]
pub fn send_refusal(refusal: &Refusal) {
    if has_followers() {
        send(&refusal.pin(), kernel::comm());
    }
}

/// Sends an event, or counts it as lost if the ring buffer is full.
#[inline(always)]
fn send(pin: &Pin, comm: [u64; 2]) {
    let Some(mut entry) = EVENTS.reserve::<PinEvent>(0) else {
        lose(Loss::RingFull);
        return;
    };
    write(entry.as_mut_ptr(), pin, comm);
    let flags = if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(flags));
}

/// Fills an event word by word: LLVM would copy it byte by byte.
#[inline(always)]
fn write(event: *mut PinEvent, pin: &Pin, comm: [u64; 2]) {
    let (to, from) = (event.cast::<u64>(), (&raw const *pin).cast::<u64>());
    for word in 0..PIN_WORDS {
        // SAFETY: both pointers stay within a `Pin`, which is the event's first field.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
    let [first, second] = comm;
    // Without a `for`, which LLVM may compile to a loop: old verifiers refuse loops.
    // SAFETY: the two words of the event's last field.
    unsafe {
        to.add(PIN_WORDS).write_volatile(first);
        to.add(PIN_WORDS + 1).write_volatile(second);
    }
    weak::write_holder(to.wrapping_add(PIN_WORDS + 2), pin);
}

const PIN_WORDS: usize = size_of::<Pin>() / size_of::<u64>();
const _: () = assert!(core::mem::offset_of!(PinEvent, pin) == 0);
const _: () =
    assert!(core::mem::offset_of!(PinEvent, holder) == (PIN_WORDS + 2) * size_of::<u64>());
const _: () = assert!(core::mem::offset_of!(PinEvent, comm) == PIN_WORDS * size_of::<u64>());
