//! Sums and samples over all pins of a recording, by which the claims are judged.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use pinwatch_common::cause::cause;
use pinwatch_common::origin::origin_index;
use pinwatch_common::record::{Cause, Isolate, ORIGINS, PHASES, Phase, Pin, PinEvent};
use pinwatch_common::weak::Holder;

use super::decimated::Decimated;
use crate::model::trace::Traced;

/// `FOLL_WRITE`, on all kernels.
const FOLL_WRITE: u32 = 1;
/// Maximum number of kept failures, by thread and size.
const LAST_FAILURES: usize = 4096;
/// Maximum number of durations of interrupted pins, and the least of them, in nanoseconds.
const INTERRUPTED: usize = 4096;
const INTERRUPTED_NS: u64 = 1_000_000_000;
/// `-EINTR` and `-ERESTARTSYS`: a signal ended the pin.
const BY_SIGNAL: [i64; 2] = [-4, -512];
/// Number of slowest pins that are kept.
pub const SLOWEST: usize = 10;

/// Number of trials, and of those with the property in question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    pub n: u64,
    pub hits: u64,
}

impl Tries {
    fn add(&mut self, hit: bool) {
        self.add_many(1, u64::from(hit));
    }

    fn add_many(&mut self, n: u64, hits: u64) {
        self.n = self.n.saturating_add(n);
        self.hits = self.hits.saturating_add(hits);
    }

    /// Adds the passes of a [`Pass`] that follow a failed pass; hits are those that did not fail. Of a sum
    /// only the numbers are known: its `failed` passes come first, since a pass without a failure is the
    /// last one. `after_failure` says whether the pass before it failed. Returns whether its last one did.
    fn add_passes(&mut self, after_failure: bool, passes: u64, failed: u64) -> bool {
        if after_failure {
            self.add(failed == 0);
        }
        if failed == 0 {
            return false;
        }
        self.add_many(failed - 1, 0);
        if passes > failed {
            self.add(true);
        }
        passes == failed
    }
}

/// Sums over the successful pins of one size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub pins: u64,
    /// Pages returned.
    pub pages: u64,
    pub phase_ns: [u64; PHASES],
}

/// Pins without and with `FOLL_WRITE`, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByWrite {
    /// Hits: pins that failed.
    pub failed: [Tries; 2],
    /// Hits: pins with retries.
    pub retried: [Tries; 2],
}

/// Sums and samples over all pins of a recording. Its size is bounded.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub pins: u64,
    pub failed: u64,
    /// Failures by cause.
    pub causes: BTreeMap<&'static str, u64>,
    /// Failures with the cause `migrate_busy`.
    pub busy: u64,
    /// Failures with the cause `migrate_nomem`.
    pub nomem: u64,
    /// Duration of the longest pin that returned by itself.
    pub longest_ns: u64,
    /// Durations of pins of a second or more that a signal ended.
    pub interrupted_ns: Vec<u64>,
    /// Passes after a pass with a failed migration; hits: those without a failed migration.
    pub after_failure: Tries,
    /// Pins after a pin of the same thread and size that failed in migration; hits: those that
    /// succeeded.
    pub again: Tries,
    /// Nanoseconds from the return of the failed pin to the entry of the next, for each of `again`.
    pub gaps_ns: Decimated<f64>,
    /// Passes after a pass with a failed isolation, also of pins in flight at the end; hits: those without
    /// a failed isolation.
    pub after_isolation: Tries,
    /// Passes per pin.
    pub passes: Decimated<f64>,
    pub most_passes: u32,
    /// Nanoseconds of all pins after their first pass.
    pub looping_ns: u64,
    /// Nanoseconds of all pins.
    pub duration_ns: u64,
    /// Requested pages, and nanoseconds of the first collect, where it found no unpinnable page.
    pub clean_collects: Decimated<(f64, f64)>,
    /// Pages returned, and pages pinned over all passes, of each successful pin.
    pub pinned: Decimated<(f64, f64)>,
    /// Passes that unpinned pages for a retry.
    pub unpinning_passes: u64,
    /// Pages unpinned for a retry.
    pub unpinned_pages: u64,
    /// Pages among `unpinned_pages` that were unpinnable.
    pub unpinnable_pages: u64,
    /// Pins without flags, by `memfd_pin_folios`. They are not in `by_write`.
    pub without_flags: u64,
    /// By origin.
    by_write: [ByWrite; ORIGINS],
    /// Passes with a drain; hits: those that failed to isolate an LRU page.
    pub after_drain: Tries,
    /// Costs by requested pages, rounded up to a power of two.
    pub costs: BTreeMap<u64, Cost>,
    /// Slowest pins, slowest first.
    pub slowest: Vec<Traced>,
    /// Return of the last pin that failed in migration, by thread and requested pages.
    last_failed: BTreeMap<(u32, u64), u64>,
    /// Distinct sizes in `clean_collects`; at most 64.
    pub sizes: BTreeSet<u64>,
}

