//! Cause of a failed pin. The events of its last pass decide it. The errno decides only if none of them
//! failed, so a kernel may return any errno for a failed migration or isolation.
//!
//! The BPF programs follow the events and count failures by [`PassOutcome`] and errno class. User space
//! derives the cause from these two.

use crate::program_config::{UNSEEN_ISOLATIONS, UNSEEN_MIGRATIONS, UNSEEN_PASSES};
use crate::record::{Cause, Phase, Pin};

/// Number and name of each errno that has its own class. All others share the last class.
pub const ERRNO_CLASSES: [(i32, &str); 12] = [
    (12, "ENOMEM"),
    (14, "EFAULT"),
    (11, "EAGAIN"),
    (4, "EINTR"),
    (16, "EBUSY"),
    (95, "EOPNOTSUPP"),
    (22, "EINVAL"),
    (1, "EPERM"),
    (5, "EIO"),
    (133, "EHWPOISON"),
    (512, "ERESTARTSYS"),
    (75, "EOVERFLOW"),
];

/// Number of errno classes, including the one for all others.
pub const ERRNOS: usize = ERRNO_CLASSES.len() + 1;

/// Class of an errno, from 0 to [`ERRNOS`]` - 1`.
#[inline(always)]
#[must_use]
pub fn errno_class(errno: i32) -> usize {
    let mut class = 0;
    while class < ERRNO_CLASSES.len() && ERRNO_CLASSES[class].0 != errno {
        class += 1;
    }
    class
}

/// Errno class of a failed pin, from [`Pin::returned`].
#[inline(always)]
#[must_use]
pub fn class_of(returned: i64) -> usize {
    // Wraps: a recording can have `i64::MIN` here, which is no errno.
    errno_class(returned.wrapping_neg() as i32)
}

/// Outcome of a pin's running or last pass so far.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassOutcome {
    /// No unpinnable page was found, or all of them were isolated and migrated.
    Nothing = 0,
    /// As `Nothing`, after a pass that found unpinnable pages and migrated none.
    Retry = 1,
    /// Unpinnable pages were found. Their isolation cannot be seen, and no migration was called.
    Found = 2,
    /// As `Found`, after a pass that also migrated none: the pages cannot be isolated.
    FoundAgain = 3,
    /// A page could not be isolated.
    NotIsolated = 4,
    /// A page could not be migrated because it stayed referenced.
    Busy = 5,
    /// There was no target page for a migration.
    NoTarget = 6,
    /// A migration failed for an unknown reason, or it cannot be seen whether anything failed.
    Unclear = 7,
}

/// Number of [`PassOutcome`]s.
pub const PASS_OUTCOMES: usize = 8;

/// Bit of [`Pin::outcome`] beside the [`PassOutcome`]: the running pass has called `migrate_pages`.
pub const MIGRATED: u8 = 8;

/// The next [`PassOutcome`] for each, four bits each. A table, since the verifier would follow every branch.
const fn steps(next: [PassOutcome; PASS_OUTCOMES]) -> u32 {
    let (mut steps, mut n) = (0, 0);
    while n < PASS_OUTCOMES {
        steps |= (next[n] as u32) << (4 * n);
        n += 1;
    }
    steps
}

#[inline(always)]
const fn step(steps: u32, outcome: u8) -> u8 {
    (steps >> ((outcome & 7) << 2) & 7) as u8
}

use PassOutcome::{Busy, Found, FoundAgain, NoTarget, NotIsolated, Nothing, Retry, Unclear};

#[rustfmt::skip]
const PASS_BEGAN: u32 = steps([Nothing, Retry, Retry, Retry, Retry, Nothing, Nothing, Nothing]);
#[rustfmt::skip]
const PAGE_FOUND: u32 = steps([Found, FoundAgain, Found, FoundAgain, NotIsolated, Busy, NoTarget, Unclear]);
#[rustfmt::skip]
const PAGE_NOT_ISOLATED: u32 =
    steps([NotIsolated, NotIsolated, NotIsolated, NotIsolated, NotIsolated, Busy, NoTarget, Unclear]);
