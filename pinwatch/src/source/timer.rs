//! Timers that run a BPF program on a CPU. They are created disabled, while the capability is there.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::programs::PerfEvent;

use crate::kernel::perf_event::{self, Trigger};

/// Loads a program of the kind `perf_event`.
pub fn load_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<BorrowedFd<'a>, String> {
    let program = ebpf.program_mut(name);
    let program = program.ok_or_else(|| format!("the BPF object has no program {name}"))?;
    let program: &mut PerfEvent = program
        .try_into()
        .map_err(|_| format!("the BPF program {name} has another kind than PerfEvent"))?;
    program.load().map_err(|error| error.to_string())?;
    let fd = program.fd().map_err(|error| error.to_string())?;
    Ok(fd.as_fd())
}

/// Creates a timer on a CPU, disabled, that runs the program.
pub fn create(cpu: u32, period_ns: u64, program: BorrowedFd<'_>) -> Result<OwnedFd, String> {
    perf_event::attach(Trigger::Timer { cpu, period_ns }, program)
        .map_err(|error| format!("the kernel refuses a perf event for a timer: {error}"))
}

/// The CPUs that are online now.
pub fn online_cpus() -> Result<Vec<u32>, String> {
    aya::util::online_cpus().map_err(|(path, error)| format!("{path}: {error}"))
}
