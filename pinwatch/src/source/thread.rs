//! Name and cgroup of a thread of this machine, from procfs.
//!
//! A thread can end meanwhile, and another can take its id. A missing value stays empty. Processes choose
//! names and paths, so outputs must escape them.
#![forbid(unsafe_code)]

use crate::kernel::{cgroup, procfs};
use crate::model::thread::Thread;

/// Name and cgroup of a thread in the initial pid namespace. Empty if the thread has ended, or if this
/// process is in another namespace.
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