/// A migration shows that pages were isolated. A measured failure to isolate another page stays.
#[rustfmt::skip]
const ALL_MIGRATED: u32 =
    steps([Nothing, Nothing, Nothing, Nothing, NotIsolated, Nothing, Nothing, Nothing]);
#[rustfmt::skip]
const UNSEEN_ISOLATION: u32 =
    steps([Unclear, Unclear, Found, FoundAgain, NotIsolated, Busy, NoTarget, Unclear]);

impl Pin {
    /// Begins a pass. Returns whether the pass before it called `migrate_pages`.
    #[inline(always)]
    pub fn begin_pass(&mut self) -> bool {
        self.passes = self.passes.saturating_add(1);
        let before = self.outcome;
        self.outcome = step(PASS_BEGAN, before);
        before & MIGRATED != 0
    }

    /// Notes an unpinnable page where failures to isolate it cannot be seen.
    #[inline(always)]
    pub fn page_found(&mut self) {
        self.outcome = step(PAGE_FOUND, self.outcome) | self.outcome & MIGRATED;
    }

    /// Notes that the kernel pins the range again. Unless the running pass migrated, it found pages and isolated
    /// none. For kernels where nothing else shows that.
    #[inline(always)]
    pub fn pinned_again(&mut self) {
        if self.outcome & MIGRATED == 0 && self.phase != Phase::Migrate as u8 {
            self.page_found();
        }
    }

    /// Notes a failed isolation.
    #[inline(always)]
    pub fn page_not_isolated(&mut self) {
        self.outcome = step(PAGE_NOT_ISOLATED, self.outcome) | self.outcome & MIGRATED;
    }

    /// Notes the end of a migration that left `migrate_failed` pages. Its return follows, if it can be seen.
    #[inline(always)]
    pub fn migration_ended(&mut self, migrate_failed: u64) {
        let migrated = step(ALL_MIGRATED, self.outcome);
        self.awaits_result = 1 + migrated;
        let left = (migrate_failed | migrate_failed.wrapping_neg()) >> 63;
        self.outcome = migrated | (left as u8 * Unclear as u8) | MIGRATED;
    }

    /// Notes the return value of the migration that ended last. The return can report success although
    /// pages were left: of a large folio that was split, the parts count.
    #[inline(always)]
    pub fn migration_returned(&mut self, ret: i32) {
        const ENOMEM: i32 = 12;
        self.outcome = MIGRATED
            | match ret {
                0 => self.awaits_result - 1,
                1.. => Busy as u8,
                _ if ret == -ENOMEM => NoTarget as u8,
                _ => Unclear as u8,
            };
        self.awaits_result = 0;
        self.migrate_ret = ret;
    }

    /// Whether the last migration left folios behind although there were target pages, as far as it can be
    /// seen.
    #[inline(always)]
    #[must_use]
    pub fn left_folios(&self) -> bool {
        matches!(self.outcome & 7, outcome if outcome == Busy as u8 || outcome == Unclear as u8)
    }

    /// Changes the outcome of a failed pin to one that claims only what the programs can see. `unseen` is a
    /// bit mask of `UNSEEN_*`.
    #[inline(always)]
    pub fn forget_unseen(&mut self, unseen: u32) {
        if self.passes == 0 && unseen & UNSEEN_PASSES == 0 {
            return;
        }
        if unseen & UNSEEN_MIGRATIONS != 0 {
            self.outcome = Unclear as u8;
        } else if unseen & UNSEEN_ISOLATIONS != 0 && self.outcome & MIGRATED == 0 {
            self.outcome = step(UNSEEN_ISOLATION, self.outcome);
        }
    }

    /// Whether the running or the last pass could not isolate a page, as far as it can be seen.
    #[must_use]
    pub fn loops_on_isolation(&self) -> bool {
        [Retry, FoundAgain, NotIsolated].contains(&outcome(self.outcome))
    }
}

