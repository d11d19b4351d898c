//! Clocks of the kernel, in nanoseconds.
#![forbid(unsafe_code)]

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> u64 {
    now_ns(ClockId::CLOCK_MONOTONIC) as u64
}

/// Nanoseconds since boot in which the machine was suspended: `CLOCK_MONOTONIC` stops meanwhile.
#[must_use]
pub fn suspended_ns() -> u64 {
    let monotonic = now_ns(ClockId::CLOCK_MONOTONIC);
    (now_ns(ClockId::CLOCK_BOOTTIME) - monotonic).max(0) as u64
}

/// Nanoseconds to add to `CLOCK_MONOTONIC` for `CLOCK_REALTIME`.
#[must_use]
pub fn wall_offset_ns() -> i64 {
    now_ns(ClockId::CLOCK_REALTIME) - now_ns(ClockId::CLOCK_MONOTONIC)
}

fn now_ns(clock: ClockId) -> i64 {
    let now = clock_gettime(clock).expect("every Linux has this clock");
    now.tv_sec() * 1_000_000_000 + now.tv_nsec()
}
