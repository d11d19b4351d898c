//! What a pin did pass by pass, put together from what the kernel told of it at
//! the beginning of each retry.

use std::collections::BTreeMap;

use pinwatch_common::fold::{Alone, DurationCells, fold_migrate};
use pinwatch_common::limits::{RETRIES_REPORTED, SLOTS};
use pinwatch_common::record::{ISOLATES, PHASES, Phase, Pin, PinEvent};
use serde::{Deserialize, Serialize};

/// From the beginning of one sweep to that of the next; the first also has what
/// was before its sweep, the last what is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Passes that this is the sum of: 1, but for those that were not told one by one
    /// ([`RETRIES_REPORTED`]).
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

/// A pin that ended, with its passes where it has several: together they are the pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    pub event: PinEvent,
    pub passes: Vec<Pass>,
}

/// Passes of a pin that are kept one by one; what is beyond is in the last.
pub const PASSES_KEPT: usize = 64;
const _: () = assert!(PASSES_KEPT > RETRIES_REPORTED as usize);

impl Pass {
    /// What happened between two moments of a pin.
    fn between(before: &Pin, after: &Pin, passes: u32) -> Self {
        let since = |now: u64, then: u64| now.wrapping_sub(then);
        let count = |now: u32, then: u32| now.wrapping_sub(then);
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

    /// All of a pin that was in one piece.
    fn whole(pin: &Pin) -> Self {
        Self::between(&bytemuck::Zeroable::zeroed(), pin, pin.passes)
    }
}

impl Traced {
    /// The passes, also of a pin that has only one.
    pub fn each_pass(&self) -> impl Iterator<Item = Pass> + '_ {
        let whole = self.passes.is_empty().then(|| Pass::whole(&self.event.pin));
        whole.into_iter().chain(self.passes.iter().copied())
    }

    /// Folds its calls of `migrate_pages`. Returns how many have no time of their own:
    /// those that were not told one by one, and all where that time is not measured.
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

/// Puts pins together from events. Bounded: as many pins as can be in flight, and
/// [`PASSES_KEPT`] passes of each.
#[derive(Debug, Default)]
pub struct Assembler {
    /// By thread: the last that was told of its pin, and the passes before.
    running: BTreeMap<u32, (Pin, Vec<Pass>)>,
}

impl Assembler {
    /// Takes an event; gives the pin if it has ended.
    pub fn take(&mut self, event: PinEvent) -> Option<Traced> {
        let now = event.pin;
        let known = self.running.remove(&now.tid);
        // Another pin of the thread was not told to its end.
        let known = known.filter(|(then, _)| then.start_ns == now.start_ns);
        if now.ended == 0 {
            self.retried(known, now);
            return None;
        }
        let passes = match known {
            None => Vec::new(),
            Some((then, mut passes)) => {
                // The last told sweep has begun and is one of these.
                let rest = now.passes.saturating_sub(then.passes).saturating_add(1);
                passes.push(Pass::between(&then, &now, rest));
                passes
            }
        };
        Some(Traced { event, passes })
    }

    fn retried(&mut self, known: Option<(Pin, Vec<Pass>)>, now: Pin) {
        let (then, mut passes) = known.unwrap_or_else(|| {
            let mut none: Pin = bytemuck::Zeroable::zeroed();
            none.passes = 1;
            (none, Vec::new())
        });
        let kept = if passes.len() + 1 < PASSES_KEPT {
            passes.push(Pass::between(
                &then,
                &now,
                now.passes.saturating_sub(then.passes),
            ));
            now
        } else {
            then
        };
        if self.running.len() >= SLOTS as usize {
            let oldest = self.running.iter().min_by_key(|(_, (pin, _))| pin.start_ns);
            let oldest = oldest.map(|(tid, _)| *tid);
            oldest.map(|tid| self.running.remove(&tid));
        }
        self.running.insert(now.tid, (kept, passes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

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
        PinEvent { pin, comm: [0; 16] }
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
                // Another thread's events come in between.
                assert_eq!(assembler.take(event(8, 1, retry, 0)), None);
                assert_eq!(assembler.take(event(7, 5, retry, 0)), None);
            }
            let traced = assembler.take(event(7, 5, last, 1)).expect("it ended");
            let all = u64::from(last);
            assert_eq!(
                sum(&traced),
                (last, 10 * all, last - 1, 3 * all + 100 * (all - 1))
            );
            let told = (last as usize).min(PASSES_KEPT);
            assert_eq!(traced.each_pass().count(), told);
            let mut cells = DurationCells::zeroed();
            let untimed = traced.fold_migrations(&mut cells);
            let timed: u64 = cells.buckets.iter().sum();
            assert_eq!(timed + untimed, all - 1);
            assert!(untimed == 0 || last as usize > PASSES_KEPT);
        }
    }

    #[test]
    fn a_pin_without_its_end_belongs_to_no_other() {
        let mut assembler = Assembler::default();
        assembler.take(event(7, 5, 2, 0));
        let traced = assembler.take(event(7, 6, 1, 1)).expect("it ended");
        assert_eq!(sum(&traced).0, 1);
        for tid in 0..2 * SLOTS {
            assembler.take(event(tid, u64::from(tid), 2, 0));
        }
        assert_eq!(assembler.running.len(), SLOTS as usize);
    }

    #[test]
    fn retries_that_were_not_told_are_in_the_next() {
        let mut assembler = Assembler::default();
        assembler.take(event(7, 5, 2, 0));
        assembler.take(event(7, 5, 90, 0));
        let traced = assembler.take(event(7, 5, 91, 1)).expect("it ended");
        let passes: Vec<_> = traced.passes.iter().map(|pass| pass.passes).collect();
        assert_eq!(passes, [1, 88, 2]);
    }
}
