//! Pins in flight: a table addressed by thread id, with a few slots for threads
//! that collide. A hash map would cost some 900 instructions per pin
//! for insert and delete; a claim costs one atomic addition.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{Ordering, compiler_fence};

use pinwatch_common::params::{SLOT_WAYS, slot_set};
use pinwatch_common::record::{ONE_SWEEP, Phase, Pin, Slot};

use crate::kernel::Thread;
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
            let slot = unsafe { &mut *slot };
            clear_events(slot);
            return Claim::Stale(slot);
        }
        // Reading back is enough: of two threads that both added, the later one
        // in the modification order of this one cell reads 2 and takes it back.
        // Not reading before spares all those that find their first slot free.
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

/// Begins a pin in a claimed slot, by as few words as that takes: what a return writes is left
/// as the last pin left it, and what an eventful pin leaves was emptied after it. All but when and
/// for whom, which is asked for next.
#[inline(always)]
pub fn begin(slot: &mut Slot, gup_flags: u32, requested: u64) {
    slot.pin.requested = requested;
    slot.pin.gup_flags = gup_flags;
    set_word(&mut slot.pin, COURSE, 0);
}

/// Says whose it is, and that nothing is known of its end: four bytes in one.
#[inline(always)]
pub fn set_origin(slot: &mut Slot, origin: u8) {
    // SAFETY: four bytes of a live reference, aligned as below.
    unsafe {
        (&raw mut slot.pin)
            .byte_add(ORIGIN)
            .cast::<u32>()
            .write_volatile(origin.into());
    }
}

const ORIGIN: usize = offset_of!(Pin, origin);
const _: () = assert!(
    ORIGIN.is_multiple_of(size_of::<u32>())
        && offset_of!(Pin, sampled_zone) == ORIGIN + 1
        && offset_of!(Pin, ended) == ORIGIN + 2
        && offset_of!(Pin, migrated) == ORIGIN + 3
);

/// What a pin has done so far: 0, then [`ONE_SWEEP`], and then any number.
#[inline(always)]
pub fn course(slot: &Slot) -> u64 {
    // SAFETY: a word of a live reference.
    unsafe { (&raw const slot.pin).cast::<u64>().add(COURSE).read() }
}

/// The first sweep begins.
#[inline(always)]
pub fn begin_sweep(slot: &mut Slot, now: u64) {
    slot.mark_ns = now;
    set_word(&mut slot.pin, COURSE, ONE_SWEEP);
}

#[inline(always)]
fn clear_events(slot: &mut Slot) {
    for at in EVENTS {
        set_word(&mut slot.pin, at, 0);
    }
    set_word(&mut slot.pin, COURSE, 0);
}

/// Volatile, or a row of them becomes a call of `memset`, which goes byte by byte
/// here.
#[inline(always)]
fn set_word(pin: &mut Pin, at: usize, value: u64) {
    // SAFETY: a word of a live reference, whose type has no invalid values.
    unsafe { (&raw mut *pin).cast::<u64>().add(at).write_volatile(value) };
}

const fn word(offset: usize) -> usize {
    assert!(offset.is_multiple_of(size_of::<u64>()));
    offset / size_of::<u64>()
}

/// Its fields are as [`ONE_SWEEP`] has them.
const COURSE: usize = word(offset_of!(Pin, passes));
const _: () = assert!(offset_of!(Pin, phase) == offset_of!(Pin, passes) + size_of::<u32>());

/// Words that only an eventful pin fills, but for those that [`Slot::begin_events`] does.
const EVENTS: [usize; 10] = [
    word(offset_of!(Pin, unpinnable)),
    word(offset_of!(Pin, moved)),
    word(offset_of!(Pin, failed)),
    word(offset_of!(Pin, repinned)),
    word(offset_of!(Pin, phase_ns)) + Phase::Drain as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Migrate as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Other as usize,
    word(offset_of!(Pin, migrate_calls)),
    word(offset_of!(Pin, isolate_failures)),
    word(offset_of!(Pin, isolate_failures)) + 1,
];
/// Words that every pin writes: when it began, the threads, how many pages, flags, course;
/// how long it took, what it returned, and two phases.
const EVERY: usize = 5 + 4;
const _: () = assert!((EVERY + EVENTS.len()) * size_of::<u64>() == size_of::<Pin>());

/// Makes a slot visible as the thread's, after everything else in it is written: user space would
/// otherwise see when the last pin began for when this one did.
#[inline(always)]
pub fn show(slot: &mut Slot, thread: Thread, now: u64) {
    slot.pin.start_ns = now;
    compiler_fence(Ordering::Release);
    set_word(&mut slot.pin, OWNER, thread.0);
}

/// Its fields are as [`Thread`] has them.
const OWNER: usize = word(offset_of!(Pin, tid));
const _: () = assert!(offset_of!(Pin, tgid) == offset_of!(Pin, tid) + size_of::<u32>());

/// Gives a slot back.
#[inline(always)]
pub fn release(slot: &mut Slot) {
    if slot.pin.eventful != 0 {
        clear_events(slot);
    }
    release_plain(slot);
}

/// Gives the slot of a pin without events back.
#[inline(always)]
pub fn release_plain(slot: &mut Slot) {
    // SAFETY: a field of a live reference.
    unsafe { (&raw mut slot.pin.tid).write_volatile(0) };
    add_claims(slot, -1);
}
