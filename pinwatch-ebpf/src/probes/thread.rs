//! The end of a thread: gives back what it holds, since a return was missed.
//! Runs in that thread, so it cannot race with its pins. The second program finds nothing left,
//! unless the kernel skipped the first.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use pinwatch_common::counter::Loss;

use crate::fast;
use crate::kernel;
use crate::maps::lose;
use crate::slot;

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn thread_exit_tp(_ctx: RawTracePointContext) -> i32 {
    exited()
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn thread_exit_tp_second(_ctx: RawTracePointContext) -> i32 {
    exited()
}

#[inline(always)]
fn exited() -> i32 {
    let tid = kernel::tid();
    fast::forget(tid);
    if let Some(slot) = slot::find(tid) {
        if !slot.call.has_returned() {
            lose(Loss::EntryReaped);
        }
        slot::release::<true>(slot);
    }
    0
}
