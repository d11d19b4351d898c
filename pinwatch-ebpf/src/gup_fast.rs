//! Calls of GUP-fast, which pins pages without `mmap_lock` and calls the slow path for the
//! rest.
//!
//! A hash map holds the calls in flight. This measurement is off by default, so other pins pay nothing
//! for the map.

use pinwatch_common::cells::Add as _;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::Call;

use crate::kernel;
use crate::maps::{FAST, FastCall, Shared, cells, lose};
use crate::unmatched::{self, Table};

/// Bit of [`FastCall::seen`]: the call took the slow path.
const SLOW_PATH: u64 = 1;
/// Bit: the slow path failed.
const FAILURE: u64 = 2;
/// Bit: the first of two entry programs has run, and the second has not.
const ENTERED: u64 = 4;
/// Bit: the first of two return programs has run.
const RETURNED: u64 = 8;
/// Bit: the call is without `FOLL_LONGTERM`. It may take plain references instead of pins.
const SHORT_TERM: u64 = 16;

/// Call of a thread. Only the thread itself adds, changes and removes it.
#[inline(always)]
fn find(tid: u32) -> Option<&'static mut FastCall> {
    // SAFETY: a live map value that only this thread uses.
    FAST.get_ptr_mut(tid).map(|call| unsafe { &mut *call })
}

/// Whether calls with these flags are measured. Those that never take the slow path are not: some are made in
/// an NMI, where the running thread may be inside another call.
#[inline(always)]
pub fn is_measured(gup_flags: u32) -> bool {
    kernel::is_longterm(gup_flags) || kernel::may_take_slow_path(gup_flags)
}

/// Bits of a call with these flags.
#[inline(always)]
fn bits_of(gup_flags: u32) -> u64 {
    if kernel::is_longterm(gup_flags) {
        0
    } else {
        SHORT_TERM
    }
}

/// Begins a call. `HAS_TWIN`: [`enter_second`] follows.
#[inline(always)]
pub fn enter<const HAS_TWIN: bool>(call: Call, gup_flags: u32) {
    let entered = if HAS_TWIN { ENTERED } else { 0 };
    begin(kernel::tid(), call, bits_of(gup_flags) | entered);
}

/// Begins a call in the second program at an entry, if the kernel skipped the first.
#[inline(always)]
pub fn enter_second(call: Call, gup_flags: u32) {
    let (tid, bits) = (kernel::tid(), bits_of(gup_flags));
    match find(tid) {
        Some(of_first) if of_first.seen == bits | ENTERED && of_first.call == call => {
            of_first.seen = bits;
        }
        _ => begin(tid, call, bits),
    }
}

#[inline(always)]
fn begin(tid: u32, call: Call, seen: u64) {
    if let Some(stale) = find(tid)
        && stale.seen & RETURNED == 0
    {
        lose(Loss::FastStale);
    }
    // Of two programs at an entry, the second counts, as for pins.
    if FAST.insert(tid, FastCall { call, seen }, 0).is_err() && seen & ENTERED == 0 {
        lose(Loss::FastFull);
        unmatched::note_without_room(Table::Fast);
    }
}

/// Notes that the thread's call, if any, takes the slow path.
#[inline(always)]
pub fn slow_path_taken(tid: u32) {
    note(tid, SLOW_PATH);
}

/// Notes that the slow path of the thread's call, if any, failed.
#[inline(always)]
pub fn slow_path_failed(tid: u32) {
    note(tid, FAILURE);
}

#[inline(always)]
fn note(tid: u32, bit: u64) {
    if kernel::watches_fast_path()
        && let Some(call) = find(tid)
    {
        call.seen |= bit;
    }
}

/// Ends a call that returned `ret` pages or `-errno`. Returns false if its entry was not seen.
///
/// With `HAS_TWIN` the map entry is left for [`exit_second`].
#[inline(always)]
pub fn exit<const HAS_TWIN: bool>(call: Call, ret: i32) -> bool {
    let tid = kernel::tid();
    let Some(of_thread) = find(tid) else {
        return false;
    };
    if of_thread.call != call || of_thread.seen & RETURNED != 0 {
        return false;
    }
    fold(of_thread.seen, ret);
    if HAS_TWIN {
        of_thread.seen = RETURNED;
    } else {
        let _ = FAST.remove(tid);
    }
    true
}

/// Ends a call in the second program at a return, if the kernel skipped the first, and removes it. Returns false as
/// [`exit`] does.
#[inline(always)]
pub fn exit_second(call: Call, ret: i32) -> bool {
    let tid = kernel::tid();
    let Some(of_thread) = find(tid) else {
        return false;
    };
    if of_thread.call != call {
        return false;
    }
    if of_thread.seen & RETURNED == 0 {
        fold(of_thread.seen, ret);
    }
    let _ = FAST.remove(tid);
    true
}

/// Counts a call at `frame` that returned without an entry, unless it is counted already.
#[inline(always)]
pub fn count_unmatched<const HAS_TWIN: bool>(frame: u64) {
    if unmatched::must_count::<HAS_TWIN>(Table::Fast, frame) {
        lose(Loss::FastUnmatched);
    }
}

#[inline(always)]
fn fold(seen: u64, ret: i32) {
    let Some(cells) = cells() else { return };
    let fast = &mut cells.fast;
    let calls = match seen & (SLOW_PATH | SHORT_TERM) {
        0 => &mut fast.fast,
        SLOW_PATH => &mut fast.slow,
        SHORT_TERM => &mut fast.short_fast,
        _ => &mut fast.short_slow,
    };
    Shared::add(calls, 1);
    if seen & FAILURE != 0 && ret >= 0 {
        Shared::add(&mut fast.hidden, 1);
    }
}

/// Drops the call of a thread that exits.
#[inline(always)]
pub fn forget(tid: u32) {
    if kernel::watches_fast_path()
        && let Some(call) = find(tid)
    {
        let returned = call.seen & RETURNED != 0;
        let _ = FAST.remove(tid);
        if !returned {
            lose(Loss::FastReaped);
        }
    }
}
