//! Counts the threads that wait behind a stuck pin, through procfs.
//!
//! A pin of another process' memory holds a lock of that process. Only the process that pins is read.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;

use pinwatch_common::record::Pin;

use crate::kernel::procfs::{self, STATE};
use crate::model::stall::{Behind, Moment};

/// Maximum number of threads that are read for one moment, of all processes together.
const THREADS: usize = 1024;

/// Functions that take `mmap_lock` of the thread's own process, as `/proc/TID/wchan` names them: the kernel skips the
/// functions of the lock itself. What the compiler inlines into another function is missing.
const TAKE_MMAP_LOCK: [&str; 12] = [
    "__arm64_sys_brk",
    "__do_sys_mremap",
    "__vm_munmap",
    "__x64_sys_brk",
    "__x64_sys_mremap",
    "do_madvise",
    "do_mprotect_pkey",
    "do_mremap",
    "do_user_addr_fault",
    "lock_mm_and_find_vma",
    "madvise_lock",
    "vm_mmap_pgoff",
];

/// Counts for one moment, by process.
#[derive(Debug, Default)]
pub struct Behinds {
    now_ns: u64,
    read: usize,
    by_process: HashMap<u32, Option<Behind>>,
}

impl Behinds {
    /// Threads behind a stuck pin. Each process is read once for a moment. `None` if it has ended, or if too many threads
    /// were read for this moment.
    pub fn of(&mut self, pin: &Pin, moment: &Moment<'_>) -> Option<Behind> {
        if self.now_ns != moment.now_ns {
            *self = Self {
                now_ns: moment.now_ns,
                ..Self::default()
            };
        }
        let process = pin.tgid;
        if let Some(known) = self.by_process.get(&process) {
            return *known;
        }
        let behind = self.read(process, moment.in_flight);
        self.by_process.insert(process, behind);
        behind
    }

    fn read(&mut self, process: u32, in_flight: &[Pin]) -> Option<Behind> {
        let entries = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let threads = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_in_a_pin = |tid: u32| in_flight.iter().any(|pin| pin.tid == tid);
        let mut functions = Vec::new();
        for tid in threads {
            if self.read == THREADS {
                return None;
            }
            self.read += 1;
            let stat = procfs::text(tid, "stat").unwrap_or_default();
            if procfs::stat_field(&stat, STATE) == Some('D') && !is_in_a_pin(tid) {
                functions.push(procfs::text(tid, "wchan").unwrap_or_default());
            }
        }
        Some(count(&functions))
    }
}

/// Counts threads that sleep uninterruptibly, by the functions in which they sleep.
fn count(functions: &[String]) -> Behind {
    // The kernel shows "0" to readers without permission, and of a thread that has woken.
    let shown = || {
        functions
            .iter()
            .filter(|function| !matches!(function.as_str(), "" | "0"))
    };
    let takes = |function: &&String| {
        // The compiler adds suffixes such as `.part.0`.
        let name = function.split('.').next().unwrap_or_default();
        TAKE_MMAP_LOCK.contains(&name)
    };
    let is_known = functions.is_empty() || shown().next().is_some();
    Behind {
        uninterruptible: functions.len() as u32,
        mmap_lock: is_known.then(|| shown().filter(takes).count() as u32),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn behind(functions: &[&str]) -> (u32, Option<u32>) {
        let functions: Vec<_> = functions.iter().map(|name| (*name).to_owned()).collect();
        let Behind {
            uninterruptible,
            mmap_lock,
        } = count(&functions);
        (uninterruptible, mmap_lock)
    }

    #[test]
    fn threads_are_counted_by_the_function_they_sleep_in() {
        assert_eq!(behind(&[]), (0, Some(0)));
        let functions = [
            "vm_mmap_pgoff",
            "vm_mmap_pgoff.part.0",
            "folio_wait_bit_common",
        ];
        assert_eq!(behind(&functions), (3, Some(2)));
        assert_eq!(behind(&["folio_wait_bit_common"]), (1, Some(0)));
        assert_eq!(behind(&["0", "0"]), (2, None), "hidden");
        assert_eq!(
            behind(&["0", "vm_mmap_pgoff"]),
            (2, Some(1)),
            "one has woken"
        );
    }

    #[test]
    fn a_process_is_read_once_for_a_moment_and_not_without_bound() {
        let pin = Pin {
            tgid: std::process::id(),
            ..Pin::zeroed()
        };
        let moment = |now_ns| Moment {
            now_ns,
            stuck_after_ns: 0,
            in_flight: &[],
        };
        let mut behinds = Behinds::default();
        assert!(behinds.of(&pin, &moment(1)).is_some());
        let read = behinds.read;
        assert!(read > 0);
        assert!(behinds.of(&pin, &moment(1)).is_some());
        assert_eq!(behinds.read, read);
        behinds.read = THREADS;
        let parent = Pin {
            tgid: std::os::unix::process::parent_id(),
            ..pin
        };
        assert_eq!(behinds.of(&parent, &moment(1)), None);
        assert!(behinds.of(&parent, &moment(2)).is_some());
    }
}
