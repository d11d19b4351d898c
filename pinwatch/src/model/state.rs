//! The state that all outputs render: statistics, pins in flight, losses and hooks. A source makes it.
//! Plain data, without a clock and without I/O.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::sync::Arc;

use bytemuck::Zeroable as _;
use pinwatch_common::cells::CpuCells;
use pinwatch_common::histogram::{
    DURATION_BUCKETS, DURATION_EDGE_EXPS, PASS_BUCKETS, PASS_EDGES, duration_bucket,
    duration_upper_ns,
};
use pinwatch_common::loss::Loss;
use pinwatch_common::place::PLACES;
use pinwatch_common::record::{ORIGIN_NAMES, PHASES, Phase, Pin};
use pinwatch_common::weak::Blocked;
use serde::{Deserialize, Serialize};

use super::bounded;
use super::pinned::PinnedSource;
use super::series::Snapshot;
use super::stall::{Behind, Moment, Stall};
use super::thread::Threads;
use crate::kernel::switches::Switches;
use crate::probe::decision::{Decision, Kind, Verdict};
use crate::probe::silence::reasons;
use crate::probe::table::Measurement;

/// One hook and whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub measurement: Measurement,
    pub kind: Kind,
    /// Name of the function or tracepoint.
    pub target: Cow<'static, str>,
    /// Whether the hook runs: it is attached, and no kernel switch silences it.
    pub attached: bool,
    /// Whether its counts are a lower bound: the kernel can skip it beside another BPF agent.
    #[serde(default)]
    pub lower_bound: bool,
}

/// Run counters of one BPF program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStats {
    pub program: Cow<'static, str>,
    /// Whether a twin at the same hook does the work when the kernel skips this program.
    #[serde(default)]
    pub has_twin: bool,
    /// Number of runs and their total nanoseconds; `None` unless `kernel.bpf_stats_enabled` is 1.
    pub runs: Option<(u64, u64)>,
    /// Runs that the kernel skipped because the program was running on that CPU. `None` before
    /// 5.12, which has no such protection.
    pub skipped: Option<u64>,
    /// Kprobe hits that the kernel could not handle.
    pub missed: Option<u64>,
}

/// All phases, in the order of their numbers.
pub const ALL_PHASES: [Phase; PHASES] = [
    Phase::Gup,
    Phase::Collect,
    Phase::Drain,
    Phase::Migrate,
    Phase::Other,
];