/// [`PassOutcome`] of [`Pin::outcome`].
#[must_use]
pub fn outcome(byte: u8) -> PassOutcome {
    [
        Nothing,
        Retry,
        Found,
        FoundAgain,
        NotIsolated,
        Busy,
        NoTarget,
        Unclear,
    ][usize::from(byte & 7)]
}

/// Number of failures that are counted apart: every [`PassOutcome`] with every errno class, `Retry` as
/// `Nothing`.
pub const FAILURES: usize = (PASS_OUTCOMES - 1) * ERRNOS;

/// Index of a failed pin in [`OriginCells::failures`](crate::cells::OriginCells::failures).
#[inline(always)]
#[must_use]
pub fn failure_index(pin: &Pin) -> usize {
    let outcome = (pin.outcome & 7) as usize;
    // 1 less, unless it is 0; without a branch, as `steps`.
    let row = outcome - ((outcome + 7) >> 3);
    row * ERRNOS + class_of(pin.returned)
}

/// Cause of the failures at one index of [`OriginCells::failures`](crate::cells::OriginCells::failures).
#[must_use]
pub fn cause_at(index: usize) -> Cause {
    let errno = ERRNO_CLASSES.get(index % ERRNOS).map(|(_, name)| *name);
    match outcome((index / ERRNOS) as u8 + 1) {
        Busy => Cause::MigrateBusy,
        NoTarget => Cause::MigrateNomem,
        NotIsolated | FoundAgain => Cause::Isolate,
        Found | Unclear => Cause::Other,
        Nothing | Retry => match errno {
            Some("EOPNOTSUPP") => Cause::Dax,
            Some("ENOMEM") => Cause::Nomem,
            Some("EFAULT" | "EINTR" | "EHWPOISON" | "ERESTARTSYS") => Cause::Fault,
            _ => Cause::Other,
        },
    }
}