impl Evidence {
    pub fn add(&mut self, traced: &Traced) {
        let pin = &traced.event.pin;
        let failed = pin.returned < 0;
        self.pins += 1;
        self.failed += u64::from(failed);
        self.duration_ns = self.duration_ns.saturating_add(pin.duration_ns);
        self.passes.push(pin.passes.into());
        self.most_passes = self.most_passes.max(pin.passes);
        let why = failed.then(|| cause(pin));
        if let Some(why) = why {
            let name = pinwatch_common::record::CAUSE_NAMES[why as usize];
            *self.causes.entry(name).or_default() += 1;
            self.busy += u64::from(why == Cause::MigrateBusy);
            self.nomem += u64::from(why == Cause::MigrateNomem);
        }
        self.tried_again(traced, why);
        if pin.gup_flags == 0 {
            self.without_flags += 1;
        } else {
            let write = usize::from(pin.gup_flags & FOLL_WRITE != 0);
            let split = &mut self.by_write[origin_index(pin.origin)];
            split.failed[write].add(failed);
            split.retried[write].add(pin.passes > 1);
        }
        if !BY_SIGNAL.contains(&pin.returned) {
            self.longest_ns = self.longest_ns.max(pin.duration_ns);
        } else if pin.duration_ns >= INTERRUPTED_NS && self.interrupted_ns.len() < INTERRUPTED {
            self.interrupted_ns.push(pin.duration_ns);
        }
        self.add_passes(traced);
        if !failed {
            let returned = pin.returned as f64;
            self.pinned.push((returned, returned + pin.repinned as f64));
            let size = pin.requested.clamp(1, 1 << 62).next_power_of_two();
            let cost = self.costs.entry(size).or_default();
            cost.pins += 1;
            cost.pages = cost.pages.saturating_add(pin.returned as u64);
            for (sum, ns) in cost.phase_ns.iter_mut().zip(pin.phase_ns) {
                *sum = sum.saturating_add(ns);
            }
        }
        self.keep_slowest(traced);
    }

    /// Counts retries by the caller: the thread's next pin after one that failed in migration.
    fn tried_again(&mut self, traced: &Traced, why: Option<Cause>) {
        let pin = &traced.event.pin;
        let key = (pin.tid, pin.requested);
        if let Some(ended_ns) = self.last_failed.remove(&key) {
            self.again.add(why.is_none());
            self.gaps_ns
                .push(pin.start_ns.saturating_sub(ended_ns) as f64);
        }
        if matches!(why, Some(Cause::MigrateBusy | Cause::MigrateNomem))
            && self.last_failed.len() < LAST_FAILURES
        {
            let ended_ns = pin.start_ns.saturating_add(pin.duration_ns);
            self.last_failed.insert(key, ended_ns);
        }
    }

    /// Adds the passes of a pin that is in flight at the end of the recording.
    pub fn add_in_flight(&mut self, pin: Pin) {
        let event = PinEvent {
            pin,
            comm: [0; 16],
            holder: Holder::NONE,
        };
        let passes = Vec::new();
        self.add_tries(&Traced { event, passes });
    }

