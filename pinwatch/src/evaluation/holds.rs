//! How long blockers held, and which failed pins would have succeeded if the kernel had waited.
//!
//! A hold ended between two samples. Whether a pin would have succeeded is only said where both give the same
//! answer.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use pinwatch_common::blocker::{BLOCKERS, blockers};
use pinwatch_common::hold::{HoldOutcome, HoldRecord};
use pinwatch_common::record::Pin;
use serde::Serialize;

use super::decimated::Decimated;
use super::survival::Observed;
use crate::model::hold::is_watched;
use crate::model::labels::cause;

/// Maximum number of failed pins whose holds are awaited. The oldest beyond it is judged by the holds so far.
const AWAITED: usize = 1 << 14;

/// Failed pins under one longest wait, counted from the failed migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wait {
    pub wait_ns: u64,
    /// Pins that failed because folios stayed busy: the sum of the others.
    pub failed: u64,
    /// All their blockers had gone within the wait.
    pub would_succeed: u64,
    /// A blocker held for longer than the wait.
    pub would_fail: u64,
    pub unknown: Unknown,
    /// How long those that would have succeeded would have waited: in total, and the longest.
    pub waited_ns: u64,
    pub longest_ns: u64,
}

/// Failed pins about which the recording does not say enough, by the first reason that applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// No blocker was seen.
    pub no_blockers: u64,
    /// It left more folios than are inspected, and the inspected ones would have gone.
    pub more_folios: u64,
    /// A blocker was not watched, or its end was not recorded.
    pub not_watched: u64,
    /// A blocker was no longer watched before the wait was over.
    pub cut_off: u64,
    /// A blocker went between two samples, one before and one after the end of the wait.
    pub too_close: u64,
}

impl Unknown {
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self {
            no_blockers,
            more_folios,
            not_watched,
            cut_off,
            too_close,
        } = *self;
        no_blockers + more_folios + not_watched + cut_off + too_close
    }
}

/// Holds of a recording.
#[derive(Debug, Default)]
pub struct Holds {
    /// Holds that were watched.
    pub watched: Decimated<Observed>,
    /// Of those, the ones that were still held when watching ended.
    pub cut_off: u64,
    /// Folios that were not watched.
    pub unwatched: u64,
    pub waits: Vec<Wait>,
    awaited: BTreeMap<(u64, u32), Failed>,
    /// Holds whose pin has not been read, by their pin.
    early: BTreeMap<(u64, u32), Vec<HoldRecord>>,
}

/// A failed pin, with the holds that are known.
#[derive(Clone, Debug)]
struct Failed {
    blockers: usize,
    has_more: bool,
    holds: Vec<HoldRecord>,
}

impl Holds {
    #[must_use]
    pub fn new(waits: impl Iterator<Item = u64>) -> Self {
        let waits = waits.map(|wait_ns| Wait {
            wait_ns,
            ..Wait::default()
        });
        Self {
            waits: waits.collect(),
            ..Self::default()
        }
    }

    /// Adds a pin that ended.
    pub fn pin(&mut self, pin: &Pin) {
        if pin.returned >= 0 || cause(pin) != "migrate_busy" {
            return;
        }
        let key = (pin.start_ns, pin.tid);
        let count = blockers(pin.blockers).count();
        let failed = Failed {
            blockers: count,
            has_more: count == BLOCKERS && pin.failed > BLOCKERS as u64,
            holds: self.early.remove(&key).unwrap_or_default(),
        };
        if let Some(before) = self.awaited.insert(key, failed) {
            // Two pins with one key: the file is forged.
            self.judge(&before);
        }
        self.settle(key);
        if self.awaited.len() > AWAITED
            && let Some((_, oldest)) = self.awaited.pop_first()
        {
            self.judge(&oldest);
        }
    }