/// The agent's state at one moment.
#[derive(Clone, Debug)]
pub struct State {
    pub release: String,
    pub era: String,
    /// Pins that were in flight when the agent attached. Their entries were not seen.
    pub before_start: u64,
    /// Zone names by `enum zone_type`; `None` where zones are not sampled.
    pub zones: [Option<&'static str>; PLACES],
    /// Names of the types of pageblocks by `enum migratetype`; `None` where blockers are not inspected.
    pub pageblocks: [Option<&'static str>; PLACES],
    pub cells: Box<CpuCells>,
    pub in_flight: Vec<Pin>,
    /// Source of the names of the threads in `in_flight`.
    pub threads: Threads,
    /// Number of taken slots.
    pub claimed: usize,
    /// Time of the state, in nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Age in nanoseconds from which a pin in flight is stuck.
    pub stuck_after_ns: u64,
    /// The plan: one decision per measurement.
    pub decisions: Arc<[Decision]>,
    pub hooks: Vec<Hook>,
    /// Kernel switches that can silence attached hooks.
    pub switches: Switches,
    pub programs: Vec<ProgramStats>,
    /// Events that the BPF programs put into the ring buffer for followers.
    pub events_sent: u64,
    /// Series of `--per`; `None` without it.
    pub series: Option<Snapshot>,
    /// Memory that is pinned on the machine now.
    pub pinned: PinnedSource,
    /// Holders of weak pins that were in the way of a pin.
    pub blocked: Vec<Blocked>,
}

impl State {
    /// State of an agent that has no hooks and saw no pins.
    #[must_use]
    pub fn empty(release: &str, era: &str) -> Self {
        Self {
            release: release.to_owned(),
            era: era.to_owned(),
            before_start: 0,
            zones: [None; PLACES],
            pageblocks: [None; PLACES],
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
            pinned: PinnedSource::Unknown,
            blocked: Vec::new(),
        }
    }

    /// Count of one kind of loss.
    #[must_use]
    pub fn lost(&self, loss: Loss) -> u64 {
        self.cells.losses[loss as usize]
    }

    /// Registrations that RLIMIT_MEMLOCK refused, by origin; nothing if they are not counted.
    pub fn memlock_refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = self.takes(Measurement::Refusals);
        let refusals = ORIGIN_NAMES.into_iter().zip(self.cells.memlock_refusals);
        refusals.filter(move |_| counted)
    }

    /// Whether a measurement has a hook that runs.
    #[must_use]
    pub fn takes(&self, measurement: Measurement) -> bool {
        let mut hooks = self.hooks.iter();
        hooks.any(|hook| hook.measurement == measurement && hook.attached)
    }

    /// Whether a measurement has no counts: it is lost or off, or none of its hooks runs. Its numbers would be 0.
    /// A measurement that does not apply to the kernel has counts, and they are 0.
    #[must_use]
    pub fn lacks(&self, measurement: Measurement) -> bool {
        let mut decisions = self.decisions.iter();
        let decision = decisions.find(|decision| decision.measurement == measurement);
        match decision.map(|decision| &decision.verdict) {
            Some(Verdict::Lost { .. } | Verdict::Off { .. }) => true,
            Some(Verdict::NotApplicable { .. }) => false,
            Some(Verdict::Attach { .. }) | None => {
                let mut hooks = self.hooks.iter();
                hooks.any(|hook| hook.measurement == measurement) && !self.takes(measurement)
            }
        }
    }

    /// Whether the time of a phase is not measured: it is 0, or the phase has the time of others too.
    #[must_use]
    pub fn lacks_phase(&self, phase: Phase) -> bool {
        use Measurement as M;
        let of: &[M] = match phase {
            Phase::Gup | Phase::Collect | Phase::Other => &[M::Passes, M::Phases],
            Phase::Drain => &[M::Drains],
            Phase::Migrate => &[M::MigrateTime],
        };
        of.iter().any(|measurement| self.lacks(*measurement))
    }

    /// Measurements whose counts are a lower bound.
    pub fn lower_bounds(&self) -> impl Iterator<Item = Measurement> {
        let is_bound = |measurement: &Measurement| {
            let mut hooks = self.hooks.iter();
            hooks.any(|hook| hook.measurement == *measurement && hook.lower_bound)
        };
        Measurement::ALL.into_iter().filter(is_bound)
    }

    /// Reasons why attached hooks do not run, each with its remedy; empty if all of them run.
    #[must_use]
    pub fn silenced(&self) -> Vec<&'static str> {
        let silent = self.hooks.iter().filter(|hook| !hook.attached);
        reasons(silent.map(|hook| hook.kind), &self.switches)
    }

    /// Age of a pin in flight, in nanoseconds.
    #[must_use]
    pub fn age_ns(&self, pin: &Pin) -> u64 {
        self.moment().age_ns(pin)
    }

    /// Whether a pin in flight is stuck.
    #[must_use]
    pub fn is_stuck(&self, pin: &Pin) -> bool {
        self.moment().is_stuck(pin)
    }

    /// Observes the thread of a pin in flight.
    #[must_use]
    pub fn stall(&self, pin: &Pin) -> Stall {
        self.threads.stall(pin, &self.moment())
    }

    /// Activity of a pin in flight, in words, with the observations of its thread.
    #[must_use]
    pub fn activity(&self, pin: &Pin, stall: &Stall) -> String {
        let activity = stall.activity(pin).unwrap_or_else(|| activity(pin));
        let behind = stall.behind.and_then(Behind::words);
        [Some(activity), self.other_drains(pin), behind]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Other pins that are in a drain with this one: `lru_add_drain_all` has one mutex for the machine.
    fn other_drains(&self, pin: &Pin) -> Option<String> {
        let drains = |pin: &&Pin| pin.phase == Phase::Drain as u8;
        let others = self.in_flight.iter().filter(drains);
        match (drains(&pin), others.count()) {
            (false, _) | (true, 0 | 1) => None,
            (true, 2) => Some("1 other pin is in a drain".to_owned()),
            (true, all) => Some(format!("{} other pins are in a drain", all - 1)),
        }
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            now_ns: self.now_ns,
            stuck_after_ns: self.stuck_after_ns,
            in_flight: &self.in_flight,
        }
    }

