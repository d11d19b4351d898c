//! The end of a thread: gives back what it holds, since a return was missed.
//! Runs once per thread, in that thread, so it cannot race with its pins.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use pinwatch_common::counter::Loss;

use crate::fast;
use crate::kernel;
use crate::maps::lose;
use crate::slot;

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn thread_exit_tp(_ctx: RawTracePointContext) -> i32 {
    let tid = kernel::tid();
    fast::forget(tid);
    if let Some(slot) = slot::find(tid) {
        slot::release(slot);
        lose(Loss::EntryReaped);
    }
    0
}