    /// Adds a hold.
    pub fn hold(&mut self, hold: &HoldRecord) {
        let is_cut_off = hold.outcome == HoldOutcome::CutOff as u8;
        if is_watched(hold.outcome) {
            self.watched.push((hold.ns, !is_cut_off));
            self.cut_off += u64::from(is_cut_off);
        } else {
            self.unwatched += 1;
        }
        let key = (hold.pin_start_ns, hold.tid);
        if let Some(failed) = self.awaited.get_mut(&key) {
            failed.holds.push(*hold);
            self.settle(key);
        } else {
            let early = self.early.entry(key).or_default();
            if early.len() < BLOCKERS {
                early.push(*hold);
            }
            if self.early.len() > AWAITED {
                self.early.pop_first();
            }
        }
    }

    /// Judges the pins whose holds are still awaited.
    pub fn end(&mut self) {
        for failed in std::mem::take(&mut self.awaited).into_values() {
            self.judge(&failed);
        }
    }

    /// Judges a pin if all its holds are known.
    fn settle(&mut self, key: (u64, u32)) {
        let is_known = |failed: &Failed| failed.holds.len() >= failed.blockers;
        if self.awaited.get(&key).is_some_and(is_known)
            && let Some(failed) = self.awaited.remove(&key)
        {
            self.judge(&failed);
        }
    }

    fn judge(&mut self, failed: &Failed) {
        for wait in &mut self.waits {
            wait.add(failed);
        }
    }
}

