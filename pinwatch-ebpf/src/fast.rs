//! Long-term calls of GUP-fast, which pins what it can without the mmap lock and
//! calls the slow path for the rest. What a thread's running call has met sits
//! in a hash map: this is off by default, so nothing else pays for it.

use pinwatch_common::counter::Loss;

use crate::kernel;
use crate::maps::{FAST, cells, lose};

/// What a call has met, in bits.
const SLOW_PATH: u8 = 1;
const FAILURE: u8 = 2;

/// A call begins.
#[inline(always)]
pub fn enter() {
    let tid = kernel::tid();
    if FAST.get_ptr(tid).is_some() {
        lose(Loss::FastStale);
    }
    if FAST.insert(tid, 0, 0).is_err() {
        lose(Loss::FastFull);
    }
}

#[inline(always)]
pub fn slow_path_taken(tid: u32) {
    meet(tid, SLOW_PATH);
}

#[inline(always)]
pub fn slow_path_failed(tid: u32) {
    meet(tid, FAILURE);
}

#[inline(always)]
fn meet(tid: u32, what: u8) {
    if kernel::watches_fast_path()
        && let Some(met) = FAST.get_ptr_mut(tid)
    {
        // SAFETY: only this thread writes its own value.
        unsafe { *met |= what };
    }
}

/// A call ends, with `ret` pages or `-errno`; false if it was not seen to begin.
#[inline(always)]
pub fn exit(ret: i32) -> bool {
    let tid = kernel::tid();
    let Some(met) = FAST.get_ptr(tid) else {
        return false;
    };
    // SAFETY: only this thread writes its own value.
    let met = unsafe { *met };
    let _ = FAST.remove(tid);
    if let Some(cells) = cells() {
        let fast = &mut cells.fast;
        if met & SLOW_PATH == 0 {
            fast.fast = fast.fast.wrapping_add(1);
        } else {
            fast.slow = fast.slow.wrapping_add(1);
        }
        if met & FAILURE != 0 && ret >= 0 {
            fast.hidden = fast.hidden.wrapping_add(1);
        }
    }
    true
}

/// A thread ends.
#[inline(always)]
pub fn forget(tid: u32) {
    if kernel::watches_fast_path() && FAST.get_ptr(tid).is_some() {
        let _ = FAST.remove(tid);
        lose(Loss::FastReaped);
    }
}
