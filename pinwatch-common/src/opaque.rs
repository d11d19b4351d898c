//! Indexes that LLVM cannot follow. It would otherwise prove a bound, remove the check,
//! and leave the BPF verifier without one.

/// `index`, as if it came from elsewhere. `core::hint::black_box` says the same by a trip
/// to the stack, which BPF programs pay for. One instruction: with none, line information has two
/// lines at one place, and kernels refuse it.
#[cfg(target_arch = "bpf")]
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) fn opaque(mut index: usize) -> usize {
    // SAFETY: a register becomes what it is.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) index, options(pure, nomem, nostack, preserves_flags));
    }
    index
}

/// `index`.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub(crate) fn opaque(index: usize) -> usize {
    index
}
