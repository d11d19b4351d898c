//! Speed of the machine at the moment: the time of a fixed computation without pins.
//!
//! If this time differs between two recordings, durations of pins may differ for the same reason.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Instant;

/// About 30 ms on a processor of 2020: long enough to include the time that other tasks take.
const STEPS: u32 = 20_000_000;

/// Duration of the computation, in nanoseconds.
#[must_use]
pub fn measure() -> u64 {
    let started = Instant::now();
    // Each step depends on its predecessor, so that a CPU cannot overlap steps. The multiplier is Knuth's
    // (TAOCP 2, 3.3.4).
    (0..STEPS).fold(1u64, |x, _| {
        black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
    });
    started.elapsed().as_nanos() as u64
}