impl Wait {
    fn add(&mut self, pin: &Failed) {
        self.failed += 1;
        let watched = || pin.holds.iter().filter(|hold| is_watched(hold.outcome));
        let is_cut_off = |hold: &HoldRecord| hold.outcome == HoldOutcome::CutOff as u8;
        let still_held = |hold: &HoldRecord| {
            hold.held_ns >= self.wait_ns || is_cut_off(hold) && hold.ns >= self.wait_ns
        };
        if watched().any(still_held) {
            self.would_fail += 1;
        } else if pin.blockers == 0 {
            self.unknown.no_blockers += 1;
        } else if pin.has_more {
            self.unknown.more_folios += 1;
        } else if watched().count() < pin.blockers {
            self.unknown.not_watched += 1;
        } else if watched().any(is_cut_off) {
            self.unknown.cut_off += 1;
        } else if watched().any(|hold| hold.ns > self.wait_ns) {
            self.unknown.too_close += 1;
        } else {
            let waited = watched().map(|hold| hold.ns).max().unwrap_or_default();
            self.would_succeed += 1;
            self.waited_ns = self.waited_ns.saturating_add(waited);
            self.longest_ns = self.longest_ns.max(waited);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use pinwatch_common::blocker::{BLOCKER_BITS, Hold};
    use pinwatch_common::cause::PassOutcome;

    use super::*;

    const MS: u64 = 1_000_000;

    fn pin(start_ns: u64, blockers: usize, failed: u64) -> Pin {
        let packed = (0..blockers).map(|n| (Hold::Referenced as u64) << (n * BLOCKER_BITS));
        Pin {
            start_ns,
            tid: 1,
            returned: -12,
            migrate_calls: 1,
            failed,
            passes: 1,
            outcome: PassOutcome::Busy as u8,
            blockers: packed.fold(0, |all, one| all | one),
            ..Pin::zeroed()
        }
    }

    fn hold(pin_start_ns: u64, outcome: HoldOutcome, held_ns: u64, ns: u64) -> HoldRecord {
        HoldRecord {
            pin_start_ns,
            tid: 1,
            ns,
            held_ns,
            outcome: outcome as u8,
            ..HoldRecord::zeroed()
        }
    }

    /// Outcome of a wait of 10 ms, in words.
    fn outcome(pin: &Pin, holds: &[HoldRecord], hold_first: bool) -> &'static str {
        let mut all = Holds::new([10 * MS].into_iter());
        if hold_first {
            holds.iter().for_each(|hold| all.hold(hold));
        }
        all.pin(pin);
        if !hold_first {
            holds.iter().for_each(|hold| all.hold(hold));
        }
        all.end();
        let wait = all.waits[0];
        let sum = wait.would_succeed + wait.would_fail + wait.unknown.total();
        assert_eq!((wait.failed, sum), (1, 1));
        let Unknown {
            no_blockers,
            more_folios,
            not_watched,
            cut_off,
            too_close,
        } = wait.unknown;
        let named = [
            (wait.would_succeed, "succeeds"),
            (wait.would_fail, "fails"),
            (no_blockers, "no blockers"),
            (more_folios, "more folios"),
            (not_watched, "not watched"),
            (cut_off, "cut off"),
            (too_close, "too close"),
        ];
        let found = named.into_iter().find(|(count, _)| *count == 1);
        found.expect("one is 1").1
    }

    #[test]
    fn a_pin_succeeds_if_the_last_of_its_blockers_goes_in_time() {
        use HoldOutcome::{CutOff, Freed, NoRoom, Released};
        let gone = hold(5, Released, 8 * MS, 9 * MS);
        let freed = hold(5, Freed, 9 * MS, 10 * MS);
        let late = hold(5, Released, 11 * MS, 12 * MS);
        let close = hold(5, Released, 9 * MS, 11 * MS);
        let cut = hold(5, CutOff, 9_999 * MS, 10_001 * MS);
        let cut_early = hold(5, CutOff, MS, 2 * MS);
        let no_room = hold(5, NoRoom, 0, 0);
        let cases: [(Pin, &[HoldRecord], &str); 12] = [
            (pin(5, 1, 1), &[gone], "succeeds"),
            (pin(5, 2, 2), &[gone, freed], "succeeds"),
            (pin(5, 2, 2), &[gone, late], "fails"),
            (pin(5, 1, 1), &[cut], "fails"),
            (pin(5, 1, 1), &[close], "too close"),
            (pin(5, 2, 2), &[gone], "not watched"),
            (pin(5, 2, 2), &[gone, no_room], "not watched"),
            (pin(5, 2, 2), &[late, no_room], "fails"),
            (pin(5, 0, 1), &[], "no blockers"),
            (pin(5, 4, 5), &[gone; 4], "more folios"),
            (pin(5, 4, 4), &[gone; 4], "succeeds"),
            (pin(5, 1, 1), &[cut_early], "cut off"),
        ];
        for (pin, holds, expected) in cases {
            for hold_first in [false, true] {
                assert_eq!(
                    outcome(&pin, holds, hold_first),
                    expected,
                    "{pin:?} {holds:?}"
                );
            }
        }
    }

    #[test]
    fn the_time_that_was_waited_is_that_of_the_last_blocker() {
        let mut holds = Holds::new([MS, 10 * MS].into_iter());
        for (n, ns) in [2 * MS, 7 * MS].into_iter().enumerate() {
            holds.pin(&pin(n as u64, 1, 1));
            holds.hold(&hold(n as u64, HoldOutcome::Released, ns - MS, ns));
        }
        let [short, long] = holds.waits[..] else {
            panic!("two waits");
        };
        assert_eq!((short.would_succeed, short.would_fail), (0, 2));
        assert_eq!(
            (long.would_succeed, long.waited_ns, long.longest_ns),
            (2, 9 * MS, 7 * MS)
        );
    }

    #[test]
    fn what_is_awaited_is_bounded() {
        let mut holds = Holds::new([MS].into_iter());
        let count = AWAITED as u64 + 100;
        for n in 0..count {
            holds.pin(&pin(n, 1, 1));
            holds.hold(&hold(u64::MAX - n, HoldOutcome::Released, 0, 1));
        }
        assert!(holds.awaited.len() <= AWAITED && holds.early.len() <= AWAITED);
        holds.end();
        assert_eq!(holds.waits[0].unknown.not_watched, count);
    }

    #[test]
    fn pins_that_did_not_fail_because_of_busy_folios_are_left_out() {
        let mut holds = Holds::new([MS].into_iter());
        holds.pin(&Pin {
            returned: 1,
            ..pin(1, 1, 1)
        });
        holds.pin(&Pin {
            outcome: PassOutcome::NoTarget as u8,
            ..pin(2, 1, 1)
        });
        holds.end();
        assert_eq!(holds.waits[0].failed, 0);
    }
}
