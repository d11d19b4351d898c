//! What the claims are judged by: sums and samples over all pins of a recording.

use std::collections::{BTreeMap, BTreeSet};

use pinwatch_common::fold::cause;
use pinwatch_common::record::{Cause, Isolate, PHASES, Phase};

use super::decimated::Decimated;
use crate::model::trace::{Pass, Traced};

/// `FOLL_WRITE`, on all kernels.
const FOLL_WRITE: u32 = 1;
/// Threads whose last failure is remembered.
const THREADS: usize = 4096;
/// Slowest pins that are kept.
pub const SLOWEST: usize = 10;

/// How often something was tried, and how often it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    pub n: u64,
    pub hits: u64,
}

impl Tries {
    fn add(&mut self, hit: bool) {
        self.n += 1;
        self.hits += u64::from(hit);
    }
}

/// Pins of one size, and what each phase cost them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub pins: u64,
    pub pages: u64,
    pub phase_ns: [u64; PHASES],
}

#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub pins: u64,
    pub failed: u64,
    /// Failures by cause.
    pub causes: BTreeMap<&'static str, u64>,
    pub busy: u64,
    pub nomem: u64,
    /// Passes that began after a pass whose migration failed, and left nothing behind.
    pub after_failure: Tries,
    /// Pins of a thread whose last of the same size failed in migration, and that
    /// succeeded; with the gap between them.
    pub again: Tries,
    pub gaps_ns: Decimated<f64>,
    /// Passes after one in which isolation failed, and where it did not.
    pub after_isolation: Tries,
    pub passes: Decimated<f64>,
    pub most_passes: u32,
    /// From the second pass on, and all.
    pub looping_ns: u64,
    pub duration_ns: u64,
    /// Pages and nanoseconds of first sweeps that isolated nothing.
    pub sweeps: Decimated<(f64, f64)>,
    /// Pages returned, and pinned for that, of pins that succeeded.
    pub pinned: Decimated<(f64, f64)>,
    /// Pages unpinned for a retry, and of those the ones that had to move.
    pub unpinned_pages: u64,
    pub unfit_pages: u64,
    /// Failures, and retries, without and with FOLL_WRITE.
    pub failed_by_write: [Tries; 2],
    pub retried_by_write: [Tries; 2],
    /// Passes that drained, and failed to isolate a page all the same.
    pub after_drain: Tries,
    /// By pages asked for, rounded up to a power of two.
    pub costs: BTreeMap<u64, Cost>,
    pub slowest: Vec<Traced>,
    last_failed: BTreeMap<(u32, u64), u64>,
    /// Sizes of first sweeps.
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
        let write = usize::from(pin.gup_flags & FOLL_WRITE != 0);
        self.failed_by_write[write].add(failed);
        self.retried_by_write[write].add(pin.passes > 1);
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

    /// Whether the caller's own second try helped.
    fn tried_again(&mut self, traced: &Traced, why: Option<Cause>) {
        let pin = &traced.event.pin;
        let key = (pin.tid, pin.requested);
        if let Some(ended_ns) = self.last_failed.remove(&key) {
            self.again.add(why.is_none());
            self.gaps_ns
                .push(pin.start_ns.saturating_sub(ended_ns) as f64);
        }
        if matches!(why, Some(Cause::MigrateBusy | Cause::MigrateNomem))
            && self.last_failed.len() < THREADS
        {
            let ended_ns = pin.start_ns.saturating_add(pin.duration_ns);
            self.last_failed.insert(key, ended_ns);
        }
    }

    fn add_passes(&mut self, traced: &Traced) {
        let pin = &traced.event.pin;
        let total: u64 = pin
            .phase_ns
            .iter()
            .fold(0, |sum, ns| sum.saturating_add(*ns));
        let mut pages = pin.requested;
        let mut before: Option<Pass> = None;
        for pass in traced.each_pass() {
            let isolated = pass.isolate_failures.iter().all(|n| *n == 0);
            if let Some(before) = before {
                if before.failed > 0 {
                    self.after_failure.add(pass.failed == 0);
                }
                if before.isolate_failures.iter().any(|n| *n > 0) {
                    self.after_isolation.add(isolated);
                }
            } else {
                let own = pass
                    .phase_ns
                    .iter()
                    .fold(0, |sum: u64, ns| sum.saturating_add(*ns));
                self.looping_ns = self.looping_ns.saturating_add(total.saturating_sub(own));
                if pass.unpinnable == 0 && pass.passes == 1 && pin.returned > 0 {
                    let ns = pass.phase_ns[Phase::Collect as usize];
                    self.sweeps.push((pin.requested as f64, ns as f64));
                    if self.sizes.len() < 64 {
                        self.sizes.insert(pin.requested);
                    }
                }
            }
            if pass.drains > 0 {
                self.after_drain
                    .add(pass.isolate_failures[Isolate::Lru as usize] > 0);
            }
            // Only a pass that is told alone says how many pages it had.
            if pass.passes == 1 && pass.unpinnable > 0 {
                let unfit = pass.moved.saturating_add(pass.failed).max(pass.unpinnable);
                self.unpinned_pages = self.unpinned_pages.saturating_add(pages);
                self.unfit_pages = self.unfit_pages.saturating_add(unfit.min(pages));
            }
            pages = pass.repinned;
            before = Some(pass);
        }
    }

    /// Pages asked for (rounded up to a power of two), pins of that size, and the
    /// nanoseconds per page of each phase.
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
