//! Cells of the statistics: the memory that the BPF programs add to and the daemon reads.
//!
//! Cells only grow. Sums that every plain pin would add to are made by accessors instead.

use bytemuck::{Pod, Zeroable};

use crate::blocker::{HOLDS, MEMORIES};
use crate::cause::FAILURES;
use crate::histogram::{DURATION_BUCKETS, PASS_BUCKETS, pass_bucket};
use crate::hold::HOLD_BUCKETS;
use crate::loss::LOSSES;
use crate::place::PlaceCells;
use crate::record::{ISOLATES, ORIGINS, PHASES, Phase};
use crate::weak::WEAK_ORIGINS;

/// Histogram of durations. The number of durations is the sum of the buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DurationCells {
    /// Sum of all durations in nanoseconds.
    pub sum_ns: u64,
    /// By [`duration_bucket`].
    pub buckets: [u64; DURATION_BUCKETS],
}

/// Histogram of passes per pin. The number of pins is the sum of the buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PassCells {
    /// Passes of all pins.
    pub sum: u64,
    /// By [`pass_bucket`].
    pub buckets: [u64; PASS_BUCKETS],
}

/// Statistics of plain pins: see [`Plain`].
///
/// The accessors of [`OriginCells`] and [`PinCells`] include these cells in their sums, so that a
/// plain pin adds to few cells. Cells only grow, so the sums do too.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct PlainCells {
    /// Number of pins by passes (0 or 1), then by write access (without, with).
    pub(crate) pins: [[u64; 2]; 2],
    pub(crate) pages: u64,
    pub(crate) gup_ns: u64,
    pub(crate) collect_ns: u64,
}

/// Statistics of one origin. The number of pins is the sum of either histogram's buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OriginCells {
    pub(crate) plain: PlainCells,
    /// Number of all pins by [`duration_bucket`].
    pub durations: [u64; DURATION_BUCKETS],
    /// Only of pins that are not plain.
    pub(crate) duration_ns: u64,
    /// Only of pins that are not plain.
    pub(crate) passes: PassCells,
    /// Failed pins by [`failure_index`].
    pub failures: [u64; FAILURES],
}

/// Statistics of pins on one CPU. The return programs of all pins write them, as [`Add`] describes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PinCells {
    /// By [`Origin`](crate::record::Origin).
    pub origins: [OriginCells; ORIGINS],
    /// Sampled returned pages.
    pub places: PlaceCells,
    // These four only of pins that are not plain: their accessors add the others.
    pub(crate) requested: u64,
    pub(crate) returned: u64,
    pub(crate) writes: u64,
    /// By [`Phase`].
    pub(crate) phase_ns: [u64; PHASES],
    /// As [`Pin::unpinnable`].
    pub unpinnable: u64,
    /// As [`Pin::migrate_calls`].
    pub migrate_calls: u64,
    /// As [`Pin::moved`].
    pub moved: u64,
    /// As [`Pin::failed`].
    pub failed: u64,
    /// As [`Pin::repinned`].
    pub repinned: u64,
    /// As [`Pin::drains`].
    pub drains: u64,
    /// By [`Isolate`](crate::record::Isolate).
    pub isolate_failures: [u64; ISOLATES],
}

impl OriginCells {
    /// Sum of the durations of all pins, in nanoseconds.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        let PlainCells {
            gup_ns, collect_ns, ..
        } = self.plain;
        gup_ns
            .wrapping_add(collect_ns)
            .wrapping_add(self.duration_ns)
    }

    /// Histogram of the passes of all pins.
    #[must_use]
    pub fn passes(&self) -> PassCells {
        let mut passes = self.passes;
        for (n, [reads, writes]) in (0..).zip(self.plain.pins) {
            let pins = reads.wrapping_add(writes);
            Alone::add(&mut passes.sum, pins.wrapping_mul(n.into()));
            Alone::add(&mut passes.buckets[pass_bucket(n)], pins);
        }
        passes
    }
}

impl PinCells {
    /// Same statistics with the cells of plain pins added to the others and zeroed. Makes two folds of
    /// the same pins comparable: they may count different pins as plain, to save cost.
    #[must_use]
    pub fn merged(&self) -> Self {
        let mut merged = *self;
        merged.requested = self.requested();
        merged.returned = self.returned();
        merged.writes = self.writes();
        merged.phase_ns = self.phase_ns();
        for origin in &mut merged.origins {
            (origin.duration_ns, origin.passes) = (origin.duration_ns(), origin.passes());
            origin.plain = PlainCells::zeroed();
        }
        merged
    }

    /// Adds a figure of the plain pins of every origin to `rest`.
    fn with_plain(&self, rest: u64, plain: fn(&PlainCells) -> u64) -> u64 {
        let origins = self.origins.iter().map(|origin| plain(&origin.plain));
        origins.fold(rest, u64::wrapping_add)
    }

