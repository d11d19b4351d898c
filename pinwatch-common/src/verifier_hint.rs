//! Hints for the BPF verifier: an index whose bound LLVM cannot prove, and one that the verifier forgets.
//!
//! LLVM removes a bounds check whose outcome it can prove. The verifier cannot follow that proof
//! and rejects the program without the check.
//!
//! The verifier follows the rest of a program once for each path to it, unless all that it knows on both paths is the same.

/// Returns `index` as a value unknown to LLVM.
///
/// `core::hint::black_box` does the same through the stack, which costs a store and a load. The
/// copy is one instruction: without any, two source lines share one place in the line information,
/// and kernels refuse that.
#[cfg(target_arch = "bpf")]
#[allow(unsafe_code)]
#[inline(always)]
#[must_use]
pub fn opaque(mut index: usize) -> usize {
    // SAFETY: copies a register to itself; no memory, stack or flags are touched.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) index, options(pure, nomem, nostack, preserves_flags));
    }
    index
}

/// Returns `index`: only the BPF verifier needs the hint.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
#[must_use]
pub fn opaque(index: usize) -> usize {
    index
}

/// Stores `index` in a word of a map value, and loads it back. The verifier does not track values in maps, so paths that differ
/// only in the index become one.
///
/// `word` must be the running thread's own.
#[cfg(target_arch = "bpf")]
#[allow(unsafe_code)]
#[inline(always)]
#[must_use]
pub fn forgotten(index: usize, word: &mut u32) -> usize {
    let word = &raw mut *word;
    // SAFETY: an aligned word of a live reference.
    unsafe {
        word.write_volatile(index as u32);
        word.read_volatile() as usize
    }
}

/// Returns `index`: only the BPF verifier needs the hint.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
#[must_use]
pub fn forgotten(index: usize, _word: &mut u32) -> usize {
    index
}
