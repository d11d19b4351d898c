//! Slots of pins in flight: a table addressed by thread id, with a few slots for threads that collide.
//!
//! A claim costs one atomic addition. Insert and delete in a hash map would cost about 900 instructions
//! per pin.

use core::mem::offset_of;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{Ordering, compiler_fence};

use pinwatch_common::limits::{SLOT_WAYS, slot_set};
use pinwatch_common::record::{Call, Flight, ONE_PASS, Phase, Pin, Seen, Slot};
use pinwatch_common::verifier_hint::forgotten;

use crate::kernel::{self, Thread};
use crate::maps::{SLOTS, add_atomically};

/// Slot that the running thread owns.
///
/// Only programs of this thread access its flight. User space can read it at any time.
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
        // SAFETY: as in `deref`. The words that other threads access are outside the flight.
        unsafe { &mut (*self.0).flight }
    }
}

impl Held {
    /// Thread and process id, as in [`Slot::owner`].
    #[inline(always)]
    pub fn owner(&self) -> u64 {
        // SAFETY: an aligned u64 of a live map value that only this thread writes.
        unsafe { (&raw const (*self.0).owner).read_volatile() }
    }

    /// Initialises the fields of an eventful pin at its first event: see [`Flight::begin_events`].
    #[inline(always)]
    pub fn begin_events(&mut self) {
        if self.pin.eventful == 0 {
            let owner = self.owner();
            (**self).begin_events(owner);
        }
    }
}

/// Result of [`claim`].
pub enum Claim {
    /// Free slot, which the thread now owns.
    New(Held),
    /// Slot of the thread's previous pin, which it still owns.
    Own(Held),
    /// All slots of the thread's set belong to other threads.
    Full,
}

#[inline(always)]
fn claims(slot: *mut Slot) -> u64 {
    // SAFETY: an aligned u64 in a map that is never freed while programs run.
    unsafe { (&raw mut (*slot).claims).read_volatile() }
}

#[inline(always)]
fn add_claims(slot: *mut Slot, n: i64) {
    // SAFETY: takes an address within the slot and accesses nothing.
    add_atomically(unsafe { &raw mut (*slot).claims }, n as u64);
}

#[inline(always)]
fn is_owned_by(slot: *mut Slot, tid: u32) -> bool {
    // SAFETY: the lower half of an aligned u64 in a live map value. Other threads may write it, but
    // none of them writes or clears this thread's id.
    let owner = unsafe { (&raw const (*slot).owner).cast::<u32>().read_volatile() };
    owner == tid
}

/// First slot of the set that a thread may use.
#[inline(always)]
fn set(tid: u32) -> Option<*mut Slot> {
    let set = SLOTS.get_ptr_mut(slot_set(tid, kernel::slot_secret()))?;
    Some(set.cast())
}

/// Slots that a thread may use: those of its set.
#[inline(always)]
pub fn slots(tid: u32) -> impl Iterator<Item = *mut Slot> {
    // SAFETY: a set has `SLOT_WAYS` slots.
    set(tid)
        .into_iter()
        .flat_map(|set| (0..SLOT_WAYS).map(move |way| unsafe { set.add(way) }))
}

/// Claims a slot for a thread that enters a pin.
///
/// Two threads that claim the last free slot of a set at the same moment can both give it up. Each
/// pin is then counted as `SlotsFull`, so measured and lost pins still add up.
#[inline(always)]
pub fn claim(tid: u32) -> Claim {
    for slot in slots(tid) {
        if is_owned_by(slot, tid) {
            return Claim::Own(Held(slot));
        }
        // No fetching addition is needed. Of two threads that add, the later one in the cell's
        // modification order reads 2 and takes its claim back. A read before the addition would cost
        // every thread whose first slot is free.
        add_claims(slot, 1);
        if claims(slot) == 1 {
            return Claim::New(Held(slot));
        }
        add_claims(slot, -1);
    }
    Claim::Full
}

