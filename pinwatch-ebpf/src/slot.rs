//! Pins in flight: a table addressed by thread id, with a few slots for threads
//! that collide. A hash map would cost some 900 instructions per pin
//! for insert and delete; a claim costs one atomic addition.

use core::arch::asm;
use core::mem::offset_of;

use pinwatch_common::params::{SLOT_WAYS, slot_set};
use pinwatch_common::record::{Phase, Pin, Slot};

use crate::maps::SLOTS;

/// What [`claim`] found.
pub enum Claim {
    /// The slot is the thread's.
    New(&'static mut Slot),
    /// It already was: the thread's previous pin was not seen to return.
    Stale(&'static mut Slot),
    /// Every slot that the thread may use belongs to another.
    Full,
}

#[inline(always)]
fn claims(slot: *mut Slot) -> u64 {
    // SAFETY: an aligned u64 in a map that is never freed while programs run.
    unsafe { (&raw mut (*slot).claims).read_volatile() }
}

/// Adds to the claims, atomically, without fetching: that needs 5.12. Spelled
/// as the instruction, since the target has no atomic additions in `core`.
#[inline(always)]
fn add_claims(slot: *mut Slot, n: i64) {
    // SAFETY: `BPF_ATOMIC | BPF_ADD` on an aligned u64 of a live map value.
    unsafe {
        asm!("lock *(u64 *)({slot} + 0) += {n}", slot = in(reg) slot, n = in(reg) n);
    }
}

const _: () = assert!(offset_of!(Slot, claims) == 0);

#[inline(always)]
fn owner(slot: *mut Slot) -> u32 {
    // SAFETY: an aligned u32 in a map value. Other threads may write it, but
    // none of them writes or clears this thread's id.
    unsafe { (&raw const (*slot).pin.tid).read_volatile() }
}

/// The slots that a thread may use.
#[inline(always)]
fn slots(tid: u32) -> impl Iterator<Item = *mut Slot> {
    let set = SLOTS
        .get_ptr_mut(slot_set(tid))
        .map(|set| set.cast::<Slot>());
    // SAFETY: the set has as many.
    set.into_iter()
        .flat_map(|set| (0..SLOT_WAYS).map(move |way| unsafe { set.add(way) }))
}

/// Takes a slot for a thread that enters a pin.
#[inline(always)]
pub fn claim(tid: u32) -> Claim {
    for slot in slots(tid) {
        if owner(slot) == tid {
            // SAFETY: the slot is this thread's: nobody else writes its pin.
            return Claim::Stale(unsafe { &mut *slot });
        }
        if claims(slot) != 0 {
            continue;
        }
        // Reading back is enough: of two threads that both added, the later one
        // in the modification order of this one cell reads 2 and takes it back.
        add_claims(slot, 1);
        if claims(slot) == 1 {
            // SAFETY: sole claimant, so the owner until `release`.
            return Claim::New(unsafe { &mut *slot });
        }
        add_claims(slot, -1);
    }
    Claim::Full
}

/// The slot of a thread that has a pin in flight.
#[inline(always)]
pub fn find(tid: u32) -> Option<&'static mut Slot> {
    for slot in slots(tid) {
        if owner(slot) == tid {
            // SAFETY: the slot is this thread's: nobody else writes its pin.
            return Some(unsafe { &mut *slot });
        }
    }
    None
}

/// Empties the words of a claimed slot that its last pin has left something in
/// and the next may not write, and sets what its return will want. The words of an
/// eventful one were emptied after it.
#[inline(always)]
pub fn clear(slot: &mut Slot, max_folios: u64, pages: u64) {
    // SAFETY: fields of a live reference. Volatile, as `clear_word`.
    unsafe {
        (&raw mut slot.max_folios).write_volatile(max_folios);
        (&raw mut slot.pages).write_volatile(pages);
    }
    if slot.eventful != 0 {
        // Its return was missed.
        clear_events(slot);
    }
    for word in EVERY {
        clear_word(&mut slot.pin, word);
    }
}

#[inline(always)]
fn clear_events(slot: &mut Slot) {
    slot.eventful = 0;
    for word in EVENTS {
        clear_word(&mut slot.pin, word);
    }
}

/// Volatile, or a row of them becomes a call of `memset`, which goes byte by byte
/// here.
#[inline(always)]
fn clear_word(pin: &mut Pin, word: usize) {
    // SAFETY: a word of a live reference, whose type has no invalid values.
    unsafe { (&raw mut *pin).cast::<u64>().add(word).write_volatile(0) };
}

const fn word(offset: usize) -> usize {
    offset / size_of::<u64>()
}

/// Words that every pin fills, but for those that its entry writes.
const EVERY: [usize; 6] = [
    word(offset_of!(Pin, duration_ns)),
    word(offset_of!(Pin, returned)),
    word(offset_of!(Pin, phase_ns)) + Phase::Gup as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Collect as usize,
    word(offset_of!(Pin, passes)),
    word(offset_of!(Pin, origin)),
];
/// Words that only an eventful pin fills.
const EVENTS: [usize; 10] = [
    word(offset_of!(Pin, unpinnable)),
    word(offset_of!(Pin, moved)),
    word(offset_of!(Pin, failed)),
    word(offset_of!(Pin, repinned)),
    word(offset_of!(Pin, phase_ns)) + Phase::Drain as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Migrate as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Other as usize,
    word(offset_of!(Pin, drains)),
    word(offset_of!(Pin, isolate_failures)),
    word(offset_of!(Pin, migrate_ret)),
];
/// Words that its entry writes: when, who, and how many pages. It writes the flags
/// too, which share a word with `drains`.
const ENTRY: usize = 3;
const _: () = assert!(Phase::Gup as u8 == 0);
const _: () = assert!((EVERY.len() + EVENTS.len() + ENTRY) * size_of::<u64>() == size_of::<Pin>());

/// Makes a slot visible as the thread's, after everything else in it is written.
#[inline(always)]
pub fn show(slot: &mut Slot, tid: u32) {
    // SAFETY: a field of a live reference.
    unsafe { (&raw mut slot.pin.tid).write_volatile(tid) };
}

/// Gives a slot back.
#[inline(always)]
pub fn release(slot: &mut Slot) {
    // SAFETY: a field of a live reference.
    unsafe { (&raw mut slot.pin.tid).write_volatile(0) };
    if slot.eventful != 0 {
        clear_events(slot);
    }
    add_claims(slot, -1);
}