/// Cause of a failed pin.
#[must_use]
pub fn cause(pin: &Pin) -> Cause {
    cause_at(failure_index(pin))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use bytemuck::Zeroable as _;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Event of a pin, as a program sees it.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Pass,
        Found,
        NotIsolated,
        /// The kernel tries to pin the range again.
        Again,
        /// Pages that the tracepoint reports as left, and the return value if it is seen.
        Migrated(u64, Option<i32>),
    }
    use Event::{Migrated, NotIsolated as Stuck, Pass};

    const DONE: Event = Migrated(0, Some(0));
    const LEFT: Event = Migrated(1, Some(1));
    /// Errnos that kernels return, or that a patch might.
    const ERRNOS_OF_PATCHES: [i64; 14] = [1, 4, 5, 11, 12, 14, 16, 22, 75, 95, 110, 133, 512, 4095];

    fn pin(returned: i64, events: &[Event]) -> Pin {
        let mut pin = Pin {
            returned,
            ..Pin::zeroed()
        };
        for event in events {
            match *event {
                Pass => {
                    pin.begin_pass();
                }
                Event::Found => pin.page_found(),
                Stuck => pin.page_not_isolated(),
                Event::Again => pin.pinned_again(),
                Migrated(left, ret) => {
                    pin.migration_ended(left);
                    if let Some(ret) = ret {
                        pin.migration_returned(ret);
                    }
                }
            }
        }
        pin
    }

    fn repeated(times: usize, events: &[Event]) -> Vec<Event> {
        events.repeat(times)
    }

    /// Cause of a pin with these events, which must be the same for every errno.
    fn always(events: &[Event]) -> Cause {
        let of = |errno: i64| cause(&pin(-errno, events));
        for errno in ERRNOS_OF_PATCHES {
            assert_eq!(of(errno), of(16), "{errno} {events:?}");
        }
        of(16)
    }

    /// Version 4 gives up at the 11th failed migration or the 101st failed isolation, both with -EBUSY;
    /// released kernels at the first failed migration with -ENOMEM. Patches may do either with any errno.
    #[test]
    fn the_last_pass_decides_whatever_the_errno() {
        assert_eq!(always(&[Pass, LEFT]), Cause::MigrateBusy);
        assert_eq!(always(&repeated(11, &[Pass, LEFT])), Cause::MigrateBusy);
        let no_target = Migrated(3, Some(-12));
        assert_eq!(always(&[Pass, no_target]), Cause::MigrateNomem);
        assert_eq!(always(&[Pass, Stuck]), Cause::Isolate);
        assert_eq!(always(&repeated(101, &[Pass, Stuck])), Cause::Isolate);
        // The other pages of the pass migrated.
        assert_eq!(always(&[Pass, Stuck, DONE]), Cause::Isolate);
        // The kernel reports the failed migration before the failed isolation.
        assert_eq!(always(&[Pass, Stuck, LEFT]), Cause::MigrateBusy);
        let isolation_last = [repeated(10, &[Pass, LEFT]), repeated(101, &[Pass, Stuck])].concat();
        assert_eq!(always(&isolation_last), Cause::Isolate);
        let migration_last = [repeated(100, &[Pass, Stuck]), repeated(11, &[Pass, LEFT])].concat();
        assert_eq!(always(&migration_last), Cause::MigrateBusy);
    }

    #[test]
    fn the_errno_decides_if_nothing_failed() {
        // Before the first pass, in a pass without unpinnable pages, and after all pages migrated.
        let clean: [&[Event]; 4] = [&[], &[Pass], &[Pass, DONE], &[Pass, LEFT, Pass, DONE, Pass]];
        for events in clean {
            let of = |errno: i64| cause(&pin(-errno, events));
            for errno in [14, 4, 512, 133] {
                assert_eq!(of(errno), Cause::Fault);
            }
            assert_eq!(of(12), Cause::Nomem);
            assert_eq!(of(95), Cause::Dax);
            for errno in [16, 11, 5, 22, 4095] {
                assert_eq!(of(errno), Cause::Other);
            }
        }
    }

    #[test]
    fn a_pin_that_is_killed_while_it_loops_keeps_its_cause() {
        // The signal is seen when the range is pinned again, so no pass begins.
        for errno in [4, 512] {
            let looping = repeated(41_000, &[Pass, Stuck]);
            assert_eq!(cause(&pin(-errno, &looping)), Cause::Isolate);
        }
    }

    #[test]
    fn nothing_is_guessed() {
        // The return of migrate_pages is not seen, or reports something else.
        assert_eq!(always(&[Pass, Migrated(1, None)]), Cause::Other);
        assert_eq!(always(&[Pass, Migrated(1, Some(-5))]), Cause::Other);
        // Parts of a split folio were left and counted, and the call succeeded.
        let parts = Migrated(1, Some(0));
        assert_eq!(cause(&pin(-14, &[Pass, parts])), Cause::Fault);
        assert_eq!(always(&[Pass, Stuck, parts]), Cause::Isolate);
        // Isolations are not seen: device memory migrates without a call of migrate_pages.
        assert_eq!(always(&[Pass, Event::Found]), Cause::Other);
        let again = repeated(2, &[Pass, Event::Found]);
        assert_eq!(always(&again), Cause::Isolate);
        assert_eq!(cause(&pin(-4, &[Pass, Event::Found, DONE])), Cause::Fault);
        assert_eq!(
            cause(&pin(-4, &[&again[..], &[DONE]].concat())),
            Cause::Fault
        );
    }

    #[test]
    fn a_step_that_is_not_measured_hides_the_cause() {
        let of = |events: &[Event], errno: i64, unseen| {
            let mut pin = pin(-errno, events);
            pin.forget_unseen(unseen);
            cause(&pin)
        };
        let (migrations, isolations) = (UNSEEN_MIGRATIONS, UNSEEN_ISOLATIONS);
        assert_eq!(of(&[Pass], 12, 0), Cause::Nomem);
        assert_eq!(of(&[Pass], 12, migrations), Cause::Other);
        assert_eq!(of(&[Pass, Stuck], 16, migrations), Cause::Other);
        assert_eq!(of(&[], 14, migrations | isolations), Cause::Fault);
        assert_eq!(of(&[], 14, migrations | UNSEEN_PASSES), Cause::Other);
        assert_eq!(of(&[], 14, UNSEEN_PASSES), Cause::Fault);
        assert_eq!(of(&[Pass], 16, isolations), Cause::Other);
        assert_eq!(of(&[Pass, LEFT], 16, isolations), Cause::MigrateBusy);
    }

    /// Where nothing but `__get_user_pages` shows that a pass found unpinnable pages.
    #[test]
    fn pinning_again_shows_that_a_pass_isolated_nothing() {
        let of = |events: &[Event], errno: i64| {
            let mut pin = pin(-errno, events);
            pin.forget_unseen(UNSEEN_ISOLATIONS);
            cause(&pin)
        };
        let looping = repeated(41_000, &[Pass, Event::Again]);
        assert_eq!(of(&looping, 4), Cause::Isolate);
        assert_eq!(of(&[Pass, Event::Again], 4), Cause::Other);
        // Pages may have stayed in place beside those that migrated, but nothing shows it.
        assert_eq!(of(&[Pass, DONE, Event::Again], 4), Cause::Fault);
        assert_eq!(of(&[Pass, LEFT, Event::Again], 12), Cause::MigrateBusy);
        // A patched kernel gives up: whether on isolation or for want of memory is not seen.
        for errno in [12, 16] {
            assert_eq!(of(&[&looping[..], &[Pass]].concat(), errno), Cause::Other);
        }
        assert_eq!(of(&[], 14), Cause::Fault);
    }

    #[test]
    fn a_pass_tells_whether_the_one_before_migrated() {
        let mut pin = pin(0, &[Pass, DONE]);
        assert!(pin.begin_pass());
        assert!(!pin.begin_pass());
    }

    #[test]
    fn every_errno_has_the_class_of_its_row() {
        for errno in (0..600).chain([4095, i32::MAX]) {
            let row = ERRNO_CLASSES
                .iter()
                .position(|(number, _)| *number == errno);
            assert_eq!(errno_class(errno), row.unwrap_or(ERRNOS - 1));
        }
    }

    /// Cause in plain words, from the events after the beginning of the last pass.
    fn expected(returned: i64, events: &[Event]) -> Cause {
        let last = events.iter().rposition(|event| matches!(event, Pass));
        let last = &events[last.map_or(0, |at| at + 1)..];
        let migration = last.iter().rev().find_map(|event| match event {
            Migrated(left, ret) => Some((*left, *ret)),
            _ => None,
        });
        match migration {
            Some((_, Some(1..))) => return Cause::MigrateBusy,
            Some((_, Some(-12))) => return Cause::MigrateNomem,
            Some((_, Some(..=-1)) | (1.., None)) => return Cause::Other,
            _ => {}
        }
        if last.iter().any(|event| matches!(event, Stuck)) {
            return Cause::Isolate;
        }
        match -returned {
            12 => Cause::Nomem,
            95 => Cause::Dax,
            4 | 14 | 133 | 512 => Cause::Fault,
            _ => Cause::Other,
        }
    }

    proptest! {
        #[test]
        fn causes_are_as_in_words(
            returned in prop::sample::select(&ERRNOS_OF_PATCHES[..]),
            passes in prop::collection::vec((any::<bool>(), 0..4u8, 0..3u64, -13..3i32, any::<bool>()), 0..9),
        ) {
            // A pass isolates, then migrates at most once.
            let mut events = Vec::new();
            for (stuck, migrates, left, ret, shown) in passes {
                events.push(Pass);
                events.extend(stuck.then_some(Stuck));
                if migrates > 0 {
                    events.push(Migrated(left, shown.then_some(ret)));
                }
            }
            prop_assert_eq!(cause(&pin(-returned, &events)), expected(-returned, &events));
        }
    }
}
