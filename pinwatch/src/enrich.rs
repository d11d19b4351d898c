//! What procfs says of a thread: name, cgroup, container. Asked
//! for only when somebody looks at pins in flight. A thread may end meanwhile,
//! and another may take its id: nothing is reported rather than a guess. Names
//! and paths are of the process's choosing: outputs must escape them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

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
    let cgroup = read("cgroup").as_deref().and_then(cgroup_path);
    Thread {
        comm: read("comm").map(|text| text.trim_end_matches('\n').to_owned()),
        container: cgroup.as_deref().and_then(container_id),
        cgroup,
    }
}

/// Thread ids come from the kernel as the initial namespace has them.
fn in_initial_pid_namespace() -> bool {
    /// `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
    const INITIAL: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == INITIAL)
}

/// The path in the v2 hierarchy; on v1 hosts that of the first controller.
fn cgroup_path(text: &str) -> Option<String> {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    let v2 = text
        .lines()
        .find(|line| line.starts_with("0::"))
        .and_then(path);
    v2.filter(|path| path != "/")
        .or_else(|| text.lines().find_map(path))
}

/// The id that containerd, CRI-O, Docker and Podman put into a cgroup's name:
/// exactly 64 hexadecimal digits.
fn container_id(cgroup: &str) -> Option<String> {
    const DIGITS: usize = 64;
    let mut words = cgroup.rsplit(|c: char| !c.is_ascii_alphanumeric());
    let is_id = |word: &&str| word.len() == DIGITS && word.bytes().all(|b| b.is_ascii_hexdigit());
    words.find(is_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn container_ids_or_nothing() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container_id(&path).as_deref(), Some(ID), "{path}");
        }
        for path in [
            "/user.slice/user-1000.slice",
            "/docker/0123",
            &format!("/x/{ID}0"),
            "",
        ] {
            assert_eq!(container_id(path), None, "{path}");
        }
    }

    #[test]
    fn cgroups_of_v1_v2_and_both() {
        assert_eq!(
            cgroup_path("0::/system.slice/x.service\n").as_deref(),
            Some("/system.slice/x.service")
        );
        assert_eq!(
            cgroup_path("12:cpu,cpuacct:/a:b\n0::/\n").as_deref(),
            Some("/a:b")
        );
        assert_eq!(cgroup_path("nonsense"), None);
    }
}
