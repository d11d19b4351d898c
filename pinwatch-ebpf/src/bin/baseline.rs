//! Baseline programs for benchmarks: an empty one of each kind that pinwatch attaches, and some that call
//! one helper each.
//!
//! They show the cost of a hook and of a helper without any measurement. Only `cargo xtask bench` loads
//! them.
#![no_std]
#![no_main]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_probe_read_kernel,
    bpf_task_pt_regs,
};
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe, raw_tracepoint};
use aya_ebpf::programs::{
    FEntryContext, FExitContext, ProbeContext, RawTracePointContext, RetProbeContext,
};

#[fentry]
fn empty_fentry(_ctx: FEntryContext) -> u32 {
    0
}

#[fexit]
fn empty_fexit(_ctx: FExitContext) -> u32 {
    0
}

#[kprobe]
fn empty_kprobe(_ctx: ProbeContext) -> u32 {
    0
}

#[kretprobe]
fn empty_kretprobe(_ctx: RetProbeContext) -> u32 {
    0
}

#[raw_tracepoint]
fn empty_tracepoint(_ctx: RawTracePointContext) -> i32 {
    0
}

#[fentry]
fn clock_fentry(_ctx: FEntryContext) -> u32 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() };
    0
}

#[fentry]
fn thread_fentry(_ctx: FEntryContext) -> u32 {
    bpf_get_current_pid_tgid();
    0
}

#[fentry]
fn registers_fentry(_ctx: FEntryContext) -> u32 {
    // SAFETY: the helpers take and return the running task.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) };
    0
}

#[fentry]
fn memory_fentry(ctx: FEntryContext) -> u32 {
    // SAFETY: the helper checks the address and handles faults.
    let _ = unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>()) };
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no program above can panic; the linker drops this function.
    unsafe { core::hint::unreachable_unchecked() }
}
