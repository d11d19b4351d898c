//! Pins in flight: a table addressed by thread id, with a few slots for threads
//! that collide. A hash map would cost some 900 instructions per pin
//! for insert and delete; a claim costs one atomic addition.

use core::mem::offset_of;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{Ordering, compiler_fence};

use pinwatch_common::params::{SLOT_WAYS, slot_set};
use pinwatch_common::record::{Call, Flight, ONE_SWEEP, Phase, Pin, Seen, Slot};

use crate::kernel::Thread;
use crate::maps::{SLOTS, add_atomically};

/// A slot that the running thread owns. Only this thread writes the pin in it, and no program of
/// another thread looks at it; user space reads it at any time.
#[derive(Clone, Copy)]
pub struct Held(*mut Slot);

impl Deref for Held {
    type Target = Flight;

    #[inline(always)]
    fn deref(&self) -> &Flight {
        // SAFETY: a live map value whose owner is the running thread.
        unsafe { &(*self.0).flight }
    }
}

impl DerefMut for Held {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Flight {
        // SAFETY: as above. The words that other threads look at are beside the flight.
        unsafe { &mut (*self.0).flight }
    }
}

impl Held {
    /// Thread and process.
    #[inline(always)]
    fn owner(&self) -> u64 {
        // SAFETY: an aligned u64 of a live map value that only this thread writes.
        unsafe { (&raw const (*self.0).owner).read_volatile() }
    }

    /// Readies what only eventful pins need: see [`Flight::begin_events`].
    #[inline(always)]
    pub fn begin_events(&mut self) {
        if self.pin.eventful == 0 {
            let owner = self.owner();
            (**self).begin_events(owner);
        }
    }
}

/// What [`claim`] found.
pub enum Claim {
    /// The slot is the thread's.
    New(Held),
    /// It already was.
    Own(Held),
    /// Every slot that the thread may use belongs to another.
    Full,
}

#[inline(always)]
fn claims(slot: *mut Slot) -> u64 {
    // SAFETY: an aligned u64 in a map that is never freed while programs run.
    unsafe { (&raw mut (*slot).claims).read_volatile() }
}

#[inline(always)]
fn add_claims(slot: *mut Slot, n: i64) {
    // SAFETY: only the address is made.
    add_atomically(unsafe { &raw mut (*slot).claims }, n as u64);
}

