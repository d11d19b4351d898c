//! Programs that do nothing, of each kind that pinwatch attaches: what a hook
//! costs before anything is measured with it. Only `cargo xtask bench` loads them.
#![no_std]
#![no_main]

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

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing above can panic; the linker drops this.
    unsafe { core::hint::unreachable_unchecked() }
}
