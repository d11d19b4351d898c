//! The kernel stack of a thread, taken in the thread's own context by a timer
//! that user space attaches to it for the moment in which somebody asks.
//!
//! Another thread cannot take it: while a kretprobe is attached, kernels up to
//! 6.12 warn when somebody else unwinds a running thread
//! (`rethook_find_ret_addr`), which ends a host with `panic_on_warn`.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_stack;
use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;

use crate::maps::STACK;

#[perf_event]
fn stack_sample(ctx: PerfEventContext) -> u32 {
    let Some(sample) = STACK.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: one thread at a time has this program attached; user space reads
    // when it is detached.
    let sample = unsafe { &mut *sample };
    let frames = (&raw mut sample.frames).cast();
    let size = size_of_val(&sample.frames) as u32;
    // SAFETY: `frames` is `size` bytes of a live map value.
    sample.bytes = unsafe { bpf_get_stack(ctx.as_ptr(), frames, size, 0) };
    sample.taken = sample.taken.wrapping_add(1);
    0
}
