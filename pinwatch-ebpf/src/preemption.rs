//! Disables preemption while a program works, on kernels that have the functions for it (6.14).
//!
//! The kernel skips a tracing program on a CPU where a preempted task is inside the same program, so a
//! program that cannot be preempted makes it skip nothing. `bpf_preempt_enable` alone would gain little:
//! it runs a reschedule that is due at once, which is inside the program. With interrupts disabled it
//! leaves the reschedule pending, and so does `bpf_local_irq_restore`: it happens at the next interrupt
//! or `preempt_enable`, mostly after the program.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::Global;
use pinwatch_common::params::kfunc_call;

/// 1 where user space has resolved the calls below. Elsewhere they are no-ops.
#[unsafe(no_mangle)]
static CAN_DISABLE_PREEMPTION: Global<u32> = Global::new(0);

#[inline(always)]
pub fn can_be_disabled() -> bool {
    CAN_DISABLE_PREEMPTION.load() != 0
}

/// A call of `pinwatch_common::params::KFUNCS[number]`.
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

/// Works, with preemption disabled if the program has a twin: elsewhere nothing preempts it.
#[inline(always)]
pub fn disabled<const HAS_TWIN: bool, R>(work: impl FnOnce() -> R) -> R {
    if !HAS_TWIN {
        return work();
    }
    // SAFETY: takes no argument. The verifier checks that each path enables preemption again.
    unsafe { call!(0) };
    let result = work();
    let mut flags = MaybeUninit::<u64>::uninit();
    // SAFETY: `flags` is a word of this program's stack, as long as both calls take.
    unsafe {
        call!(1, flags.as_mut_ptr());
        call!(2);
        call!(3, flags.as_mut_ptr());
    }
    result
}
