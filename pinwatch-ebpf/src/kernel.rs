//! Kernel state: the only reader of kernel memory, and the only caller of helpers that return state.
//!
//! User space resolves the differences between kernels and sets the read-only globals here.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_func_arg, bpf_get_stack};
use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_user,
    bpf_task_pt_regs,
};
use pinwatch_common::origin::Written;
use pinwatch_common::program_config::{
    PREEMPTION_CAN_BE_DISABLED, PREEMPTION_NONE, UNPINNABLE_AT_START, UNPINNABLE_UNSEEN,
    USER_REGS_BY_HELPER, USER_REGS_BY_STACK,
};
use pinwatch_common::record::{Isolate, Origin, STACK_FRAMES};

use self::config::PROGRAM_CONFIG;
use self::memory::word;
use crate::arch::{self, UserRegs};

/// Reads a field of [`PROGRAM_CONFIG`]. Volatile, since the compiler knows only the zeroes.
macro_rules! config {
    ($($field:ident).+) => {
        // SAFETY: an aligned field of a static that nobody writes after loading.
        unsafe { (&raw const PROGRAM_CONFIG.$($field).+).read_volatile() }
    };
}

mod config;
pub mod folio;
pub mod folio_list;
pub mod memory;

/// Secret of [`slot_set`](pinwatch_common::limits::slot_set).
#[inline(always)]
pub fn slot_secret() -> u32 {
    config!(slot_secret)
}

/// Whether folios that a failed migration left behind are watched.
#[inline(always)]
pub fn watches() -> bool {
    config!(folio.watches) != 0
}

/// [`Pin::origin`](pinwatch_common::record::Pin::origin) of a pin that the running thread makes, from its system call.
///
/// `WEAK`: of a weak pin. Returns `Other` for a kernel thread and for calls that do not identify an interface, such as mmap.
#[inline(always)]
pub fn origin<const WEAK: bool>() -> u8 {
    match config!(user_regs) {
        USER_REGS_BY_HELPER => {
            // SAFETY: the helpers take and return the running task. The verifier checks loads through the
            // pointer, and the kernel handles faults.
            unsafe {
                let regs = bpf_task_pt_regs(bpf_get_current_task_btf());
                arch::origin::<WEAK>(regs as *const UserRegs, written)
            }
        }
        USER_REGS_BY_STACK if arch::COPIES_REGISTERS => {
            let (task_stack, stack_regs) = (config!(task_stack_offset), config!(stack_regs_offset));
            // SAFETY: the helper checks each address and handles faults.
            let regs = unsafe {
                let task = bpf_get_current_task();
                let stack = bpf_probe_read_kernel((task + task_stack) as *const u64);
                let regs = stack.unwrap_or_default().wrapping_add(stack_regs);
                bpf_probe_read_kernel(regs as *const UserRegs)
            };
            // SAFETY: the copy is on this program's stack.
            regs.map_or(Origin::Other as u8, |regs| unsafe {
                arch::origin::<WEAK>(&raw const regs, written)
            })
        }
        _ => Origin::Other as u8,
    }
}

/// The buffer of `bytes` at this address of the running process, for a write(2). `None` if its beginning cannot be read.
#[inline(always)]
fn written(buffer: u64, bytes: u64) -> Option<Written> {
    if config!(reads_user) == 0 {
        return None;
    }
    // SAFETY: the helper checks the address and handles faults.
    let head = unsafe { bpf_probe_read_user(buffer as *const [u64; 3]) }.ok()?;
    Some(Written { head, bytes })
}

/// Whether an isolation function's return value reports a failure.
#[inline(always)]
pub fn isolation_failed(kind: Isolate, returned: u64) -> bool {
    if config!(isolate_bools) & 1 << kind as u32 != 0 {
        // A bool defines only the lowest byte of the register.
        returned as u8 == 0
    } else {
        returned as u32 != 0
    }
}

/// Whether failed isolations of a kind are counted.
#[inline(always)]
pub fn counts_failures(kind: Isolate) -> bool {
    config!(isolate_counts) & 1 << kind as u32 != 0
}

/// Whether unpinnable pages are counted.
#[inline(always)]
pub fn counts_unpinnable() -> bool {
    config!(counts_unpinnable) != 0
}

/// Whether every page that collect fails to isolate is counted.
#[inline(always)]
pub fn sees_isolations() -> bool {
    counts_failures(Isolate::Lru) && counts_failures(Isolate::Hugetlb)
}

/// Whether the kernel can repeat a scan without pinning again, and isolations show it.
#[inline(always)]
pub fn scans_again() -> bool {
    config!(scans_again) != 0
}

/// Whether pinning a range again shows that the pass before found unpinnable pages.
#[inline(always)]
pub fn gup_shows_found() -> bool {
    config!(gup_shows_found) != 0
}

/// Bit mask of `UNSEEN_*`: steps that can fail a pin unseen.
#[inline(always)]
pub fn unseen() -> u32 {
    config!(unseen)
}

