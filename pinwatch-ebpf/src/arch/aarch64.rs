//! arm64.

use aya_ebpf::bindings::user_pt_regs;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use pinwatch_common::origin::{Calls, Written, syscall_origin};

/// Whether programs copy [`UserRegs`] where the kernel has no helper for them. The copy would take more than half of a
/// program's stack, and 5.15 has the helper.
pub const COPIES_REGISTERS: bool = false;

/// Registers of user space during a system call: the beginning of the kernel's `struct pt_regs`
/// (arch/arm64/include/asm/ptrace.h).
#[repr(C)]
pub struct UserRegs {
    user: user_pt_regs,
    orig_x0: u64,
    /// -1 outside system calls.
    syscallno: i32,
}

/// Bit of `pstate`: 32-bit user space, which uses other system call numbers.
const PSR_MODE32_BIT: u64 = 0x10;

/// [`Pin::origin`](pinwatch_common::record::Pin::origin), from the registers of the running system call.
/// `written` reads the buffer of a write(2), given its address and length.
///
/// # Safety
///
/// The verifier must accept loads through `regs`.
#[inline(always)]
pub unsafe fn origin<const WEAK: bool>(
    regs: *const UserRegs,
    written: impl FnOnce(u64, u64) -> Option<Written>,
) -> u8 {
    // SAFETY: the caller's.
    let nr = unsafe { (&raw const (*regs).syscallno).read_volatile() };
    syscall_origin::<WEAK>(
        Calls::AARCH64,
        u64::from(nr as u32),
        || {
            // SAFETY: the caller's.
            let pstate = unsafe { (&raw const (*regs).user.pstate).read_volatile() };
            // SAFETY: the caller's.
            (pstate & PSR_MODE32_BIT == 0)
                .then(|| unsafe { (&raw const (*regs).user.regs[1]).read_volatile() })
        },
        |buffer| {
            // SAFETY: the caller's.
            let bytes = unsafe { (&raw const (*regs).user.regs[2]).read_volatile() };
            written(buffer, bytes)
        },
    )
}

/// Seventh argument of a probed function. Eight arguments are in registers.
#[inline(always)]
pub fn seventh_arg(ctx: &ProbeContext) -> Option<u32> {
    ctx.arg(6)
}

/// Stack address that identifies a call to a kprobe at its entry: a call pushes nothing, so the caller's
/// stack pointer.
#[inline(always)]
pub fn entry_frame(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context of a kprobe is the probed function's registers.
    unsafe { (*ctx.regs).sp }
}

/// Same address as [`entry_frame`], in a kretprobe.
#[inline(always)]
pub fn return_frame(ctx: &RetProbeContext) -> u64 {
    // SAFETY: the context of a kretprobe is the registers of the return.
    unsafe { (*ctx.regs).sp }
}
