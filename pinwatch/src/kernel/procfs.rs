//! Threads and processes in `/proc`: pins in progress, stat fields, pid namespace.
#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;
use std::{fs, io};

/// `PF_MEMALLOC_PIN` (include/linux/sched.h), set while a thread is inside a long-term pin. Before 5.13 it
/// was `PF_MEMALLOC_NOCMA`, which kernels without CMA never set.
const IN_PIN: u32 = 0x1000_0000;

/// Field number of the state in `/proc/TID/stat`, as in proc(5).
pub const STATE: usize = 3;
/// Field number of the page faults without I/O of a thread.
pub const MINOR_FAULTS: usize = 10;
const FLAGS: usize = 9;
const START_TIME: usize = 22;

/// Number of threads inside a long-term pin now. Always 0 before 5.13 without CMA.
#[must_use]
pub fn threads_inside_a_pin() -> u64 {
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    let processes = entries("/proc").filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.bytes().all(|b| b.is_ascii_digit()).then_some(name)
    });
    let threads = processes.flat_map(|pid| entries(&format!("/proc/{pid}/task")));
    // A thread that has ended meanwhile is inside no pin.
    let stats = threads.filter_map(|thread| read(thread.path().join("stat")).ok());
    stats
        .filter(|stat| stat_field(stat, FLAGS).is_some_and(|flags: u32| flags & IN_PIN != 0))
        .count() as u64
}

/// Text of a file in procfs or sysfs. Bytes that are not UTF-8 become U+FFFD: the kernel cuts the name of a
/// thread after 15 bytes, also inside a character, and names and command lines can have any bytes.
///
/// # Errors
///
/// If the file cannot be read.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// Text of `/proc/TID/FILE`; `None` if it cannot be read. A process has the id of its main thread.
#[must_use]
pub fn text(tid: u32, file: &str) -> Option<String> {
    read(format!("/proc/{tid}/{file}")).ok()
}

/// Ids of all processes, in ascending order.
#[must_use]
pub fn process_ids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids
}

/// A size in the text of `/proc/PID/status`, in bytes. `key` ends with a colon.
#[must_use]
pub fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix(key))?;
    kib.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Pages that are pinned on the machine now (FOLL_PIN); `None` before 5.6. The kernel folds its counters late.
#[must_use]
pub fn pages_pinned() -> Option<u64> {
    difference_of_pins(&read("/proc/vmstat").ok()?)
}

fn difference_of_pins(vmstat: &str) -> Option<u64> {
    let count = |key: &str| {
        let mut lines = vmstat.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key)?.1.parse::<u64>().ok()
    };
    let (acquired, released) = (
        count("nr_foll_pin_acquired")?,
        count("nr_foll_pin_released")?,
    );
    // Either can lag.
    Some(acquired.saturating_sub(released))
}

/// Whether this process ignores a signal, by its number.
#[must_use]
pub fn ignores(signal: i32) -> bool {
    let status = read("/proc/self/status").unwrap_or_default();
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigIgn:"));
    let mut masks = masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    masks.any(|mask| mask >> (signal - 1) & 1 != 0)
}

/// Start time of a process, in clock ticks since boot.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat_field(&text(pid, "stat")?, START_TIME)
}

/// A field of `/proc/TID/stat` after the name, by its number in proc(5), from 3.
///
/// The name, field 2, can contain any character, so fields are counted from its last `)`.
#[must_use]
pub fn stat_field<T: FromStr>(stat: &str, number: usize) -> Option<T> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(number - 3)?.parse().ok()
}

/// Whether this process is in the initial pid namespace. BPF programs report ids of that namespace.
#[must_use]
pub fn in_initial_pid_namespace() -> bool {
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
            assert_eq!(stat_field(&stat, 9), Some(9), "{name}");
            assert_eq!(stat_field(&stat, 22), Some(22), "{name}");
        }
        assert_eq!(stat_field::<u64>("17 (bash) R 1\n", 22), None);
        assert_eq!(stat_field::<u32>("12 (a", 9), None);
        assert_eq!(stat_field("12 (a) R b) D 1 2", STATE), Some('D'));
        let stat = "12 (a) R 1 b) D 1 12 12 0 -1 272629760 5 0";
        assert_eq!(stat_field(stat, 9), Some(272_629_760));
    }

    #[test]
    fn pinned_memory() {
        let vmstat = "nr_zone_a 1\nnr_foll_pin_acquired 1300\nnr_foll_pin_released 1044\n";
        assert_eq!(difference_of_pins(vmstat), Some(256));
        let lags = "nr_foll_pin_acquired 3\nnr_foll_pin_released 5\n";
        assert_eq!(difference_of_pins(lags), Some(0));
        assert_eq!(difference_of_pins("nr_foll_pin_acquired 3\n"), None);
        let status = "Name:\tVmPin: 7 kB\nVmLck:\t       8 kB\nVmPin:\t    1024 kB\n";
        assert_eq!(status_bytes(status, "VmPin:"), Some(1 << 20));
        assert_eq!(status_bytes(status, "VmLck:"), Some(8192));
        assert_eq!(status_bytes(status, "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_an_id() {
        assert!(process_ids().contains(&std::process::id()));
    }

    /// The kernel keeps 15 bytes of a name, here 14 and the first of two that are one character.
    #[test]
    fn a_name_that_ends_inside_a_character_loses_nothing_else() {
        let thread = std::thread::spawn(|| {
            let name = c"abcdefghijklmn\xc3\xa4";
            nix::sys::prctl::set_name(name).expect("named");
            let own = |file: &str| read(format!("/proc/thread-self/{file}")).expect("read");
            assert_eq!(own("comm"), "abcdefghijklmn\u{fffd}\n");
            assert!(own("status").starts_with("Name:\tabcdefghijklmn\u{fffd}\n"));
            assert!(stat_field::<u64>(&own("stat"), START_TIME).is_some());
        });
        thread.join().expect("no panic");
    }

    #[test]
    fn ignored_signals() {
        // Rust's runtime ignores SIGPIPE.
        assert!(ignores(13) && !ignores(15));
    }

    #[test]
    fn no_thread_here_is_inside_a_pin() {
        assert_eq!(threads_inside_a_pin(), 0);
    }
}