    /// Pins that returned all requested pages without a pass: where passes are measured, the pass was not seen.
    #[must_use]
    pub fn without_pass(&self) -> u64 {
        self.with_plain(0, |plain| plain.pins[0][0].wrapping_add(plain.pins[0][1]))
    }

    /// Base pages that all pins asked for.
    #[must_use]
    pub fn requested(&self) -> u64 {
        self.with_plain(self.requested, |plain| plain.pages)
    }

    /// Base pages that all pins returned.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.with_plain(self.returned, |plain| plain.pages)
    }

    /// Number of pins that asked for write access.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.with_plain(self.writes, |plain| {
            plain.pins[0][1].wrapping_add(plain.pins[1][1])
        })
    }

    /// Nanoseconds that all pins spent in each [`Phase`].
    #[must_use]
    pub fn phase_ns(&self) -> [u64; PHASES] {
        let mut phase_ns = self.phase_ns;
        let gup = &mut phase_ns[Phase::Gup as usize];
        *gup = self.with_plain(*gup, |plain| plain.gup_ns);
        let collect = &mut phase_ns[Phase::Collect as usize];
        *collect = self.with_plain(*collect, |plain| plain.collect_ns);
        phase_ns
    }
}

/// Number of calls of GUP-fast, by the way they were served.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FastCells {
    /// Long-term calls served without the slow path.
    pub fast: u64,
    /// Long-term calls that took the slow path.
    pub slow: u64,
    /// Of the slow long-term calls, those that returned a smaller count in place of the slow path's errno.
    pub hidden: u64,
    /// Short-term calls served without the slow path.
    pub short_fast: u64,
    /// Short-term calls that took the slow path.
    pub short_slow: u64,
}

/// Number of blockers ([`crate::blocker`]), by their properties.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct BlockerCells {
    /// By [`Hold`](crate::blocker::Hold), then by [`Memory`](crate::blocker::Memory).
    pub holds: [[u64; MEMORIES]; HOLDS],
    /// Their places.
    pub places: PlaceCells,
}

/// Holds of one kind of blocker ([`crate::hold`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct HoldCells {
    /// Sum of the holds that ended, in nanoseconds.
    pub sum_ns: u64,
    /// Holds that ended, by [`hold_bucket`].
    pub buckets: [u64; HOLD_BUCKETS],
    /// As [`HoldOutcome::CutOff`].
    pub cut_off: u64,
    /// As [`HoldOutcome::NoRoom`].
    pub no_room: u64,
    /// As [`HoldOutcome::Unclear`].
    pub unclear: u64,
}

/// Holds by [`Hold`](crate::blocker::Hold), then by [`Memory`](crate::blocker::Memory).
pub type AllHoldCells = [[HoldCells; MEMORIES]; HOLDS];

/// Weak pins ([`crate::weak`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct WeakCells {
    /// Number of weak pins by [`weak_origin_index`], counted at their return.
    pub pins: [u64; WEAK_ORIGINS],
    /// Time from return to release of those that were released.
    pub held: DurationCells,
}

/// Cells of one CPU.
///
/// While a program is preempted in the middle of an update, another program, or the same one in
/// another task, can update the same cells. [`Add`] describes why no update is lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CpuCells {
    /// Statistics of pins.
    pub pins: PinCells,
    /// Number of pins until the next sampled page. Not a statistic: a lost update changes only which
    /// pin is sampled.
    pub place_gap: u64,
    /// The same for migrations with a sampled page.
    pub unpinnable_gap: u64,
    /// Sampled unpinnable pages.
    pub unpinnable: PlaceCells,
    /// Durations of `migrate_pages`.
    pub migrate: DurationCells,
    /// Calls of GUP-fast.
    pub fast: FastCells,
    /// Folios that failed migrations left behind.
    pub blockers: BlockerCells,
    /// How long they were held.
    pub holds: AllHoldCells,
    /// Registrations that RLIMIT_MEMLOCK refused, by [`Origin`](crate::record::Origin).
    pub memlock_refusals: [u64; ORIGINS],
    /// Weak pins.
    pub weak: WeakCells,
    /// By [`Loss`](crate::loss::Loss).
    pub losses: [u64; LOSSES],
}

/// Way to add to a cell.
///
/// Where the kernel can preempt a BPF program, the BPF side adds by an atomic instruction.
/// Elsewhere a program is the only writer of its CPU's cells while it runs.
pub trait Add {
    /// Adds `n` to `cell`. Wraps around.
    fn add(cell: &mut u64, n: u64);
}

/// Plain addition, for a cell without a concurrent writer.
pub struct Alone;

impl Add for Alone {
    #[inline(always)]
    fn add(cell: &mut u64, n: u64) {
        *cell = cell.wrapping_add(n);
    }
}