    /// Counts failed isolations and migrations of each pass, and whether the next pass failed again.
    fn add_tries(&mut self, traced: &Traced) {
        let (mut isolation_failed, mut migration_failed) = (false, false);
        for pass in traced.each_pass() {
            let passes = u64::from(pass.passes.max(1));
            let failures = |n: u32| u64::from(n).min(passes);
            let isolation = pass
                .isolate_failures
                .into_iter()
                .map(u64::from)
                .sum::<u64>();
            isolation_failed =
                self.after_isolation
                    .add_passes(isolation_failed, passes, isolation.min(passes));
            let migration = match pass.failed {
                0 => 0,
                pages => failures(pass.migrate_calls.max(1)).min(pages),
            };
            migration_failed = self
                .after_failure
                .add_passes(migration_failed, passes, migration);
            let drains = failures(pass.drains);
            let lru = failures(pass.isolate_failures[Isolate::Lru as usize]);
            self.after_drain.add_many(drains, lru.min(drains));
        }
    }

    fn add_passes(&mut self, traced: &Traced) {
        self.add_tries(traced);
        let pin = &traced.event.pin;
        let total: u64 = pin
            .phase_ns
            .iter()
            .fold(0, |sum, ns| sum.saturating_add(*ns));
        let mut pages = pin.requested;
        for (number, pass) in traced.each_pass().enumerate() {
            if number == 0 {
                let own = pass
                    .phase_ns
                    .iter()
                    .fold(0, |sum: u64, ns| sum.saturating_add(*ns));
                self.looping_ns = self.looping_ns.saturating_add(total.saturating_sub(own));
                // A pass before another one found unpinnable pages, also if none is counted.
                if pass.unpinnable == 0 && pin.passes == 1 && pin.returned > 0 {
                    let ns = pass.phase_ns[Phase::Collect as usize];
                    self.clean_collects.push((pin.requested as f64, ns as f64));
                    if self.sizes.len() < 64 {
                        self.sizes.insert(pin.requested);
                    }
                }
            }
            // A sum of several passes does not give the pages of each.
            if pass.passes == 1 && pass.unpinnable > 0 {
                let unpinnable = pass.moved.saturating_add(pass.failed).max(pass.unpinnable);
                self.unpinning_passes += 1;
                self.unpinned_pages = self.unpinned_pages.saturating_add(pages);
                self.unpinnable_pages = self.unpinnable_pages.saturating_add(unpinnable.min(pages));
            }
            pages = pass.repinned;
        }
    }

    /// Pins of the origins that have both kinds. Other origins differ in more than `FOLL_WRITE`.
    pub fn by_write(&self) -> ByWrite {
        let both = |split: &&ByWrite| split.failed.iter().all(|kind| kind.n > 0);
        let mut sum = ByWrite::default();
        for split in self.by_write.iter().filter(both) {
            for write in 0..2 {
                let (failed, retried) = (split.failed[write], split.retried[write]);
                sum.failed[write].add_many(failed.n, failed.hits);
                sum.retried[write].add_many(retried.n, retried.hits);
            }
        }
        sum
    }

    /// Rows of requested pages (rounded up to a power of two), number of successful pins, and nanoseconds
    /// per page by phase.
    pub fn costs_per_page(&self) -> impl Iterator<Item = (u64, u64, [f64; PHASES])> {
        let rows = self.costs.iter().filter(|(_, cost)| cost.pages > 0);
        rows.map(|(size, cost)| {
            let each = cost.phase_ns.map(|ns| ns as f64 / cost.pages as f64);
            (*size, cost.pins, each)
        })
    }

    fn keep_slowest(&mut self, traced: &Traced) {
        let ns = |traced: &Traced| traced.event.pin.duration_ns;
        let full = self.slowest.len() >= SLOWEST;
        if full
            && self
                .slowest
                .last()
                .is_some_and(|last| ns(last) >= ns(traced))
        {
            return;
        }
        let at = self
            .slowest
            .partition_point(|other| ns(other) >= ns(traced));
        self.slowest.insert(at, traced.clone());
        self.slowest.truncate(SLOWEST);
    }
}
