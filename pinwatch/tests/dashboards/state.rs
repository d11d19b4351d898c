//! Simulated states of two hosts in which every metric has a value.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Zeroable as _;
use pinwatch::model::state::{Hook, ProgramStats, State};
use pinwatch::probe::table::Measurement;
use pinwatch_common::cells::CpuCells;

use super::{served, some};

/// The kernels of the two hosts.
pub const RELEASES: [&str; 2] = ["6.12.0-test", "7.3.0-test"];

const ZONES: [&str; 5] = ["dma", "dma32", "normal", "movable", "device"];

/// A state in which every counter is `n`.
pub fn state(release: &str, n: u64) -> State {
    let mut cells = Box::new(CpuCells::zeroed());
    bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(&mut *cells)).fill(n);
    let base = some::state();
    let hook = |measurement, attached| Hook {
        measurement,
        attached,
        ..base.hooks[0].clone()
    };
    State {
        release: release.to_owned(),
        cells,
        zones: std::array::from_fn(|zone| ZONES.get(zone).copied()),
        hooks: vec![
            hook(Measurement::PinEntry, true),
            hook(Measurement::FastPath, true),
            hook(Measurement::UnpinnableZones, true),
            hook(Measurement::Blockers, true),
            hook(Measurement::Refusals, true),
            // No metric depends on it.
            hook(Measurement::ThreadExit, false),
        ],
        programs: vec![ProgramStats {
            program: "pin_enter_fentry".into(),
            has_twin: false,
            runs: Some((n, 700 * n)),
            skipped: Some(n),
            missed: Some(n),
        }],
        events_sent: n,
        // What is lost has no sample.
        decisions: Arc::default(),
        ..base
    }
}

/// Serves a host on its own port. Its counters grow by one from scrape to scrape.
pub fn serve(release: &'static str) -> SocketAddr {
    let scrapes = AtomicU64::new(0);
    served::serve(move || state(release, scrapes.fetch_add(1, Ordering::Relaxed)))
}
