//! x86-64.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use pinwatch_common::origin::{Calls, Written, syscall_origin};

/// Whether programs copy [`UserRegs`] where the kernel has no helper for them, as in 5.10.
pub const COPIES_REGISTERS: bool = true;

/// Registers of user space during a system call.
pub type UserRegs = pt_regs;

/// Code segment of 64-bit user space. Other code segments use other system call numbers.
const USER_CS: u64 = 0x33;

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
    let (nr, cs) = unsafe {
        let nr = (&raw const (*regs).orig_rax).read_volatile();
        (nr, || (&raw const (*regs).cs).read_volatile())
    };
    syscall_origin::<WEAK>(
        Calls::X86_64,
        nr,
        || {
            // SAFETY: the caller's.
            (cs() == USER_CS).then(|| unsafe { (&raw const (*regs).rsi).read_volatile() })
        },
        |buffer| {
            // SAFETY: the caller's.
            written(buffer, unsafe { (&raw const (*regs).rdx).read_volatile() })
        },
    )
}

/// Seventh argument of a probed function, which is on the stack. `None` if it cannot be read.
#[inline(always)]
pub fn seventh_arg(ctx: &ProbeContext) -> Option<u32> {
    // At entry the stack pointer leads to the return address, with the argument above it.
    let at = entry_frame(ctx).wrapping_add(size_of::<u64>() as u64);
    // SAFETY: the helper checks the address and handles faults.
    unsafe { bpf_probe_read_kernel(at as *const u32) }.ok()
}

/// Stack address that identifies a call to a kprobe at its entry: that of the return address.
#[inline(always)]
pub fn entry_frame(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context of a kprobe is the probed function's registers.
    unsafe { (*ctx.regs).rsp }
}

/// Same address as [`entry_frame`], in a kretprobe: there the return address has been popped.
#[inline(always)]
pub fn return_frame(ctx: &RetProbeContext) -> u64 {
    // SAFETY: the context of a kretprobe is the registers of the return.
    unsafe { (*ctx.regs).rsp }.wrapping_sub(size_of::<u64>() as u64)
}
