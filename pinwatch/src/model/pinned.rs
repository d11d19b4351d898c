//! Memory that is pinned on the machine now, and its largest users.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounded;
use super::series::Labels;

/// Number of users with a series and a row of their own.
pub const LARGEST: usize = 10;

/// Pinned memory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Pages that are pinned on the machine, from counters that lag; `None` before 5.6.
    pub pages: Option<u64>,
    /// Processes with pinned or locked memory, largest first.
    pub processes: Vec<Process>,
}

/// A process with pinned or locked memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    pub cgroup: Option<String>,
    pub container: Option<String>,
    pub pod: Option<String>,
    pub unit: Option<String>,
    /// `VmPin`.
    pub pinned_bytes: u64,
    /// `VmLck`.
    pub locked_bytes: u64,
}

/// Sums of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub labels: Labels,
    pub pinned_bytes: u64,
    pub locked_bytes: u64,
}

impl Pinned {
    /// Pinned memory, from processes in any order.
    #[must_use]
    pub fn new(pages: Option<u64>, mut processes: Vec<Process>) -> Self {
        processes.sort_by_key(|process| {
            let bytes = process.pinned_bytes.saturating_add(process.locked_bytes);
            (std::cmp::Reverse(bytes), process.pid)
        });
        Self { pages, processes }
    }

    /// The largest users by name, container, pod and unit, and the sum of all others.
    #[must_use]
    pub fn by_name(&self) -> (Vec<User>, User) {
        self.largest(|process| ("comm", Some(process.comm.clone())))
    }

    /// The largest users by cgroup, and the sum of all others.
    #[must_use]
    pub fn by_cgroup(&self) -> (Vec<User>, User) {
        self.largest(|process| ("cgroup", process.cgroup.clone()))
    }

    fn largest(
        &self,
        name: impl Fn(&Process) -> (&'static str, Option<String>),
    ) -> (Vec<User>, User) {
        let mut users: Vec<User> = Vec::new();
        for process in &self.processes {
            let labels = [
                name(process),
                ("container_id", process.container.clone()),
                ("pod_uid", process.pod.clone()),
                ("unit", process.unit.clone()),
            ];
            let labels: Labels = labels
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
                .collect();
            let at = users.iter().position(|user| user.labels == labels);
            let at = at.unwrap_or_else(|| {
                users.push(User {
                    labels,
                    ..User::default()
                });
                users.len() - 1
            });
            users[at].add(process.pinned_bytes, process.locked_bytes);
        }
        users.sort_by_key(|user| {
            std::cmp::Reverse(user.pinned_bytes.saturating_add(user.locked_bytes))
        });
        let rest = users.split_off(users.len().min(LARGEST));
        let mut other = User::default();
        for user in rest {
            other.add(user.pinned_bytes, user.locked_bytes);
        }
        (users, other)
    }
}

impl User {
    fn add(&mut self, pinned: u64, locked: u64) {
        self.pinned_bytes = bounded::sum([self.pinned_bytes, pinned]);
        self.locked_bytes = bounded::sum([self.locked_bytes, locked]);
    }
}

/// Source of [`Pinned`].
#[derive(Clone, Debug, Default)]
pub enum PinnedSource {
    /// A recording has none.
    #[default]
    Unknown,
    /// Reads procfs. Called only when an output shows it.
    Live(Arc<dyn ReadPinned>),
}

/// Reads pinned memory.
pub trait ReadPinned: Debug + Send + Sync {
    fn read(&self) -> Pinned;
}

impl PinnedSource {
    #[must_use]
    pub fn read(&self) -> Option<Pinned> {
        match self {
            Self::Unknown => None,
            Self::Live(source) => Some(source.read()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, comm: &str, pinned_bytes: u64) -> Process {
        Process {
            pid,
            comm: comm.to_owned(),
            cgroup: Some(format!("/{}", pid % 2)),
            pinned_bytes,
            locked_bytes: 1,
            ..Process::default()
        }
    }

    #[test]
    fn users_are_added_up_by_name_and_by_cgroup() {
        let pinned = Pinned::new(
            None,
            vec![
                process(1, "qemu", 10),
                process(2, "fio", 70),
                process(3, "qemu", 90),
            ],
        );
        let pids: Vec<_> = pinned.processes.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [3, 2, 1], "largest first");
        let sums = |(users, other): (Vec<User>, User)| {
            let users: Vec<_> = users
                .into_iter()
                .map(|user| (user.labels[0].1.clone(), user.pinned_bytes))
                .collect();
            (users, other.pinned_bytes)
        };
        let text = |pairs: [(&str, u64); 2]| pairs.map(|(name, n)| (name.to_owned(), n)).to_vec();
        assert_eq!(
            sums(pinned.by_name()),
            (text([("qemu", 100), ("fio", 70)]), 0)
        );
        assert_eq!(
            sums(pinned.by_cgroup()),
            (text([("/1", 100), ("/0", 70)]), 0)
        );
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let processes = (0..1000).map(|n| process(n, &n.to_string(), u64::from(n)));
        let pinned = Pinned::new(None, processes.collect());
        let (users, other) = pinned.by_name();
        assert_eq!(users.len(), LARGEST);
        assert_eq!(users[0].labels[0].1, "999");
        assert_eq!(other.pinned_bytes, (0..990).sum::<u64>());
        assert_eq!(other.locked_bytes, 990);
    }
}
