//! Reads the cgroup of a process from procfs.
//!
//! A process may exit during the read, and another may take its id. In that case nothing is reported.
//! Processes choose their cgroup paths, so outputs must escape them.
#![forbid(unsafe_code)]

use nix::unistd::{SysconfVar, sysconf};

use crate::host::clock::suspended_ns;
use crate::kernel::cgroup::{self, Cgroup};
use crate::kernel::procfs;

/// Start time and cgroup of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Time of start in nanoseconds of `CLOCK_MONOTONIC`, rounded down to a clock tick.
    pub started_ns: u64,
    pub cgroup: Cgroup,
}

/// Reads a process by its id in the initial pid namespace. `None` if the process has exited, or if
/// pinwatch itself runs in another pid namespace.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    if !procfs::in_initial_pid_namespace() {
        return None;
    }
    let before = procfs::start_ticks(pid)?;
    let cgroup = cgroup::parse(&procfs::text(pid, "cgroup")?);
    // A different start means that another process took the id during the read.
    (procfs::start_ticks(pid)? == before).then(|| Process {
        started_ns: monotonic_ns(before),
        cgroup,
    })
}

/// Converts clock ticks since boot to nanoseconds of `CLOCK_MONOTONIC`, which excludes suspends.
fn monotonic_ns(ticks: u64) -> u64 {
    let hz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let tick_ns = 1_000_000_000 / hz.max(1) as u64;
    ticks.saturating_mul(tick_ns).saturating_sub(suspended_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock;

    #[test]
    fn this_process() {
        // In a pid namespace other than the initial one the result is `None`.
        if let Some(this) = process(std::process::id()) {
            assert!(this.started_ns <= clock::monotonic_ns(), "{this:?}");
            assert!(this.cgroup.path.is_some(), "{this:?}");
        }
        assert_eq!(process(u32::MAX), None);
    }
}
