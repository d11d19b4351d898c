//! The cgroup of a process, from procfs. A process may end meanwhile, and another may take its
//! id: nothing is reported rather than a guess. Paths are of the process's choosing: outputs
//! must escape them.

use nix::unistd::{SysconfVar, sysconf};

use crate::host::clock::suspended_ns;
use crate::kernel::cgroup::{self, Cgroup};
use crate::kernel::procfs;

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// `CLOCK_MONOTONIC`, in nanoseconds; rounded down to a clock tick.
    pub started_ns: u64,
    pub cgroup: Cgroup,
}

/// Reads a process of the initial pid namespace; `None` if it has ended, or if this process
/// is in another namespace.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    if !procfs::in_initial_pid_namespace() {
        return None;
    }
    let before = procfs::start_ticks(pid)?;
    let cgroup = cgroup::parse(&procfs::text(pid, "cgroup")?);
    // Else another has taken its id in between.
    (procfs::start_ticks(pid)? == before).then(|| Process {
        started_ns: monotonic_ns(before),
        cgroup,
    })
}

/// Clock ticks since the boot, as `CLOCK_MONOTONIC`.
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
        // Nothing is known in a pid namespace of its own.
        if let Some(this) = process(std::process::id()) {
            assert!(this.started_ns <= clock::monotonic_ns(), "{this:?}");
            assert!(this.cgroup.path.is_some(), "{this:?}");
        }
        assert_eq!(process(u32::MAX), None);
    }
}
