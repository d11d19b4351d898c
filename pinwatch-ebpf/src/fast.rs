//! Long-term calls of GUP-fast, which pins what it can without the mmap lock and
//! calls the slow path for the rest. What a thread's running call has met sits
//! in a hash map: this is off by default, so nothing else pays for it.

use pinwatch_common::counter::Loss;
use pinwatch_common::fold::Add as _;
use pinwatch_common::record::Call;

use crate::kernel;
use crate::maps::{FAST, FastCall, Shared, cells, lose};

/// What a call has met, in bits.
const SLOW_PATH: u64 = 1;
const FAILURE: u64 = 2;
/// The first of two entry programs has seen the call, and the second not yet.
const ENTERED: u64 = 4;
/// The first of two return programs has seen the call.
const RETURNED: u64 = 8;

/// The thread's call. Only the thread itself adds, changes and removes it.
#[inline(always)]
fn find(tid: u32) -> Option<&'static mut FastCall> {
    // SAFETY: a live map value that only this thread uses.
    FAST.get_ptr_mut(tid).map(|call| unsafe { &mut *call })
}

/// A call begins. `HAS_TWIN` says whether [`enter_second`] follows.
#[inline(always)]
pub fn enter<const HAS_TWIN: bool>(call: Call) {
    begin(kernel::tid(), call, if HAS_TWIN { ENTERED } else { 0 });
}

/// The same by the second program at an entry: does it where the kernel skipped the first.
#[inline(always)]
pub fn enter_second(call: Call) {
    let tid = kernel::tid();
    match find(tid) {
        Some(of_first) if of_first.met == ENTERED && of_first.call == call => of_first.met = 0,
        _ => begin(tid, call, 0),
    }
}

#[inline(always)]
fn begin(tid: u32, call: Call, met: u64) {
    if let Some(stale) = find(tid)
        && stale.met & RETURNED == 0
    {
        lose(Loss::FastStale);
    }
    if FAST.insert(tid, FastCall { call, met }, 0).is_err() {
        lose(Loss::FastFull);
    }
}

/// A short-term call begins at `frame`, seen by a kprobe: see [`crate::pin::forget_returned`].
#[inline(always)]
pub fn forget_returned(frame: u64) {
    let tid = kernel::tid();
    if let Some(call) = find(tid)
        && call.call.frame <= frame
    {
        let _ = FAST.remove(tid);
        lose(Loss::FastStale);
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
fn meet(tid: u32, what: u64) {
    if kernel::watches_fast_path()
        && let Some(call) = find(tid)
    {
        call.met |= what;
    }
}

/// A call ends, with `ret` pages or `-errno`; false if it was not seen to begin. With `HAS_TWIN` its
/// entry is left to [`exit_second`].
#[inline(always)]
pub fn exit<const HAS_TWIN: bool>(call: Call, ret: i32) -> bool {
    let tid = kernel::tid();
    let Some(of_thread) = find(tid) else {
        return false;
    };
    if of_thread.call != call || of_thread.met & RETURNED != 0 {
        return false;
    }
    fold(of_thread.met, ret);
    if HAS_TWIN {
        of_thread.met = RETURNED;
    } else {
        let _ = FAST.remove(tid);
    }
    true
}

/// The same by the second program at a return.
#[inline(always)]
pub fn exit_second(call: Call, ret: i32) {
    let tid = kernel::tid();
    let Some(of_thread) = find(tid) else { return };
    if of_thread.call != call {
        return;
    }
    if of_thread.met & RETURNED == 0 {
        fold(of_thread.met, ret);
    }
    let _ = FAST.remove(tid);
}

#[inline(always)]
fn fold(met: u64, ret: i32) {
    let Some(cells) = cells() else { return };
    let fast = &mut cells.fast;
    if met & SLOW_PATH == 0 {
        Shared::add(&mut fast.fast, 1);
    } else {
        Shared::add(&mut fast.slow, 1);
    }
    if met & FAILURE != 0 && ret >= 0 {
        Shared::add(&mut fast.hidden, 1);
    }
}

/// A thread ends.
#[inline(always)]
pub fn forget(tid: u32) {
    if kernel::watches_fast_path()
        && let Some(call) = find(tid)
    {
        let returned = call.met & RETURNED != 0;
        let _ = FAST.remove(tid);
        if !returned {
            lose(Loss::FastReaped);
        }
    }
}
