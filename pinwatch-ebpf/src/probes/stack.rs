//! Kernel stack of a thread, sampled in the thread's own context.
//!
//! User space creates one timer per CPU while it has the capability, and enables the timers while
//! somebody asks. Enabling needs no capability.
//!
//! The stack is not read from another thread. While a kretprobe is attached, kernels up to 6.12 warn
//! if a running thread is unwound from outside (`rethook_find_ret_addr`), and a host with
//! `panic_on_warn` then panics.

use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;

use crate::kernel;
use crate::maps::{STACK, STACK_OF};

#[perf_event]
fn stack_sample(ctx: PerfEventContext) -> u32 {
    let (Some(wanted), Some(sample)) = (STACK_OF.get_ptr(0), STACK.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: an aligned word that only user space writes.
    if unsafe { wanted.read_volatile() } != u64::from(kernel::tid()) {
        return 0;
    }
    // SAFETY: only the wanted thread gets here, on one CPU at a time. User space reads after it has
    // stopped the timers.
    let sample = unsafe { &mut *sample };
    sample.bytes = kernel::stack(&ctx, &mut sample.frames);
    sample.taken = sample.taken.wrapping_add(1);
    0
}
