//! Disables preemption while a program runs, on kernels with the functions for it (6.14). For other
//! kernels user space replaces the calls with no-ops.
//!
//! The kernel skips a tracing program on a CPU if a preempted task is inside the same program. A program
//! that cannot be preempted causes no skip.
//!
//! `bpf_preempt_enable` alone gains little: it runs a pending reschedule at once, inside the program.
//! With interrupts disabled it leaves the reschedule pending, and `bpf_local_irq_restore` does too. The
//! reschedule then runs at the next interrupt or `preempt_enable`, in most cases after the program.

use core::arch::asm;
use core::mem::MaybeUninit;

use pinwatch_common::abi::kfunc_call;

/// Calls `pinwatch_common::abi::KFUNCS[number]`, one of `PREEMPTION`.
macro_rules! call {
    ($number:literal $(, $argument:expr)?) => {
        asm!(
            ".8byte {call}",
            call = const kfunc_call($number),
            $(in("r1") $argument,)?
            lateout("r0") _,
            lateout("r1") _,
            lateout("r2") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        )
    };
}

/// Runs `work`, with preemption disabled if the program has a twin. Nothing preempts a program without
/// one.
#[inline(always)]
pub fn disabled<const HAS_TWIN: bool, R>(work: impl FnOnce() -> R) -> R {
    if !HAS_TWIN {
        return work();
    }
    // SAFETY: the function takes no argument. The verifier checks that each path enables preemption
    // again.
    unsafe { call!(0) };
    let result = work();
    let mut flags = MaybeUninit::<u64>::uninit();
    // SAFETY: `flags` is one word on this program's stack, the size that both functions expect.
    unsafe {
        call!(1, flags.as_mut_ptr());
        call!(2);
        call!(3, flags.as_mut_ptr());
    }
    result
}
