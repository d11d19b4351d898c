//! The only reader of kernel state: helpers, and what differs between kernels,
//! resolved in user space and injected as read-only globals.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_ebpf::{EbpfContext, Global};
use pinwatch_common::origin::syscall_origin;
use pinwatch_common::record::{ISOLATES, Isolate, Origin};

/// `FOLL_LONGTERM`: 0x10000 up to 6.2, an enum constant from 6.3 on.
#[unsafe(no_mangle)]
static FOLL_LONGTERM: Global<u32> = Global::new(0);

/// The `migrate_reason` of this path: `MR_LONGTERM_PIN`, or before 5.13
/// `MR_CONTIG_RANGE`.
#[unsafe(no_mangle)]
static MIGRATE_REASON: Global<u32> = Global::new(0);

/// Offset of `nr_entries` in `struct pages_or_folios`; the largest number where
/// it is not known, or the kernel may not be read.
#[unsafe(no_mangle)]
static NR_ENTRIES_OFFSET: Global<u64> = Global::new(0);

/// Offset of `flags` in `struct page`.
#[unsafe(no_mangle)]
static PAGE_FLAGS_OFFSET: Global<u64> = Global::new(0);

/// Where a page's zone is in its flags.
#[unsafe(no_mangle)]
static ZONE_SHIFT: Global<u32> = Global::new(0);

/// The bits of a zone; 0 where zones cannot be told, or nobody wants them.
#[unsafe(no_mangle)]
static ZONE_MASK: Global<u32> = Global::new(0);

/// Whether calls of GUP-fast are watched.
#[unsafe(no_mangle)]
static FAST_PATH: Global<u32> = Global::new(0);

/// 1 where another task can run BPF programs on a CPU while one is in the middle.
#[unsafe(no_mangle)]
static PREEMPTS: Global<u32> = Global::new(0);

/// A bit per [`Isolate`] kind: set where its function returns a bool, true for
/// isolated, and not an int, 0 for isolated.
#[unsafe(no_mangle)]
static ISOLATE_BOOLS: Global<u32> = Global::new(0);

/// A bit per [`Isolate`] kind: set where its failures are wanted. One more where
/// isolations tell how many pages were unpinnable.
#[unsafe(no_mangle)]
static ISOLATE_COUNTS: Global<u32> = Global::new(0);

/// How to find the registers of the running system call.
#[unsafe(no_mangle)]
static USER_REGS: Global<u32> = Global::new(0);

/// `bpf_task_pt_regs` is there (5.15).
const USER_REGS_BY_HELPER: u32 = 1;
/// They are at the top of the kernel stack, at `STACK_TOP` from `task_struct.stack`.
const USER_REGS_BY_STACK: u32 = 2;

/// Offset of `stack` in `task_struct`.
#[unsafe(no_mangle)]
static TASK_STACK_OFFSET: Global<u64> = Global::new(0);

/// Where the user's registers are above the start of a kernel stack.
#[unsafe(no_mangle)]
static STACK_REGS_OFFSET: Global<u64> = Global::new(0);

/// Code segment of 64-bit user space: another means other system call numbers.
const USER_CS: u64 = 0x33;

/// The word at an index of the registers of the running system call. A macro,
/// since a BPF load needs its offset as a constant.
macro_rules! user_reg {
    ($regs:expr, $field:ident) => {
        // SAFETY: a pointer from `bpf_task_pt_regs`, which the verifier knows
        // and whose faults the kernel handles.
        unsafe { (&raw const (*$regs).$field).read_volatile() }
    };
}

/// Who the running system call says it is. Nothing is guessed: what no system
/// call tells, such as a kernel thread or a plain write, is `Other`.
#[inline(always)]
pub fn origin() -> u8 {
    let origin = match USER_REGS.load() {
        USER_REGS_BY_HELPER => {
            // SAFETY: the helpers take and return the running task.
            let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs;
            syscall_origin(user_reg!(regs, orig_rax), || {
                (user_reg!(regs, cs) == USER_CS).then(|| user_reg!(regs, rsi))
            })
        }
        USER_REGS_BY_STACK => {
            // SAFETY: the helper checks every address it is given.
            let regs = unsafe {
                let task = bpf_get_current_task();
                let stack = bpf_probe_read_kernel((task + TASK_STACK_OFFSET.load()) as *const u64);
                let regs = stack
                    .unwrap_or_default()
                    .wrapping_add(STACK_REGS_OFFSET.load());
                bpf_probe_read_kernel(regs as *const pt_regs)
            };
            regs.map_or(Origin::Other, |regs| {
                syscall_origin(regs.orig_rax, || (regs.cs == USER_CS).then_some(regs.rsi))
            })
        }
        _ => Origin::Other,
    };
    origin as u8
}