/// `nr_entries` of the `struct pages_or_folios` at this address, or 0.
///
/// Without an offset the verifier sees that the helper is not called, so that kernel lockdown does
/// not refuse the program.
#[inline(always)]
pub fn nr_entries(pofs: u64) -> u64 {
    if config!(reads_nr_entries) == 0 {
        return 0;
    }
    word(pofs.wrapping_add(config!(nr_entries_offset)))
}

/// Argument `n` of a trampoline's function, of any type. The verifier lets no program read an
/// argument that points to a pointer.
#[inline(always)]
pub fn raw_arg(ctx: &impl EbpfContext, n: usize) -> u64 {
    if config!(func_arg) != 0 {
        let mut value = MaybeUninit::uninit();
        // SAFETY: the helper fills the word: every caller's function has this argument. The verifier inlines it.
        unsafe {
            bpf_get_func_arg(ctx.as_ptr(), n as u32, value.as_mut_ptr());
            return value.assume_init();
        }
    }
    // SAFETY: the helper checks the address, which is in the context, and handles faults.
    unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>().add(n)) }.unwrap_or_default()
}

/// Writes the running thread's kernel stack to `frames`, innermost first. Returns the number of bytes,
/// or `-errno`.
#[inline(always)]
pub fn stack(ctx: &impl EbpfContext, frames: &mut [u64; STACK_FRAMES]) -> i64 {
    let size = size_of_val(frames) as u32;
    // SAFETY: `frames` is `size` bytes of writable memory.
    unsafe { bpf_get_stack(ctx.as_ptr(), (&raw mut *frames).cast(), size, 0) }
}

/// Running thread's name, as in `pinwatch_common::event_filter::name_words`.
///
/// By loads where the kernel allows them: the helper costs some 230 instructions. Otherwise it calls the helper directly,
/// since aya's wrapper zeroes the bytes one by one first.
#[inline(always)]
pub fn comm() -> [u64; 2] {
    let offset = config!(comm_offset);
    if offset != 0 {
        // SAFETY: the helper takes no argument.
        let at = unsafe { bpf_get_current_task() }.wrapping_add(offset);
        return [word(at), word(at.wrapping_add(size_of::<u64>() as u64))];
    }
    let mut comm = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: the helper fills all bytes, with zeroes if it fails.
    unsafe {
        bpf_get_current_comm(comm.as_mut_ptr().cast(), size_of::<[u64; 2]>() as u32);
        comm.assume_init()
    }
}

/// Whether programs can preempt each other.
#[inline(always)]
pub fn preempts() -> bool {
    config!(preemption) != PREEMPTION_NONE
}

/// Whether programs can preempt each other and can disable that: see [`crate::preemption`].
#[inline(always)]
pub fn can_disable_preemption() -> bool {
    config!(preemption) == PREEMPTION_CAN_BE_DISABLED
}

/// Stack address that identifies a call to a trampoline's programs: all programs of one call get the
/// same address of its arguments.
#[inline(always)]
pub fn frame(ctx: &impl EbpfContext) -> u64 {
    ctx.as_ptr() as u64
}

/// Whether a call of GUP-fast with these flags can take the slow path. False if that is unknown.
#[inline(always)]
pub fn may_take_slow_path(gup_flags: u32) -> bool {
    let fast_only = config!(foll_fast_only);
    fast_only != 0 && gup_flags & fast_only == 0
}

/// Whether the places of unpinnable pages are sampled.
#[inline(always)]
pub fn samples_unpinnable() -> bool {
    config!(samples_unpinnable) != UNPINNABLE_UNSEEN
}

/// Whether the tracepoint at the start of a migration samples them, since no hook shows the list of folios.
#[inline(always)]
pub fn samples_unpinnable_at_start() -> bool {
    config!(samples_unpinnable) == UNPINNABLE_AT_START
}

/// Whether the return of `migrate_pages` shows the folios that it left.
#[inline(always)]
pub fn shows_blockers_at_return() -> bool {
    config!(blockers_at_return) != 0
}

/// Whether calls of GUP-fast are measured.
#[inline(always)]
pub fn watches_fast_path() -> bool {
    config!(fast_path) != 0
}

/// Whether weak pins are tracked.
#[inline(always)]
pub fn watches_weak_pins() -> bool {
    config!(weak_pins) != 0
}

/// Whether a call with these flags makes a long-term pin.
#[inline(always)]
pub fn is_longterm(gup_flags: u32) -> bool {
    gup_flags & config!(foll_longterm) != 0
}

/// Whether a migration with this `migrate_reason` is part of a long-term pin.
#[inline(always)]
pub fn is_longterm_migration(reason: u32) -> bool {
    reason == config!(migrate_reason)
}

/// Time in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// Number of the running CPU.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}

/// Process id (upper half) and thread id (lower half) in the initial namespace.
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

/// Running thread's id.
#[inline(always)]
pub fn tid() -> u32 {
    Thread::running().tid()
}
