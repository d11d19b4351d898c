//! The name and the cgroup of a thread, from procfs. A thread may end meanwhile, and another
//! may take its id: what is missing is not guessed. Names and paths are of the process's
//! choosing: outputs must escape them.

use crate::kernel::{cgroup, procfs};
use crate::model::thread::Thread;

/// Reads a thread of the initial pid namespace; empty if it has ended, or if this process is
/// in another namespace.
#[must_use]
pub fn thread(tid: u32) -> Thread {
    if !procfs::in_initial_pid_namespace() {
        return Thread::default();
    }
    let cgroup = procfs::text(tid, "cgroup").map(|text| cgroup::parse(&text));
    let cgroup = cgroup.unwrap_or_default();
    Thread {
        comm: procfs::text(tid, "comm").map(|text| text.trim_end_matches('\n').to_owned()),
        cgroup: cgroup.path,
        container: cgroup.container,
    }
}
