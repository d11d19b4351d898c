//! Clocks of the kernel, in nanoseconds.
#![forbid(unsafe_code)]

use std::fs;
use std::sync::LazyLock;

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` of the host in nanoseconds, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    host_monotonic_ns() as u64
}

/// Nanoseconds since boot in which the machine was suspended: `CLOCK_MONOTONIC` stops meanwhile. Plus the offset of
/// this process's time namespace for `CLOCK_BOOTTIME`, which start times of processes in procfs have too.
#[must_use]
pub fn suspended_ns() -> u64 {
    (now_ns(ClockId::CLOCK_BOOTTIME) - host_monotonic_ns()).max(0) as u64
}

/// Nanoseconds to add to `CLOCK_MONOTONIC` for `CLOCK_REALTIME`.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    now_ns(ClockId::CLOCK_REALTIME) - host_monotonic_ns()
}

/// Without the offset of this process's time namespace, which the kernel adds to its clocks.
fn host_monotonic_ns() -> i64 {
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        // Kernels without time namespaces have no such file.
        let offsets = fs::read_to_string("/proc/self/timens_offsets");
        monotonic_offset(&offsets.unwrap_or_default())
    });
    now_ns(ClockId::CLOCK_MONOTONIC) - *OFFSET
}

/// In nanoseconds, from the text of `timens_offsets`: seconds and nanoseconds of each clock.
fn monotonic_offset(offsets: &str) -> i64 {
    let offset = offsets.lines().find_map(|line| {
        let mut fields = line.strip_prefix("monotonic")?.split_whitespace();
        let mut next = || fields.next()?.parse::<i64>().ok();
        Some(next()? * 1_000_000_000 + next()?)
    });
    offset.unwrap_or_default()
}

fn now_ns(clock: ClockId) -> i64 {
    let now = clock_gettime(clock).expect("every Linux has this clock");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace() {
        let offsets = "monotonic           86400 7\nboottime            -5         0\n";
        assert_eq!(monotonic_offset(offsets), 86_400_000_000_007);
        assert_eq!(monotonic_offset("monotonic  -1 5\n"), -999_999_995);
        assert_eq!(monotonic_offset(""), 0);
    }
}