    /// Number of pins in flight that are stuck.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.in_flight
            .iter()
            .filter(|pin| self.is_stuck(pin))
            .count()
    }
}

/// Lost pins by the label `reason`. Each pin that began is lost, ended, or in flight.
#[must_use]
pub fn pins_lost(state: &State) -> [(&'static str, u64); 3] {
    let returns = [Loss::EntryStale, Loss::EntryReaped].map(|loss| state.lost(loss));
    [
        ("entry", state.lost(Loss::ExitUnmatched)),
        ("return", bounded::sum(returns)),
        ("no_slot", state.lost(Loss::SlotsFull)),
    ]
}

/// Losses by the label `stage`: slots, events, GUP-fast calls, and runs of programs without a twin.
#[must_use]
pub fn losses(state: &State) -> Vec<(String, u64)> {
    let mut losses = vec![
        ("slots_full".to_owned(), state.lost(Loss::SlotsFull)),
        ("ring_full".to_owned(), state.lost(Loss::RingFull)),
    ];
    if state.takes(Measurement::FastPath) {
        let unmatched = [Loss::FastStale, Loss::FastReaped, Loss::FastUnmatched];
        let unmatched = bounded::sum(unmatched.map(|loss| state.lost(loss)));
        losses.push(("fast_full".to_owned(), state.lost(Loss::FastFull)));
        losses.push(("fast_unmatched".to_owned(), unmatched));
    }
    if state.takes(Measurement::Passes) {
        losses.push(("pass_unseen".to_owned(), state.cells.pins.without_pass()));
    }
    if state.takes(Measurement::Migrations) {
        losses.push((
            "migration_unseen".to_owned(),
            state.lost(Loss::MigrationUnseen),
        ));
    }
    if state.takes(Measurement::Blockers) {
        losses.push((
            "blockers_unseen".to_owned(),
            state.lost(Loss::BlockersUnseen),
        ));
    }
    if state.takes(Measurement::WeakPins) {
        losses.push(("weak_full".to_owned(), state.lost(Loss::WeakFull)));
        losses.push(("weak_shared".to_owned(), state.lost(Loss::WeakShared)));
        losses.push(("weak_unmatched".to_owned(), state.lost(Loss::WeakUnmatched)));
    }
    // A twin does the work of a skipped run, so that nothing is lost.
    for program in state.programs.iter().filter(|program| !program.has_twin) {
        for (what, count) in [("skipped", program.skipped), ("missed", program.missed)] {
            losses.extend(count.map(|count| (format!("{what}:{}", program.program), count)));
        }
    }
    losses
}

/// Quantile `q` (0 to 1) of a duration histogram, in nanoseconds; `None` without pins.
///
/// The value is the harmonic mean of the edges of its bucket.
#[must_use]
pub fn quantile_ns(buckets: &[u64; DURATION_BUCKETS], q: f64) -> Option<f64> {
    let total = bounded::sum(buckets.iter().copied());
    let rank = (q * total as f64).ceil().max(1.0) as u64;
    let mut below: u64 = 0;
    let bucket = buckets.iter().position(|n| {
        below = below.saturating_add(*n);
        below >= rank
    })?;
    let edge = |bucket| duration_upper_ns(bucket).map(|ns| ns as f64);
    let lower = bucket.checked_sub(1).and_then(edge).unwrap_or(1.0);
    let upper = edge(bucket).unwrap_or(lower);
    // The harmonic mean minimises the largest relative error within the bucket.
    Some(2.0 * lower * upper / (lower + upper))
}

/// Activity of a pin in flight, in words, by its counts. The texts are the values of `signature` in JSON.
fn activity(pin: &Pin) -> String {
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
    let loops = passes.saturating_sub(*migrate_calls) > 1;
    if is(Phase::Migrate) {
        format!(
            "inside migration: call {}, {moved} moved and {failed} left before",
            u64::from(*migrate_calls) + 1
        )
    } else if is(Phase::Drain) {
        format!("draining the LRU caches of all CPUs, drain {drains}")
    } else if loops && (pin.loops_on_isolation() || *unpinnable > 0 && *migrate_calls == 0) {
        let each = match unpinnable.div_ceil(u64::from(*passes)) {
            0 => String::new(),
            pages => format!("{pages} unpinnable in each, "),
        };
        let calls = match migrate_calls {
            0 => "no migrate call".to_owned(),
            1 => "1 migrate call".to_owned(),
            n => format!("{n} migrate calls"),
        };
        format!("looping on isolation: {passes} passes, {each}{calls}")
    } else if loops {
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

/// Upper edges in seconds and cumulative counts of a duration histogram, as `/metrics` has them.
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

/// Upper edges and cumulative counts of a passes histogram.
pub fn pass_edges(buckets: &[u64; PASS_BUCKETS]) -> impl Iterator<Item = (f64, u64)> + '_ {
    let below = buckets.iter().scan(0, |sum, n| {
        *sum += n;
        Some(*sum)
    });
    PASS_EDGES.into_iter().map(f64::from).zip(below)
}

#[cfg(test)]
mod tests {
    use pinwatch_common::cause::PassOutcome;

    use super::*;

    #[test]
    fn activities_distinguish_hangs() {
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
        // Failed isolations are not counted, and each pass found something.
        let found = Pin {
            passes: 41_000,
            outcome: PassOutcome::FoundAgain as u8,
            ..Pin::zeroed()
        };
        assert_eq!(
            activity(&found),
            "looping on isolation: 41000 passes, no migrate call"
        );
        assert!(pin(Phase::Migrate, 1, 256, u32::MAX).contains("call 4294967296"));
        assert_eq!(
            pin(Phase::Gup, 1, 0, u32::MAX),
            "pinning again after pass 1"
        );
        assert!(pin(Phase::Migrate, 1, 256, 0).starts_with("inside migration: call 1"));
        assert_eq!(pin(Phase::Gup, 1, 256, 1), "pinning again after pass 1");
        assert_eq!(
            pin(Phase::Gup, 9, 9, 2),
            "looping: 9 passes, 2 migrate calls"
        );
        // The loop up to 5.12 scans again and again after it migrated the other pages.
        let rescanning = Pin {
            phase: Phase::Collect as u8,
            passes: 22_001,
            unpinnable: 256 + 5 * 22_000,
            migrate_calls: 1,
            outcome: PassOutcome::NotIsolated as u8,
            ..Pin::zeroed()
        };
        assert_eq!(
            activity(&rescanning),
            "looping on isolation: 22001 passes, 6 unpinnable in each, 1 migrate call"
        );
    }

    #[test]
    fn pins_that_share_the_mutex_of_drains_are_counted() {
        let pin = |phase: Phase| Pin {
            phase: phase as u8,
            ..Pin::zeroed()
        };
        let [drains, faults] = [pin(Phase::Drain), pin(Phase::Gup)];
        let activity = |in_flight: &[Pin]| {
            let state = State {
                in_flight: in_flight.to_vec(),
                ..State::empty("6.12", "folios")
            };
            state.activity(&in_flight[0], &Stall::default())
        };
        let alone = "draining the LRU caches of all CPUs, drain 0";
        assert_eq!(activity(&[drains, faults]), alone);
        assert_eq!(
            activity(&[drains, faults, drains]),
            format!("{alone}; 1 other pin is in a drain")
        );
        assert_eq!(
            activity(&[drains; 3]),
            format!("{alone}; 2 other pins are in a drain")
        );
        assert_eq!(activity(&[faults, drains]), "faulting pages in");
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
            "the longest duration is beyond every edge"
        );
    }
}
