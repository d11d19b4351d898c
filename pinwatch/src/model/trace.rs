//! Passes of a pin, assembled from the events at its retries and at its return.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use pinwatch_common::cells::{Alone, DurationCells};
use pinwatch_common::fold::fold_migrate;
use pinwatch_common::limits::{RETRIES_REPORTED, SLOTS};
use pinwatch_common::record::{ISOLATES, PHASES, Phase, Pin, PinEvent};
use serde::{Deserialize, Serialize};

/// One pass of a pin, from the beginning of its collect to the beginning of the next collect.
///
/// The first pass includes the time before its collect, the last the time up to the return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Number of passes in this sum. More than 1 where the kernel did not report each retry
    /// ([`RETRIES_REPORTED`]) and beyond [`PASSES_KEPT`].
    pub passes: u32,
    pub unpinnable: u64,
    pub moved: u64,
    pub failed: u64,
    /// Pages pinned again for the next pass.
    pub repinned: u64,
    pub migrate_calls: u32,
    pub drains: u32,
    pub isolate_failures: [u32; ISOLATES],
    pub phase_ns: [u64; PHASES],
}

/// A pin that ended, with its passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    pub event: PinEvent,
    /// Empty if the kernel reported no retry. Otherwise the passes add up to the pin.
    pub passes: Vec<Pass>,
}

/// Maximum number of passes kept for a pin. The last one then sums all later passes.
pub const PASSES_KEPT: usize = 64;
const _: () = assert!(PASSES_KEPT > RETRIES_REPORTED as usize);

impl Pass {
    /// Difference between two reports of the same pin.
    fn between(before: &Pin, after: &Pin, passes: u32) -> Self {
        let since = |after: u64, before: u64| after.wrapping_sub(before);
        let count = |after: u32, before: u32| after.wrapping_sub(before);
        let mut pass = Self {
            passes,
            unpinnable: since(after.unpinnable, before.unpinnable),
            moved: since(after.moved, before.moved),
            failed: since(after.failed, before.failed),
            repinned: since(after.repinned, before.repinned),
            migrate_calls: count(after.migrate_calls, before.migrate_calls),
            drains: count(after.drains, before.drains),
            ..Self::default()
        };
        for (n, ns) in pass.phase_ns.iter_mut().enumerate() {
            *ns = since(after.phase_ns[n], before.phase_ns[n]);
        }
        for (n, failures) in pass.isolate_failures.iter_mut().enumerate() {
            *failures = count(after.isolate_failures[n], before.isolate_failures[n]);
        }
        pass
    }

    /// The whole pin as one pass.
    fn whole(pin: &Pin) -> Self {
        Self::between(&bytemuck::Zeroable::zeroed(), pin, pin.passes)
    }
}

impl Traced {
    /// The passes. A pin without reported retries yields one [`Pass`] for the whole pin.
    pub fn each_pass(&self) -> impl Iterator<Item = Pass> + '_ {
        let whole = self.passes.is_empty().then(|| Pass::whole(&self.event.pin));
        whole.into_iter().chain(self.passes.iter().copied())
    }

    /// Adds the duration of each call of `migrate_pages` to the cells.
    ///
    /// Returns the number of calls whose own duration is unknown: those that share a [`Pass`] with
    /// other calls, and all of them where the phase `migrate` is not measured.
    pub fn fold_migrations(&self, cells: &mut DurationCells) -> u64 {
        let mut untimed = 0;
        for pass in self.each_pass() {
            match (pass.migrate_calls, pass.phase_ns[Phase::Migrate as usize]) {
                (0, _) => {}
                (1, ns) if ns > 0 => fold_migrate::<Alone>(cells, ns),
                (calls, _) => untimed += u64::from(calls),
            }
        }
        untimed
    }
}

/// Assembles pins with their passes from events.
///
/// Holds at most [`SLOTS`] pins in flight, and [`PASSES_KEPT`] passes of each.
#[derive(Debug, Default)]
pub struct Assembler {
    /// By thread id: the last report of the thread's pin, and the passes before that report.
    in_flight: BTreeMap<u32, (Pin, Vec<Pass>)>,
}