/// Whether an isolation function's return value means failure.
#[inline(always)]
pub fn isolation_failed(kind: Isolate, returned: u64) -> bool {
    if ISOLATE_BOOLS.load() & 1 << kind as u32 != 0 {
        // The rest of the register is not the function's.
        returned as u8 == 0
    } else {
        returned as u32 != 0
    }
}

/// Whether failures to isolate pages of a kind are wanted.
#[inline(always)]
pub fn counts_failures(kind: Isolate) -> bool {
    ISOLATE_COUNTS.load() & 1 << kind as u32 != 0
}

/// Whether isolations tell how many pages were unpinnable.
#[inline(always)]
pub fn counts_isolations() -> bool {
    ISOLATE_COUNTS.load() & 1 << ISOLATES != 0
}

#[inline(always)]
pub fn nr_entries_offset() -> Option<u64> {
    match NR_ENTRIES_OFFSET.load() {
        u64::MAX => None,
        offset => Some(offset),
    }
}

/// 1 + the zone of one page or folio of an array, whose address and length `pages`
/// gives, picked by `dice`; 0 if it cannot be told. `pages` may read memory, so under
/// lockdown the verifier must see that it is not called.
#[inline(always)]
pub fn sample_zone(pages: impl FnOnce() -> (u64, u64), dice: u64) -> u8 {
    let mask = ZONE_MASK.load();
    if mask == 0 {
        return 0;
    }
    let (array, count) = pages();
    if count == 0 {
        return 0;
    }
    let at = array.wrapping_add(dice % count * size_of::<u64>() as u64) as *const u64;
    // SAFETY: the helper checks the address.
    let Ok(page) = (unsafe { bpf_probe_read_kernel(at) }) else {
        return 0;
    };
    let flags = page.wrapping_add(PAGE_FLAGS_OFFSET.load()) as *const u64;
    // SAFETY: as above.
    match unsafe { bpf_probe_read_kernel(flags) } {
        Ok(flags) => ((flags >> (ZONE_SHIFT.load() & 63)) as u8 & mask as u8) + 1,
        Err(_) => 0,
    }
}

/// An argument of a trampoline's function, whatever its type: the verifier lets
/// no program read one that points to a pointer.
#[inline(always)]
pub fn raw_arg(ctx: &impl EbpfContext, n: usize) -> u64 {
    // SAFETY: the helper checks the address, which is one of the context's words.
    unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>().add(n)) }.unwrap_or_default()
}

/// Whether programs can preempt each other.
#[inline(always)]
pub fn preempts() -> bool {
    PREEMPTS.load() != 0
}

/// Where a call is on the stack, as a trampoline's programs see it: all programs of one call get
/// the same address of its arguments.
#[inline(always)]
pub fn frame(ctx: &impl EbpfContext) -> u64 {
    ctx.as_ptr() as u64
}

/// Where a call is on the stack, at its entry by a kprobe: the address of its return address.
#[inline(always)]
pub fn entry_frame(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context of a kprobe is the probed function's registers.
    unsafe { (*ctx.regs).rsp }
}

/// The same at its return by a kretprobe, when the return address has been popped.
#[inline(always)]
pub fn return_frame(ctx: &RetProbeContext) -> u64 {
    // SAFETY: the context of a kretprobe is the registers of the return.
    unsafe { (*ctx.regs).rsp }.wrapping_sub(size_of::<u64>() as u64)
}

#[inline(always)]
pub fn watches_fast_path() -> bool {
    FAST_PATH.load() != 0
}

#[inline(always)]
pub fn is_longterm(gup_flags: u32) -> bool {
    gup_flags & FOLL_LONGTERM.load() != 0
}

#[inline(always)]
pub fn is_longterm_migration(reason: u32) -> bool {
    reason == MIGRATE_REASON.load()
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

/// Process and thread id in the initial namespace, in one word.
#[derive(Clone, Copy)]
pub struct Thread(pub u64);

impl Thread {
    #[inline(always)]
    pub fn running() -> Self {
        Self(bpf_get_current_pid_tgid())
    }

    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.0 as u32
    }
}

#[inline(always)]
pub fn tid() -> u32 {
    Thread::running().tid()
}
