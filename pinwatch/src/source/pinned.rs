//! Reads pinned memory from procfs when somebody asks, in bounded time.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kernel::{cgroup, procfs};
use crate::model::pinned::{Pinned, Process, ReadPinned};

/// Time that one reading may take. The next reading goes on where this one stopped.
const BUDGET: Duration = Duration::from_millis(50);

/// Age up to which a reading is used again.
const FRESH: Duration = Duration::from_millis(900);

/// The reader. Keeps the processes that it found with pinned or locked memory.
#[derive(Debug, Default)]
pub struct PinnedReader {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    read: Option<(Instant, Pinned)>,
    users: BTreeMap<u32, Process>,
    /// Process id with which the next reading goes on.
    next: u32,
}

impl ReadPinned for PinnedReader {
    fn read(&self) -> Pinned {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, pinned)) = &last.read
            && at.elapsed() < FRESH
        {
            return pinned.clone();
        }
        let began = Instant::now();
        last.read_processes(&procfs::process_ids(), process, || {
            began.elapsed() >= BUDGET
        });
        let pinned = Pinned::new(
            procfs::pages_pinned(),
            last.users.values().cloned().collect(),
        );
        last.read = Some((Instant::now(), pinned.clone()));
        pinned
    }
}

impl Last {
    /// Reads all known users again, then other processes until `is_late`, from `next` on and around.
    fn read_processes(
        &mut self,
        ids: &[u32],
        read: impl Fn(u32) -> Option<Process>,
        is_late: impl Fn() -> bool,
    ) {
        let known: Vec<_> = self.users.keys().copied().collect();
        for id in &known {
            self.set(*id, read(*id));
        }
        let start = ids.partition_point(|id| *id < self.next);
        for id in ids[start..].iter().chain(&ids[..start]) {
            self.next = *id;
            if is_late() {
                return;
            }
            if !known.contains(id) {
                self.set(*id, read(*id));
            }
        }
        self.next = 0;
    }

    fn set(&mut self, id: u32, process: Option<Process>) {
        match process {
            Some(process) => self.users.insert(id, process),
            None => self.users.remove(&id),
        };
    }
}

/// A process with pinned or locked memory; `None` for all others.
fn process(pid: u32) -> Option<Process> {
    let status = procfs::text(pid, "status")?;
    let bytes = |key| procfs::status_bytes(&status, key).unwrap_or_default();
    let (pinned_bytes, locked_bytes) = (bytes("VmPin:"), bytes("VmLck:"));
    if pinned_bytes == 0 && locked_bytes == 0 {
        return None;
    }
    let cgroup = procfs::text(pid, "cgroup").map(|text| cgroup::parse(&text));
    let cgroup = cgroup.unwrap_or_default();
    Some(Process {
        pid,
        comm: procfs::text(pid, "comm")?.trim_end_matches('\n').to_owned(),
        cgroup: cgroup.path,
        container: cgroup.container,
        pod: cgroup.pod,
        unit: cgroup.unit,
        pinned_bytes,
        locked_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn user(pid: u32) -> Process {
        Process {
            pid,
            ..Process::default()
        }
    }

    #[test]
    fn a_reading_goes_on_where_the_last_one_stopped() {
        let ids: Vec<_> = (1..=9).collect();
        let mut last = Last::default();
        let reads = Cell::new(0);
        let read = |last: &mut Last| {
            reads.set(0);
            let process = |id| {
                reads.set(reads.get() + 1);
                (id % 3 == 0).then(|| user(id))
            };
            last.read_processes(&ids, process, || reads.get() >= 4);
            last.users.keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(read(&mut last), [3], "1 to 4");
        assert_eq!(read(&mut last), [3, 6], "3 again, and 5 to 7");
        assert_eq!(read(&mut last), [3, 6, 9]);
        assert_eq!(read(&mut last), [3, 6, 9], "from the first process on");
    }

    #[test]
    fn a_process_that_pins_nothing_any_more_is_dropped() {
        let mut last = Last::default();
        last.read_processes(&[1, 2], |id| Some(user(id)), || false);
        assert_eq!(last.users.len(), 2);
        last.read_processes(&[2], |id| (id == 2).then(|| user(id)), || false);
        assert_eq!(last.users.keys().copied().collect::<Vec<_>>(), [2]);
    }
}
