//! What procfs says of a thread or a process: name, cgroup, container. Asked for
//! only when somebody looks at pins in flight, or with `--per`. A thread may end
//! meanwhile, and another may take its id: nothing is reported rather than a
//! guess. Names and paths are of the process's choosing: outputs must escape them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{self, Cgroup};

/// What is known of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    pub comm: Option<String>,
    pub cgroup: Option<String>,
    pub container: Option<String>,
}

/// Reads what there is of a thread of the initial pid namespace.
#[must_use]
pub fn thread(tid: u32) -> Thread {
    if !in_initial_pid_namespace() {
        return Thread::default();
    }
    let read = |file: &str| fs::read_to_string(format!("/proc/{tid}/{file}")).ok();
    let cgroup = read("cgroup").map(|text| cgroup::parse(&text));
    let cgroup = cgroup.unwrap_or_default();
    Thread {
        comm: read("comm").map(|text| text.trim_end_matches('\n').to_owned()),
        cgroup: cgroup.path,
        container: cgroup.container,
    }
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// `CLOCK_MONOTONIC`, in nanoseconds: not later than it did start.
    pub started_ns: u64,
    pub cgroup: Cgroup,
}

/// Reads what there is of a process of the initial pid namespace.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    if !in_initial_pid_namespace() {
        return None;
    }
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let start = || start_ticks(&read("stat")?);
    let before = start()?;
    let cgroup = cgroup::parse(&read("cgroup")?);
    // Else another has taken its id in between.
    (start()? == before).then(|| Process {
        started_ns: monotonic_ns(before),
        cgroup,
    })
}

/// The 22nd field (proc(5)). The name before it can hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(22 - 3)?.parse().ok()
}

/// Ticks since the boot by the clock of pins, which stands still in suspension.
fn monotonic_ns(ticks: u64) -> u64 {
    let now = |clock| {
        let now = clock_gettime(clock).expect("every Linux has this clock");
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    };
    let monotonic = now(ClockId::CLOCK_MONOTONIC);
    let suspended = now(ClockId::CLOCK_BOOTTIME).saturating_sub(monotonic);
    let hz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let tick_ns = 1_000_000_000 / hz.max(1) as u64;
    ticks.saturating_mul(tick_ns).saturating_sub(suspended)
}

/// Thread ids come from the kernel as the initial namespace has them.
fn in_initial_pid_namespace() -> bool {
    /// `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
    const INITIAL: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_stat_after_any_name() {
        let fields: Vec<_> = (3..30).map(|n| n.to_string()).collect();
        for name in ["bash", "a) R 1 (b", ") "] {
            let stat = format!("17 ({name}) {}\n", fields.join(" "));
            assert_eq!(start_ticks(&stat), Some(22), "{name}");
        }
        assert_eq!(start_ticks("17 (bash) R 1\n"), None);
    }

    #[test]
    fn this_process() {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
        let now = now.tv_sec() as u64 * 1_000_000_000;
        // Nothing is known in a pid namespace of its own.
        if let Some(this) = process(std::process::id()) {
            assert!(this.started_ns <= now + 1_000_000_000, "{this:?}");
            assert!(this.cgroup.path.is_some(), "{this:?}");
        }
        assert_eq!(process(u32::MAX), None);
    }
}
