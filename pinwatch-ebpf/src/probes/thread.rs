//! Exit of a thread: releases its slot and its call of GUP-fast, whose returns were missed.
//!
//! The programs run in the exiting thread and cannot race with its pins. The second one finds nothing
//! left, unless the kernel skipped the first.

use pinwatch_common::loss::Loss;

use super::programs::programs;
use crate::gup_fast;
use crate::kernel;
use crate::maps::lose;
use crate::slot;

programs! {
    raw_tracepoint("sched_process_exit") thread_exit_tp(_ctx) { exited() }
    raw_tracepoint("sched_process_exit") thread_exit_tp_second(_ctx) { exited() }
}

#[inline(always)]
fn exited() {
    let tid = kernel::tid();
    gup_fast::forget(tid);
    if let Some(slot) = slot::find(tid) {
        if !slot.call.has_returned() {
            lose(Loss::EntryReaped);
        }
        slot::release::<true>(slot);
    }
}
