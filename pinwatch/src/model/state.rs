//! The state that every output shows: statistics, pins in flight, losses, and
//! the verdicts of the hooks. Plain data, made by a source, without a clock and
//! without I/O.

use std::borrow::Cow;
use std::sync::Arc;

use bytemuck::Zeroable as _;
use pinwatch_common::fold::{CpuCells, ERRNO_CLASSES, ERRNOS, PinCells};
use pinwatch_common::histogram::{
    DURATION_BUCKETS, DURATION_EDGE_EXPS, PASS_BUCKETS, PASS_EDGES, duration_bucket,
    duration_upper_ns,
};
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{CAUSE_NAMES, ORIGIN_NAMES, Phase, Pin, ZONES};
use serde::{Deserialize, Serialize};

use super::series::Snapshot;
use super::thread::Threads;
use crate::kernel::switches::Switches;
use crate::probe::decision::{Decision, Kind};
use crate::probe::silence::reasons;
use crate::probe::table::Measurement;

/// One hook and whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub measurement: Measurement,
    pub kind: Kind,
    /// The function or tracepoint.
    pub target: Cow<'static, str>,
    /// Whether it is attached, and no switch of the kernel silences it.
    pub attached: bool,
    /// Whether what it counts is a lower bound: beside another BPF agent the kernel skips it.
    #[serde(default)]
    pub lower_bound: bool,
}

/// What one BPF program has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStats {
    pub program: Cow<'static, str>,
    /// Whether another program at the same hook does the work where this one is skipped.
    #[serde(default)]
    pub has_twin: bool,
    /// Runs, and nanoseconds in them, where the kernel counts them
    /// (`kernel.bpf_stats_enabled`).
    pub runs: Option<(u64, u64)>,
    /// Runs skipped because the program was running on that CPU; `None` before
    /// 5.12, which has no such protection.
    pub skipped: Option<u64>,
    /// Hits of a kprobe that could not be handled.
    pub missed: Option<u64>,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct State {
    pub release: String,
    pub era: String,
    /// Pins that were in flight when the agent attached: their returns have no
    /// entry.
    pub before_start: u64,
    /// Names by `enum zone_type`; none where zones are not sampled.
    pub zones: [Option<&'static str>; ZONES],
    pub cells: Box<CpuCells>,
    pub in_flight: Vec<Pin>,
    /// Where the names of their threads come from.
    pub threads: Threads,
    /// Slots of the table of pins in flight that are taken.
    pub claimed: usize,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub now_ns: u64,
    /// Age in nanoseconds from which a pin in flight is stuck.
    pub stuck_after_ns: u64,
    /// What became of each measurement.
    pub decisions: Arc<[Decision]>,
    pub hooks: Vec<Hook>,
    /// Switches that silence attached hooks.
    pub switches: Switches,
    pub programs: Vec<ProgramStats>,
    /// Records that were put into the ring buffer for listeners.
    pub events_sent: u64,
    /// By who pinned; none without `--per`.
    pub series: Option<Snapshot>,
}

impl State {
    /// Nothing seen yet, and nothing attached.
    #[must_use]
    pub fn empty(release: &str, era: &str) -> Self {
        Self {
            release: release.to_owned(),
            era: era.to_owned(),
            before_start: 0,
            zones: [None; ZONES],
            cells: Box::new(CpuCells::zeroed()),
            in_flight: Vec::new(),
            threads: Threads::Unknown,
            claimed: 0,
            now_ns: 0,
            stuck_after_ns: u64::MAX,
            decisions: Arc::default(),
            hooks: Vec::new(),
            switches: Switches::default(),
            programs: Vec::new(),
            events_sent: 0,
            series: None,
        }
    }

    /// How often a loss has happened.
    #[must_use]
    pub fn lost(&self, loss: Loss) -> u64 {
        self.cells.losses[loss as usize]
    }

    /// Whether a measurement has hooks of its own that work.
    #[must_use]
    pub fn takes(&self, measurement: Measurement) -> bool {
        let mut hooks = self.hooks.iter();
        hooks.any(|hook| hook.measurement == measurement && hook.attached)
    }

    /// Measurements whose counts are a lower bound.
    pub fn lower_bounds(&self) -> impl Iterator<Item = Measurement> {
        let is_bound = |measurement: &Measurement| {
            let mut hooks = self.hooks.iter();
            hooks.any(|hook| hook.measurement == *measurement && hook.lower_bound)
        };
        Measurement::ALL.into_iter().filter(is_bound)
    }

    /// Why attached hooks do not run, and what to do; empty if all of them run.
    #[must_use]
    pub fn silenced(&self) -> Vec<&'static str> {
        let silent = self.hooks.iter().filter(|hook| !hook.attached);
        reasons(silent.map(|hook| hook.kind), &self.switches)
    }

    /// The age of a pin in flight, in nanoseconds.
    #[must_use]
    pub fn age_ns(&self, pin: &Pin) -> u64 {
        self.now_ns.saturating_sub(pin.start_ns)
    }

    /// How many pins are in flight for too long.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.in_flight
            .iter()
            .filter(|pin| self.age_ns(pin) >= self.stuck_after_ns)
            .count()
    }
}

