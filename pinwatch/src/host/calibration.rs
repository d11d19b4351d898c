//! How fast the machine is at the moment: the time that a fixed piece of work takes, which
//! has nothing to do with pins. What it differs by between two recordings, their durations
//! may differ by for the same reason.

use std::hint::black_box;
use std::time::Instant;

/// Some 30 ms of a processor of 2020: long enough to share it with whoever else wants it.
const STEPS: u32 = 20_000_000;

/// The time of the work, in nanoseconds.
#[must_use]
pub fn measure() -> u64 {
    let started = Instant::now();
    // Each step needs the one before it (Knuth's multiplier, TAOCP 2, 3.3.4).
    (0..STEPS).fold(1u64, |x, _| {
        black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
    });
    started.elapsed().as_nanos() as u64
}