/// Slot of a thread that has a pin in flight.
#[inline(always)]
pub fn find(tid: u32) -> Option<Held> {
    let set = set(tid)?;
    // Nearly every pin is in the first slot of its set.
    if is_owned_by(set, tid) {
        return Some(Held(set));
    }
    for way in 1..SLOT_WAYS {
        if let Some(slot) = at(set, way, tid) {
            return Some(slot);
        }
    }
    None
}

/// The slot at one place in the set, if the thread owns it. The verifier forgets the place.
#[inline(always)]
fn at(set: *mut Slot, way: usize, tid: u32) -> Option<Held> {
    // SAFETY: a set has `SLOT_WAYS` slots.
    let slot = unsafe { set.add(way) };
    if !is_owned_by(slot, tid) {
        return None;
    }
    // SAFETY: an aligned field of a live map value that this thread owns.
    let scratch = unsafe { &mut (*slot).flight.seen.scratch };
    let way = forgotten(way, scratch) & (SLOT_WAYS - 1);
    // SAFETY: as above.
    Some(Held(unsafe { set.add(way) }))
}

/// Stores the identity of the pin's call.
///
/// Where no program is skipped, only a nested call could be mistaken for it. A nested call has another
/// frame, so `start` is not needed.
#[inline(always)]
pub fn identify<const HAS_TWIN: bool>(slot: &mut Flight, frame: u64, start: impl FnOnce() -> u64) {
    slot.call.frame = frame;
    if HAS_TWIN {
        slot.call.start = start();
    }
}

/// Whether the pin in the slot belongs to this call.
#[inline(always)]
pub fn is_of_call<const HAS_TWIN: bool>(
    slot: &Flight,
    frame: u64,
    start: impl FnOnce() -> u64,
) -> bool {
    slot.call.frame == frame && (!HAS_TWIN || slot.call.start == start())
}

/// Begins a pin in a claimed slot, with as few stores as possible. [`set_origin`] and [`publish`]
/// complete it.
///
/// Fields that the return writes keep the previous pin's values. Fields of an eventful pin were cleared
/// after it.
#[inline(always)]
pub fn begin(slot: &mut Flight, gup_flags: u32, requested: u64) {
    slot.pin.requested = requested;
    slot.pin.gup_flags = gup_flags;
    set_word(&mut slot.pin, PROGRESS, 0);
}

/// Sets [`Pin::origin`] and [`Pin::ended`] and clears the two bytes beside them, in one store.
#[inline(always)]
pub fn set_origin(slot: &mut Flight, origin: u8, ended: u8) {
    let word = u32::from(origin) | u32::from(ended) << 16;
    // SAFETY: four bytes of a live reference; the assertion below checks alignment and fields.
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
        && offset_of!(Pin, sampled_place) == ORIGIN + 1
        && offset_of!(Pin, ended) == ORIGIN + 2
        && offset_of!(Pin, outcome) == ORIGIN + 3
);

/// Progress of a pin: 0 before its first pass, then [`ONE_PASS`], then any other value.
#[inline(always)]
pub fn progress(slot: &Flight) -> u64 {
    // SAFETY: an aligned word of a live reference.
    unsafe { (&raw const slot.pin).cast::<u64>().add(PROGRESS).read() }
}

/// Begins the first pass at `now`.
#[inline(always)]
pub fn begin_first_pass(slot: &mut Flight, now: u64) {
    slot.mark_ns = now;
    set_word(&mut slot.pin, PROGRESS, ONE_PASS);
}

/// Begins a phase now and marks the pin as eventful.
#[inline(always)]
pub fn enter_phase(slot: &mut Held, next: Phase) {
    slot.begin_events();
    let Flight { pin, mark_ns, .. } = &mut **slot;
    pin.enter_phase(mark_ns, kernel::now(), next);
}

/// Calls a function with each number. LLVM would compile a `for` over them to a loop, which old
/// verifiers refuse.
macro_rules! each {
    ($($n:literal)*, $act:expr) => { $($act($n);)* };
}