/// Failures that happened, of one origin with one errno for one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    pub origin: &'static str,
    pub errno: &'static str,
    pub cause: &'static str,
    pub count: u64,
}

/// Only what happened: the product of all labels would be a thousand zeros.
pub fn failures(cells: &PinCells) -> impl Iterator<Item = Failures> + '_ {
    let origins = ORIGIN_NAMES.into_iter().zip(&cells.origins);
    origins.flat_map(|(origin, cells)| {
        let counts = cells.failures.iter().copied().enumerate();
        counts
            .filter(|(_, count)| *count > 0)
            .map(move |(n, count)| Failures {
                origin,
                errno: ERRNO_CLASSES
                    .get(n % ERRNOS)
                    .map_or("other", |(_, name)| name),
                cause: CAUSE_NAMES[n / ERRNOS],
                count,
            })
    })
}

/// Pins that were not measured, by reason. A pin that began is counted here, has ended, or is in
/// flight.
#[must_use]
pub fn pins_lost(state: &State) -> [(&'static str, u64); 3] {
    let returns = state.lost(Loss::EntryStale) + state.lost(Loss::EntryReaped);
    [
        ("entry", state.lost(Loss::ExitUnmatched)),
        ("return", returns),
        ("no_slot", state.lost(Loss::SlotsFull)),
    ]
}

/// What happened and was not measured, by stage.
#[must_use]
pub fn losses(state: &State) -> Vec<(String, u64)> {
    let mut losses = vec![
        ("slots_full".to_owned(), state.lost(Loss::SlotsFull)),
        ("ring_full".to_owned(), state.lost(Loss::RingFull)),
    ];
    if state.takes(Measurement::FastPath) {
        let unmatched = [Loss::FastStale, Loss::FastReaped, Loss::FastUnmatched];
        let unmatched = unmatched.map(|loss| state.lost(loss)).iter().sum();
        losses.push(("fast_full".to_owned(), state.lost(Loss::FastFull)));
        losses.push(("fast_unmatched".to_owned(), unmatched));
    }
    // What a twin does instead is not lost.
    for program in state.programs.iter().filter(|program| !program.has_twin) {
        for (what, count) in [("skipped", program.skipped), ("missed", program.missed)] {
            losses.extend(count.map(|count| (format!("{what}:{}", program.program), count)));
        }
    }
    losses
}

/// The duration that a share `q` of the pins stays within, in nanoseconds: the
/// middle of its bucket. None without pins.
#[must_use]
pub fn quantile_ns(buckets: &[u64; DURATION_BUCKETS], q: f64) -> Option<f64> {
    let total: u64 = buckets.iter().sum();
    let rank = (q * total as f64).ceil().max(1.0) as u64;
    let mut below = 0;
    let bucket = buckets.iter().position(|n| {
        below += n;
        below >= rank
    })?;
    let edge = |bucket| duration_upper_ns(bucket).map(|ns| ns as f64);
    let lower = bucket.checked_sub(1).and_then(edge).unwrap_or(1.0);
    let upper = edge(bucket).unwrap_or(lower);
    // The point nearest to all of the bucket, by ratio.
    Some(2.0 * lower * upper / (lower + upper))
}

/// What a pin in flight is doing, in words.
#[must_use]
pub fn activity(pin: &Pin) -> String {
    let Pin {
        passes,
        unpinnable,
        migrate_calls,
        moved,
        failed,
        drains,
        ..
    } = pin;
    let is = |phase: Phase| pin.phase == phase as u8;
    if is(Phase::Migrate) {
        format!(
            "inside migration: call {}, {moved} moved and {failed} left before",
            migrate_calls + 1
        )
    } else if is(Phase::Drain) {
        format!("draining the LRU caches of all CPUs, drain {drains}")
    } else if *passes > 1 && *unpinnable > 0 && *migrate_calls == 0 {
        let each = unpinnable.div_ceil(u64::from(*passes));
        format!("looping on isolation: {passes} passes, {each} unpinnable in each, no migrate call")
    } else if *passes > migrate_calls + 1 {
        format!("looping: {passes} passes, {migrate_calls} migrate calls")
    } else if *passes == 0 {
        "faulting pages in".to_owned()
    } else if is(Phase::Gup) {
        format!("pinning again after pass {passes}")
    } else if is(Phase::Collect) {
        format!("looking for unpinnable pages, pass {passes}")
    } else {
        format!("returning after pass {passes}")
    }
}

/// Cumulative counts of a duration histogram at the edges that are shown, in
/// seconds.
pub fn duration_edges(buckets: &[u64]) -> impl Iterator<Item = (f64, u64)> + '_ {
    let mut next = 0;
    let mut below = 0;
    DURATION_EDGE_EXPS.into_iter().map(move |exp| {
        let edge_ns = 1u64 << exp;
        let end = duration_bucket(edge_ns) + 1;
        below += buckets[next..end].iter().sum::<u64>();
        next = end;
        (edge_ns as f64 / 1e9, below)
    })
}

