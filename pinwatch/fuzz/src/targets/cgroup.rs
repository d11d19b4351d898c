//! `/proc/PID/cgroup`: paths that any process can choose.
#![forbid(unsafe_code)]

use pinwatch::kernel::cgroup::parse;

/// Feeds one input.
pub fn run(data: &[u8]) {
    let cgroup = parse(&String::from_utf8_lossy(data));
    assert!(cgroup.path.is_none_or(|path| path.chars().count() <= 1024));
    assert!(cgroup.container.is_none_or(|id| id.len() == 64));
    assert!(cgroup.pod.is_none_or(|uid| uid.len() <= 36));
}
