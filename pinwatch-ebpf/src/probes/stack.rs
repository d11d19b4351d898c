//! The kernel stack of a thread, taken in the thread's own context by timers,
//! one on each CPU, that user space lets run for the moment in which somebody
//! asks: they are made while the daemon may make them, and letting them run takes
//! no capability.
//!
//! Another thread cannot take it: while a kretprobe is attached, kernels up to
//! 6.12 warn when somebody else unwinds a running thread
//! (`rethook_find_ret_addr`), which ends a host with `panic_on_warn`.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_stack;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;

use crate::maps::{STACK, STACK_OF};

#[perf_event]
fn stack_sample(ctx: PerfEventContext) -> u32 {
    let (Some(wanted), Some(sample)) = (STACK_OF.get_ptr(0), STACK.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: an aligned word that only user space writes.
    if unsafe { wanted.read_volatile() } != u64::from(ctx.pid()) {
        return 0;
    }
    // SAFETY: only the wanted thread gets here, on one CPU at a time; user space
    // reads when the timers have stopped.
    let sample = unsafe { &mut *sample };
    let frames = (&raw mut sample.frames).cast();
    let size = size_of_val(&sample.frames) as u32;
    // SAFETY: `frames` is `size` bytes of a live map value.
    sample.bytes = unsafe { bpf_get_stack(ctx.as_ptr(), frames, size, 0) };
    sample.taken = sample.taken.wrapping_add(1);
    0
}