/// Cumulative counts of a passes histogram at its edges.
pub fn pass_edges(buckets: &[u64; PASS_BUCKETS]) -> impl Iterator<Item = (f64, u64)> + '_ {
    let below = buckets.iter().scan(0, |sum, n| {
        *sum += n;
        Some(*sum)
    });
    PASS_EDGES.into_iter().map(f64::from).zip(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_tell_hangs_apart() {
        let pin = |phase: Phase, passes, unpinnable, migrate_calls| {
            let pin = Pin {
                phase: phase as u8,
                passes,
                unpinnable,
                migrate_calls,
                ..Pin::zeroed()
            };
            activity(&pin)
        };
        assert_eq!(pin(Phase::Gup, 0, 0, 0), "faulting pages in");
        assert_eq!(
            pin(Phase::Collect, 41_000, 41_000, 0),
            "looping on isolation: 41000 passes, 1 unpinnable in each, no migrate call"
        );
        assert!(pin(Phase::Migrate, 1, 256, 0).starts_with("inside migration: call 1"));
        assert_eq!(pin(Phase::Gup, 1, 256, 1), "pinning again after pass 1");
        assert_eq!(
            pin(Phase::Gup, 9, 9, 2),
            "looping: 9 passes, 2 migrate calls"
        );
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut buckets = [0; DURATION_BUCKETS];
        assert_eq!(quantile_ns(&buckets, 0.5), None);
        for ns in 1..=1000u64 {
            buckets[duration_bucket(ns * 1_000_000)] += 1;
        }
        for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let (got, want) = (quantile_ns(&buckets, q).unwrap(), q * 1e9);
            assert!((got / want - 1.0).abs() < 0.065, "{q}: {got} for {want}");
        }
        assert!(quantile_ns(&buckets, 0.0).unwrap() < 1.1e6);
    }

    #[test]
    fn edges_are_cumulative_and_inclusive() {
        let mut buckets = [0; DURATION_BUCKETS];
        for ns in [1, 512, 513, 1 << 20, u64::MAX] {
            buckets[duration_bucket(ns)] += 1;
        }
        let edges: Vec<_> = duration_edges(&buckets).collect();
        assert_eq!(edges[0], (512e-9, 2));
        assert_eq!(edges[1], (1024e-9, 3));
        assert_eq!(
            edges.last().unwrap().1,
            4,
            "the longest is beyond every edge"
        );
    }
}