#[inline(always)]
fn is_owned_by(slot: *mut Slot, tid: u32) -> bool {
    // SAFETY: the lower half of an aligned u64 in a map value. Other threads may write it, but
    // none of them writes or clears this thread's id.
    let owner = unsafe { (&raw const (*slot).owner).cast::<u32>().read_volatile() };
    owner == tid
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
///
/// Two threads that claim the last free slot of a set at the same moment can both give it up. Each
/// pin is then counted as `SlotsFull`, so measured and lost pins still add up.
#[inline(always)]
pub fn claim(tid: u32) -> Claim {
    for slot in slots(tid) {
        if is_owned_by(slot, tid) {
            return Claim::Own(Held(slot));
        }
        // Reading back is enough: of two threads that both added, the later one
        // in the modification order of this one cell reads 2 and takes it back.
        // Not reading before spares all those that find their first slot free.
        add_claims(slot, 1);
        if claims(slot) == 1 {
            return Claim::New(Held(slot));
        }
        add_claims(slot, -1);
    }
    Claim::Full
}

/// The slot of a thread that has a pin in flight.
#[inline(always)]
pub fn find(tid: u32) -> Option<Held> {
    for slot in slots(tid) {
        if is_owned_by(slot, tid) {
            return Some(Held(slot));
        }
    }
    None
}

/// Stores the identity of the call. Where no program is skipped, only a nested
/// call can be taken for it, which has another place on the stack.
#[inline(always)]
pub fn identify<const HAS_TWIN: bool>(slot: &mut Flight, frame: u64, start: impl FnOnce() -> u64) {
    slot.call.frame = frame;
    if HAS_TWIN {
        slot.call.start = start();
    }
}

/// Whether the pin in the slot is this call.
#[inline(always)]
pub fn is<const HAS_TWIN: bool>(slot: &Flight, frame: u64, start: impl FnOnce() -> u64) -> bool {
    slot.call.frame == frame && (!HAS_TWIN || slot.call.start == start())
}

/// Begins a pin in a claimed slot, by as few words as that takes: what a return writes is left
/// as the last pin left it, and what an eventful pin leaves was emptied after it. All but when and
/// for whom, which is asked for next.
#[inline(always)]
pub fn begin(slot: &mut Flight, gup_flags: u32, requested: u64) {
    slot.pin.requested = requested;
    slot.pin.gup_flags = gup_flags;
    set_word(&mut slot.pin, COURSE, 0);
}

/// Says whose it is and which programs have seen its entry, and that nothing is known of its end:
/// four bytes in one.
#[inline(always)]
pub fn set_origin(slot: &mut Flight, origin: u8, ended: u8) {
    let word = u32::from(origin) | u32::from(ended) << 16;
    // SAFETY: four bytes of a live reference, aligned as below.
    unsafe {
        (&raw mut slot.pin)
            .byte_add(ORIGIN)
            .cast::<u32>()
            .write_volatile(word);
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
pub fn course(slot: &Flight) -> u64 {
    // SAFETY: a word of a live reference.
    unsafe { (&raw const slot.pin).cast::<u64>().add(COURSE).read() }
}

/// The first sweep begins.
#[inline(always)]
pub fn begin_sweep(slot: &mut Flight, now: u64) {
    slot.mark_ns = now;
    set_word(&mut slot.pin, COURSE, ONE_SWEEP);
}

/// Calls a function with each number: LLVM makes a loop of a `for` over as many, and old verifiers
/// refuse loops.
macro_rules! each {
    ($($n:literal)*, $act:expr) => { $($act($n);)* };
}

/// Clears the fields of an eventful pin, and with `HAS_TWIN` the counts that second programs keep.
#[inline(always)]
pub fn clear_events<const HAS_TWIN: bool>(slot: &mut Flight) {
    let Flight { pin, seen, .. } = slot;
    each!(0 1 2 3 4 5 6 7 8 9, |n: usize| set_word(pin, EVENTS[n], 0));
    set_word(pin, COURSE, 0);
    if HAS_TWIN {
        let words = (&raw mut *seen).cast::<u64>();
        // SAFETY: a word of a live reference, whose type has no invalid values.
        each!(0 1 2 3, |n: usize| unsafe { words.add(n).write_volatile(0) });
    }
}

const _: () = assert!(size_of::<Seen>() == 4 * size_of::<u64>());

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

/// Words that only an eventful pin fills, but for those that [`Flight::begin_events`] does.
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
/// Words that every pin writes (start, pages requested, flags, course), and those that an eventful pin
/// writes at its first event (thread and process, duration, result, two phases).
const EVERY: usize = 4 + 5;
const _: () = assert!((EVERY + EVENTS.len()) * size_of::<u64>() == size_of::<Pin>());

/// Makes a slot visible as the thread's, after everything else in it is written: user space would
/// otherwise see when the last pin began for when this one did.
#[inline(always)]
pub fn show(slot: &mut Held, thread: Thread, now: u64) {
    slot.pin.start_ns = now;
    compiler_fence(Ordering::Release);
    // SAFETY: an aligned u64 of a live map value.
    unsafe { (&raw mut (*slot.0).owner).write_volatile(thread.0) };
}

/// Whether the pin in the slot was a call in this place, which has returned.
#[inline(always)]
pub fn has_returned_from(slot: &Flight, frame: u64) -> bool {
    slot.call.frame == frame.wrapping_add(Call::RETURNED)
}

/// Ends the pin in a return program that others follow. The slot stays the thread's, so that they find
/// that there is nothing to do, and the last gives it back.
#[inline(always)]
pub fn retire(slot: &mut Flight) {
    slot.call.frame += Call::RETURNED;
}

/// Gives a slot back.
#[inline(always)]
pub fn release<const HAS_TWIN: bool>(mut slot: Held) {
    if slot.pin.eventful != 0 {
        clear_events::<HAS_TWIN>(&mut slot);
    }
    release_plain::<HAS_TWIN>(slot);
}

/// Gives the slot of a pin without events back.
#[inline(always)]
pub fn release_plain<const HAS_TWIN: bool>(mut slot: Held) {
    if HAS_TWIN {
        slot.seen.passes = 0;
    }
    // SAFETY: an aligned word of a live map value. The lower half is what tells the owner.
    unsafe { (&raw mut (*slot.0).owner).cast::<u32>().write_volatile(0) };
    add_claims(slot.0, -1);
}

/// A call found no slot: its return must not be taken for one whose entry was missed.
#[inline(always)]
pub fn note_without_slot(tid: u32) {
    if let Some(first) = slots(tid).next() {
        // SAFETY: only the address is made.
        add_atomically(unsafe { &raw mut (*first).without_slot }, 1);
    }
}

/// A nested call took the slot of the call at `frame`, which was counted as lost and may yet return.
/// One is remembered per set: calls do not nest on any kernel that was read.
#[inline(always)]
pub fn note_displaced(tid: u32, frame: u64) {
    if let Some(first) = slots(tid).next() {
        // SAFETY: an aligned u64 of a live map value, written whole.
        unsafe { (&raw mut (*first).displaced).write_volatile(frame) };
    }
}

/// Whether a return without a pin was accounted for at its entry; each entry excuses one.
#[inline(always)]
pub fn was_accounted_for(tid: u32, frame: u64) -> bool {
    let Some(first) = slots(tid).next() else {
        return false;
    };
    // SAFETY: only addresses are made.
    let (nested, without_slot) =
        unsafe { (&raw mut (*first).displaced, &raw mut (*first).without_slot) };
    // SAFETY: aligned words of a live map value, read and written whole.
    unsafe {
        if nested.read_volatile() == frame {
            nested.write_volatile(0);
            return true;
        }
        if without_slot.read_volatile() as i64 <= 0 {
            return false;
        }
    }
    add_atomically(without_slot, u64::MAX);
    true
}
