//! The only reader of kernel state: helpers, and what differs between kernels,
//! resolved in user space and injected as read-only globals.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns};

/// `FOLL_LONGTERM`: 0x10000 up to 6.2, an enum constant from 6.3 on.
#[unsafe(no_mangle)]
static FOLL_LONGTERM: Global<u32> = Global::new(0);

/// The `migrate_reason` of this path: `MR_LONGTERM_PIN`, or before 5.13
/// `MR_CONTIG_RANGE`.
#[unsafe(no_mangle)]
static MIGRATE_REASON: Global<u32> = Global::new(0);

/// 1 where a pass is counted by `__get_user_pages`, the start of a pass, and
/// not by its sweep.
#[unsafe(no_mangle)]
static PASS_BY_GUP: Global<u32> = Global::new(0);

#[inline(always)]
pub fn is_longterm(gup_flags: u32) -> bool {
    gup_flags & FOLL_LONGTERM.load() != 0
}

#[inline(always)]
pub fn is_longterm_migration(reason: u32) -> bool {
    reason == MIGRATE_REASON.load()
}

#[inline(always)]
pub fn passes_are_counted_by_gup() -> bool {
    PASS_BY_GUP.load() != 0
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}

/// Process and thread id in the initial namespace.
#[inline(always)]
pub fn tgid_tid() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

#[inline(always)]
pub fn tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}
