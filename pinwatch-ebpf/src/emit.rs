//! The only writer to the ring buffer. Does nothing unless somebody listens, and
//! writes what somebody wants.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_get_current_comm;
use pinwatch_common::counter::Loss;
use pinwatch_common::params::RING_BYTES;
use pinwatch_common::record::{Pin, PinEvent};

use crate::maps::{EVENTS, listened_to, listening, lose};

/// A wake-up costs more than all of a pin's measurement, so the reader polls and
/// is woken only when a quarter of the buffer waits for it.
const WAKE_AT: u64 = RING_BYTES as u64 / 4;

#[inline(always)]
pub fn emit(pin: &Pin) {
    if !listened_to() {
        return;
    }
    let comm = comm();
    if listening().wants(pin, comm) {
        send(pin, comm);
    }
}

/// Tells of a pin that begins a retry.
#[inline(always)]
pub fn emit_retry(pin: &Pin) {
    if !listened_to() {
        return;
    }
    let comm = comm();
    if listening().wants_retry(pin, comm) {
        send(pin, comm);
    }
}

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

/// The thread's name in words, as `pinwatch_common::listen::name_words` has it.
/// aya's wrapper zeroes the bytes first, one by one.
#[inline(always)]
fn comm() -> [u64; 2] {
    let mut comm = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: the helper fills all bytes, with zeroes if it fails.
    unsafe {
        bpf_get_current_comm(comm.as_mut_ptr().cast(), size_of::<[u64; 2]>() as u32);
        comm.assume_init()
    }
}

/// Fills an event by words, as a plain copy of this size goes byte by byte here.
#[inline(always)]
fn write(event: *mut PinEvent, pin: &Pin, comm: [u64; 2]) {
    let (to, from) = (event.cast::<u64>(), (&raw const *pin).cast::<u64>());
    for word in 0..PIN_WORDS {
        // SAFETY: the words of the event's first field and of the same type.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
    let [first, second] = comm;
    // SAFETY: the words of its second and last. One by one: LLVM may make a loop of a `for`, which
    // old verifiers refuse.
    unsafe {
        to.add(PIN_WORDS).write_volatile(first);
        to.add(PIN_WORDS + 1).write_volatile(second);
    }
}

const PIN_WORDS: usize = size_of::<Pin>() / size_of::<u64>();
const _: () = assert!(core::mem::offset_of!(PinEvent, pin) == 0);
const _: () = assert!(core::mem::offset_of!(PinEvent, comm) == PIN_WORDS * size_of::<u64>());