impl Assembler {
    /// Takes an event. Returns the pin if the event reports its return.
    pub fn take(&mut self, event: PinEvent) -> Option<Traced> {
        let now = event.pin;
        let known = self.in_flight.remove(&now.tid);
        // An earlier pin of the thread is dropped: its last event was lost.
        let known = known.filter(|(before, _)| before.start_ns == now.start_ns);
        if now.ended == 0 {
            self.keep_retry(known, now);
            return None;
        }
        let passes = match known {
            None => Vec::new(),
            Some((before, mut passes)) => {
                // A retry is reported at its beginning, so the last reported pass counts here too.
                let rest = now.passes.saturating_sub(before.passes).saturating_add(1);
                passes.push(Pass::between(&before, &now, rest));
                passes
            }
        };
        Some(Traced { event, passes })
    }

    fn keep_retry(&mut self, known: Option<(Pin, Vec<Pass>)>, now: Pin) {
        let (before, mut passes) = known.unwrap_or_else(|| {
            let mut first: Pin = bytemuck::Zeroable::zeroed();
            first.passes = 1;
            (first, Vec::new())
        });
        let last = if passes.len() + 1 < PASSES_KEPT {
            passes.push(Pass::between(
                &before,
                &now,
                now.passes.saturating_sub(before.passes),
            ));
            now
        } else {
            before
        };
        if self.in_flight.len() >= SLOTS as usize {
            let in_flight = self.in_flight.iter();
            let oldest = in_flight.min_by_key(|(_, (pin, _))| pin.start_ns);
            let oldest = oldest.map(|(tid, _)| *tid);
            oldest.map(|tid| self.in_flight.remove(&tid));
        }
        self.in_flight.insert(now.tid, (last, passes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use pinwatch_common::weak::Holder;

    fn event(tid: u32, start_ns: u64, passes: u32, ended: u8) -> PinEvent {
        let sum = u64::from(passes);
        let pin = Pin {
            tid,
            start_ns,
            passes,
            ended,
            unpinnable: 10 * sum,
            migrate_calls: passes - 1,
            phase_ns: [sum, 2 * sum, 0, 100 * (sum - 1), 0],
            ..Pin::zeroed()
        };
        PinEvent {
            pin,
            comm: [0; 16],
            holder: Holder::NONE,
        }
    }

    fn sum(traced: &Traced) -> (u32, u64, u32, u64) {
        let passes = || traced.each_pass();
        (
            passes().map(|pass| pass.passes).sum(),
            passes().map(|pass| pass.unpinnable).sum(),
            passes().map(|pass| pass.migrate_calls).sum(),
            passes().map(|pass| pass.phase_ns.iter().sum::<u64>()).sum(),
        )
    }

    #[test]
    fn passes_add_up_to_the_pin() {
        let mut assembler = Assembler::default();
        for last in [1u32, 2, 3, 17, 63, 64, 65, 500] {
            for retry in 2..=last {
                // Events of two threads alternate.
                assert_eq!(assembler.take(event(8, 1, retry, 0)), None);
                assert_eq!(assembler.take(event(7, 5, retry, 0)), None);
            }
            let traced = assembler.take(event(7, 5, last, 1)).expect("it ended");
            let all = u64::from(last);
            assert_eq!(
                sum(&traced),
                (last, 10 * all, last - 1, 3 * all + 100 * (all - 1))
            );
            let kept = (last as usize).min(PASSES_KEPT);
            assert_eq!(traced.each_pass().count(), kept);
            let mut cells = DurationCells::zeroed();
            let untimed = traced.fold_migrations(&mut cells);
            let timed: u64 = cells.buckets.iter().sum();
            assert_eq!(timed + untimed, all - 1);
            assert!(untimed == 0 || last as usize > PASSES_KEPT);
        }
    }

    #[test]
    fn retries_of_a_pin_whose_return_was_lost_are_dropped() {
        let mut assembler = Assembler::default();
        assembler.take(event(7, 5, 2, 0));
        let traced = assembler.take(event(7, 6, 1, 1)).expect("it ended");
        assert_eq!(sum(&traced).0, 1);
        for tid in 0..2 * SLOTS {
            assembler.take(event(tid, u64::from(tid), 2, 0));
        }
        assert_eq!(assembler.in_flight.len(), SLOTS as usize);
    }

    #[test]
    fn unreported_retries_are_summed_in_the_next_pass() {
        let mut assembler = Assembler::default();
        assembler.take(event(7, 5, 2, 0));
        assembler.take(event(7, 5, 90, 0));
        let traced = assembler.take(event(7, 5, 91, 1)).expect("it ended");
        let passes: Vec<_> = traced.passes.iter().map(|pass| pass.passes).collect();
        assert_eq!(passes, [1, 88, 2]);
    }
}
