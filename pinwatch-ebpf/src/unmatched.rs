//! Returns without an entry: calls whose entry was not seen, or found no room.
//!
//! Each is counted as lost once, whichever of the twins at its entry and its return the kernel skips. If its entry
//! found no room, the last program there counts it. Otherwise the first program that sees its return does.
//!
//! Four words of the thread's slot set record which of these calls are already counted: see [`Slot::of_set`]. Other calls
//! do not read them.

use pinwatch_common::limits::SLOT_WAYS;
use pinwatch_common::record::Slot;

use crate::kernel;
use crate::maps::add_atomically;
use crate::slot;

/// Table of calls in flight. The discriminant is the slot whose word counts the calls that found no room.
#[derive(Clone, Copy)]
pub enum Table {
    Pins = 0,
    Fast = 1,
}

/// Slot whose word has the frame of a displaced call.
const DISPLACED: usize = 2;
/// Slot whose word has the frame of a call that the first program at its return has counted.
const COUNTED: usize = 3;
const _: () = assert!(COUNTED < SLOT_WAYS);

/// Word of the running thread's slot set.
#[inline(always)]
fn word(way: usize) -> Option<*mut u64> {
    let slot: *mut Slot = slot::slots(kernel::tid()).nth(way)?;
    // SAFETY: takes an address within the slot and accesses nothing.
    Some(unsafe { &raw mut (*slot).of_set })
}

#[inline(always)]
fn read(word: *mut u64) -> u64 {
    // SAFETY: an aligned u64 of a live map value.
    unsafe { word.read_volatile() }
}

#[inline(always)]
fn write(word: *mut u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe { word.write_volatile(value) }
}

/// Notes that the entry of a call found no room and is counted as lost. Its return will follow.
#[inline(always)]
pub fn note_without_room(table: Table) {
    if let Some(calls) = word(table as usize) {
        add_atomically(calls, 1);
    }
}

/// Notes that a nested call took the slot of the call at `frame`, which is counted as lost and will
/// still return.
///
/// A set remembers one such call. In the sources of all supported kernels, calls do not nest.
#[inline(always)]
pub fn note_displaced(frame: u64) {
    if let Some(displaced) = word(DISPLACED) {
        write(displaced, frame);
    }
}

/// Whether this program must count a return without an entry. `HAS_TWIN`: another program at the return
/// follows.
#[inline(always)]
pub fn must_count<const HAS_TWIN: bool>(table: Table, frame: u64) -> bool {
    let (Some(calls), Some(displaced), Some(counted)) =
        (word(table as usize), word(DISPLACED), word(COUNTED))
    else {
        return true;
    };
    if !HAS_TWIN && read(counted) == frame {
        write(counted, 0);
        return false;
    }
    if read(displaced) == frame {
        if !HAS_TWIN {
            write(displaced, 0);
        }
        return false;
    }
    if read(calls) as i64 > 0 {
        if !HAS_TWIN {
            add_atomically(calls, u64::MAX);
        }
        return false;
    }
    if HAS_TWIN {
        write(counted, frame);
    }
    true
}