/// Clears the fields of an eventful pin and, with `HAS_TWIN`, the counts that second programs keep.
#[inline(always)]
pub fn clear_events<const HAS_TWIN: bool>(slot: &mut Flight) {
    if kernel::scans_again() {
        slot.scan_page = 0;
    }
    let Flight { pin, seen, .. } = slot;
    each!(0 1 2 3 4 5 6 7 8 9 10, |n: usize| set_word(pin, EVENTS[n], 0));
    set_word(pin, PROGRESS, 0);
    if HAS_TWIN {
        let words = (&raw mut *seen).cast::<u64>();
        // SAFETY: the words of a live reference, whose type has no invalid values.
        each!(0 1 2, |n: usize| unsafe { words.add(n).write_volatile(0) });
    }
}

const _: () = assert!(size_of::<Seen>() == 3 * size_of::<u64>());

/// Sets word `at` of a pin. Volatile, since LLVM would turn several stores into `memset`, which writes
/// byte by byte.
#[inline(always)]
fn set_word(pin: &mut Pin, at: usize, value: u64) {
    // SAFETY: a word of a live reference, whose type has no invalid values.
    unsafe { (&raw mut *pin).cast::<u64>().add(at).write_volatile(value) };
}

/// Index of the word at an offset in bytes.
const fn word(offset: usize) -> usize {
    assert!(offset.is_multiple_of(size_of::<u64>()));
    offset / size_of::<u64>()
}

/// Word of a pin with the fields of [`ONE_PASS`].
const PROGRESS: usize = word(offset_of!(Pin, passes));
const _: () = assert!(offset_of!(Pin, phase) == offset_of!(Pin, passes) + size_of::<u32>());

/// Words that only an eventful pin writes, except those that [`Flight::begin_events`] initialises.
const EVENTS: [usize; 11] = [
    word(offset_of!(Pin, unpinnable)),
    word(offset_of!(Pin, moved)),
    word(offset_of!(Pin, failed)),
    word(offset_of!(Pin, repinned)),
    word(offset_of!(Pin, blockers)),
    word(offset_of!(Pin, phase_ns)) + Phase::Drain as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Migrate as usize,
    word(offset_of!(Pin, phase_ns)) + Phase::Other as usize,
    word(offset_of!(Pin, migrate_calls)),
    word(offset_of!(Pin, isolate_failures)),
    word(offset_of!(Pin, isolate_failures)) + 1,
];
/// Number of the other words. Every pin writes four: start, requested pages, flags with origin, and
/// progress. An eventful pin writes five at its first event: ids, duration, result and two phases.
const EVERY: usize = 4 + 5;
const _: () = assert!((EVERY + EVENTS.len()) * size_of::<u64>() == size_of::<Pin>());

/// Publishes a slot as the thread's, after everything else in it is written. Otherwise user space could
/// read the previous pin's start as this one's.
#[inline(always)]
pub fn publish(slot: &mut Held, thread: Thread, now: u64) {
    slot.pin.start_ns = now;
    compiler_fence(Ordering::Release);
    // SAFETY: an aligned u64 of a live map value.
    unsafe { (&raw mut (*slot.0).owner).write_volatile(thread.0) };
}

/// Whether the slot holds the ended pin of a call at this frame.
#[inline(always)]
pub fn has_returned_from(slot: &Flight, frame: u64) -> bool {
    slot.call.frame == frame.wrapping_add(Call::RETURNED)
}

/// Marks the pin as ended, for the return programs that follow. The thread keeps the slot, so that they
/// can see that nothing is left to do; the last one releases it.
#[inline(always)]
pub fn retire(slot: &mut Flight) {
    slot.call.frame += Call::RETURNED;
}

/// Releases a slot.
#[inline(always)]
pub fn release<const HAS_TWIN: bool>(mut slot: Held) {
    if slot.pin.eventful != 0 {
        clear_events::<HAS_TWIN>(&mut slot);
    }
    release_plain::<HAS_TWIN>(slot);
}

/// Releases the slot of a pin without events.
#[inline(always)]
pub fn release_plain<const HAS_TWIN: bool>(mut slot: Held) {
    if HAS_TWIN {
        slot.seen.passes = 0;
    }
    // Only the lower half identifies the owner.
    // SAFETY: an aligned u32 of a live map value that this thread owns.
    unsafe { (&raw mut (*slot.0).owner).cast::<u32>().write_volatile(0) };
    add_claims(slot.0, -1);
}
