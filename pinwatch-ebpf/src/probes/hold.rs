//! Timer that looks at folios which a failed migration left behind.
//!
//! User space creates it while it has the capability, and enables it while folios are watched. Enabling needs no
//! capability.

use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;

use crate::watch;

#[perf_event]
fn hold_sample(_ctx: PerfEventContext) -> u32 {
    watch::sample();
    0
}
