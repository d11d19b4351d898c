//! Names and encodings by which user space and the BPF object recognise each other.

/// Version of everything in this crate that crosses the kernel boundary. Raise it with any change
/// of a `repr(C)` type or of a map's meaning.
pub const ABI_VERSION: u32 = 12;

/// Symbol of the BPF object that carries [`ABI_VERSION`]. An object built for another version lacks
/// it and is refused before loading.
pub const ABI_SYMBOL: &str = "PINWATCH_ABI_12";

/// Kernel functions that disable and enable preemption, by the number that [`kfunc_call`] takes.
/// The newest of them came with 6.14.
pub const KFUNCS: [&str; 4] = [
    "bpf_preempt_disable",
    "bpf_local_irq_save",
    "bpf_preempt_enable",
    "bpf_local_irq_restore",
];

/// Placeholder in the BPF object for a call of [`KFUNCS`]`[number]`, whose BTF id depends on the
/// kernel. User space replaces it before loading.
#[must_use]
pub const fn kfunc_call(number: u32) -> u64 {
    /// Larger than any BTF id.
    const UNRESOLVED: u32 = 0x7057_0000;
    kernel_call(UNRESOLVED + number)
}

/// Instruction that calls the kernel function with this BTF id: `BPF_JMP | BPF_CALL` with source
/// register `BPF_PSEUDO_KFUNC_CALL`.
#[must_use]
pub const fn kernel_call(btf_id: u32) -> u64 {
    0x2085 | (btf_id as u64) << 32
}

/// Instruction without effect: `goto +0`.
pub const NO_OPERATION: u64 = 0x05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_names_the_version() {
        extern crate std;
        assert_eq!(ABI_SYMBOL, std::format!("PINWATCH_ABI_{ABI_VERSION}"));
    }
}
