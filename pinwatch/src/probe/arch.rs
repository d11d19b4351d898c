//! What the planner must know of an architecture. Numbers and registers that the BPF programs need are in
//! the object, which is built for one architecture.
#![forbid(unsafe_code)]

use crate::kernel::facts::{Facts, MANY_ARGUMENTS};

const X86_64: &str = "x86_64";
const AARCH64: &str = "aarch64";

/// Reason why pinwatch cannot measure on this architecture; `None` if it can.
pub fn obstacle(facts: &Facts) -> Option<String> {
    let machine = &facts.machine;
    let supported = [X86_64, AARCH64].contains(&machine.as_str());
    (!supported).then(|| format!("pinwatch supports only {X86_64} and {AARCH64}, not {machine}"))
}

/// Most arguments of a function with a trampoline. x86-64: 6, and from 6.6 on 12, which the test function of
/// that feature shows. arm64: those in registers.
pub fn trampoline_args(facts: &Facts) -> usize {
    if facts.machine == AARCH64 {
        8
    } else if facts.symbols.contains_key(MANY_ARGUMENTS) {
        12
    } else {
        6
    }
}

/// Offset of the user's registers from the start of a kernel stack; `None` if it is not known.
///
/// On x86-64 `struct pt_regs` has 168 bytes and is at the top of the stack up to 6.8. From 5.15 on a helper
/// finds it.
pub fn stack_regs_offset(facts: &Facts) -> Option<u64> {
    const PT_REGS: u64 = 168;
    let size = facts.stack_size.filter(|_| facts.machine == X86_64)?;
    Some(size.saturating_sub(PT_REGS))
}
